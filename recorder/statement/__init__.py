"""A period's statement: what it reports, what keeps it from being sound, and its page. Pure."""
