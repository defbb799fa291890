"""Checkpoints and their keys in files outside the database.

A checkpoint file has one JSON object a line. It is only appended to, and each line is on the disk
before it counts as written. It may be rotated (renamed) at any time: the next line makes a new
file. A line that a crash tore stays as it is, and the next one begins on a line of its own.

The private key is PKCS #8 in PEM without a password, as ``openssl genpkey -algorithm ed25519``
writes it too. A file of public keys has one on each line, as 64 hexadecimal digits; what follows a
``#`` is a remark.
"""

from __future__ import annotations

import gzip
import os
import re
import stat
import zlib
from collections.abc import Iterator, Sequence, Set
from io import BufferedIOBase
from pathlib import Path

from attrs import define, evolve, field, frozen
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from recorder.errors import CheckpointNotWritten, ConfigurationError
from recorder.log.rules.checkpoint import Distrusted, Finding, SigningKey, judge_line
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


_KEY_BYTES = 32
_OTHERS = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH
_MAKE_ONE = "`recorder checkpoint keygen` makes one"


def public_file_of(private_file: Path) -> Path:
    """Return where the public key of a private one is kept: beside it."""
    return private_file.with_name(private_file.name + ".pub")


def make_keys(private_file: Path) -> SigningKey:
    """Make a key, and write it and its public half (`public_file_of`). Nothing is overwritten.

    Raises ConfigurationError if either file stands there already, or can't be written.
    """
    public_file = public_file_of(private_file)
    for file in (private_file, public_file):
        if file.exists() or file.is_symlink():
            raise ConfigurationError(
                f"{file} stands there already: a key is never overwritten, or what it signed could"
                " no longer be checked; give another name"
            )
    made = Ed25519PrivateKey.generate()
    key = SigningKey(made)
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_new(private_file, pem, 0o600)
    _write_new(public_file, f"{key.public.hex()}\n".encode("ascii"), 0o644)
    return key


def _write_new(file: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise ConfigurationError(f"can't write {file}: {error.strerror or error}") from error


def read_signing_key(file: Path) -> SigningKey:
    """Return the private key in a file. Raises ConfigurationError, which shows nothing of it."""
    try:
        content = file.read_bytes()
    except OSError as error:
        reason = f"can't read the checkpoint key {file}: {error.strerror or error}"
        raise ConfigurationError(f"{reason}; {_MAKE_ONE}") from error
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        # Without its cause: a parser's message about a broken key was never checked for secrets.
        raise ConfigurationError(
            f"the checkpoint key {file} is no Ed25519 key in PEM without a password; {_MAKE_ONE}"
        )
    return SigningKey(key)


def is_readable_by_others(file: Path) -> bool:
    """Return whether others than its owner may read or write the file."""
    try:
        return os.name == "posix" and bool(file.stat().st_mode & _OTHERS)
    except OSError:
        return False


def read_public_keys(file: Path) -> frozenset[bytes]:
    """Return the public keys in a file. Raises ConfigurationError, also where there is none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigurationError(f"can't read the public keys in {file}: {reason}") from error
    keys = set()
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            raise ConfigurationError(
                f"line {number} of {file} is no public key: report 64 hexadecimal digits, as"
                " `recorder checkpoint keygen` prints them"
            )
        keys.add(key)
    if not keys:
        raise ConfigurationError(f"there is no public key in {file}")
    return frozenset(keys)


def trusted_keys(public_file: str, private_file: str) -> frozenset[bytes]:
    """Return the public keys to trust: those of ``public_file``, else those beside the private one.

    Where neither is named there is none. Raises ConfigurationError for what can't be read.
    """
    if public_file:
        return read_public_keys(Path(public_file))
    if not private_file:
        return frozenset()
    beside = public_file_of(Path(private_file))
    if beside.exists():
        return read_public_keys(beside)
    return frozenset({read_signing_key(Path(private_file)).public})
