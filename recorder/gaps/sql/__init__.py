"""Finds gaps, unobserved time, and what a back-fill has left open. Synchronous."""
