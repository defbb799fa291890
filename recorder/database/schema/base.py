"""What every table is made of."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

metadata = MetaData()
#: BIGINT on PostgreSQL; SQLite's STRICT tables know INTEGER, which holds 64 bits as well.
Long = BigInteger().with_variant(Integer(), "sqlite")
#: STRICT SQLite tables call bytes BLOB.
Bytes = LargeBinary()


def table(name: str, *columns: Column[object], key: tuple[str, ...]) -> Table:
    """Return a table whose primary key is ``account`` and then ``key``."""
    return Table(
        name,
        metadata,
        Column("account", Text, nullable=False),
        *columns,
        PrimaryKeyConstraint("account", *key, name=f"{name}_pkey"),
    )
