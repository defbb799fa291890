"""What no recorder can read can't be queued, and what the recorder writes is the recorder's alone.

Why: one INSERT with a time that is none (``2030-02-30``, or PostgreSQL's ``infinity``), or with
bytes that are no UTF-8, ended every recorder of the account, again at each start. And whoever may
write to the outbox could set what says how a command fared (``order_id``, ``sent_position``, …)
without a step of its status. Queued commands with such times or bytes end as ``refused``.
A running old daemon: sees no difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

#: The clock in the form in which SQLite's columns hold times (it knows milliseconds).
SQLITE_NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"

TIMES = ("not_before", "expires_at", "created_at")
TEXTS = ("account", "client_msg_id", "payload", "created_by", "reason")
#: What the recorder writes of a command. It does so with a step of the status, with one exception:
#: where the ``sent`` event stands is corrected while the command is ``sending``.
OURS = (
    "epoch",
    "connection_id",
    "customer_order_id",
    "order_id",
    "modify_request_id",
    "sent_position",
    "acknowledged_position",
    "resolved_position",
)
#: Characters of a text that are put together anew at once.
PIECE = 512
#: Steps that say of a command that it never went out.
NEVER_SENT = "'withdrawn', 'expired', 'refused'"
OBJECT = "payload must be a JSON object of at most 100000 characters"
ENDED = "it holds a time or a text that no recorder can read"


class Rule(NamedTuple):
    """What a statement is refused with, and when."""

    message: str
    broken: str


def upgrade() -> None:
    is_sqlite = op.get_context().dialect.name == "sqlite"
    unreadable = map(sqlite_is_no_time if is_sqlite else postgresql_is_no_time, TIMES)
    # PostgreSQL takes no such text by itself.
    broken = [*unreadable, *map(sqlite_is_no_text, TEXTS if is_sqlite else ())]
    op.execute(
        f"UPDATE outbox SET status = 'refused', reason = '{ENDED}', not_before = NULL,"
        f" expires_at = NULL, updated_at = {SQLITE_NOW if is_sqlite else 'clock_timestamp()'}"
        f" WHERE status = 'queued' AND ({' OR '.join(broken)})"
    )
    for statement in SQLITE if is_sqlite else POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        for name in ("outbox_readable", "outbox_readable_times", "outbox_readable_reason"):
            op.execute(f"DROP TRIGGER {name}")
        op.execute("DROP TRIGGER outbox_ours")
    else:
        op.execute("DROP TRIGGER outbox_able ON outbox")
        op.execute("DROP TRIGGER outbox_able_again ON outbox")
        op.execute("DROP FUNCTION outbox_able()")
        op.execute("DROP FUNCTION outbox_able_again()")


def sqlite_is_no_time(value: str) -> str:
    """Tell a text that isn't UTC as YYYY-MM-DD HH:MM:SS, with or without a fraction.

    A day that its month doesn't have comes back as another one from any arithmetic.
    """
    whole, fraction = f"substr({value}, 1, 19)", f"substr({value}, 20)"
    return (
        f"({value} IS NOT NULL AND (strftime('%Y-%m-%d %H:%M:%S', {whole}, '+0 days') IS NOT"
        f" {whole} OR {value} < '0001' OR length({value}) NOT IN (19, 23, 26)"
        f" OR {fraction} <> '' AND {fraction} NOT GLOB '.[0-9][0-9][0-9]'"
        f" AND {fraction} NOT GLOB '.[0-9][0-9][0-9][0-9][0-9][0-9]'))"
    )


def sqlite_is_no_text(value: str) -> str:
    """Tell a text with bytes that are no UTF-8, or with NUL: put together anew it is another.

    Piece by piece, since SQLite counts from the beginning to find a character. Only with the LIMIT
    a piece is cut once.
    """
    plain = "'*[^' || char(1) || '-' || char(127) || ']*'"
    pieces = (
        f"(SELECT substr({value}, {PIECE} * key + 1, {PIECE}) AS piece"
        f" FROM json_each({sqlite_count_to(f'(length({value}) - 1) / {PIECE}')}) LIMIT -1)"
    )
    again = (
        "(SELECT group_concat(char(unicode(substr(piece, key + 1, 1))), '')"
        f" FROM json_each({sqlite_count_to('length(piece) - 1')}))"
    )
    is_another = f"EXISTS (SELECT 1 FROM {pieces} WHERE {again} IS NOT piece)"
    return (
        f"(length(CAST({value} AS BLOB)) <> length({value})"
        f" AND (instr({value}, char(0)) > 0 OR {is_another})"
        f" OR {value} GLOB {plain} AND {is_another})"
    )


def sqlite_count_to(last: str) -> str:
    """Return a JSON array whose keys are the numbers from 0 on."""
    return f"'[0' || replace(hex(zeroblob({last})), '00', ',0') || ']'"


def postgresql_is_no_time(value: str) -> str:
    """Tell a time that other programs' calendars don't have, in whatever zone they show it."""
    return (
        f"({value} IS NOT NULL AND {value} NOT BETWEEN '0001-01-02 00:00:00+00'"
        f" AND '9999-12-30 00:00:00+00')"
    )


def time_rules(is_sqlite: bool, columns: tuple[str, ...] = TIMES) -> Iterator[Rule]:
    for column in columns:
        if is_sqlite:
            broken = sqlite_is_no_time(f"NEW.{column}")
            yield Rule(f"{column} must be UTC as YYYY-MM-DD HH:MM:SS", broken)
        else:
            broken = postgresql_is_no_time(f"NEW.{column}")
            yield Rule(f"{column} must lie in the years 1 to 9999; leave it out for none", broken)


def insert_rules(is_sqlite: bool) -> Iterator[Rule]:
    if is_sqlite:
        # First, so that whatever else reads them can.
        for column in TEXTS:
            yield Rule(f"{column} must be UTF-8 without NUL", sqlite_is_no_text(f"NEW.{column}"))
    else:
        yield Rule(OBJECT, "NEW.payload IS NULL")
    yield Rule("account must be given", "NEW.account = ''")
    yield from time_rules(is_sqlite)
    for column in (*OURS, "updated_at"):
        yield Rule(
            f"{column} is for the recorder to set; leave it out", f"NEW.{column} IS NOT NULL"
        )


def update_rules() -> Iterator[Rule]:
    differs = "NEW.{0} IS DISTINCT FROM OLD.{0}"
    is_step = differs.format("status")
    for column in (*OURS, "reason", "updated_at"):
        may_change = f"{is_step} AND NEW.status NOT IN ({NEVER_SENT})"
        if column in ("reason", "updated_at"):
            may_change = is_step
        if column == "sent_position":
            may_change = f"({may_change}) OR OLD.status = 'sending'"
        broken = f"{differs.format(column)} AND NOT ({may_change})"
        yield Rule(f"{column} changes with the status alone, by the recorder", broken)


def sqlite_trigger(name: str, event: str, checked: Iterator[Rule]) -> str:
    refusals = " ".join(
        f"SELECT RAISE(ABORT, 'outbox: {rule.message}')"
        f" WHERE {rule.broken.replace('IS DISTINCT FROM', 'IS NOT')};"
        for rule in checked
    )
    return f"CREATE TRIGGER {name} BEFORE {event} ON outbox BEGIN {refusals} END"


def postgresql_function(name: str, checked: Iterator[Rule]) -> str:
    refusals = "\n".join(
        f"IF {rule.broken} THEN RAISE EXCEPTION USING MESSAGE = 'outbox: {rule.message}',"
        f" ERRCODE = 'check_violation', CONSTRAINT = '{name}'; END IF;"
        for rule in checked
    )
    return (
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN {refusals} RETURN NEW; END $$"
    )


def later_rules(is_sqlite: bool) -> Iterator[Rule]:
    yield from time_rules(is_sqlite, ("not_before", "expires_at"))
    yield from update_rules()


SQLITE = [
    sqlite_trigger("outbox_readable", "INSERT", insert_rules(True)),
    sqlite_trigger(
        "outbox_readable_times",
        "UPDATE OF not_before, expires_at",
        time_rules(True, ("not_before", "expires_at")),
    ),
    sqlite_trigger(
        "outbox_readable_reason",
        "UPDATE OF reason",
        iter([Rule("reason must be UTF-8 without NUL", sqlite_is_no_text("NEW.reason"))]),
    ),
    sqlite_trigger("outbox_ours", "UPDATE", update_rules()),
]
POSTGRESQL = [
    postgresql_function("outbox_able", insert_rules(False)),
    # Triggers fire by name: this comes before those that take the payload for given.
    "CREATE TRIGGER outbox_able BEFORE INSERT ON outbox"
    " FOR EACH ROW EXECUTE FUNCTION outbox_able()",
    postgresql_function("outbox_able_again", later_rules(False)),
    "CREATE TRIGGER outbox_able_again BEFORE UPDATE ON outbox"
    " FOR EACH ROW EXECUTE FUNCTION outbox_able_again()",
]
