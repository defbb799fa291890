"""The lease of an account: which process owns it, and who takes over.

Guarantees: at most one process sends commands of an account and appends to its log. An owner trusts
its lease for less than it lasts, by the monotonic clock; every claim and append names its epoch.

Begin with `tasks` (the rules, how an owner renews, and how a lease is taken). `sql` has the
transactions, `holder` finds out whether another process is alive.
"""
