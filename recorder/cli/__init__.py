"""The command line: ``recorder COMMAND …``.

`COMMANDS` lists the commands; each is declared as ``NAME_command`` in a module. That is imported
when its command is called and not before, so that ``recorder --help`` is quick.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, TextIO

from recorder import __version__
from recorder.cli.call import Call
from recorder.cli.exits import INTERRUPTED, MEANINGS, UNREAD, WRONG, exit_code, only
from recorder.cli.output import Output
from recorder.errors import RecorderError

if TYPE_CHECKING:
    from recorder.cli.command import Command

#: Command → its line of ``recorder --help``.
COMMANDS = {
    "run": "record the accounts, and send what is queued",
    "demo": "show it all at work against a simulated exchange",
    "simulator": "serve a simulated exchange",
    "doctor": "check what the recorder stands on: disk, limits, database, clock, keys",
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
#: The module of a command, where it hasn't the command's name.
_MODULES = {
    **dict.fromkeys(("balances", "positions", "conditionals"), "holdings"),
    **dict.fromkeys(("backfill", "reconcile"), "requests"),
    "enqueue": "outbox",
    "import": "export",
}


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run one command and return its exit code.

    ``argv`` leaves out the program's name; both default to those of the process.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    out, err = sys.stdout, sys.stderr
    for stream in (out, err):
        # A terminal that can't show a character shows its escape, instead of failing on it.
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    try:
        code = _call(given, os.environ if environment is None else environment, out, err)
        out.flush()
    except BrokenPipeError:
        # Keep the interpreter from complaining when it flushes at its exit.
        with open(os.devnull, "w", encoding="ascii") as nowhere:  # noqa: PTH123 - not a path
            for stream in (out, err):
                os.dup2(nowhere.fileno(), stream.fileno())
        return UNREAD
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
    arguments = parser_of(given[0] if given else "").parse_args(given)
    form = getattr(arguments, "form", None)
    output = Output(form == "json" or (form is None and not out.isatty()), out, err)
    try:
        return command_named(arguments.command).run(Call(arguments, environment, output))
    except RecorderError as error:
        output.warn(str(error))
        return exit_code(error)


def command_named(name: str) -> Command:
    """Import the module of a command and return the command."""
    module = import_module(f"{__name__}.{_MODULES.get(name, name)}")
    command: Command = getattr(module, f"{name}_command")
    return command


def parser_of(chosen: str) -> ArgumentParser:
    """Return the parser; only the chosen command's own arguments are known to it."""
    codes = "\n".join(f"  {code:<4} {text}" for code, text in MEANINGS.items())
    parser = ArgumentParser(
        prog="recorder",
        description="Records all activity of VALR accounts, and sends queued commands.",
        epilog=f"exit codes:\n{codes}",
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
            epilog=parser.epilog,
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == chosen:
            command_named(name).configure(own)
    return parser
