"""Append, read and verify the log; checkpoint files and keys. Synchronous."""
