"""Writes the pages of reference that come from the code: settings, commands, tables.

    reference.py [--check]

With --check it writes nothing and ends with 1 where a page differs from the code.
"""

from __future__ import annotations

import re
import sys
from argparse import Action, ArgumentParser, _SubParsersAction
from pathlib import Path

from recorder.cli import COMMANDS, parser_of
from recorder.cli.exits import MEANINGS
from recorder.config import SETTINGS

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "reference"
SQL = ROOT / "migrations" / "sql" / "sqlite"
VIEWS = ("event_json", "coverage", "foreign_orders", "balance_movements", "balance_statements")
MADE = (
    "<!-- Made by scripts/reference.py from the code. Change the code, or the notes: {notes}. -->"
)
TABLES_INTRODUCTION = """\
Amounts are exact: `NUMERIC` on PostgreSQL, decimal text on SQLite. Times are UTC with microseconds:
`timestamptz` on PostgreSQL, text `YYYY-MM-DD HH:MM:SS.ffffff` on SQLite. Flags are `boolean` on
PostgreSQL, 0 or 1 on SQLite. `account` leads every key. The SQL itself is in
[migrations/sql](../../migrations/sql); see also [questions in SQL](../sql-questions.md)."""
TABLE = re.compile(r"((?:^-- [^-].*\n)+)CREATE TABLE (\w+) \(\n(.*?)^\) STRICT;", re.DOTALL | re.M)
COLUMN = re.compile(r"    (\w+) (TEXT|INTEGER|BLOB)(.*?),?(?: +-- (.*))?$")
KEY = re.compile(r"PRIMARY KEY \(([^)]*)\)")


def settings() -> str:
    """Return the page of settings."""
    rows = [
        f"| `{each.name}` | `{each.flag}` | `{each.variable}` |"
        f" {f'`{each.default}`' if each.default else '–'} | {each.help} |"
        for each in SETTINGS
    ]
    heading, notes = note_sections("settings-notes.md")
    table = ["| key | flag | variable | default | meaning |", "| --- | --- | --- | --- | --- |"]
    return page(
        "Settings", "settings-notes.md", [heading, *notes.values()], "\n".join(table + rows)
    )


def commands() -> str:
    """Return the page of commands: their own arguments, and what the notes add."""
    heading, notes = note_sections("command-notes.md")
    codes = [f"| {code} | {text} |" for code, text in MEANINGS.items()]
    parts = [
        heading,
        "\n".join(["## Exit codes", "", "| code | meaning |", "| --- | --- |", *codes]),
    ]
    for name, summary in COMMANDS.items():
        title = f"recorder {name}"
        note = notes.pop(title, "").removeprefix(f"## {title}\n").strip()
        lines = [f"## {title}", "", summary[0].upper() + summary[1:] + "."]
        parts.append("\n".join(lines) + arguments(name) + (f"\n\n{note}" if note else ""))
    return page("Commands", "command-notes.md", [*parts, *notes.values()])


def arguments(name: str) -> str:
    """Return the table of a command's own arguments; those that all share are left out."""
    rows = []
    for parser, prefix in parsers(name):
        for group in parser._action_groups:
            if not (group.title or "").startswith(("settings", "output")):
                rows += [row(each, prefix) for each in group._group_actions if is_listed(each)]
    if not rows:
        return ""
    return "\n\n" + "\n".join(["| argument | meaning |", "| --- | --- |", *rows])


def parsers(name: str) -> list[tuple[ArgumentParser, str]]:
    """Return the parser of a command, and those of its own sub-commands with their names."""
    whole = next(each for each in parser_of(name)._actions if isinstance(each, _SubParsersAction))
    own = whole.choices[name]
    found = [(own, "")]
    for action in own._actions:
        if isinstance(action, _SubParsersAction):
            found += [(parser, f"{sub} ") for sub, parser in action.choices.items()]
    return found


def is_listed(action: Action) -> bool:
    """Return whether an argument is a command's own, and no list of sub-commands."""
    return not isinstance(action, _SubParsersAction) and "--help" not in action.option_strings


def row(action: Action, prefix: str) -> str:
    """Return one argument's line: how it is written, and its help with the default."""
    value = "" if action.nargs == 0 else str(action.metavar or action.dest).upper()
    if action.choices and action.nargs != 0:
        value = "|".join(map(str, action.choices))
    written = f"{action.option_strings[-1]} {value}".strip() if action.option_strings else value
    text = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
    return f"| `{prefix}{written}` | {text} |".replace(
        "|".join(value.split("|")), value.replace("|", "\\|")
    )


def tables() -> str:
    """Return the page of tables and views, each column with its meaning."""
    text = (SQL / "tables.sql").read_text(encoding="utf-8")
    meanings = dict(
        line.split("\t", 1)
        for line in (PAGES / "column-meanings.tsv").read_text(encoding="utf-8").splitlines()
    )
    parts = [TABLES_INTRODUCTION]
    for comment, name, body in TABLE.findall(text):
        rows = [column(name, line, meanings) for line in body.splitlines() if COLUMN.match(line)]
        key = KEY.search(body)
        described = " ".join(re.sub(r"^-- ?", "", line) for line in comment.splitlines())
        lines = [
            f"## {name}",
            "",
            described,
            "",
            f"Key: `{key[1] if key else 'account, outbox_id'}`.",
        ]
        parts.append("\n".join([*lines, "", "| column | meaning |", "| --- | --- |", *rows]))
    parts += [view(name) for name in VIEWS]
    return page("Tables", "column-meanings.tsv, or the comments in migrations/sql/sqlite", parts)


def column(table: str, line: str, meanings: dict[str, str]) -> str:
    """Return one column's line. Raises KeyError for a column without a meaning."""
    found = COLUMN.match(line)
    assert found
    name, _, rest, comment = found.groups()
    meaning = comment or meanings.get(f"{table}.{name}") or meanings[name]
    is_optional = "NOT NULL" not in rest and "null" not in meaning
    return f"| `{name}` | {meaning}{'; may be null' if is_optional else ''} |"


def view(name: str) -> str:
    """Return a view's section: the comment at the head of its file."""
    lines = (SQL / f"{name}.sql").read_text(encoding="utf-8").splitlines()
    comment = [line.removeprefix("--").strip() for line in lines[: lines.index("", 1)]]
    return f"## {name} (view)\n\n" + "\n".join(comment)


def note_sections(name: str) -> tuple[str, dict[str, str]]:
    """Return what stands before the first heading of a page of notes, and its sections."""
    text = (PAGES / name).read_text(encoding="utf-8").strip()
    first, *rest = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    sections = [part.strip() for part in rest]
    return first.strip(), {part.partition("\n")[0].removeprefix("## "): part for part in sections}


def page(title: str, notes: str, parts: list[str], table: str = "") -> str:
    """Return a whole page; a table stands behind its first part."""
    first, *rest = parts
    body = [first, table, *rest] if table else parts
    return "\n\n".join([f"# {title}", MADE.format(notes=notes), *body]) + "\n"


def main() -> int:
    """Write the pages, or compare them."""
    made = {"settings.md": settings(), "commands.md": commands(), "tables.md": tables()}
    stale = []
    for name, text in made.items():
        path = PAGES / name
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
    for name in stale:
        print(
            f"docs/reference/{name} differs from the code: run scripts/reference.py",
            file=sys.stderr,
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
