"""A long reading shows how far it is to a person, and writes nothing to a program."""

from __future__ import annotations

import io

import pytest

from recorder.cli.output import shown_progress


class Terminal(io.StringIO):
    """An error stream that a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("err", "is_shown"), [(Terminal(), True), (io.StringIO(), False)])
def test_a_bar_is_shown_on_a_terminal_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, err: io.StringIO, *, is_shown: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with shown_progress(err, "exporting events", 200) as step:
        step(50)
        step(200)

    assert ("exporting events" in err.getvalue()) == is_shown
    assert ("100%" in err.getvalue()) == is_shown
    assert is_shown or err.getvalue() == ""
