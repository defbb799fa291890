"""Names, docs and messages use the field's terms: the words in `banned_words.txt` stay out."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("banned_words.txt")
SUFFIXES = {".py", ".md", ".sql", ".toml", ".html", ".j2", ".svg", ".mako", ".ini"}
#: Documents of others, the words of a retired schema, and the list itself.
LEFT_OUT = (
    "tests/frames/",
    "tests/rest_examples/",
    "tests/tidiness/",
    "tests/export/test_retired_schema.py",
    "recorder/projections/rules/retired_names.py",
    "LICENSE",
)


def rules() -> dict[str, str]:
    """Return each banned pattern with what to write instead."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    pairs = (line.split(" => ") for line in lines if line and not line.startswith("#"))
    return {pattern: replacement for pattern, replacement in pairs}


def matcher(pattern: str) -> re.Pattern[str]:
    """Return a regular expression for whole words of running text and of identifiers."""
    words = pattern.replace("*", "[a-z]*").replace(" ", r"\s+")
    return re.compile(rf"(?<![a-z])(?:{words})(?![a-z])")


def plain_words(text: str) -> str:
    """Return text in lower case with CamelCase split, so that identifiers read as words."""
    own = text.replace("request.node", "request")  # a name of pytest's
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", own).lower()


def texts() -> list[Path]:
    """Return the project's own text files."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        names = listed.stdout.splitlines()
    else:  # An unpacked sdist is no checkout.
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
    left_out = (*LEFT_OUT, ".venv", "CHANGELOG")
    mine = [ROOT / name for name in names if not name.startswith(left_out)]
    return [path for path in mine if path.suffix in SUFFIXES and path.exists()]


@pytest.mark.parametrize(("pattern", "replacement"), rules().items())
def test_a_banned_word_appears_nowhere(pattern: str, replacement: str) -> None:
    expression, found = matcher(pattern), []
    for path in texts():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if expression.search(plain_words(line)):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, f"write {replacement!r} instead:\n" + "\n".join(found)


def test_the_list_finds_words_in_names_and_in_prose() -> None:
    sight = matcher("sight")
    assert sight.search(plain_words("lose_sight()"))
    assert sight.search(plain_words("class LostSight:"))
    assert not sight.search(plain_words("insight"))
    assert matcher("mend*").search("it is mended")
    assert not matcher("mend*").search("recommended")
