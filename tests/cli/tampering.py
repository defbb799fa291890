"""A log with checkpoints, ways to tamper with it as its owner could, and both verifiers to ask."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import define, frozen

from recorder.database.engine import Database, in_unit
from recorder.log.rules.checkpoint import Checkpoint, SigningKey, checkpoint_line
from recorder.log.rules.digest import digest_event
from recorder.log.rules.event import Draft, Event, Head
from recorder.log.sql.checkpoint_file import append_line, make_keys, public_file_of
from recorder.log.sql.read import head, stream_events
from recorder.timestamps import from_us, time_text
from tests.cli.scene import ask
from tests.log.drafts import NOW_US, frame, run_sql, write

SCRIPT = Path(__file__).parents[2] / "scripts" / "verify_log.py"
SECOND_US = 1_000_000


@frozen
class Verdict:
    """What a verifier reported: its exit code, and (finding, position) of each damage."""

    code: int
    damage: list[tuple[str, int | None]]
    lines: list[dict[str, Any]]
    err: str


def verdict(code: int, out: str, err: str) -> Verdict:
    """Read what a verifier printed."""
    assert "Traceback" not in err
    lines = [json.loads(line) for line in out.splitlines() if line]
    damage = [(each["finding"], each["position"]) for each in lines if each["result"] == "damaged"]
    return Verdict(code, damage, lines, err)


@define
class PersistentConnection:
    """A database, the file of its checkpoints, and the key that signs them."""

    database: Database
    url: str
    folder: Path
    key: SigningKey
    #: What the next event's time is; a second passes with each.
    now_us: int = NOW_US

    @property
    def file(self) -> Path:
        return self.folder / "heads.jsonl"

    @property
    def public_file(self) -> Path:
        return public_file_of(self.folder / "key")

    def record(self, number: int, *, words: str = "frame", account: str = "main") -> None:
        """Append so many events, a second different."""
        drafts: list[Draft] = []
        for count in range(number):
            self.now_us += SECOND_US
            drafts.append(frame(f"{words} {count}", account=account, at_us=self.now_us))
        write(self.database, *drafts)

    def checkpoint(self, account: str = "main", key: SigningKey | None = None) -> Checkpoint:
        """Take the present head out, half a second after the last event."""
        found = in_unit(self.database.reader, head, account)
        made = Checkpoint(account, found, self.now_us + SECOND_US // 2)
        append_line(self.file, checkpoint_line(made, key or self.key))
        return made

    def events(self) -> list[Event]:
        """Return the whole log of the account."""
        return in_unit(
            self.database.reader, lambda connection: [*stream_events(connection, "main")]
        )

    def verify(self, *argv: str) -> Verdict:
        """Ask ``recorder verify``."""
        reported = {
            "RECORDER_CHECKPOINT_FILE": str(self.file),
            "RECORDER_CHECKPOINT_PUBLIC_FILE": str(self.public_file),
        }
        answer = ask(self.url, "verify", "--json", *argv, environment=reported)
        return verdict(answer.code, answer.out, answer.err)

    def verify_independently(self, *sources: str) -> Verdict:
        """Ask the second verifier, of the database or of an export."""
        flags = ("--checkpoints", str(self.file), "--public-keys", str(self.public_file))
        return run_script(*(sources or (self.url,)), *flags)

    def export(self) -> Path:
        """Write the log as an export does."""
        path = self.folder / "log.jsonl"
        path.write_text("".join(map(export_line, self.events())), encoding="utf-8")
        return path


def keep(database: Database, url: str, folder: Path) -> PersistentConnection:
    """Return a log of ten events, with checkpoints at 3, 6, 9 and 10."""
    kept = PersistentConnection(database, url, folder, make_keys(folder / "key"))
    for number in (3, 3, 3, 1):
        kept.record(number, words=f"after {kept.now_us}")
        kept.checkpoint()
    return kept


def run_script(*argv: str) -> Verdict:
    """Run the second verifier as a doubting auditor would: as a program of its own."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *argv], capture_output=True, text=True, timeout=60
    )
    return verdict(done.returncode, done.stdout, done.stderr)


def export_line(event: Event) -> str:
    """Return an event as a line of an export."""
    lines = {
        "account": event.account,
        "position": event.position,
        "received_at": event.received_at.isoformat(timespec="microseconds"),
        "elapsed_ns": event.elapsed_ns,
        "connection_id": event.connection_id,
        "origin": event.origin,
        "type": event.type,
        "encoding": event.encoding,
        "payload": event.payload,
        "digest": event.digest.hex(),
    }
    return json.dumps(lines) + "\n"


def tamper(database: Database, *statements: str) -> None:
    """Change the log as its owner can, who switches the triggers off and on again."""
    if database.dialect == "postgresql":
        free = "ALTER TABLE events DISABLE TRIGGER ALL", "ALTER TABLE events ENABLE TRIGGER ALL"
        escaped = [statement.replace(":", r"\:") for statement in statements]
        run_sql(database, free[0], *escaped, free[1])
        return
    found = run_sql(
        database,
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'",
    )
    drops = [f"DROP TRIGGER {name}" for name, _ in found]
    makes = [str(sql) for _, sql in found]
    run_sql(database, *(s.replace(":", r"\:") for s in (*drops, *statements, *makes)))


def rechain(kept: PersistentConnection, events: Sequence[Event]) -> None:
    """Put these events in place of the log's, with digests that fit: every one from 1 on."""
    previous = Head(0, bytes(32))
    rows = []
    for event in events:
        position = previous.position + 1
        digest = digest_event(previous.digest, position, event)
        previous = Head(position, digest)
        rows.append(_values(kept.database, event, previous))
    columns = "account, position, received_at, elapsed_ns, connection_id, origin, type, payload,"
    insert = f"INSERT INTO events ({columns} encoding, digest) VALUES "
    # Row by row: a forger may as well use the triggers' own rules.
    tamper(kept.database, "DELETE FROM events WHERE account = 'main'", *(insert + r for r in rows))


def _values(database: Database, event: Event, at: Head) -> str:
    moment = time_text(event.received_us)
    if database.dialect == "postgresql":
        moment = from_us(event.received_us).isoformat()
    digest = at.digest.hex()
    literal = f"decode('{digest}', 'hex')" if database.dialect == "postgresql" else f"x'{digest}'"
    texts = [event.connection_id or "", event.origin, event.type, event.payload, event.encoding]
    quoted = ", ".join("'" + text.replace("'", "''") + "'" for text in texts)
    return f"('main', {at.position}, '{moment}', 5, {quoted}, {literal})"
