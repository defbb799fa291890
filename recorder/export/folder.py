"""The folder of an export and its manifest: made under another name, and renamed when complete.

Whatever ends an export early, the requested folder is then missing, or still the one that was there
before. What a killed process leaves is called ``.NAME.….partial``, and it has no manifest:
`manifest.json`, the description of an export, is written last.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import IO, Any, cast

import msgspec
from attrs import field, frozen

from recorder.errors import ConfigurationError, FilesFailed
from recorder.export.formats import Format
from recorder.log.rules.event import Head

#: The level at which gzip is twice as fast as at its best, for files a few per cent larger.
GZIP_LEVEL = 6


@contextmanager
def file_errors(path: Path | str) -> Iterator[None]:
    """Raise the system's errors about files as FilesFailed, naming ``path``."""
    try:
        yield
    except OSError as error:
        raise FilesFailed(_reported(error, error.filename or path)) from error


def _reported(error: OSError, path: object) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: the disk is full; free some space or take another folder, and start again"
    return f"{path}: {error.strerror or error}"


def require_free(target: Path, *, overwrite: bool) -> None:
    """Raise ConfigurationError unless an export may be put at ``target``.

    It may where nothing is, or an empty folder; with ``overwrite`` also in the place of an export.
    """
    if not target.parent.is_dir():
        raise ConfigurationError(f"there is no folder {target.parent}; make it first")
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise ConfigurationError(f"{target} is no folder; report one that does not exist yet")
    if not any(target.iterdir()):
        return
    if not (target / NAME).is_file():
        raise ConfigurationError(f"{target} holds something that is no export; name another folder")
    if not overwrite:
        raise ConfigurationError(
            f"{target} holds an export already; name another folder, or --overwrite to replace it"
        )
    read_manifest(target)


@contextmanager
def staged(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a new folder to write into, for its owner alone; at the end it is ``target``.

    Where the block fails, nothing of it stays. Raises ConfigurationError as `require_free` does.
    """
    require_free(target, overwrite=overwrite)
    try:
        staging = Path(mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as error:
        raise FilesFailed(f"can't make a folder in {_reported(error, target.parent)}") from error
    try:
        yield staging
        for folder in (*(path for path in staging.iterdir() if path.is_dir()), staging):
            _sync(folder)
        _put_in_place(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _put_in_place(staging: Path, target: Path) -> None:
    """Rename the one to the other; an export that stood there goes when its successor stands."""
    if not target.exists() or not any(target.iterdir()):
        staging.rename(target)
    else:
        aside = staging.with_suffix(".replaced")
        target.rename(aside)
        staging.rename(target)
        shutil.rmtree(aside)
    _sync(target.parent)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class HashedFile(io.RawIOBase):
    """A new file that knows its size and SHA-256 as it grows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("xb")
        self._hash = sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was written so far, in hexadecimal."""
        return self._hash.hexdigest()

    def writable(self) -> bool:
        return True

    def write(self, chunk: Any) -> int:
        self._file.write(chunk)
        self._hash.update(chunk)
        written = memoryview(chunk).nbytes
        self.size += written
        return written

    def report(self) -> int:
        return self.size

    def close(self) -> None:
        """Close it; what was written is on the disk then."""
        if not self.closed:
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
            finally:
                self._file.close()
                super().close()


def packed(to: HashedFile) -> IO[bytes]:
    """Return what compresses into ``to``; the same rows give the same bytes at any time."""
    made = gzip.GzipFile("", "wb", GZIP_LEVEL, cast(IO[bytes], to), mtime=0)
    return cast(IO[bytes], io.BufferedWriter(cast(io.RawIOBase, made), 1 << 16))


NAME = "manifest.json"
KIND = "recorder export"
VERSION = 1
#: A manifest has a few hundred bytes a file: what is longer is none.
_BYTES_MAX = 64 * 1024 * 1024
_DIGEST_BYTES = 32


@frozen
class Mark:
    """A position of a log and its digest in hexadecimal; position 0 is before the first event."""

    position: int
    digest: str

    def head(self) -> Head:
        """Return it as a head."""
        return Head(self.position, bytes.fromhex(self.digest))


def mark(head: Head) -> Mark:
    """Return a head as the manifest states it."""
    return Mark(head.position, head.digest.hex())


@frozen
class Stretch:
    """The part of one account's log that was exported: behind ``after`` and up to ``head``."""

    after: Mark
    head: Mark


@frozen
class Part:
    """The events of one account within one file, which follow each other there."""

    account: str
    first_position: int
    last_position: int


@frozen
class File:
    """One file: where it is, how much it holds, and its SHA-256 as it lies on the disk.

    ``day`` is the day (UTC) of its rows, null for those of no day and where days were not asked
    for; ``parts`` are the log's only, in their order in the file.
    """

    path: str
    table: str
    day: str | None
    rows: int
    bytes: int
    sha256: str
    parts: tuple[Part, ...] = ()


@frozen
class Manifest:
    """The whole description of an export. ``rows`` counts them by table."""

    format: Format
    compression: str | None
    created_at: str
    recorder: str
    schema: str
    rows: dict[str, int]
    log: dict[str, Stretch]
    files: tuple[File, ...] = field(factory=tuple)
    kind: str = KIND
    version: int = VERSION


def write_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as indented JSON, in the order of its fields."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def read_manifest(folder: Path) -> Manifest:
    """Return the description of the export in ``folder``.

    Raises ConfigurationError where there is none, or none that this program can read.
    """
    path = folder / NAME
    try:
        with path.open("rb") as file:
            text = file.read(_BYTES_MAX)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} holds no export: {NAME} can't be read there ({error.strerror});"
            " report the folder that `recorder export` made"
        ) from error
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
        _check(manifest)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise ConfigurationError(f"{path} is no manifest of an export: {error}") from error
    return manifest


def _check(manifest: Manifest) -> None:
    """Raise ValueError for what no export of ours reports."""
    if (manifest.kind, manifest.version) != (KIND, VERSION):
        raise ValueError(f"it is a {manifest.kind!r} of version {manifest.version}")
    for file in manifest.files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{file.path!r} leads out of the export")
    for stretch in manifest.log.values():
        for each in (stretch.after, stretch.head):
            if each.position < 0 or len(bytes.fromhex(each.digest)) != _DIGEST_BYTES:
                raise ValueError("a head is not a position and 32 bytes in hexadecimal")
