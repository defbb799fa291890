"""Decisions of this capability: values and functions without I/O, clock or randomness."""
