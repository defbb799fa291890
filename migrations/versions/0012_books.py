"""Movements: what changed each balance, one row each, in amounts that add up in plain SQL.

Why: a balance says what is held, not why. `balance_movements` takes the ledger apart into signed
amounts; `balance_statements` is `balance_history` with the exchange's time. Both have their amount
a second time as three whole numbers, since SQLite adds texts up as floats.
A running old daemon: writes ledger rows whose `fee_basis` is null, which is as good as unknown;
stop it first. The new one folds the ledger again from the log at its start.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

VIEWS = "balance_movements, balance_statements"
GRANTS = {"recorder_reader": f"SELECT ON {VIEWS}", "recorder_daemon": f"SELECT ON {VIEWS}"}
UNDATED = "basis = 'absent' OR updated_at IS NULL"


def upgrade() -> None:
    is_sqlite = op.get_context().dialect.name == "sqlite"
    op.add_column("ledger", sa.Column("fee_basis", sa.Text()))
    op.create_index("ledger_order_id", "ledger", ["account", "order_id"])
    op.create_index(
        "balance_history_updated_at",
        "balance_history",
        ["account", "currency", "updated_at", "position"],
    )
    op.create_index(
        "balance_history_undated",
        "balance_history",
        ["account", "currency", "received_at", "position"],
        postgresql_where=sa.text(UNDATED),
        sqlite_where=sa.text(UNDATED),
    )
    op.execute(movements(is_sqlite))
    op.execute(statements(is_sqlite))
    if not is_sqlite:
        for role in present_roles():
            op.execute(f"GRANT {GRANTS[role]} TO {role}")


def downgrade() -> None:
    op.execute("DROP VIEW balance_statements")
    op.execute("DROP VIEW balance_movements")
    op.drop_index("balance_history_undated", "balance_history")
    op.drop_index("balance_history_updated_at", "balance_history")
    op.drop_index("ledger_order_id", "ledger")
    op.drop_column("ledger", "fee_basis")


#: What each type of the exchange's is; the list is open, so what isn't here is `other`.
KINDS = {
    "reward": (
        "MAKER_REWARD",
        "REFERRAL_REBATE",
        "REFERRAL_REWARD",
        "PROMOTIONAL_REBATE",
        "PAYMENT_REWARD",
    ),
    "fee": ("FUTURES_TRADE_FEE", "FIAT_WITHDRAWAL_FEE_REVERSAL"),
    "deposit": (
        "BLOCKCHAIN_RECEIVE",
        "FIAT_DEPOSIT",
        "CREDIT_CARD_DEPOSIT",
        "OFF_CHAIN_BLOCKCHAIN_DEPOSIT",
    ),
    "withdrawal": (
        "BLOCKCHAIN_SEND",
        "FIAT_WITHDRAWAL",
        "FIAT_WITHDRAWAL_REVERSAL",
        "OFF_CHAIN_BLOCKCHAIN_WITHDRAW",
    ),
    "transfer": (
        "INTERNAL_TRANSFER",
        "ACCOUNT_FUNDING",
        "FUND",
        "LIQUIDATION_TAKEOVER_ASSET_TRANSFER",
        "LIQUIDATION_TAKEOVER_DEBT_TRANSFER",
    ),
    "payment": ("PAYMENT_SENT", "PAYMENT_RECEIVED", "PAYMENT_REVERSED"),
    "interest": ("SPOT_BORROW_INTEREST_CHARGE", "SPOT_LEND_INTEREST_PAYMENT"),
    "funding": ("FUTURES_FUNDING_EARNED", "FUTURES_FUNDING_PAID"),
    "pnl": ("FUTURES_PNL_PROFIT", "FUTURES_PNL_LOSS"),
}
FILLS = (
    "LIMIT_BUY",
    "LIMIT_SELL",
    "MARKET_BUY",
    "MARKET_SELL",
    "SIMPLE_BUY",
    "SIMPLE_SELL",
    "AUTO_BUY",
    "SIMPLE_SWAP_BUY",
    "SIMPLE_SWAP_SELL",
    "SIMPLE_SWAP_FAILURE_REVERSAL",
    "LIQUIDATION_LIMIT_BUY",
    "LIQUIDATION_LIMIT_SELL",
    "COLLATERAL_CONVERSION_LIMIT_BUY",
    "COLLATERAL_CONVERSION_LIMIT_SELL",
)
#: Where nothing proves it, a fee counts as taken off a credit (as in all that VALR published), and
#: as coming on top of a debit.
IS_NET = (
    "(fee_currency IN (credit_currency, debit_currency)"
    " AND coalesce(fee_basis, CASE WHEN fee_currency = credit_currency THEN 'net' ELSE 'gross' END)"
    " = 'net')"
)


def movements(is_sqlite: bool) -> str:
    """One row for each currency that a ledger row moves.

    A fee that was taken off a stated amount is told twice: once as the part of the fill, deposit or
    so that it ate (`fee_part`), once as the fee. So each kind is before fees, and the sum is what
    the balance changed by.
    """
    has_fee = "fee_value <> " + ("'0'" if is_sqlite else "0")
    has_fee = f"({has_fee} OR (fee_value IS NULL AND fee_currency IS NOT NULL))"
    fee_side = "CASE WHEN fee_currency = credit_currency THEN 'fill_in' ELSE 'fill_out' END"
    arms = (
        _leg("credit", 1, "'fill_in'", "credit_value", _told("credit"), is_sqlite),
        _leg("debit", -1, "'fill_out'", "debit_value", _told("debit"), is_sqlite),
        _leg("fee_part", 1, fee_side, "fee_value", f"{has_fee} AND {IS_NET}", is_sqlite, "fee"),
        _leg("fee", -1, None, "fee_value", has_fee, is_sqlite),
    )
    return "CREATE VIEW balance_movements AS " + " UNION ALL ".join(arms)


def statements(is_sqlite: bool) -> str:
    """What was said to be held, with the exchange's time where it gave one."""
    columns = ", ".join(_amount("total", 1, "total", is_sqlite))
    return f"""
        CREATE VIEW balance_statements AS
        SELECT account, currency, position,
            CASE WHEN basis <> 'absent' AND updated_at IS NOT NULL THEN updated_at
                ELSE received_at END AS at,
            {columns}, basis, updated_at, received_at
        FROM balance_history
    """


