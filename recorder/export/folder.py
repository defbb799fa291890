"""The folder of an export: made under another name, and in its place only when it is whole.

Whatever ends an export early, the folder that was asked for is then not there, or is still the one
that was there before. What a killed process leaves is called ``.NAME.….partial``, and it has no
manifest.
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
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any, cast

from recorder.errors import ConfigurationError, FilesFailed
from recorder.export import manifest

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
    if not (target / manifest.NAME).is_file():
        raise ConfigurationError(
            f"{target} holds something that is no export; report another folder"
        )
    if not overwrite:
        raise ConfigurationError(
            f"{target} holds an export already; report another folder, or --overwrite to replace it"
        )
    manifest.read_manifest(target)


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
