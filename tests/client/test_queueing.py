"""The caller's transaction decides about the command; a repeated id queues nothing twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recorder.client import (
    ModifyOrder,
    PlaceBatchOrders,
    PlaceLimitOrder,
    PlaceMarketOrder,
    Queued,
    Refused,
    enqueue,
)
from recorder.database.engine import Database, in_unit, open_database
from recorder.outbox.sql.queue import OutboxRow, find
from tests.client.callers import OPENED, ORDER, OTHER, UNRULED, Caller
from tests.log.drafts import run_sql

#: Arguments are looked at before anything else is.
NO_DATABASE: Any = None
COUNT = "SELECT COUNT(*) FROM outbox"


@pytest.fixture
def seen(caller_url: str) -> Iterator[Any]:
    """Reads the outbox as the recorder does, on a connection of its own."""
    with open_database(caller_url) as database:

        def row(queued: Queued) -> OutboxRow | None:
            rows = in_unit(database.reader, find, "main", client_msg_id=queued.client_msg_id)
            return rows[0] if rows else None

        yield row


def test_a_commit_of_the_caller_queues_the_command(caller: Caller, seen: Any) -> None:
    queued = caller.enqueue()
    assert seen(queued) is None
    caller.commit()
    row = seen(queued)
    assert (row.outbox_id, row.status, row.priority) == (queued.outbox_id, "queued", 0)
    assert (row.command, row.payload) == ("PLACE_LIMIT_ORDER", ORDER.payload_text())
    assert (row.not_before, row.expires_at) == (None, None)
    assert len(queued.client_msg_id) == 32


def test_a_rollback_of_the_caller_leaves_nothing(caller: Caller, seen: Any) -> None:
    queued = caller.enqueue(client_msg_id="mine")
    caller.rollback()
    assert seen(queued) is None
    assert caller.sql(COUNT) == [(0,)]
    assert caller.enqueue(client_msg_id="mine").client_msg_id == "mine"


@pytest.mark.parametrize(
    "command",
    [
        ORDER,
        OTHER,
        PlaceMarketOrder(side="SELL", pair="BTCZAR", base_amount="0.50"),
        ModifyOrder(
            pair="BTCZAR", order_id="o", modify_match_strategy="RETAIN_ORIGINAL", new_price=1
        ),
        PlaceBatchOrders(requests=[ORDER, OTHER]),
    ],
    ids=lambda command: command.command,
)
def test_the_database_takes_every_command(caller: Caller, command: Any) -> None:
    caller.enqueue(command)
    [(name, payload)] = caller.sql("SELECT command, payload FROM outbox")
    assert name == command.command
    assert json.loads(payload) == command.payload()


JOHANNESBURG = timezone(timedelta(hours=2))
#: This hour comes twice in Berlin: it is the second, 01:30 in UTC.
TWICE = datetime(2026, 10, 25, 2, 30, 0, 123456, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)


def test_what_the_caller_states_stands_in_the_row(caller: Caller, seen: Any) -> None:
    if caller.dialect == "postgresql":
        caller.sql("SET TIME ZONE 'Europe/Berlin'")
    queued = caller.enqueue(
        client_msg_id="a 'quoted' id: %s :name ½",
        priority=-7,
        not_before=datetime(2026, 3, 1, 12, 0, tzinfo=JOHANNESBURG),
        expires_at=TWICE,
        in_order=True,
        created_by="bot 7",
    )
    caller.commit()
    row = seen(queued)
    assert (row.client_msg_id, row.priority) == ("a 'quoted' id: %s :name ½", -7)
    assert row.not_before == datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
    assert row.expires_at == datetime(2026, 10, 25, 1, 30, 0, 123456, tzinfo=UTC)
    assert row.in_order
    assert row.created_by == "bot 7"


amounts = st.decimals(min_value=Decimal("1e-12"), max_value=Decimal("1e12"), places=12) | st.builds(
    lambda whole, places: Decimal(f"{whole}.{places}"),
    st.integers(1, 10**30),
    st.text("0123456789", min_size=1, max_size=20),
)


@pytest.mark.parametrize("kind", ["sqlite3", "psycopg", "sqlalchemy on postgresql"])
def test_amounts_arrive_digit_by_digit(kind: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("sqlite_url" if "sqlite" in kind else "postgres_url")
    with OPENED[kind](url) as caller:

        @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
        @given(quantity=amounts, price=amounts)
        def arrive(quantity: Decimal, price: Decimal) -> None:
            order = PlaceLimitOrder(side="BUY", pair="P", quantity=quantity, price=price)
            queued = caller.enqueue(order)
            [(text,)] = caller.sql(
                f"SELECT payload FROM outbox WHERE outbox_id = {queued.outbox_id}"
            )
            payload = json.loads(text)
            assert payload["quantity"] == f"{quantity:f}"
            assert payload["price"] == f"{price:f}"
            # Equal as numbers and in their number of places.
            assert Decimal(payload["price"]).as_tuple() == price.as_tuple()

        arrive()


# A client_msg_id that exists already.


def test_a_repeated_id_is_reported_with_the_existing_row(caller: Caller) -> None:
    first = caller.enqueue(client_msg_id="mine")
    reported = caller.repeats(client_msg_id="mine")
    assert (reported.outbox_id, reported.client_msg_id) == (first.outbox_id, "mine")
    assert str(reported) == (
        f"a command with client_msg_id 'mine' exists already as outbox_id {first.outbox_id}"
    )
    assert not isinstance(reported, Refused)


def test_a_repeated_command_returns_the_row_that_stands(caller: Caller) -> None:
    first = caller.enqueue(client_msg_id="mine")
    caller.commit()
    assert caller.enqueue(client_msg_id="mine", on_repeat="return") == first
    assert caller.sql(COUNT) == [(1,)]


@pytest.mark.parametrize(
    "command",
    [
        OTHER,
        PlaceLimitOrder(side="BUY", pair="BTCZAR", quantity="0.0010", price=1_000_001),
        PlaceLimitOrder(
            side="BUY", pair="BTCZAR", quantity="0.0010", price=1_000_000, post_only=True
        ),
    ],
)
def test_an_id_belongs_to_one_order_only(caller: Caller, command: Any) -> None:
    first = caller.enqueue(client_msg_id="mine")
    reported = caller.repeats(command=command, client_msg_id="mine", on_repeat="return")
    assert (reported.outbox_id, reported.differs) == (first.outbox_id, True)
    assert "is another command" in str(reported)


def test_a_repeat_leaves_the_transaction_as_it_was(caller: Caller) -> None:
    caller.enqueue(client_msg_id="mine")
    caller.commit()
    between = caller.enqueue(OTHER)
    caller.repeats(client_msg_id="mine")
    caller.repeats(command=OTHER, client_msg_id="mine", on_repeat="return")
    after = caller.enqueue(OTHER)
    caller.commit()
    caller.rollback()
    assert caller.sql("SELECT outbox_id FROM outbox WHERE command = 'CANCEL_ORDER'") == [
        (between.outbox_id,),
        (after.outbox_id,),
    ]


def test_the_same_command_in_other_words_is_the_same(caller: Caller) -> None:
    # No colon, which SQLAlchemy would take for a parameter, stands before a letter in it.
    text = json.dumps(dict(reversed(ORDER.payload().items())), indent=2)
    caller.sql(
        "INSERT INTO outbox (account, command, payload, client_msg_id)"
        f" VALUES ('main', 'PLACE_LIMIT_ORDER', '{text}', 'mine')"
    )
    [(outbox_id,)] = caller.sql("SELECT outbox_id FROM outbox")
    assert caller.enqueue(client_msg_id="mine", on_repeat="return").outbox_id == outbox_id


def test_an_id_of_another_account_is_free(caller: Caller) -> None:
    first = caller.enqueue(client_msg_id="mine")
    second = enqueue(caller.connection, "other", ORDER, client_msg_id="mine")
    assert second.outbox_id != first.outbox_id


# What is refused before, or by, the database.

NAIVE = datetime(2026, 3, 1, tzinfo=UTC).replace(tzinfo=None)


@pytest.mark.parametrize(
    ("options", "rule", "message"),
    [
        ({"expires_at": NAIVE}, "expires_at", "aware datetime .* no time zone"),
        ({"not_before": NAIVE}, "not_before", "aware datetime .* no time zone"),
        ({"client_msg_id": ""}, "client_msg_id", "must not be empty"),
        ({"client_msg_id": "x" * 101}, "client_msg_id", "longer than 100 characters"),
        ({"client_msg_id": "a\x00"}, "client_msg_id", "no database can store"),
        ({"client_msg_id": "\ud800"}, "client_msg_id", "no database can store"),
        ({"created_by": ""}, "created_by", "must not be empty"),
        ({"priority": 2**31}, "priority", "must lie between"),
    ],
)
def test_an_option_that_can_not_be_is_refused_by_name(
    options: dict[str, Any], rule: str, message: str
) -> None:
    with pytest.raises(Refused, match=f"^{rule} .*{message}") as refused:
        enqueue(NO_DATABASE, "main", ORDER, **options)
    assert refused.value.rule == rule


@pytest.mark.parametrize(
    ("account", "command", "options", "message"),
    [
        (
            "main",
            {"side": "BUY"},
            {},
            "command must be one of recorder.client's commands, not dict",
        ),
        (7, ORDER, {}, "account must be a str, not int"),
        ("main", ORDER, {"priority": "1"}, "priority must be an int, not str"),
        ("main", ORDER, {"priority": True}, "priority must be an int, not bool"),
        ("main", ORDER, {"expires_at": "soon"}, "expires_at must be an aware datetime, not str"),
    ],
)
def test_an_argument_of_the_wrong_type_is_a_type_error(
    account: Any, command: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        enqueue(NO_DATABASE, account, command, **options)


def test_what_to_do_on_a_repeat_is_one_of_two_words() -> None:
    wrong: Any = "ignore"
    with pytest.raises(ValueError, match='on_repeat must be "raise" or "return"'):
        enqueue(NO_DATABASE, "main", ORDER, on_repeat=wrong)


def test_a_refusal_of_the_database_is_refused_with_the_original_behind(caller: Caller) -> None:
    with pytest.raises(Refused) as refused:
        caller.enqueue(UNRULED)
    assert str(refused.value) == "exactly one of orderId and customerOrderId must be given"
    assert refused.value.rule == "schema"
    assert "outbox: exactly one of" in str(refused.value.__cause__)
    caller.rollback()
    assert caller.sql(COUNT) == [(0,)]


def test_every_other_error_is_the_drivers_own(caller: Caller) -> None:
    cascade = " CASCADE" if caller.dialect == "postgresql" else ""
    caller.sql(f"DROP TABLE outbox{cascade}")
    with pytest.raises(Exception, match="outbox") as raised:
        caller.enqueue()
    assert not type(raised.value).__module__.startswith("recorder")
    caller.rollback()


@pytest.mark.parametrize("connection", [None, "sqlite:///recorder.db", object()])
def test_the_error_for_what_is_no_connection_names_what_would_be(connection: Any) -> None:
    with pytest.raises(TypeError, match="is no connection for enqueue: give a Connection"):
        enqueue(connection, "main", ORDER)


def test_our_own_code_finds_the_command(database: Database) -> None:
    queued = in_unit(database.writer, enqueue, "main", ORDER, client_msg_id="mine")
    assert run_sql(database, "SELECT outbox_id, client_msg_id FROM outbox") == [
        (queued.outbox_id, "mine")
    ]
