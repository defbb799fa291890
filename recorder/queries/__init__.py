"""Reads the tables for the commands: the current state, the state as of a time, and warnings.

Each function takes a connection, runs inside the caller's transaction and writes nothing. None
reads the log from end to end. Begin at `account_status` (what may be wrong now) and `as_of` (what
was known at a position, or true at a time). `books` reads a period: both ends, and what moved
between.
"""
