"""What a daemon does at leisure, it does soon here: no other process needs the machine."""

from __future__ import annotations

import pytest

from recorder.gaps.tasks import backfill
from recorder.projections.tasks import projector
from recorder.reconciliation import tasks as reconciler


@pytest.fixture(autouse=True)
def at_leisure_is_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let idle checkpoints follow at once, and requests be looked for often."""
    monkeypatch.setattr(projector, "LAG_MAX_S", 0.05)
    monkeypatch.setattr(backfill, "POLL_S", 0.1)
    monkeypatch.setattr(reconciler, "POLL_S", 0.1)
