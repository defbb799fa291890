"""The file of checkpoints, which lies outside the database: one JSON object a line.

It is only ever appended to, and each line is on the disk before it counts as
written. It may be rotated (renamed) at any time: the next line makes a new file. A line that
was torn by a crash stays as it is, and the next one begins on a line of its own.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator, Sequence, Set
from io import BufferedIOBase
from pathlib import Path

from attrs import define, evolve, field, frozen

from recorder.errors import CheckpointNotWritten, ConfigurationError
from recorder.log.rules.checkpoint import Distrusted, Finding, judge_line
from recorder.log.rules.checkpoint_comparison import Comparison

#: Longer than any line that a recorder writes: an account's name has 100 characters at most.
LINE_BYTES_MAX = 4_096
#: What a rotated file's name has behind the file's own: ``.1``, ``.2.gz``, ``-20260131.gz``.
_ROTATED = re.compile(r"[.-]\d+(\.gz)?")


def append_line(path: Path, line: str) -> None:
    """Append a line, durably. Raises CheckpointNotWritten; then at most a part of it stands there.

    A new file is readable by its owner alone.
    """
    try:
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            start = b"\n" if _is_torn(descriptor) else b""
            _write_all(descriptor, start + line.encode("ascii") + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            _sync_folder(path.absolute().parent)
    except OSError as error:
        raise CheckpointNotWritten(f"{path}: {error.strerror or error}") from error


def _is_torn(descriptor: int) -> bool:
    length = os.lseek(descriptor, 0, os.SEEK_END)
    if length == 0:
        return False
    os.lseek(descriptor, length - 1, os.SEEK_SET)
    return os.read(descriptor, 1) != b"\n"


def _write_all(descriptor: int, content: bytes) -> None:
    # One call, so that the lines of two processes don't mix; more only where the disk takes a part.
    while content:
        content = content[os.write(descriptor, content) :]


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@frozen
class BadLine:
    """The first line of its kind, where it stands, and how many more there are of it."""

    file: Path
    number: int
    why: Distrusted
    more: int = 0


@define
class KnownCheckpoints:
    """What the files report: per account the checkpoints to compare with, and lines that don't
    count.

    ``torn`` lines were cut short, as by a crash while they were written: they show nothing.
    """

    comparisons: dict[str, Comparison] = field(factory=dict)
    bad: dict[Finding, BadLine] = field(factory=dict)
    torn: int = 0
    are_signatures_checked: bool = False

    def take(self, file: Path, number: int, line: bytes, trusted: Set[bytes]) -> None:
        """Take a line in."""
        if not line.endswith(b"}"):
            self.torn += 1
            return
        judged = judge_line(line, trusted)
        if not isinstance(judged, Distrusted):
            self.comparisons.setdefault(judged.account, Comparison()).add(judged)
        elif first := self.bad.get(judged.finding):
            self.bad[judged.finding] = evolve(first, more=first.more + 1)
        else:
            self.bad[judged.finding] = BadLine(file, number, judged)


def rotated_files(path: Path) -> list[Path]:
    """Return the file and those that it was rotated to, sorted by name; empty if there is none."""
    found = [path] if path.exists() else []
    try:
        beside = sorted(path.absolute().parent.iterdir())
    except OSError:
        return found
    return found + [
        each
        for each in beside
        if each.name.startswith(path.name) and _ROTATED.fullmatch(each.name[len(path.name) :])
    ]


def read_checkpoints(files: Sequence[Path], trusted: Set[bytes]) -> KnownCheckpoints:
    """Return what the files report. Raises ConfigurationError for one that can't be read."""
    known = KnownCheckpoints(are_signatures_checked=bool(trusted))
    for file in files:
        for number, line in _lines(file):
            known.take(file, number, line, trusted)
    return known


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that hold something, with their numbers, without the space around them."""
    try:
        with file.open("rb") as raw:
            is_packed = raw.peek(2)[:2] == b"\x1f\x8b"
            opened: BufferedIOBase = gzip.GzipFile(fileobj=raw) if is_packed else raw
            for number, line in enumerate(_bounded_lines(opened), start=1):
                # A disk that lost power may have grown a file by zeros.
                if bare := line.strip(b" \t\r\n\x00"):
                    yield number, bare
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"can't read the checkpoints in {file}: {reason}") from error


def _bounded_lines(opened: BufferedIOBase) -> Iterator[bytes]:
    """Yield lines; of one that is too long, a beginning that no checkpoint can be made of."""
    while line := opened.readline(LINE_BYTES_MAX):
        if line.endswith(b"\n") or len(line) < LINE_BYTES_MAX:
            yield line
            continue
        while (rest := opened.readline(LINE_BYTES_MAX)) and not rest.endswith(b"\n"):
            pass
        yield b"too long {}"
