"""Limits per account and pair, strict order on request, and the way back from a rate limit.

Why: a caller's mistake should end at a number that a person has set, in a table that a person can
change; some commands must not overtake others; and what the exchange provably didn't take for its
rate limit may be sent again, which nothing else may. Every field of every request, those inside a
batch included, is now checked when it is typed.
A running old daemon: records on; stop it before, because it sends past limits and order.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
AMOUNT = sa.Numeric().with_variant(sa.Text(), "sqlite")
#: The clock in the form in which SQLite's columns hold times (it knows milliseconds).
SQLITE_NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"

#: Every change of status that there was before.
CHANGES = """
            'queued>sending', 'queued>expired', 'queued>withdrawn', 'queued>refused',
            'sending>sent', 'sending>in_doubt',
            'sent>acknowledged', 'sent>rejected', 'sent>in_doubt',
            'acknowledged>accepted', 'acknowledged>rejected',
            'in_doubt>acknowledged', 'in_doubt>accepted', 'in_doubt>rejected',
            'in_doubt>not_placed',
            'not_placed>acknowledged', 'not_placed>accepted', 'not_placed>rejected'
"""
#: For a rate limit only: the exchange has said that it placed nothing.
BACK = "'sending>queued', 'sent>queued'"
SETTLED = "'accepted', 'rejected', 'not_placed', 'expired', 'withdrawn', 'refused'"
ATTEMPTS = "attempts rises by one when a rate limit puts a command back to queued, and never else"


def upgrade() -> None:
    is_sqlite = op.get_context().dialect.name == "sqlite"
    create_limits(is_sqlite)
    waiting = "status = 'queued' AND in_order"
    if is_sqlite:
        op.execute("ALTER TABLE outbox ADD COLUMN in_order INTEGER NOT NULL DEFAULT 0")
        op.execute("ALTER TABLE outbox ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0")
    else:
        op.execute("ALTER TABLE outbox ADD COLUMN in_order boolean NOT NULL DEFAULT false")
        op.execute("ALTER TABLE outbox ADD COLUMN attempts integer NOT NULL DEFAULT 0")
    op.create_index(
        "outbox_in_order",
        "outbox",
        ["account", "outbox_id"],
        postgresql_where=sa.text(waiting),
        sqlite_where=sa.text(f"{waiting} = 1"),
    )
    # The last price that was seen of a pair is looked up before a command is claimed.
    op.create_index("trades_pair", "trades", ["account", "pair", "position"])
    op.create_index(
        "orders_executed",
        "orders",
        ["account", "pair", "last_position"],
        postgresql_where=sa.text("executed_price IS NOT NULL"),
        sqlite_where=sa.text("executed_price IS NOT NULL"),
    )
    for statement in SQLITE if is_sqlite else POSTGRESQL:
        op.execute(statement)
    if not is_sqlite:
        for role in present_roles():
            for grant in GRANTS[role]:
                op.execute(f"GRANT {grant} TO {role}")


def downgrade() -> None:
    is_sqlite = op.get_context().dialect.name == "sqlite"
    for statement in SQLITE_BACK if is_sqlite else POSTGRESQL_BACK:
        op.execute(statement)
    op.drop_index("orders_executed", "orders")
    op.drop_index("trades_pair", "trades")
    op.drop_index("outbox_in_order", "outbox")
    # Their grants go with them.
    op.execute("ALTER TABLE outbox DROP COLUMN attempts")
    op.execute("ALTER TABLE outbox DROP COLUMN in_order")
    op.drop_table("limits")
    if not is_sqlite:
        op.execute("DROP FUNCTION limits_sign()")


def create_limits(is_sqlite: bool) -> None:
    now = sa.text(f"({SQLITE_NOW})" if is_sqlite else "now()")
    amounts = ("max_quantity", "max_value", "max_price_deviation")
    if is_sqlite:
        pair = "length(pair) BETWEEN 1 AND 40 AND pair NOT GLOB '*[^0-9A-Z_-]*'"
        positive = {name: sqlite_is_amount(name) for name in amounts}
        below_one = "max_price_deviation LIKE '0%' AND CAST(max_price_deviation AS REAL) < 1"
    else:
        pair = "pair ~ '^[0-9A-Z_-]{1,40}$'"
        positive = {name: f"{name} > 0 AND {name} < 'Infinity'" for name in amounts}
        below_one = "max_price_deviation < 1"
    positive["max_price_deviation"] += f" AND {below_one}"
    op.create_table(
        "limits",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("pair", sa.Text, nullable=False),
        sa.Column("max_quantity", AMOUNT),
        sa.Column("max_value", AMOUNT),
        sa.Column("max_open_orders", sa.Integer),
        sa.Column("max_price_deviation", AMOUNT),
        sa.Column(
            "changed_by",
            sa.Text,
            nullable=False,
            server_default=sa.text("'sqlite'" if is_sqlite else "session_user"),
        ),
        sa.Column("changed_at", TIME, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("account", "pair", name="limits_pkey"),
        sa.CheckConstraint(f"pair = '*' OR {pair}", name="limits_pair"),
        sa.CheckConstraint("max_open_orders >= 0", name="limits_max_open_orders"),
        *(sa.CheckConstraint(positive[name], name=f"limits_{name}") for name in amounts),
        sqlite_strict=True,
    )


def sqlite_is_amount(value: str) -> str:
    """Digits, at most one point and that between digits, and not all of it zeros."""
    return (
        f"trim({value}, '0123456789') IN ('', '.') AND {value} NOT LIKE '.%'"
        f" AND {value} NOT LIKE '%.' AND trim({value}, '0.') <> '' AND length({value}) <= 64"
    )


# What a request must say, in full

#: The requests of a batch by the command that each equals.
LEGS = {
    "PLACE_LIMIT": "PLACE_LIMIT_ORDER",
    "PLACE_MARKET": "PLACE_MARKET_ORDER",
    "MODIFY_ORDER": "MODIFY_ORDER",
    "CANCEL_ORDER": "CANCEL_ORDER",
}
ANY = {"pair": "pair", "customerOrderId": "name"}
NEW = ANY | {"side": "side", "timeInForce": "force", "reduceOnly": "flag", "allowMargin": "flag"}
OLD = ANY | {"orderId": "id"}
REST = {"quantity": "amount", "price": "amount", "postOnly": "flag", "postOnlyReprice": "flag"}
CHANGED = dict.fromkeys(("newPrice", "newRemainingQuantity", "newTotalQuantity"), "amount")
#: What each field must be where it is given.
FIELDS = {
    "PLACE_LIMIT_ORDER": NEW | REST,
    "PLACE_MARKET_ORDER": NEW | {"baseAmount": "amount", "quoteAmount": "amount"},
    "CANCEL_ORDER": OLD,
    "MODIFY_ORDER": OLD | {"modifyMatchStrategy": "strategy"} | CHANGED,
}
REQUIRED = {
    "PLACE_LIMIT_ORDER": ("side", "pair", "quantity", "price"),
    "PLACE_MARKET_ORDER": ("side", "pair"),
    "CANCEL_ORDER": ("pair",),
    "MODIFY_ORDER": ("pair", "modifyMatchStrategy"),
}
TARGET = (("orderId", "customerOrderId"), 1, 1)
#: Of these fields at least so many and at most so many are given.
CHOICES = {
    "PLACE_LIMIT_ORDER": (),
    "PLACE_MARKET_ORDER": ((("baseAmount", "quoteAmount"), 1, 1),),
    "CANCEL_ORDER": (TARGET,),
    "MODIFY_ORDER": (TARGET, (tuple(CHANGED)[1:], 0, 1), (tuple(CHANGED), 1, 3)),
}
SAID = {(1, 1): "exactly one", (0, 1): "at most one", (1, 3): "at least one"}
MUST = {
    "pair": "must be 1 to 40 letters, digits, dashes or underscores",
    "name": "must be 1 to 50 letters, digits or dashes",
    "id": "must be 1 to 64 letters, digits or dashes",
    "side": 'must be "BUY" or "SELL"',
    "force": 'must be "GTC", "FOK" or "IOC"',
    "strategy": 'must be "RETAIN_ORIGINAL", "CANCEL_ORIGINAL" or "REPRICE"',
    "flag": "must be true or false",
    "amount": 'must be a positive decimal in a string, like "0.001"',
}
WORDS = {
    "side": "'BUY', 'SELL'",
    "force": "'GTC', 'FOK', 'IOC'",
    "strategy": "'RETAIN_ORIGINAL', 'CANCEL_ORIGINAL', 'REPRICE'",
}
#: The characters of an id, and how many of them there may be.
IDS = {"pair": ("0-9A-Za-z_-", 40), "name": ("0-9A-Za-z-", 50), "id": ("0-9A-Za-z-", 64)}


class Sqlite:
    """How SQLite reads the payload, or one of its requests."""

    whole, request = ("NEW.payload", "$"), ("request.value", "$.data")
    kind_of_request, type_of_request = "request.type", "json_extract(request.value, '$.type')"
    kind_of_data = "json_type(request.value, '$.data')"
    requests = "json_each(NEW.payload, '$.requests') AS request"

    @staticmethod
    def kind(place: tuple[str, str], field: str) -> str:
        return f"coalesce(json_type({place[0]}, '{place[1]}.{field}'), 'null')"

    @staticmethod
    def text(place: tuple[str, str], field: str) -> str:
        return f"json_extract({place[0]}, '{place[1]}.{field}')"

    @classmethod
    def fits(cls, place: tuple[str, str], field: str, check: str) -> str:
        text = cls.text(place, field)
        if check == "flag":
            return f"{cls.kind(place, field)} IN ('true', 'false')"
        if check == "amount":
            fitting = sqlite_is_amount(text)
        elif check in WORDS:
            fitting = f"{text} IN ({WORDS[check]})"
        else:
            characters, longest = IDS[check]
            fitting = f"length({text}) BETWEEN 1 AND {longest}"
            fitting += f" AND {text} NOT GLOB '*[^{characters}]*'"
        return f"{cls.kind(place, field)} = 'text' AND {fitting}"


class Postgresql:
    """How PostgreSQL reads them."""

    whole, request = "said", "(request -> 'data')"
    kind_of_request, type_of_request = "json_typeof(request)", "request ->> 'type'"
    kind_of_data = "json_typeof(request -> 'data')"
    requests = "json_array_elements(said -> 'requests') AS request"

    @staticmethod
    def kind(place: str, field: str) -> str:
        return f"coalesce(json_typeof({place} -> '{field}'), 'null')"

    @classmethod
    def fits(cls, place: str, field: str, check: str) -> str:
        text, kind = f"{place} ->> '{field}'", cls.kind(place, field)
        if check == "flag":
            return f"{kind} = 'boolean'"
        if check == "amount":
            fitting = f"length({text}) <= 64 AND {text} ~ '^[0-9]+([.][0-9]+)?$'"
            fitting += f" AND {text} ~ '[1-9]'"
        elif check in WORDS:
            fitting = f"{text} IN ({WORDS[check]})"
        else:
            characters, longest = IDS[check]
            fitting = f"{text} ~ '^[{characters}]{{1,{longest}}}$'"
        return f"{kind} = 'string' AND {fitting}"


Words = type[Sqlite] | type[Postgresql]


def rules(words: Words) -> list[tuple[str, str]]:
    """Return what a new command is refused with, and when, in addition to 0004.

    They may take the payload for a JSON object, and ``requests`` for an array.
    """
    found = [
        ("attempts of a new command must be 0", "NEW.attempts <> 0"),
        *(
            (text, f"NEW.command = '{command}' AND {wrong}")
            for command in FIELDS
            for text, wrong in request_rules(words, command, words.whole)
        ),
    ]
    names = ", ".join(f"'{name}'" for name in LEGS)
    inside = [
        ("requests[] must be objects", f"{words.kind_of_request} <> 'object'"),
        (
            f"requests[].type must be one of {', '.join(LEGS)}",
            f"coalesce({words.type_of_request}, '') NOT IN ({names})",
        ),
        ("requests[].data must be an object", f"coalesce({words.kind_of_data}, '') <> 'object'"),
        *(
            (f"requests[].data.{text}", f"{words.type_of_request} = '{name}' AND {wrong}")
            for name, command in LEGS.items()
            for text, wrong in request_rules(words, command, words.request)
        ),
    ]
    return found + [
        (
            text,
            "NEW.command = 'PLACE_BATCH_ORDERS'"
            f" AND EXISTS (SELECT 1 FROM {words.requests} WHERE {wrong})",
        )
        for text, wrong in inside
    ]


def request_rules(words: Words, command: str, place: object) -> list[tuple[str, str]]:
    """Return the rules of one request whose fields stand at ``place``."""
    found = []
    for field, check in FIELDS[command].items():
        fits = f"({words.fits(place, field, check)})"  # type: ignore[arg-type]
        if field not in REQUIRED[command]:
            fits = f"({words.kind(place, field)} = 'null' OR {fits})"  # type: ignore[arg-type]
        found.append((f"{field} {MUST[check]}", f"NOT {fits}"))
    for fields, least, most in CHOICES[command]:
        given = " + ".join(
            f"CASE {words.kind(place, field)} WHEN 'null' THEN 0 ELSE 1 END"  # type: ignore[arg-type]
            for field in fields
        )
        many, listed = SAID[least, most], f"{', '.join(fields[:-1])} and {fields[-1]}"
        found.append(
            (f"{many} of {listed} must be given", f"{given} NOT BETWEEN {least} AND {most}")
        )
    return found


def sqlite_check() -> str:
    flag = ("in_order must be 0 or 1", "NEW.in_order NOT IN (0, 1)")
    refusals = " ".join(
        f"SELECT RAISE(ABORT, 'outbox: {message}') WHERE {broken};"
        for message, broken in (flag, *rules(Sqlite))
    )
    # After 0004's, which runs before the INSERT and lets only JSON objects through.
    return f"CREATE TRIGGER outbox_check_closely AFTER INSERT ON outbox BEGIN {refusals} END"


def postgresql_check() -> str:
    refusals = "\n".join(
        f"IF ({broken}) THEN RAISE EXCEPTION USING MESSAGE = 'outbox: {message}',"
        " ERRCODE = 'check_violation', CONSTRAINT = 'outbox_check_closely'; END IF;"
        for message, broken in rules(Postgresql)
    )
    return f"""
    CREATE FUNCTION outbox_check_closely() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        said json := NEW.payload;
    BEGIN
        {refusals}
        RETURN NEW;
    END $$
    """


# Changes of status


def sqlite_keep(changes: str, attempts: str) -> str:
    return f"""
    CREATE TRIGGER outbox_keep BEFORE UPDATE ON outbox BEGIN
        SELECT RAISE(ABORT, 'outbox: what was ordered can not be changed; queue a new command')
        WHERE NEW.account IS NOT OLD.account OR NEW.outbox_id IS NOT OLD.outbox_id
            OR NEW.client_msg_id IS NOT OLD.client_msg_id OR NEW.command IS NOT OLD.command
            OR NEW.payload IS NOT OLD.payload OR NEW.created_at IS NOT OLD.created_at
            OR NEW.created_by IS NOT OLD.created_by;
        SELECT RAISE(ABORT, 'outbox: status can not change this way; see docs/outbox.md')
        WHERE NEW.status IS NOT OLD.status
            AND coalesce(OLD.status || '>' || NEW.status, '') NOT IN ({changes});
        {attempts}
    END
    """


def postgresql_keep(changes: str, attempts: str) -> str:
    return f"""
    CREATE OR REPLACE FUNCTION outbox_keep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (NEW.account, NEW.outbox_id, NEW.client_msg_id, NEW.command, NEW.payload,
            NEW.created_at, NEW.created_by) IS DISTINCT FROM (OLD.account, OLD.outbox_id,
            OLD.client_msg_id, OLD.command, OLD.payload, OLD.created_at, OLD.created_by)
        THEN
            RAISE EXCEPTION
                'outbox: what was ordered can not be changed; queue a new command'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'outbox_keep';
        END IF;
        IF NEW.status IS DISTINCT FROM OLD.status
            AND coalesce(OLD.status || '>' || NEW.status, '') NOT IN ({changes})
        THEN
            RAISE EXCEPTION 'outbox: status can not change from % to %; see docs/outbox.md',
                OLD.status, NEW.status
                USING ERRCODE = 'check_violation', CONSTRAINT = 'outbox_keep';
        END IF;
        {attempts}
        RETURN NEW;
    END $$
    """


RISES = f"coalesce(OLD.status || '>' || NEW.status, '') IN ({BACK})"
SQLITE = [
    "DROP TRIGGER outbox_keep",
    sqlite_keep(
        f"{CHANGES.rstrip()}, {BACK}",
        f"""
        SELECT RAISE(ABORT, 'outbox: {ATTEMPTS}')
        WHERE NEW.attempts IS NOT OLD.attempts + ({RISES});
        SELECT RAISE(ABORT, 'outbox: in_order must be 0 or 1') WHERE NEW.in_order NOT IN (0, 1);
        """,
    ),
    sqlite_check(),
    f"""
    CREATE TRIGGER limits_sign AFTER UPDATE ON limits
    WHEN NEW.changed_at IS OLD.changed_at BEGIN
        UPDATE limits SET changed_at = {SQLITE_NOW}, changed_by = 'sqlite'
        WHERE account = NEW.account AND pair = NEW.pair;
    END
    """,
]
SQLITE_BACK = [
    "DROP TRIGGER outbox_check_closely",
    "DROP TRIGGER outbox_keep",
    # What is open to be sent again is, for the older schema, what it always was: queued.
    sqlite_keep(CHANGES, ""),
]

POSTGRESQL = [
    postgresql_keep(
        f"{CHANGES.rstrip()}, {BACK}",
        f"""
        IF NEW.attempts IS DISTINCT FROM OLD.attempts + CAST({RISES} AS integer) THEN
            RAISE EXCEPTION 'outbox: {ATTEMPTS}'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'outbox_keep';
        END IF;
        """,
    ),
    postgresql_check(),
    # Triggers fire by name: 0004's outbox_check comes first and lets only JSON objects through.
    """
    CREATE TRIGGER outbox_check_closely BEFORE INSERT ON outbox
        FOR EACH ROW EXECUTE FUNCTION outbox_check_closely()
    """,
    # What waits in strict order may go as soon as what stood before it is settled.
    """
    CREATE FUNCTION outbox_tell_waiting() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM outbox
            WHERE account = NEW.account AND status = 'queued' AND in_order)
        THEN
            PERFORM pg_notify('recorder_outbox', NEW.account);
        END IF;
        RETURN NULL;
    END $$
    """,
    f"""
    CREATE TRIGGER outbox_tell_waiting AFTER UPDATE OF status ON outbox
        FOR EACH ROW WHEN (NEW.status IN ({SETTLED}))
        EXECUTE FUNCTION outbox_tell_waiting()
    """,
    # A command that is queued again, or whose turn somebody has changed.
    """
    CREATE TRIGGER outbox_tell_again
        AFTER UPDATE OF status, priority, not_before, expires_at, in_order ON outbox
        FOR EACH ROW WHEN (NEW.status = 'queued') EXECUTE FUNCTION outbox_tell()
    """,
    """
    CREATE FUNCTION limits_sign() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.changed_by := session_user;
        NEW.changed_at := clock_timestamp();
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER limits_sign BEFORE UPDATE ON limits
        FOR EACH ROW WHEN (NEW.changed_at IS NOT DISTINCT FROM OLD.changed_at)
        EXECUTE FUNCTION limits_sign()
    """,
]
POSTGRESQL_BACK = [
    "DROP TRIGGER outbox_tell_again ON outbox",
    "DROP TRIGGER outbox_tell_waiting ON outbox",
    "DROP FUNCTION outbox_tell_waiting()",
    "DROP TRIGGER outbox_check_closely ON outbox",
    "DROP FUNCTION outbox_check_closely()",
    postgresql_keep(CHANGES, ""),
]

GRANTS = {
    "recorder_reader": ["SELECT ON limits"],
    "recorder_enqueuer": ["SELECT ON limits", "INSERT (in_order) ON outbox"],
    "recorder_daemon": ["SELECT ON limits"],
}


def present_roles() -> list[str]:
    """The roles that stand; where we may not create them, somebody else can, and grant later."""
    names = sa.text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
    found = op.get_bind().execute(names, {"names": list(GRANTS)})
    return sorted(found.scalars())
