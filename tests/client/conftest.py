from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.callers import OPENED, Caller


@pytest.fixture(params=OPENED)
def caller(request: pytest.FixtureRequest, caller_url: str) -> Iterator[Caller]:
    """A program that queues, on each kind of connection."""
    with OPENED[request.param](caller_url) as opened:
        yield opened


@pytest.fixture
def caller_url(request: pytest.FixtureRequest) -> str:
    """The URL of the database that the caller of this test is for."""
    kind = request.node.callspec.params["caller"]
    url: str = request.getfixturevalue("sqlite_url" if "sqlite" in kind else "postgres_url")
    return url
