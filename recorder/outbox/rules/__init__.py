"""States, evidence, selection, limits and look-ups of commands. Pure."""
