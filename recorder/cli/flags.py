"""The flags that commands share.

Every setting of `config.SETTINGS` is a flag of the same name on ``run``; the other commands have
those that mean something to them. A flag that was not given is None, so that the variable, the file
and the default can speak.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Collection
from datetime import UTC, date, datetime
from pathlib import Path

from recorder.config import SETTINGS, Setting

A_TIME = "a time like 2026-01-31T12:00:00Z"
#: What a command needs that only looks at tables.
DATABASE = ("database_url", "account")


def add_settings(parser: ArgumentParser, names: Collection[str] | None = None) -> None:
    """Add ``--config`` and the flags of the settings named (None: of all)."""
    group = parser.add_argument_group("settings (each also a variable and a key of recorder.toml)")
    group.add_argument(
        "--config", type=Path, metavar="FILE", help="settings file [default: ./recorder.toml]"
    )
    for setting in SETTINGS:
        if names is None or setting.name in names:
            group.add_argument(
                setting.flag,
                dest=setting.name,
                metavar=setting.name.rpartition("_")[2].upper(),
                # `--trading` alone means `--trading 1`.
                nargs="?" if setting.default in ("0", "1") else None,
                const="1" if setting.default in ("0", "1") else None,
                help=_help(setting),
            )


def add_output(parser: ArgumentParser) -> None:
    """Add ``--json`` and ``--table``."""
    form = parser.add_argument_group("output").add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        action="store_const",
        const="json",
        dest="form",
        help="one JSON object a line [default where the output is no terminal]",
    )
    form.add_argument(
        "--table",
        action="store_const",
        const="table",
        dest="form",
        help="tables for people [default on a terminal]",
    )


#: 19 digits are what 64 bits hold.
WHOLE_MAX = 10**18 - 1


def whole(minimum: int, maximum: int = WHOLE_MAX) -> type[int]:
    """Return an argument type: a whole number that a database can hold, within these bounds."""
    most = f" and at most {maximum}" if maximum < WHOLE_MAX else ""

    def parse(text: str) -> int:
        digits = text.removeprefix("-")
        is_number = digits.isascii() and digits.isdigit()
        # Python itself refuses to read a number of thousands of digits.
        if is_number and len(digits) < 20 and minimum <= int(text) <= maximum:
            return int(text)
        what = f"a whole number of at least {minimum}{most}"
        if is_number and not text.startswith("-") and not most:
            what += " and at most 18 digits"
        raise ArgumentTypeError(f"use {what}, not {text[:40]!r}")

    return parse  # type: ignore[return-value]


def moment(text: str) -> datetime:
    """Parse an ISO 8601 time that names its zone."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"use {A_TIME}, not {text[:40]!r}") from error
    if _is_date(text):
        raise ArgumentTypeError(f"{text!r} is a day, not a time of it: use {A_TIME}")
    if parsed.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} names no zone: add Z for UTC, or +02:00")
    try:
        return parsed.astimezone(UTC)
    except OverflowError as error:
        raise ArgumentTypeError(
            f"{text!r} lies outside the years 1 to 9999 in UTC: report a time within"
        ) from error


def position_or_time(text: str) -> int | datetime:
    """Parse a position of the log, or an ISO 8601 time that names its zone."""
    if text.isascii() and text.isdigit():
        return whole(1)(text)
    if text[16:19] == ":60":
        raise ArgumentTypeError(f"{text[:40]!r} names a leap second, which no clock here counts")
    if not text[:4].isdigit():
        raise ArgumentTypeError(
            f"report a position of the log (1 and up), or {A_TIME}, not {text[:40]!r}"
        )
    return moment(text)


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _help(setting: Setting) -> str:
    default = f" [default: {setting.default}]" if setting.default else ""
    shown = "" if "[default" in setting.help else default
    # argparse reads a percent sign as a format.
    return f"{setting.help}{shown} ({setting.variable})".replace("%", "%%")
