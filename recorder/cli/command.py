"""Declares commands: the arguments, the settings that are flags of a command, and what it runs.

A flag that was not given is None, so that the variable, the file and the default count.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from recorder.cli.call import Call
from recorder.config import SETTINGS
from recorder.display import size_text

if TYPE_CHECKING:
    from argparse import _ActionsContainer

#: Adds itself to a parser, or to a group of one.
Argument = Callable[["_ActionsContainer"], object]

A_TIME = "a time like 2026-01-31T12:00:00Z"
#: The settings that a command needs which only looks at tables.
DATABASE = ("database_url", "account")
#: What a command prints: tables or JSON, JSON or a sentence, or neither.
TABLES, FACTS, NEITHER = "tables", "facts", "neither"
#: 19 digits are what 64 bits hold.
WHOLE_MAX = 10**18 - 1


@frozen
class Command:
    """One command: what it runs, and its arguments. `command` makes one of a function."""

    run: Callable[[Call], int]
    arguments: Sequence[Argument]
    settings: Collection[str] | None
    prints: str

    def configure(self, parser: ArgumentParser) -> None:
        """Add the arguments."""
        for argument in self.arguments:
            argument(parser)
        if self.settings is None or self.settings:
            _add_settings(parser, self.settings)
        if self.prints != NEITHER:
            _add_output(parser, has_tables=self.prints == TABLES)


def command(
    *arguments: Argument, settings: Collection[str] | None = DATABASE, prints: str = TABLES
) -> Callable[[Callable[[Call], int]], Command]:
    """Make a command of a function. Every setting is a flag of it where ``settings`` is None."""
    return lambda run: Command(run, arguments, settings, prints)


def _add_settings(parser: ArgumentParser, names: Collection[str] | None) -> None:
    group = parser.add_argument_group("settings (each also a variable and a key of recorder.toml)")
    group.add_argument(
        "--config", type=Path, metavar="FILE", help="settings file [default: ./recorder.toml]"
    )
    for setting in SETTINGS:
        if names is not None and setting.name not in names:
            continue
        is_switch = setting.default in ("0", "1")
        shown, default = setting.help, setting.default
        if setting.name.endswith("_bytes"):
            default += f", {size_text(int(default))}"
        if default and "[default" not in shown:
            shown += f" [default: {default}]"
        group.add_argument(
            setting.flag,
            dest=setting.name,
            metavar=setting.name.rpartition("_")[2].upper(),
            # `--trading` alone means `--trading 1`.
            nargs="?" if is_switch else None,
            const="1" if is_switch else None,
            # argparse reads a percent sign as a format.
            help=f"{shown} ({setting.variable})".replace("%", "%%"),
        )


def _add_output(parser: ArgumentParser, *, has_tables: bool) -> None:
    form = parser.add_argument_group("output").add_mutually_exclusive_group()
    what = "one JSON object a line" if has_tables else "report as JSON what was written"
    elsewhere = "[default where the output is no terminal]"
    form.add_argument(
        "--json", action="store_const", const="json", dest="form", help=f"{what} {elsewhere}"
    )
    if has_tables:
        people = "tables for people [default on a terminal]"
        form.add_argument("--table", action="store_const", const="table", dest="form", help=people)


# Arguments


def argument(*names: str, **options: Any) -> Argument:
    """Return what argparse's ``add_argument`` adds."""
    return lambda parser: parser.add_argument(*names, **options)


def switch(flag: str, help: str) -> Argument:
    """Return a flag without a value."""
    return argument(flag, action="store_true", help=help)


def value(
    name: str, parse: Callable[[str], object], metavar: str, help: str, **options: Any
) -> Argument:
    """Return a flag with a value, or an argument that is named by its position."""
    return argument(name, type=parse, metavar=metavar, help=help, **options)


def choice(flag: str, choices: Iterable[str], help: str, **options: Any) -> Argument:
    """Return a flag whose value is one of some words."""
    return argument(flag, choices=tuple(map(str, choices)), help=help, **options)


def exclusive(*arguments: Argument) -> Argument:
    """Return arguments of which at most one may be given."""

    def add(parser: _ActionsContainer) -> None:
        group = parser.add_mutually_exclusive_group()
        for each in arguments:
            each(group)

    return add


def period(
    begin: str,
    end: str,
    *,
    parse: Callable[[str], object] | None = None,
    required: Collection[str] = (),
) -> tuple[Argument, ...]:
    """Return ``--from`` and ``--to``, given the help of each; their values are times by default.

    They are ``arguments.from_at`` and ``until_at``. ``required`` names the flags that must be used.
    """
    ends = {"--from": ("from_at", begin), "--to": ("until_at", end)}
    options = {"type": parse or moment, "metavar": "WHEN" if parse else "TIME"}
    return tuple(
        argument(flag, dest=dest, help=help, required=flag in required, **options)
        for flag, (dest, help) in ends.items()
    )


# Types of values


def whole(minimum: int, maximum: int = WHOLE_MAX) -> Callable[[str], int]:
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

    return parse


def moment(text: str) -> datetime:
    """Parse an ISO 8601 time that names its zone."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"use {A_TIME}, not {text[:40]!r}") from error
    # Every form of a time with a zone is longer than every form of a day.
    if len(text) <= 10:
        raise ArgumentTypeError(f"{text!r} is a day, not a time of it: use {A_TIME}")
    if parsed.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} names no zone: add Z for UTC, or +02:00")
    try:
        return parsed.astimezone(UTC)
    except OverflowError as error:
        raise ArgumentTypeError(
            f"{text!r} is outside the years 1 to 9999 in UTC: use a time within"
        ) from error


def position_or_time(text: str) -> int | datetime:
    """Parse a position of the log, or an ISO 8601 time that names its zone."""
    if text.isascii() and text.isdigit():
        return whole(1)(text)
    if text[16:19] == ":60":
        raise ArgumentTypeError(f"{text[:40]!r} names a leap second, which no clock here counts")
    if not text[:4].isdigit():
        raise ArgumentTypeError(
            f"use a position of the log (1 and up), or {A_TIME}, not {text[:40]!r}"
        )
    return moment(text)
