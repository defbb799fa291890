"""The log's values: drafts, events, digests. Pure: no I/O, no clock."""
