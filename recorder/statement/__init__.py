"""The statement of a period: its tables, its page to sign, and what it does not prove.

Guarantees: all tables come from one transaction; amounts are exact; each point that keeps the
statement from being sound is a caveat in the page, the manifest and the exit code.

Begin with `writing`, which makes the folder; `rules.report` holds the values, `rules.caveats`
judges them, `rules.page` and `rules.charts` show them.
"""
