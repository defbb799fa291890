"""Comparisons of what we hold with what the exchange answers over REST.

Guarantees: nothing is called equal that wasn't compared. A comparison without an answer, or whose
connection was lost meanwhile, ends as incomplete with the reason. A difference that is reported was
there in several answers in a row.

Begin with `tasks`; how an answer is compared with moving state is in `projections.rules.diffing`.
"""
