"""Loads rows, carries out changes with their checkpoint, rebuilds and compares. Synchronous."""
