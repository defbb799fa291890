"""Reads an exported log back, proves it, and loads it into a database.

A damaged export is what this is for: nothing about a file is taken for granted, and what can't be
read as an event is damage at its place. Loading is one transaction that takes every event, and ends
only when every digest, every file and every head is as the manifest has it. A process that dies in
the middle, a full disk, a file that is damaged at its end: each leaves the database as it was.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Collection, Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, cast

from attrs import define, field
from sqlalchemy import Connection, literal, select, text

from recorder.database.engine import Database, in_unit
from recorder.database.schema import metadata
from recorder.errors import ConfigurationError, ExportDamaged
from recorder.export.folder import File, Manifest, file_errors, read_manifest
from recorder.export.formats import Format
from recorder.export.rows import LOG
from recorder.export.values import UnreadableLine, event_of_line
from recorder.log.rules.chain import Damage, check_event
from recorder.log.rules.event import EMPTY_HEAD, Event, Head
from recorder.log.sql.append import write_chained

#: A batch of events: at most so many, …
BATCH_EVENTS = 1_000
#: … and no further one once their payloads have this many characters.
BATCH_CHARACTERS = 8 * 1024 * 1024
#: Longer than any line of ours: a REST answer or a frame has some megabytes.
LINE_BYTES_MAX = 1024 * 1024 * 1024
_CHUNK = 1 << 20

#: Called with the number of events read so far.
OnProgress = Callable[[int], object]


def read_log(folder: Path) -> Manifest:
    """Return the manifest of an export that holds a log which can be read back.

    Raises ConfigurationError where there is none.
    """
    manifest = read_manifest(folder)
    if not any(file.table == LOG for file in manifest.files):
        raise ConfigurationError(f"{folder} holds no events: there is nothing to prove in it")
    if manifest.format is not Format.JSONL:
        raise ConfigurationError(
            f"{folder} is {manifest.format}, and only a log in JSON lines is read back;"
            " export it with --format jsonl"
        )
    return manifest


@define
class Reading:
    """One pass through the files of an export, in the manifest's order."""

    folder: Path
    manifest: Manifest
    #: How far each account's log was found sound.
    heads: dict[str, Head] = field(init=False)

    def __attrs_post_init__(self) -> None:
        log = self.manifest.log
        self.heads = {account: stretch.after.head() for account, stretch in log.items()}

    def batches(self, on_progress: OnProgress) -> Iterator[list[Event]]:
        """Yield the log's events in order, each checked; end only when all that was promised came.

        So a caller that has reached this generator's end holds a whole and sound log. Raises
        ExportDamaged, FilesFailed.
        """
        count = 0
        for file in self.manifest.files:
            for batch in self._checked(file):
                yield batch
                count += len(batch)
                on_progress(count)
        for account, stretch in self.manifest.log.items():
            self._require_end(account, stretch.head.head())

    def _require_end(self, account: str, promised: Head) -> None:
        found = self.heads[account]
        if found.position < promised.position:
            what = f"missing: the manifest's head is {promised.position}"
            raise ExportDamaged(account, found.position + 1, what)
        if found != promised:
            raise ExportDamaged(account, promised.position, "it is not the head of the manifest")

    def _checked(self, file: File) -> Iterator[list[Event]]:
        """Yield what one file holds of the log, and prove the file whole."""
        path = self.folder / file.path
        if not path.exists():
            raise self._damaged(file, 0, "the file is missing")
        with file_errors(path), path.open("rb") as raw:
            hashed = _Hashed(raw)
            if file.table == LOG:
                yield from self._events(file, hashed)
                self._require_parts(file)
            if hashed.rest() != file.sha256:
                # If each event is sound, the damaged place is unknown.
                raise self._damaged(file, 0, "the file is not the one that was written (SHA-256)")

    def _require_parts(self, file: File) -> None:
        """Raise ExportDamaged where the file should have brought an account further than it did."""
        for part in file.parts:
            head = self.heads.get(part.account)
            if head is not None and head.position < part.last_position:
                what = f"{file.path}: missing; the file should go up to {part.last_position}"
                raise ExportDamaged(part.account, head.position + 1, what)

    def _events(self, file: File, hashed: _Hashed) -> Iterator[list[Event]]:
        lines = _unpacked(hashed) if file.path.endswith(".gz") else io.BufferedReader(hashed)
        batch: list[Event] = []
        characters = count = 0
        while line := self._line(file, lines, count):
            event = self._event(file, line, count)
            count += 1
            batch.append(event)
            characters += len(event.payload)
            if len(batch) >= BATCH_EVENTS or characters >= BATCH_CHARACTERS:
                yield batch
                batch, characters = [], 0
        if batch:
            yield batch

    def _line(self, file: File, lines: IO[bytes] | io.BufferedReader, count: int) -> bytes:
        """Return the next line, empty at the end of the file."""
        try:
            line = lines.readline(LINE_BYTES_MAX)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise self._damaged(file, count, f"the file can't be unpacked: {error}") from error
        if line and not line.endswith(b"\n"):
            raise self._damaged(file, count, "its line is cut")
        return line

    def _event(self, file: File, line: bytes, count: int) -> Event:
        try:
            event = event_of_line(line)
        except UnreadableLine as error:
            raise self._damaged(file, count, str(error)) from error
        head = self.heads.get(event.account)
        if head is None:
            raise self._damaged(file, count, f"account {event.account!r} isn't in the manifest")
        checked = check_event(head, event)
        if isinstance(checked, Damage):
            raise ExportDamaged(event.account, checked.position, f"{file.path}: {checked.what}")
        self.heads[event.account] = checked
        return event

    def _damaged(self, file: File, count: int, what: str) -> ExportDamaged:
        """Name the event that should follow the file's first ``count`` lines."""
        for part in file.parts:
            here = part.last_position - part.first_position + 1
            if count < here:
                position = part.first_position + count
                return ExportDamaged(part.account, position, f"{file.path}: {what}")
            count -= here
        return ExportDamaged(None, None, f"{file.path}: {what}")