def _told(side: str) -> str:
    return f"({side}_currency IS NOT NULL OR {side}_value IS NOT NULL)"


def _leg(
    leg: str,
    sign: int,
    fill: str | None,
    value: str,
    condition: str,
    is_sqlite: bool,
    money: str | None = None,
) -> str:
    kind = "'fee'" if fill is None else _kind(fill)
    basis = "coalesce(fee_basis, 'assumed')" if value == "fee_value" else "NULL"
    cast = (lambda words: words) if is_sqlite else (lambda words: f"CAST({words} AS text)")
    columns = ", ".join(_amount(value, sign, "amount", is_sqlite))
    return f"""
        SELECT account, {money or leg}_currency AS currency, event_at AS at, position, item,
            {cast(f"'{leg}'")} AS leg, {cast(kind)} AS kind, {columns}, type,
            {cast("'ledger'")} AS source_table, natural_id, source, {cast(basis)} AS fee_basis,
            order_id, pair, received_at
        FROM ledger WHERE {condition}
    """


def _kind(fill: str) -> str:
    cases = [f"WHEN type IN ({_words(FILLS)}) THEN {fill}"]
    cases += [f"WHEN type IN ({_words(types)}) THEN '{kind}'" for kind, types in KINDS.items()]
    return f"CASE {' '.join(cases)} ELSE 'other' END"


def _words(types: tuple[str, ...]) -> str:
    return ", ".join(f"'{each}'" for each in types)


def _amount(value: str, sign: int, name: str, is_sqlite: bool) -> list[str]:
    """A signed amount, and its parts: whole, billionths, and billionths of those.

    Each part has the amount's sign, so each adds up alone, in integers. Null where an amount has
    more than 18 places or doesn't fit 64 bits: no part of it then, rather than a wrong one.
    """
    make = _sqlite_amount if is_sqlite else _postgresql_amount
    amount, whole, nano, atto = make(value, sign)
    return [f"{amount} AS {name}", f"{whole} AS whole", f"{nano} AS nano", f"{atto} AS atto"]


def _sqlite_amount(value: str, sign: int) -> tuple[str, str, str, str]:
    negated = (
        f"CASE WHEN {value} = '0' THEN '0' WHEN substr({value}, 1, 1) = '-'"
        f" THEN substr({value}, 2) ELSE '-' || {value} END"
    )
    direction = f"(CASE WHEN substr({value}, 1, 1) = '-' THEN {-sign} ELSE {sign} END)"
    digits = f"ltrim({value}, '-')"
    point = f"instr({digits} || '.', '.')"
    before = f"substr({digits}, 1, {point} - 1)"
    behind = f"substr({digits}, {point} + 1)"
    padded = f"substr({behind} || '000000000000000000', {{}}, 9)"
    fits = (
        f"length({behind}) <= 18 AND (length({before}) < 19"
        f" OR (length({before}) = 19 AND {before} <= '9223372036854775807'))"
    )

    def part(digits: str) -> str:
        return f"CASE WHEN {fits} THEN {direction} * CAST({digits} AS INTEGER) END"

    parts = part(before), part(padded.format(1)), part(padded.format(10))
    return (value if sign > 0 else negated), *parts


def _postgresql_amount(value: str, sign: int) -> tuple[str, str, str, str]:
    signed = value if sign > 0 else f"(-{value})"
    fits = f"scale(trim_scale({value})) <= 18 AND abs(trunc({value})) <= 9223372036854775807"

    def part(number: str) -> str:
        return f"CASE WHEN {fits} THEN CAST({number} AS bigint) END"

    nano = f"({signed} - trunc({signed})) * 1000000000"
    atto = f"({nano} - trunc({nano})) * 1000000000"
    return signed, part(f"trunc({signed})"), part(f"trunc({nano})"), part(atto)


def present_roles() -> list[str]:
    """The roles that stand; where we may not create them, somebody else can, and grant later."""
    names = sa.text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
    found = op.get_bind().execute(names, {"names": list(GRANTS)})
    return sorted(found.scalars())
