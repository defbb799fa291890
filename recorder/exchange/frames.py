"""The type of a frame, found without reading the rest of it."""

from __future__ import annotations

import json
import re
from typing import NoReturn

import msgspec

#: Longer than any type of the exchange.
TYPE_CHARS_MAX = 200
#: A decoder that calls itself gives up on deeper nesting, sooner or later: how deep depends on who
#: calls it, and on the version of Python. Up to here none does. Frames have five levels.
DEEP = 250
#: Limits of nesting and length for texts that are searched for a type.
DEEPEST = 10_000
DEEP_CHARS_MAX = 1_000_000


class _Typed(msgspec.Struct):
    type: object = None


_DECODER = msgspec.json.Decoder(_Typed)


def frame_type(text: str) -> str:
    """Return the frame's own ``type``, or "" where it has none that a database can hold.

    About half a microsecond for a usual frame. Never raises.
    """
    try:
        kind = _DECODER.decode(text).type
    except RecursionError:
        kind = _read_deep(text)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        kind = _read_slowly(text)
    if not isinstance(kind, str) or len(kind) > TYPE_CHARS_MAX or "\x00" in kind:
        return ""
    return kind if kind.isascii() or _is_encodable(kind) else ""


def _read_slowly(text: str) -> object:
    """Read what the fast decoder refuses although it is JSON: a lone surrogate's escape."""
    if "\\u" not in text:
        return None
    try:
        frame = _decode(text)
    except RecursionError:
        return _read_deep(text)
    except ValueError:
        return None
    return frame.get("type") if isinstance(frame, dict) else None


def is_deep(text: str) -> bool:
    """Return whether the text nests deeper than any frame of the exchange."""
    depth = 0
    for token in _brackets_and_strings(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > DEEP:
            return True
    return False


def _read_deep(text: str) -> object:
    """Read without calling itself: each closed bracket's content, with null for what is within."""
    if len(text) > DEEP_CHARS_MAX:
        return None
    value: object = None
    pieces, end = [[""]], 0
    for token in _brackets_and_strings(text):
        if token[0] in "[{":
            pieces[-1].append(text[end : token.start()])
            pieces.append([token[0]])
            end = token.end()
        elif token[0] in "]}":
            content = "".join([*pieces.pop(), text[end : token.end()]])
            end = token.end()
            try:
                value = _decode(content)
            except ValueError:
                return None
            if not pieces:
                return None
            pieces[-1].append("null")
        if len(pieces) > DEEPEST:
            return None
    whole = "".join([*pieces.pop(), text[end:]])
    if pieces or whole.strip(" \t\r\n") != "null" or not isinstance(value, dict):
        return None
    return value.get("type")


_brackets_and_strings = re.compile(r'[][{}]|"(?:[^"\\]|\\.)*"', re.DOTALL).finditer


def _decode(text: str) -> object:
    return json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
