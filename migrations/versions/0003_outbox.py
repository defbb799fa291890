"""The outbox: what other programs want sent, and every change of its rows' status.

Why: a command is one plain INSERT by any program in any language, so the rules that keep an order
from being sent twice can't live in our code alone. The triggers allow only the changes of status
listed here, keep what was ordered as it was ordered, refuse to delete, and write each change down.
A running old daemon: records on; it sends nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")

COMMANDS = (
    "'PLACE_LIMIT_ORDER', 'PLACE_MARKET_ORDER', 'CANCEL_ORDER', 'MODIFY_ORDER', "
    "'PLACE_BATCH_ORDERS'"
)
STATUSES = (
    "'queued', 'sending', 'sent', 'acknowledged', 'accepted', 'rejected', 'in_doubt', "
    "'not_placed', 'expired', 'withdrawn', 'refused'"
)
#: Every change of status there is. A status that begins none is final.
CHANGES = """
            'queued>sending', 'queued>expired', 'queued>withdrawn', 'queued>refused',
            'sending>sent', 'sending>in_doubt',
            'sent>acknowledged', 'sent>rejected', 'sent>in_doubt',
            'acknowledged>accepted', 'acknowledged>rejected',
            'in_doubt>acknowledged', 'in_doubt>accepted', 'in_doubt>rejected',
            'in_doubt>not_placed',
            'not_placed>acknowledged', 'not_placed>accepted', 'not_placed>rejected'
