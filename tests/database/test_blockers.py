"""A prepared transaction that was forgotten is named: no session shows it."""

from __future__ import annotations

import psycopg
import pytest

from recorder.database import blockers
from recorder.database.engine import open_database
from tests.database.cluster import cluster


def test_a_forgotten_prepared_transaction_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        blockers, "_PREPARED", blockers._PREPARED.replace(blockers.OLD, "0 seconds")
    )
    with cluster() as servers:
        primary = servers.primary
        servers.ask(primary, "ALTER SYSTEM SET max_prepared_transactions = 5")
        servers.run("pg_ctl", "-w", "-D", str(primary), "-m", "fast", "restart")
        url = f"postgresql://postgres@/postgres?host={primary}"
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE any_table ()")
            connection.execute("PREPARE TRANSACTION 'forgotten'")
        with open_database(url) as database:
            [named] = blockers.find_blockers(database)
            assert named.startswith("the prepared transaction 'forgotten' of role postgres holds")
            servers.ask(primary, "ROLLBACK PREPARED 'forgotten'")
            assert blockers.find_blockers(database) == []
