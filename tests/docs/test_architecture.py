"""The diagrams of the architecture name what exists, and join what meets in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
DIAGRAMS = re.findall(r"```mermaid\n(.*?)```", PAGE, flags=re.DOTALL)
BOX = re.compile(r'^  (\w+)\["([\w/.]+)<br>(\w+)"\]', re.MULTILINE)
ARROW = re.compile(r"^  (\w+) --(?:[^->]*--)?> (\w+)$", re.MULTILINE)


def boxes(diagram: str) -> dict[str, tuple[str, str]]:
    """Return the module and the name of each box that stands for code."""
    return {key: (module, name) for key, module, name in BOX.findall(diagram)}


def source(module: str) -> str:
    return (ROOT / "recorder" / module).read_text(encoding="utf-8")


BOXES = sorted({box for diagram in DIAGRAMS for box in boxes(diagram).values()})
ARROWS = [
    (boxes(diagram)[begin], boxes(diagram)[end])
    for diagram in DIAGRAMS
    for begin, end in ARROW.findall(diagram)
    if begin in boxes(diagram) and end in boxes(diagram)
]


def test_there_is_one_diagram_of_the_data_and_one_of_the_tasks() -> None:
    assert len(DIAGRAMS) == 2
    assert (len(BOXES) >= 15, len(ARROWS) >= 12) == (True, True)


@pytest.mark.parametrize(("module", "name"), BOXES)
def test_a_box_names_what_its_module_defines(module: str, name: str) -> None:
    assert re.search(rf"^(?:async def|def|class) {name}\b", source(module), re.MULTILINE)


@pytest.mark.parametrize(("begin", "end"), ARROWS)
def test_the_ends_of_an_arrow_meet_in_the_code(
    begin: tuple[str, str], end: tuple[str, str]
) -> None:
    places = (
        source(begin[0]),
        source(end[0]),
        *map(source, ("wiring.py", "daemon.py", "runtime.py")),
    )
    assert any(begin[1] in place and end[1] in place for place in places)


def test_every_task_of_the_daemon_is_in_the_tree() -> None:
    """A class of a ``tasks`` module with an ``async def run`` that the daemon's modules import."""
    imported = set()
    for text in (source("daemon.py"), source("wiring.py")):
        for module, names in re.findall(
            r"^from recorder\.([\w.]*tasks[\w.]*) import \(?([^)]*?)(?:\)|$)", text, re.M | re.S
        ):
            task = source(module.replace(".", "/") + ".py")
            for name in re.findall(r"\b[A-Z]\w+", names):
                body = re.search(rf"^class {name}\b.*?(?=^\S)", task + "\nend", re.M | re.S)
                if body and re.search(r"^    async def run\(", body[0], re.MULTILINE):
                    imported.add(name)
    assert len(imported) >= 6
    assert imported <= {name for _, name in boxes(DIAGRAMS[1]).values()}
