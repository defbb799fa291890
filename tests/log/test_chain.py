from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from recorder.exchange.frames import frame_type
from recorder.log.rules.chain import Damage, check_event
from recorder.log.rules.digest import digest_event
from recorder.log.rules.event import EMPTY_HEAD, Draft, Event, Head

NOW_US = 1_772_366_400_123_456


def chained(head: Head, payload: str = "{}", **fields: Any) -> Event:
    """Return the event that follows the head."""
    answer = {"origin": "received", "type": "", "encoding": "text"} | fields
    draft = Draft("main", NOW_US, 5, "c-1", payload=payload, **answer)
    position = head.position + 1
    values = {name: getattr(draft, name) for name in Draft.__slots__ if name[0] != "_"}
    return Event(position=position, digest=digest_event(head.digest, position, draft), **values)


def test_an_event_that_follows_moves_the_head() -> None:
    first = chained(EMPTY_HEAD, '{"type":"PONG"}', type="PONG")
    head = check_event(EMPTY_HEAD, first)
    assert head == Head(1, first.digest)
    assert isinstance(head, Head)
    second = chained(head)
    assert check_event(head, second) == Head(2, second.digest)


@pytest.mark.parametrize("origin", ["sent", "fetched", "noted"])
def test_every_origin_is_known(origin: str) -> None:
    assert isinstance(check_event(EMPTY_HEAD, chained(EMPTY_HEAD, origin=origin)), Head)


@pytest.mark.parametrize(
    "change",
    [
        {"account": "other"},
        {"received_us": NOW_US + 1},
        {"connection_id": None},
        {"connection_id": "c-2"},
        {"origin": "sent"},
        {"payload": "{ }"},
        {"encoding": "base64"},
        {"digest": bytes(32)},
    ],
)
def test_a_changed_field_is_damage(change: dict[str, Any]) -> None:
    damage = check_event(EMPTY_HEAD, evolve(chained(EMPTY_HEAD), **change))
    assert isinstance(damage, Damage)
    assert damage.position == 1
    assert "digest" in damage.what


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"origin": "invented"}, "unknown origin 'invented'"),
        ({"encoding": "hex"}, "unknown encoding 'hex'"),
        ({"type": "PING"}, "type is 'PING', but its payload reports ''"),
    ],
)
def test_a_field_that_no_writer_of_ours_makes_is_damage(fields: dict[str, str], what: str) -> None:
    assert check_event(EMPTY_HEAD, chained(EMPTY_HEAD, **fields)) == Damage(1, what)


def test_a_type_that_former_versions_did_not_find_in_deep_nesting_is_no_damage() -> None:
    payload = '{"type":"PONG","a":' + "[" * 985 + "]" * 985 + "}"
    for type_ in ("", "PONG"):
        assert isinstance(check_event(EMPTY_HEAD, chained(EMPTY_HEAD, payload, type=type_)), Head)
    assert isinstance(check_event(EMPTY_HEAD, chained(EMPTY_HEAD, payload, type="PING")), Damage)


def test_a_hole_is_damage_where_it_begins() -> None:
    event = evolve(chained(EMPTY_HEAD), position=5)
    assert check_event(EMPTY_HEAD, event) == Damage(1, "missing; the next one that stands is 5")


@given(payload=st.text(st.characters(codec="utf-8")), at=st.integers(-(2**50), 2**50))
def test_whatever_was_recorded_is_proved(payload: str, at: int) -> None:
    event = evolve(chained(EMPTY_HEAD, payload, type=frame_type(payload)), received_us=at)
    event = evolve(event, digest=digest_event(EMPTY_HEAD.digest, 1, event))
    assert isinstance(check_event(EMPTY_HEAD, event), Head)
