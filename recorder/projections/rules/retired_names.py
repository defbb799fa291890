"""Names in the notes of older logs, beside the names of today: old logs stay readable."""

from __future__ import annotations

#: Each fact's names, today's first.
UNOBSERVED = ("unobserved", "blind")
UNOBSERVED_S = ("unobserved_s", "blind_s")
REQUESTED_BY = ("requested_by", "asked_by")
#: The former type of a CLOCK_JUMPED note.
FORMER_CLOCK_JUMPED = "CLOCKS_APART"
