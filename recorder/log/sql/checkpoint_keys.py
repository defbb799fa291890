"""The keys that sign checkpoints, in files: a private one as PEM, public ones as lines.

The private key is PKCS #8 in PEM without a password, as ``openssl genpkey -algorithm ed25519``
writes it too. A file of public keys has one on each line, as 64 hexadecimal digits; what follows a
``#`` is a remark.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from recorder.errors import ConfigurationError
from recorder.log.rules.checkpoint import SigningKey

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
