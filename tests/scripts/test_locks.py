"""The lock files hold what `pip install --require-hashes` wants, for whatever index there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
#: Each holds what the one before it does.
LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-bench.lock"]
PINNED = re.compile(r"([\w.\-]+)==([^\s;]+)( ; [^#]+?)?((?: --hash=sha256:[0-9a-f]{64})+)")


def lines_of(lock: str) -> list[str]:
    """Return the lines as pip reads them: continued ones as one, without remarks."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    bare = [" ".join(line.partition("#")[0].split()) for line in text.splitlines()]
    return [line for line in bare if line]


def pins(lock: str) -> set[tuple[str, str]]:
    """Return (name, version) of everything that is locked."""
    found = [PINNED.fullmatch(line) for line in lines_of(lock)]
    return {(pin[1].lower(), pin[2]) for pin in found if pin}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_pins_one_version_by_its_hashes_and_names_no_index(lock: str) -> None:
    assert [line for line in lines_of(lock) if not PINNED.fullmatch(line)] == []
    assert "://" not in (ROOT / lock).read_text(encoding="utf-8")


def test_what_is_locked_for_running_is_locked_alike_for_tests_and_benchmarks() -> None:
    run, test, bench = map(pins, LOCKS)
    assert run <= test <= bench


def test_every_dependency_is_locked_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    locked = pins(LOCKS[0])
    for text in project["project"]["dependencies"]:
        wanted = Requirement(text)
        versions = [version for name, version in locked if name == wanted.name.lower()]
        assert versions, text
        assert all(map(wanted.specifier.contains, versions)), text
        assert any(each.operator in (">=", "==") for each in wanted.specifier), text
