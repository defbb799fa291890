"""What the documents point to is there: files, headings in them, and the names in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
#: `name` or `Class.name` in backquotes, and then the file in brackets: `LogWriter.run` ([…](…)).
CODE = re.compile(r"`([A-Za-z_][\w.]*)\(\)`[^\[`]{0,40}\[[^\]]*\]\(([^)]+\.py)\)")


def local_links(page: Path) -> list[str]:
    """Return the links of a page that lead into this tree."""
    found: list[str] = LINK.findall(page.read_text(encoding="utf-8"))
    return [link for link in found if "://" not in link]


def anchors(page: Path) -> set[str]:
    """Return the names by which a page's headings can be linked to."""
    lines = page.read_text(encoding="utf-8").splitlines()
    titles = [line.lstrip("#").strip() for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def defined(source: str, name: str) -> bool:
    """Return whether each part of ``Class.method`` is defined in the source."""
    return all(
        re.search(rf"^\s*(?:async def|def|class) {part}\b", source, re.MULTILINE)
        for part in name.split(".")
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for link in local_links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


FOLDERS = ["recorder", "migrations", "scripts", "tests"]


def test_a_page_that_the_code_names_is_there() -> None:
    sources = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    named = {
        (page, path.name)
        for path in sources
        for page in re.findall(r"docs/[\w/-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert named
    assert [pair for pair in sorted(named) if not (ROOT / pair[0]).exists()] == []


WALK = ROOT / "docs" / "explanation" / "walk.md"
NAMED: list[tuple[str, str]] = CODE.findall(WALK.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "link"), NAMED)
def test_a_function_of_the_walk_is_in_the_file_it_names(name: str, link: str) -> None:
    assert defined((WALK.parent / link).read_text(encoding="utf-8"), name)


def test_every_function_of_the_walk_names_its_file() -> None:
    mentioned = re.findall(r"`([A-Za-z_][\w.]*)\(\)`", WALK.read_text(encoding="utf-8"))
    assert len(mentioned) >= 15
    assert sorted(mentioned) == sorted(name for name, _ in NAMED)
