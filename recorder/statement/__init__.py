"""A period's statement: what it says, what keeps it from being sound, and its page. Pure."""
