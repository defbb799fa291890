"""A checkpoint: a head of the log outside the database, and how it is written and signed.

A checkpoint is one line of JSON, in ASCII:

    {"format":"recorder-checkpoint-1","account":…,"position":…,"digest":…,"at":…,"key":…,
     "signature":…}

``digest`` is that of the event at ``position``, as 64 hexadecimal digits; ``at`` is when the head
was read. ``signature`` is Ed25519, as 128 hexadecimal digits, over ``F(format) ‖ F(account) ‖
F(position) ‖ F(digest) ‖ F(at)``, each as the text that stands in the line, position in decimal,
with the ``F`` of `recorder.log.rules.digest`; ``key`` is the public key, as 64. Both are null in an
unsigned line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Set
from datetime import datetime
from enum import StrEnum

from attrs import frozen
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from recorder.log.rules.digest import field
from recorder.log.rules.event import Head
from recorder.timestamps import from_us, to_us

FORMAT = "recorder-checkpoint-1"
#: What a database can hold as a position.
_POSITION_MAX = 2**63 - 1
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SIGNATURE = re.compile(r"[0-9a-f]{128}", re.ASCII)


@frozen
class Checkpoint:
    """The head of one account's log at a time: whole microseconds since 1970 in UTC."""

    account: str
    head: Head
    at_us: int


@frozen
class SignedCheckpoint:
    """A checkpoint with its signature; ``key`` and ``signature`` are None if it is unsigned."""

    checkpoint: Checkpoint
    key: bytes | None
    signature: bytes | None


class Finding(StrEnum):
    """What was found; each has a name of its own."""

    ALTERED = "altered"  # the log contradicts itself
    CUT_TAIL = "cut_tail"  # a checkpoint stands beyond the head
    REWRITTEN = "rewritten"  # sound in itself, but not what was written: chained again
    RESTORED = "restored"  # put back to an older state, and gone on from there
    BAD_SIGNATURE = "bad_signature"  # a line of the checkpoints that was changed or invented
    UNKNOWN_KEY = "unknown_key"  # signed by a key that is not trusted
    UNSIGNED = "unsigned"  # one without a signature, where keys are trusted
    UNREADABLE = "unreadable"  # one that no recorder wrote


@frozen
class Distrusted:
    """A line of which no checkpoint can be made, or none that counts.

    ``account`` and ``position`` are as the line reports, None where it can't be read.
    """

    finding: Finding
    account: str | None
    position: int | None
    what: str


class SigningKey:
    """The private key. Nothing that is printed of it shows it."""

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        #: The 32 bytes of the public key.
        self.public = key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()})"


def checkpoint_line(checkpoint: Checkpoint, key: SigningKey | None) -> str:
    """Return the line, without its end, signed where there is a key."""
    members = {
        "format": FORMAT,
        "account": checkpoint.account,
        "position": checkpoint.head.position,
        "digest": checkpoint.head.digest.hex(),
        "at": _time_text(checkpoint.at_us),
        "key": key.public.hex() if key else None,
        "signature": key.sign(signed_bytes(checkpoint)).hex() if key else None,
    }
    return json.dumps(members, separators=(",", ":"))


def signed_bytes(checkpoint: Checkpoint) -> bytes:
    """Return the bytes that a signature is over."""
    head = checkpoint.head
    texts = (str(head.position), head.digest.hex(), _time_text(checkpoint.at_us))
    return b"".join(field(text) for text in (FORMAT, checkpoint.account, *texts))


def has_good_signature(signed: SignedCheckpoint) -> bool:
    """Return whether the signature is that of the key which the line names."""
    if signed.key is None or signed.signature is None:
        return False
    try:
        key = Ed25519PublicKey.from_public_bytes(signed.key)
        key.verify(signed.signature, signed_bytes(signed.checkpoint))
    except (InvalidSignature, ValueError):
        return False
    return True


def judge_line(line: bytes, trusted: Set[bytes]) -> Checkpoint | Distrusted:
    """Return the checkpoint in a line, or why it doesn't count.

    ``trusted`` are public keys. Without any, the signatures are not checked.
    """
    try:
        signed = read_checkpoint(line)
    except ValueError as error:
        return Distrusted(Finding.UNREADABLE, None, None, f"can't be read: {error}")
    if not trusted:
        return signed.checkpoint
    finding, what = _distrust(signed, trusted)
    if finding is None:
        return signed.checkpoint
    head = signed.checkpoint.head
    return Distrusted(finding, signed.checkpoint.account, head.position, what)


def _distrust(signed: SignedCheckpoint, trusted: Set[bytes]) -> tuple[Finding | None, str]:
    if signed.key is None:
        return Finding.UNSIGNED, "carries no signature, so any reader may have written it"
    if signed.key not in trusted:
        return Finding.UNKNOWN_KEY, f"is signed by a key that isn't trusted: {signed.key.hex()}"
    if not has_good_signature(signed):
        return Finding.BAD_SIGNATURE, "was changed or invented: its signature is wrong"
    return None, ""


def read_checkpoint(line: bytes) -> SignedCheckpoint:
    """Return what the line reports. Raises ValueError, saying what is wrong with it."""
    try:
        members = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is no JSON") from error
    if not isinstance(members, dict):
        raise ValueError("it is no JSON object")
    if members.get("format") != FORMAT:
        raise ValueError(f"its format isn't {FORMAT}")
    account, position = members.get("account"), members.get("position")
    if not isinstance(account, str) or not is_storable(account):
        raise ValueError("it names no account")
    if type(position) is not int or not 1 <= position <= _POSITION_MAX:
        raise ValueError("its position is no whole number from 1 on")
    head = Head(position, _hexadecimal(members, "digest", _DIGEST))
    checkpoint = Checkpoint(account, head, _time(members.get("at")))
    if members.get("key") is None and members.get("signature") is None:
        return SignedCheckpoint(checkpoint, None, None)
    key, signature = (
        _hexadecimal(members, "key", _DIGEST),
        _hexadecimal(members, "signature", _SIGNATURE),
    )
    return SignedCheckpoint(checkpoint, key, signature)


def is_storable(text: str) -> bool:
    """Return whether a text has a form in UTF-8: JSON can spell half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return bool(text)


def _hexadecimal(members: dict[str, object], name: str, form: re.Pattern[str]) -> bytes:
    text = members.get(name)
    if not isinstance(text, str) or not form.fullmatch(text):
        raise ValueError(f"its {name} is no hexadecimal number of the right length")
    return bytes.fromhex(text)


def _time(text: object) -> int:
    if isinstance(text, str) and _TIME.fullmatch(text):
        try:
            return to_us(datetime.fromisoformat(text))
        except ValueError:
            pass
    raise ValueError("its time isn't like 2026-01-31T12:00:00.000000Z")


def _time_text(time_us: int) -> str:
    naive = from_us(time_us).replace(tzinfo=None)
    return naive.isoformat(timespec="microseconds") + "Z"
