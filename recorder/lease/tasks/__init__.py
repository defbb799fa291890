"""Renews a lease, and waits for one as standby."""