"""
#: The clock in the form in which SQLite's columns hold times (it knows milliseconds).
SQLITE_NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


def upgrade() -> None:
    is_sqlite = op.get_context().dialect.name == "sqlite"
    create_outbox(is_sqlite)
    create_indexes()
    create_transitions()
    for statement in SQLITE if is_sqlite else POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("outbox_transitions")
    op.drop_table("outbox")
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION outbox_keep()")
        op.execute("DROP FUNCTION outbox_write_transition()")
        op.execute("DROP FUNCTION outbox_tell()")


def create_outbox(is_sqlite: bool) -> None:
    if is_sqlite:
        # The rowid, never given twice: SQLite numbers it only when it is the whole key.
        key, number = ["outbox_id"], []
        random = "(lower(hex(randomblob(16))))"
        now, someone = f"({SQLITE_NOW})", "'sqlite'"
    else:
        key, number = ["account", "outbox_id"], [sa.Identity(always=True)]
        random = "replace(gen_random_uuid()::text, '-', '')"
        now, someone = "now()", "session_user"
    op.create_table(
        "outbox",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("outbox_id", LONG, *number, nullable=False),
        sa.Column("client_msg_id", sa.Text, nullable=False, server_default=sa.text(random)),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("not_before", TIME),
        sa.Column("expires_at", TIME),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.text(now)),
        sa.Column("created_by", sa.Text, nullable=False, server_default=sa.text(someone)),
        sa.Column("status", sa.Text, nullable=False, server_default=sa.text("'queued'")),
        sa.Column("reason", sa.Text),
        sa.Column("epoch", LONG),
        sa.Column("connection_id", sa.Text),
        sa.Column("customer_order_id", sa.Text),
        sa.Column("order_id", sa.Text),
        sa.Column("modify_request_id", sa.Text),
        sa.Column("sent_position", LONG),
        sa.Column("acknowledged_position", LONG),
        sa.Column("resolved_position", LONG),
        sa.Column("updated_at", TIME),
        sa.PrimaryKeyConstraint(*key, name="outbox_pkey"),
        sa.CheckConstraint(f"command IN ({COMMANDS})", name="outbox_command"),
        sa.CheckConstraint(f"status IN ({STATUSES})", name="outbox_status"),
        sa.CheckConstraint("length(client_msg_id) BETWEEN 1 AND 100", name="outbox_client_msg"),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )


def create_indexes() -> None:
    queued = sa.text("status = 'queued'")
    # The few commands among millions whose fate isn't final yet.
    unresolved = sa.text("status IN ('sending', 'sent', 'acknowledged', 'in_doubt')")
    op.create_index("outbox_client_msg_id", "outbox", ["account", "client_msg_id"], unique=True)
    op.create_index(
        "outbox_queued",
        "outbox",
        ["account", "priority", "outbox_id"],
        postgresql_where=queued,
        sqlite_where=queued,
    )
    op.create_index(
        "outbox_unresolved",
        "outbox",
        ["account", "outbox_id"],
        postgresql_where=unresolved,
        sqlite_where=unresolved,
    )
    op.create_index("outbox_order_id", "outbox", ["account", "order_id"])
    op.create_index("outbox_customer_order_id", "outbox", ["account", "customer_order_id"])
    op.create_index("outbox_modify_request_id", "outbox", ["account", "modify_request_id"])


def create_transitions() -> None:
    op.create_table(
        "outbox_transitions",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("outbox_id", LONG, nullable=False, autoincrement=False),
        sa.Column("seq", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("from_status", sa.Text),
        sa.Column("to_status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("client_msg_id", sa.Text, nullable=False),
        sa.Column("changed_at", TIME, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account", "outbox_id", "seq", name="outbox_transitions_pkey"),
        sqlite_strict=True,
    )
    first = sa.text("seq = 1")
    op.create_index(
        "outbox_transitions_client_msg_id",
        "outbox_transitions",
        ["account", "client_msg_id"],
        unique=True,
        postgresql_where=first,
        sqlite_where=first,
    )


# On SQLite a literal is all that RAISE takes; PostgreSQL's functions say a little more.
SQLITE = [
    f"""
    CREATE TRIGGER outbox_keep BEFORE UPDATE ON outbox BEGIN
        SELECT RAISE(ABORT, 'outbox: what was ordered can not be changed; queue a new command')
        WHERE NEW.account IS NOT OLD.account OR NEW.outbox_id IS NOT OLD.outbox_id
            OR NEW.client_msg_id IS NOT OLD.client_msg_id OR NEW.command IS NOT OLD.command
            OR NEW.payload IS NOT OLD.payload OR NEW.created_at IS NOT OLD.created_at
            OR NEW.created_by IS NOT OLD.created_by;
        SELECT RAISE(ABORT, 'outbox: status can not change this way; see docs/outbox.md')
        WHERE NEW.status IS NOT OLD.status
            AND coalesce(OLD.status || '>' || NEW.status, '') NOT IN ({CHANGES});
    END
    """,
    """
    CREATE TRIGGER outbox_no_delete BEFORE DELETE ON outbox BEGIN
        SELECT RAISE(ABORT, 'outbox: rows are never deleted; set status to withdrawn');
    END
    """,
    # REPLACE would delete a command that was sent and queue it again. It is told from an INSERT
    # by the transition that the deleted row left; INSERT OR IGNORE never comes this far.
    """
    CREATE TRIGGER outbox_no_replace BEFORE INSERT ON outbox BEGIN
        SELECT RAISE(ABORT, 'outbox: outbox_id stands already; leave it out')
        WHERE EXISTS (SELECT 1 FROM outbox WHERE outbox_id = NEW.outbox_id);
    END
    """,
    f"""
    CREATE TRIGGER outbox_first_transition AFTER INSERT ON outbox BEGIN
        SELECT RAISE(ABORT, 'outbox: outbox_id must be positive; leave it out')
        WHERE NEW.outbox_id < 1;
        SELECT RAISE(ABORT, 'outbox: rows are never replaced; this client_msg_id stands already')
        WHERE EXISTS (SELECT 1 FROM outbox_transitions
            WHERE account = NEW.account AND client_msg_id = NEW.client_msg_id AND seq = 1);
        INSERT INTO outbox_transitions
            (account, outbox_id, seq, to_status, reason, client_msg_id, changed_at, changed_by)
        VALUES (NEW.account, NEW.outbox_id, 1, NEW.status, NEW.reason, NEW.client_msg_id,
            {SQLITE_NOW}, NEW.created_by);
    END
    """,
    # SQLite knows no users. But the recorder alone names updated_at in its UPDATE, and that is what
    # UPDATE OF goes by; this runs before the change, so that the next one can tell.
    """
    CREATE TRIGGER outbox_our_transition BEFORE UPDATE OF updated_at ON outbox
    WHEN NEW.status IS NOT OLD.status BEGIN
        INSERT INTO outbox_transitions (account, outbox_id, seq, from_status, to_status, reason,
            client_msg_id, changed_at, changed_by)
        SELECT account, outbox_id, max(seq) + 1, OLD.status, NEW.status, NEW.reason,
            client_msg_id, NEW.updated_at, 'recorder'
        FROM outbox_transitions WHERE account = NEW.account AND outbox_id = NEW.outbox_id;
    END
    """,
    # Everybody else: no status follows itself, so the last one written says if this one is.
    f"""
    CREATE TRIGGER outbox_their_transition AFTER UPDATE OF status ON outbox
    WHEN NEW.status IS NOT OLD.status BEGIN
        INSERT INTO outbox_transitions (account, outbox_id, seq, from_status, to_status, reason,
            client_msg_id, changed_at, changed_by)
        SELECT account, outbox_id, seq + 1, OLD.status, NEW.status, NEW.reason,
            client_msg_id, {SQLITE_NOW}, 'sqlite'
        FROM outbox_transitions
        WHERE account = NEW.account AND outbox_id = NEW.outbox_id
            AND to_status IS NOT NEW.status
            AND seq = (SELECT max(seq) FROM outbox_transitions
                WHERE account = NEW.account AND outbox_id = NEW.outbox_id);
    END
    """,
    """
    CREATE TRIGGER outbox_transitions_no_update BEFORE UPDATE ON outbox_transitions BEGIN
        SELECT RAISE(ABORT, 'outbox_transitions: append-only; UPDATE is refused');
    END
    """,
    """
    CREATE TRIGGER outbox_transitions_no_delete BEFORE DELETE ON outbox_transitions BEGIN
        SELECT RAISE(ABORT, 'outbox_transitions: append-only; DELETE is refused');
    END
    """,
    # REPLACE fires no DELETE trigger for most programs: the next number is all that goes in.
    """
    CREATE TRIGGER outbox_transitions_follow BEFORE INSERT ON outbox_transitions BEGIN
        SELECT RAISE(ABORT, 'outbox_transitions: seq does not follow the last one')
        WHERE NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM outbox_transitions
            WHERE account = NEW.account AND outbox_id = NEW.outbox_id);
        SELECT RAISE(ABORT, 'outbox_transitions: append-only; REPLACE is refused')
        WHERE EXISTS (SELECT 1 FROM outbox_transitions WHERE rowid = NEW.rowid);
    END
    """,
]

POSTGRESQL = [
    f"""
    CREATE FUNCTION outbox_keep() RETURNS trigger LANGUAGE plpgsql AS $$
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
            AND coalesce(OLD.status || '>' || NEW.status, '') NOT IN ({CHANGES})
        THEN
            RAISE EXCEPTION 'outbox: status can not change from % to %; see docs/outbox.md',
                OLD.status, NEW.status
                USING ERRCODE = 'check_violation', CONSTRAINT = 'outbox_keep';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER outbox_keep BEFORE UPDATE ON outbox
        FOR EACH ROW EXECUTE FUNCTION outbox_keep()
    """,
    """
    CREATE TRIGGER outbox_no_delete BEFORE DELETE OR TRUNCATE ON outbox
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TRIGGER outbox_transitions_no_change BEFORE UPDATE OR DELETE OR TRUNCATE
        ON outbox_transitions FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
    # Runs with its owner's rights: whoever may queue need not be able to write history.
    """
    CREATE FUNCTION outbox_write_transition() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO outbox_transitions
                (account, outbox_id, seq, to_status, reason, client_msg_id, changed_at, changed_by)
            VALUES (NEW.account, NEW.outbox_id, 1, NEW.status, NEW.reason, NEW.client_msg_id,
                clock_timestamp(), session_user);
        ELSE
            INSERT INTO outbox_transitions (account, outbox_id, seq, from_status, to_status,
                reason, client_msg_id, changed_at, changed_by)
            SELECT NEW.account, NEW.outbox_id, max(seq) + 1, OLD.status, NEW.status, NEW.reason,
                NEW.client_msg_id,
                CASE WHEN NEW.updated_at IS DISTINCT FROM OLD.updated_at
                    THEN NEW.updated_at ELSE clock_timestamp() END,
                session_user
            FROM outbox_transitions WHERE account = NEW.account AND outbox_id = NEW.outbox_id;
        END IF;
        RETURN NULL;
    END $$
    """,
    # An owner's function must not look its tables up where the caller says.
    """
    DO $$ BEGIN
        EXECUTE format('ALTER FUNCTION outbox_write_transition() SET search_path = %I, pg_temp',
            current_schema());
    END $$
    """,
    """
    CREATE TRIGGER outbox_first_transition AFTER INSERT ON outbox
        FOR EACH ROW EXECUTE FUNCTION outbox_write_transition()
    """,
    """
    CREATE TRIGGER outbox_next_transition AFTER UPDATE OF status ON outbox
        FOR EACH ROW WHEN (NEW.status IS DISTINCT FROM OLD.status)
        EXECUTE FUNCTION outbox_write_transition()
    """,
    # Wakes the daemon; delivered with the caller's commit, once per account and transaction.
    """
    CREATE FUNCTION outbox_tell() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('recorder_outbox', NEW.account);
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER outbox_tell AFTER INSERT ON outbox
        FOR EACH ROW EXECUTE FUNCTION outbox_tell()
    """,
]
