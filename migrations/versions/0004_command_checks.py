"""What a command must say, checked when it is typed.

Why: whoever writes the INSERT should see the mistake at once, in the program that made it, named by
its field; a command that can't be sent must not look queued. The rules stand here once, for both
databases, with the few words in which these differ beside them. The recorder checks more before it
sends (the legs of a batch, fields that only some orders have).
A running old daemon: sees no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.execute(sqlite_trigger("outbox_check", "INSERT", [*rules(SQLITE), *time_rules()]))
        changed = "UPDATE OF not_before, expires_at"
        op.execute(sqlite_trigger("outbox_check_times", changed, list(time_rules())))
    else:
        op.execute(postgresql_function(list(rules(POSTGRESQL))))
        op.execute(
            "CREATE TRIGGER outbox_check BEFORE INSERT ON outbox"
            " FOR EACH ROW EXECUTE FUNCTION outbox_check()"
        )


def downgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TRIGGER outbox_check")
        op.execute("DROP TRIGGER outbox_check_times")
    else:
        op.execute("DROP TRIGGER outbox_check ON outbox")
        op.execute("DROP FUNCTION outbox_check()")


class Words(NamedTuple):
    """How one database says what a rule needs. The last four take a field of the payload."""

    no_object: str
    is_ambiguous: str
    batch_size: str
    is_text: Callable[[str], str]
    is_amount: Callable[[str], str]
    is_stated: Callable[[str], str]
    text: Callable[[str], str]


def sqlite_is_text(field: str) -> str:
    path = f"NEW.payload, '$.{field}'"
    return f"(json_type({path}) IS 'text' AND json_extract({path}) <> '')"


def sqlite_is_amount(field: str) -> str:
    """Digits, at most one point and that between digits, and not all of it zeros."""
    value = f"json_extract(NEW.payload, '$.{field}')"
    return (
        f"({sqlite_is_text(field)} AND trim({value}, '0123456789') IN ('', '.')"
        f" AND {value} NOT LIKE '.%' AND {value} NOT LIKE '%.' AND trim({value}, '0.') <> '')"
    )


SQLITE = Words(
    no_object="NOT json_valid(NEW.payload) OR json_type(NEW.payload) <> 'object'",
    is_ambiguous=(
        "instr(NEW.payload, '\\u0000') > 0 OR EXISTS (SELECT 1 FROM json_tree(NEW.payload)"
        " WHERE typeof(key) = 'text' GROUP BY parent, key HAVING count(*) > 1)"
    ),
    batch_size=(
        "(CASE json_type(NEW.payload, '$.requests') WHEN 'array'"
        " THEN json_array_length(NEW.payload, '$.requests') ELSE 0 END)"
    ),
    is_text=sqlite_is_text,
    is_amount=sqlite_is_amount,
    is_stated=lambda field: f"(coalesce(json_type(NEW.payload, '$.{field}'), 'null') <> 'null')",
    text=lambda field: f"coalesce(json_extract(NEW.payload, '$.{field}'), '')",
)


def postgresql_is_text(field: str) -> str:
    return f"(coalesce(json_typeof(said -> '{field}'), '') = 'string' AND said ->> '{field}' <> '')"


POSTGRESQL = Words(
    no_object="NEW.payload IS NOT JSON OBJECT",
    is_ambiguous="NEW.payload IS NOT JSON OBJECT WITH UNIQUE KEYS",
    batch_size=(
        "(CASE json_typeof(said -> 'requests') WHEN 'array'"
        " THEN json_array_length(said -> 'requests') ELSE 0 END)"
    ),
    is_text=postgresql_is_text,
    is_amount=lambda field: (
        f"({postgresql_is_text(field)} AND said ->> '{field}' ~ '^[0-9]+([.][0-9]+)?$'"
        f" AND said ->> '{field}' ~ '[1-9]')"
    ),
    is_stated=lambda field: f"(coalesce(json_typeof(said -> '{field}'), 'null') <> 'null')",
    text=lambda field: f"coalesce(said ->> '{field}', '')",
)

COMMANDS = (
    "PLACE_LIMIT_ORDER",
    "PLACE_MARKET_ORDER",
    "CANCEL_ORDER",
    "MODIFY_ORDER",
    "PLACE_BATCH_ORDERS",
)
#: A command of twenty orders has about 6,000; beyond this nobody meant it.
PAYLOAD_CHARACTERS_MAX = 100_000


class Rule(NamedTuple):
    """What a command is refused with, and when."""

    message: str
    broken: str


def rules(words: Words) -> Iterator[Rule]:
    """The first four are about the row; the others may take the payload for a JSON object."""
    listed = ", ".join(f"'{command}'" for command in COMMANDS)
    yield Rule("status of a new command must be queued", "NEW.status <> 'queued'")
    yield Rule(f"command must be one of {', '.join(COMMANDS)}", f"NEW.command NOT IN ({listed})")
    yield Rule(
        f"payload must be a JSON object of at most {PAYLOAD_CHARACTERS_MAX} characters",
        f"length(NEW.payload) > {PAYLOAD_CHARACTERS_MAX} OR {words.no_object}",
    )
    yield Rule(
        "payload names a field twice, or holds an escape that is no character", words.is_ambiguous
    )
    yield from place_rules(words)
    yield from change_rules(words)
    batch = "NEW.command = 'PLACE_BATCH_ORDERS'"
    yield Rule("pair must be a string", f"NOT {batch} AND NOT {words.is_text('pair')}")
    yield optional(words, "customerOrderId", f"NOT {batch}")
    yield Rule(
        "requests must be an array of 1 to 20 orders",
        f"{batch} AND {words.batch_size} NOT BETWEEN 1 AND 20",
    )


def place_rules(words: Words) -> Iterator[Rule]:
    limit, market = "NEW.command = 'PLACE_LIMIT_ORDER'", "NEW.command = 'PLACE_MARKET_ORDER'"
    yield Rule(
        'side must be "BUY" or "SELL"',
        f"({limit} OR {market}) AND {words.text('side')} NOT IN ('BUY', 'SELL')",
    )
    yield amount(words, "quantity", limit)
    yield amount(words, "price", limit)
    yield one_of(words, "baseAmount", "quoteAmount", market)
    yield amount(words, "baseAmount", f"{market} AND {words.is_stated('baseAmount')}")
    yield amount(words, "quoteAmount", f"{market} AND {words.is_stated('quoteAmount')}")


def change_rules(words: Words) -> Iterator[Rule]:
    modify = "NEW.command = 'MODIFY_ORDER'"
    changes = f"(NEW.command = 'CANCEL_ORDER' OR {modify})"
    yield one_of(words, "orderId", "customerOrderId", changes)
    yield optional(words, "orderId", changes)
    is_text = words.is_text("modifyMatchStrategy")
    yield Rule("modifyMatchStrategy must be a string", f"{modify} AND NOT {is_text}")


def amount(words: Words, field: str, where: str) -> Rule:
    message = f'{field} must be a positive decimal in a string, like "0.001"'
    return Rule(message, f"{where} AND NOT {words.is_amount(field)}")


def one_of(words: Words, this: str, that: str, where: str) -> Rule:
    both_or_none = f"{words.is_stated(this)} = {words.is_stated(that)}"
    return Rule(f"exactly one of {this} and {that} must be given", f"{where} AND {both_or_none}")


def optional(words: Words, field: str, where: str) -> Rule:
    broken = f"{where} AND {words.is_stated(field)} AND NOT {words.is_text(field)}"
    return Rule(f"{field} must be a string", broken)


def time_rules() -> Iterator[Rule]:
    """SQLite's times are texts that sort: UTC, to the second or finer, nothing else.

    ``datetime('now', '+5 minutes')`` is one.
    """
    for column in ("not_before", "expires_at"):
        given = f"NEW.{column}"
        again = f"strftime('%Y-%m-%d %H:%M:', {given}) || substr({given}, 18)"
        yield Rule(
            f"{column} must be UTC as YYYY-MM-DD HH:MM:SS",
            f"{given} IS NOT NULL"
            f" AND (length({given}) NOT IN (19, 23, 26) OR {again} IS NOT {given})",
        )


def sqlite_trigger(name: str, event: str, checked: list[Rule]) -> str:
    refusals = " ".join(
        f"SELECT RAISE(ABORT, 'outbox: {rule.message}') WHERE {rule.broken};" for rule in checked
    )
    return f"CREATE TRIGGER {name} BEFORE {event} ON outbox BEGIN {refusals} END"


def postgresql_function(checked: list[Rule]) -> str:
    def refusals(some: list[Rule]) -> str:
        return "\n".join(
            f"IF {rule.broken} THEN RAISE EXCEPTION USING MESSAGE = 'outbox: {rule.message}',"
            " ERRCODE = 'check_violation', CONSTRAINT = 'outbox_check'; END IF;"
            for rule in some
        )

    # A payload nested too deep for the server's stack is an error of its own: no JSON object to us.
    return f"""
    CREATE FUNCTION outbox_check() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        said json;
    BEGIN
        BEGIN
            {refusals(checked[:4])}
        EXCEPTION WHEN statement_too_complex THEN
            RAISE EXCEPTION USING MESSAGE = 'outbox: {checked[2].message}',
                ERRCODE = 'check_violation', CONSTRAINT = 'outbox_check';
        END;
        said := NEW.payload;
        {refusals(checked[4:])}
        RETURN NEW;
    END $$
    """
