"""What CONTRIBUTING.md adds to the code works: it is added to a copy of it, and tried."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
#: A block's first line names where it goes: a new file, a place in one, or what is tried.
BLOCKS = re.findall(r"```python\n# ([^\n,]+)(?:, ([^\n]+))?\n(.*?)```", PAGE, flags=re.DOTALL)
TRY = "try it"


def change(tree: Path, name: str, place: str, block: str) -> None:
    """Add a block to a file of the tree, at its place."""
    path = tree / name
    if not place:
        assert not path.exists(), f"{name} exists already"
        path.write_text(block, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    if place == "at its end":
        path.write_text(text + block, encoding="utf-8")
        return
    if place == "imports":
        at = text.index("from recorder.")
        path.write_text(text[:at] + block + text[at:], encoding="utf-8")
        return
    how, _, what = place.rpartition(" ")
    line = re.search(rf"^(?:class )?{what}\b.*\n", text, re.MULTILINE)
    assert line, f"{name} has no {what}"
    begin = line.start() if how == "in place of" else line.end()
    if how.endswith("class"):
        # Behind the docstring of the class.
        begin = text.index('"""\n', begin) + 4
    path.write_text(text[:begin] + block + text[line.end() if how == "in place of" else begin :])


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the code."""
    tree = tmp_path_factory.mktemp("tree")
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in ("recorder", "migrations"):
        shutil.copytree(ROOT / name, tree / name, ignore=unwanted)
    return tree


def test_what_the_page_adds_works(tree: Path) -> None:
    tried = 0
    for name, place, block in BLOCKS:
        if name != TRY:
            change(tree, name, place, block)
            continue
        ended = subprocess.run(
            [sys.executable, "-c", block],
            cwd=tree,
            env={"PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, f"{block}\n{ended.stderr}"
        tried += 1
    assert tried == len(re.findall(r"^### ", PAGE, re.MULTILINE)) == 4


def test_every_block_is_one_that_is_tried() -> None:
    assert len(BLOCKS) == PAGE.count("```python")