class _Hashed(io.RawIOBase):
    """A file whose SHA-256 is taken as it is read."""

    def __init__(self, raw: IO[bytes]) -> None:
        super().__init__()
        self._raw = raw
        self._hash = sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._raw.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self._hash.update(chunk)
        return len(chunk)

    def rest(self) -> str:
        """Read to the end, and return the SHA-256 of all that was read, in hexadecimal."""
        while chunk := self._raw.read(_CHUNK):
            self._hash.update(chunk)
        return self._hash.hexdigest()


def _unpacked(hashed: _Hashed) -> IO[bytes]:
    return cast(IO[bytes], gzip.GzipFile(fileobj=cast(IO[bytes], hashed), mode="rb"))


#: What a person may have set before there is a log.
_MAY_STAND = frozenset({"controls", "limits"})


def require_from_the_start(folder: Path, manifest: Manifest) -> None:
    """Raise ConfigurationError unless every log of the export begins with its first event."""
    for account, stretch in manifest.log.items():
        if stretch.after.head() != EMPTY_HEAD:
            raise ConfigurationError(
                f"{folder} holds the log of account {account!r} from position"
                f" {stretch.after.position + 1} on; only a log from its start can be imported"
            )


def load(
    database: Database, folder: Path, manifest: Manifest, on_progress: OnProgress
) -> dict[str, Head]:
    """Write the log as it is, and return its heads by account. Durable when it returns.

    The tables that fold from it stay empty: a recorder that starts folds them, or `rebuild`. Raises
    ExportDamaged, FilesFailed, ConfigurationError where something of an account stands already,
    LeaseLost where a recorder came in between, or what the database raises; nothing was written
    then.
    """
    require_from_the_start(folder, manifest)
    return in_unit(database.writer, _load, folder, manifest, on_progress)


def _load(
    connection: Connection, folder: Path, manifest: Manifest, on_progress: OnProgress
) -> dict[str, Head]:
    if connection.dialect.name == "postgresql":
        # Between two batches it waits for the files, which may lie on something slow.
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
    _require_nothing_of(connection, manifest.log)
    reading = Reading(folder, manifest)
    for batch in reading.batches(on_progress):
        write_chained(connection, batch)
    return reading.heads


def _require_nothing_of(connection: Connection, accounts: Collection[str]) -> None:
    for name, table in sorted(metadata.tables.items()):
        if name in _MAY_STAND:
            continue
        chosen = table.c.account.in_(sorted(accounts))
        found = connection.execute(select(table.c.account, literal(1)).where(chosen).limit(1))
        row = found.first()
        if row is not None:
            raise ConfigurationError(
                f"the database has rows of account {row.account!r} in {name};"
                " an import wants an account that has none: give it another database"
            )
