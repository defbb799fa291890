"""The page on the simulated exchange names every fault, control and kind of garbage there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from attrs import fields

from recorder.simulator import (
    COMMAND_FAULTS,
    GARBAGE,
    REST_FAULTS,
    Faults,
    Simulator,
    SimulatorConfig,
)
from recorder.simulator.control import control
from recorder.simulator.server import system_time

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "simulator.md").read_text(
    encoding="utf-8"
)
FAULTS = [fault.name for fault in fields(Faults)]


@pytest.mark.parametrize("name", [*FAULTS, *COMMAND_FAULTS, *REST_FAULTS])
def test_a_fault_has_a_row_in_the_page(name: str) -> None:
    assert f"\n| `{name}` |" in PAGE


@pytest.mark.parametrize("kind", GARBAGE)
def test_a_kind_of_garbage_is_named(kind: str) -> None:
    assert f"`{kind}`" in PAGE


def test_a_control_has_a_row_in_the_page() -> None:
    simulator = Simulator(SimulatorConfig(), system_time)
    with pytest.raises(ValueError, match="there are") as refused:
        trio.run(control, simulator, "none such", {})
    names = str(refused.value).partition("there are ")[2].split(", ")
    assert len(names) >= 10
    assert [name for name in names if f"\n| `{name}` |" not in PAGE] == []
