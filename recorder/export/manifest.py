"""The description of an export: `manifest.json`, written last."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import msgspec
from attrs import field, frozen

from recorder.errors import ConfigurationError
from recorder.export.formats import Format
from recorder.log.rules.event import Head

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
