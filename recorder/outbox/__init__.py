"""The outbox: commands that programs queue with an INSERT, and what becomes of them.

Guarantees: a command is sent at most once; a claim is durable before the first byte; a command of
unknown outcome is in doubt until evidence settles it, and is never sent again. The database refuses
what cannot be sent and every illegal step of a status.

Begin with `rules.states` (the diagram) and `sql.dispatch` (choose and claim), then `rules.evidence`
(what a message proves). `tasks.commander` hands commands to the socket, `tasks.resolver` looks up
those in doubt.
"""
