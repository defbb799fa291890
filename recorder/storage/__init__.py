"""Everything that talks SQL: synchronous functions of a SQLAlchemy connection, one per unit."""
