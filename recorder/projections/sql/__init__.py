"""Its transactions: synchronous functions of a SQLAlchemy connection."""
