"""Opens SQLite or PostgreSQL, runs units of work on it, and keeps its schema current.

Guarantees: a unit of work is one transaction, durable when it returns; a database's error arrives
as one of ours, classed by what the caller does next; a database of another schema is refused and
left alone.

Begin with `engine` (four engines, and how a unit runs), then `schema` (the tables as the code names
them; migrations/sql has the SQL itself) and `failures` (which error means what).
"""
