"""The append-only log: every frame, answer and noted fact of an account, chained and durable.

Guarantees: positions have no hole; the order of commits is the order of positions; an event is
announced only after its commit; a process that lost its lease cannot append. The database refuses
changes, and the chain of digests shows one that was made by other means.

Begin with `rules.event` (what an event is) and `tasks.log_writer` (how it gets its position), then
`sql.append`. `rules.checkpoint` and `tasks.checkpoints` publish heads outside the database;
`sql.verify` proves the log.
"""
