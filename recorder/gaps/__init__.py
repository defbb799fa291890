"""Gaps, in which something may have been missed, and the back-fill that heals them.

Guarantees: a gap is healed only on proof: every list was read to its end, every answer is folded,
and nothing is left open. What can't be proved is noted as unverifiable, with the reasons. A run
goes on with the page that is missing, also after a crash.

Begin with `tasks.backfill`; `tasks.lists` reads the pages, `sql.backfill` finds what is to be
fetched and what it left open. How gaps open and close is in `projections.rules.gaps`.
"""
