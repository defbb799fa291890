"""The command line: ``recorder COMMAND …``.

Each command is a module with ``configure(parser)`` and ``run(call) -> exit code``, or an object in
one. A module is imported when its command is called and not before, so that ``recorder --help`` is
quick.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, TextIO

from recorder import __version__
from recorder.cli.call import Call
from recorder.cli.exits import INTERRUPTED, MEANINGS, UNREAD, WRONG, exit_code
from recorder.cli.groups import only
from recorder.cli.output import Output
from recorder.errors import RecorderError

#: Command → what its line of ``recorder --help`` reports. The module has the command's name,
#: except for those of `HOLDINGS`.
COMMANDS = {
    "run": "record the accounts, and send what is queued",
    "demo": "show it all at work against a simulated exchange",
    "simulator": "serve a simulated exchange",
    "migrate": "bring the database's schema up to date",
    "status": "report whether recording is going on, and how far everything is",
    "balances": "show the balances of an account",
    "orders": "show orders, or the history of one",
    "positions": "show the futures positions, or the history of one",
    "conditionals": "show take-profit and stop-loss orders, or the history of one",
    "events": "show the log, or follow it",
    "gaps": "report what part of a period was observed, and list what may have been missed",
    "books": "explain the change of each balance over a period by its movements",
    "statement": "make the report of a period: tables in files, and a page to read and sign",
    "enqueue": "queue a command in the outbox",
    "outbox": "show queued commands, or the history of one",
    "backfill": "fetch a period from the exchange's histories",
    "reconcile": "compare what is held with the exchange's own answers",
    "verify": "prove that the log is whole",
    "checkpoint": "take the heads of the log out of the database now, or make a key for that",
    "rebuild": "fold the tables again from the log, or compare",
    "export": "write the log or tables to files: JSON lines, CSV, Parquet",
    "import": "load an exported log into a database that has none of it",
}
#: The commands that are declared in the module `holdings`.
HOLDINGS = ("balances", "positions", "conditionals")


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run one command and return its exit code.

    ``argv`` leaves out the program's name; both default to those of the process.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    out, err = sys.stdout, sys.stderr
    _tolerate(out, err)
    try:
        code = _call(given, os.environ if environment is None else environment, out, err)
        out.flush()
    except BrokenPipeError:
        return _unread(out, err)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseExceptionGroup as group:
        # Ctrl-C before a loop listened for signals comes out of its nurseries.
        if only(KeyboardInterrupt, group) is None:
            raise
        return INTERRUPTED
    except SystemExit as ended:
        # argparse leaves like this: after --help with 0, after a wrong argument with 2.
        return ended.code if isinstance(ended.code, int) else WRONG
    return code


def _call(given: Sequence[str], environment: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    arguments = _parser(given[0] if given else "").parse_args(given)
    output = Output(_wants_json(getattr(arguments, "form", None), out), out, err)
    command = _command(arguments.command)
    try:
        code: int = command.run(Call(arguments, environment, output))
    except RecorderError as error:
        output.warn(str(error))
        return exit_code(error)
    return code


def _command(name: str) -> Any:
    """Import the module of a command, and return what has its ``configure`` and ``run``."""
    if name in HOLDINGS:
        return import_module(f"{__name__}.holdings").COMMANDS[name]
    return import_module(f"{__name__}.{name}")


def _parser(chosen: str) -> ArgumentParser:
    """Return the parser; only the chosen command's own arguments are known to it."""
    parser = ArgumentParser(
        prog="recorder",
        description="Records all activity of VALR accounts, and sends queued commands.",
        epilog=exit_codes(),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"recorder {__version__}")
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    for name, summary in COMMANDS.items():
        own = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=exit_codes(),
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == chosen:
            _command(name).configure(own)
    return parser


def exit_codes() -> str:
    """Return the lines that report the exit codes."""
    return "exit codes:\n" + "\n".join(f"  {code:<4} {text}" for code, text in MEANINGS.items())


def _wants_json(form: str | None, out: TextIO) -> bool:
    return form == "json" or (form is None and not out.isatty())


def _tolerate(*streams: TextIO) -> None:
    """Let a terminal that can't show a character show its escape, instead of failing on it."""
    for stream in streams:
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def _unread(*streams: TextIO) -> int:
    """End quietly, and keep the interpreter from complaining when it flushes at its exit."""
    with open(os.devnull, "w", encoding="ascii") as nowhere:  # noqa: PTH123 - not a path
        for stream in streams:
            os.dup2(nowhere.fileno(), stream.fileno())
    return UNREAD
