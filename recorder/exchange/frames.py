"""What a frame says it is, found without reading the rest of it."""

from __future__ import annotations

import json
from typing import NoReturn

import msgspec

#: Longer than any type the exchange has; what is longer is somebody's garbage.
TYPE_CHARS_MAX = 200


class _Typed(msgspec.Struct):
    type: object = None


_DECODER = msgspec.json.Decoder(_Typed)


def frame_type(text: str) -> str:
    """Return the frame's own ``type``, or "" where it has none that a database can hold.

    About half a microsecond for a usual frame. Never raises.
    """
    try:
        kind = _DECODER.decode(text).type
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        kind = _read_slowly(text)
    if not isinstance(kind, str) or len(kind) > TYPE_CHARS_MAX or "\x00" in kind:
        return ""
    return kind if kind.isascii() or _is_encodable(kind) else ""


def _read_slowly(text: str) -> object:
    """Read what the fast decoder refuses although it is JSON: a lone surrogate's escape."""
    if "\\u" not in text:
        return None
    try:
        frame = json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return frame.get("type") if isinstance(frame, dict) else None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
