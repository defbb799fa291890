-- What changed each balance: one row for each currency that a ledger row moves, as a signed amount.
--
-- A fee that is already taken off the reported amount ("net") makes two rows: `fee_part` adds it to
-- the fill or deposit, and `fee` subtracts it. So every kind is before fees, and the sum over all
-- rows is what the balance changed by. Where nothing proves how a fee was taken, it counts as taken
-- off a credit and added to a debit.
--
-- `whole`, `nano` and `atto` are the amount's digits before the point, the next nine and the nine
-- after those. Each has the amount's sign, so each adds up alone, in integers. All three are null
-- where the amount has more than 18 places or doesn't fit 64 bits.
--
-- The exchange may add types: `other` is every type that isn't listed here.

CREATE VIEW balance_movements AS
SELECT account, currency, at, position, item, leg,
    CASE
        WHEN leg = 'fee' THEN 'fee'
        WHEN type IN ('LIMIT_BUY', 'LIMIT_SELL', 'MARKET_BUY', 'MARKET_SELL', 'SIMPLE_BUY',
            'SIMPLE_SELL', 'AUTO_BUY', 'SIMPLE_SWAP_BUY', 'SIMPLE_SWAP_SELL',
            'SIMPLE_SWAP_FAILURE_REVERSAL', 'LIQUIDATION_LIMIT_BUY', 'LIQUIDATION_LIMIT_SELL',
            'COLLATERAL_CONVERSION_LIMIT_BUY', 'COLLATERAL_CONVERSION_LIMIT_SELL') THEN fill
        WHEN type IN ('MAKER_REWARD', 'REFERRAL_REBATE', 'REFERRAL_REWARD', 'PROMOTIONAL_REBATE',
            'PAYMENT_REWARD') THEN 'reward'
        WHEN type IN ('FUTURES_TRADE_FEE', 'FIAT_WITHDRAWAL_FEE_REVERSAL') THEN 'fee'
        WHEN type IN ('BLOCKCHAIN_RECEIVE', 'FIAT_DEPOSIT', 'CREDIT_CARD_DEPOSIT',
            'OFF_CHAIN_BLOCKCHAIN_DEPOSIT') THEN 'deposit'
        WHEN type IN ('BLOCKCHAIN_SEND', 'FIAT_WITHDRAWAL', 'FIAT_WITHDRAWAL_REVERSAL',
            'OFF_CHAIN_BLOCKCHAIN_WITHDRAW') THEN 'withdrawal'
        WHEN type IN ('INTERNAL_TRANSFER', 'ACCOUNT_FUNDING', 'FUND',
            'LIQUIDATION_TAKEOVER_ASSET_TRANSFER', 'LIQUIDATION_TAKEOVER_DEBT_TRANSFER')
            THEN 'transfer'
        WHEN type IN ('PAYMENT_SENT', 'PAYMENT_RECEIVED', 'PAYMENT_REVERSED') THEN 'payment'
        WHEN type IN ('SPOT_BORROW_INTEREST_CHARGE', 'SPOT_LEND_INTEREST_PAYMENT') THEN 'interest'
        WHEN type IN ('FUTURES_FUNDING_EARNED', 'FUTURES_FUNDING_PAID') THEN 'funding'
        WHEN type IN ('FUTURES_PNL_PROFIT', 'FUTURES_PNL_LOSS') THEN 'pnl'
        ELSE 'other'
    END AS kind,
    CASE
        WHEN sign = 1 OR value = '0' THEN value
        WHEN substr(value, 1, 1) = '-' THEN substr(value, 2)
        ELSE '-' || value
    END AS amount,
    CASE WHEN fits THEN direction * CAST(before AS INTEGER) END AS whole,
    CASE WHEN fits THEN direction * CAST(substr(behind || '000000000000000000', 1, 9) AS INTEGER)
        END AS nano,
    CASE WHEN fits THEN direction * CAST(substr(behind || '000000000000000000', 10, 9) AS INTEGER)
        END AS atto,
    type, 'ledger' AS source_table, natural_id, source, fee_basis, order_id, pair, received_at
FROM (SELECT *,
    length(behind) <= 18 AND (length(before) < 19
        OR (length(before) = 19 AND before <= '9223372036854775807')) AS fits
FROM (SELECT *,
    CASE WHEN substr(value, 1, 1) = '-' THEN -sign ELSE sign END AS direction,
    substr(digits, 1, instr(digits || '.', '.') - 1) AS before,
    substr(digits, instr(digits || '.', '.') + 1) AS behind
FROM (SELECT *, ltrim(value, '-') AS digits
FROM (
    SELECT account, 'credit' AS leg, 1 AS sign, 'fill_in' AS fill,
        credit_currency AS currency, credit_value AS value, NULL AS fee_basis,
        event_at AS at, position, item, type, natural_id, source, order_id, pair, received_at
    FROM ledger WHERE credit_currency IS NOT NULL OR credit_value IS NOT NULL
    UNION ALL
    SELECT account, 'debit', -1, 'fill_out', debit_currency, debit_value, NULL,
        event_at AS at, position, item, type, natural_id, source, order_id, pair, received_at
    FROM ledger WHERE debit_currency IS NOT NULL OR debit_value IS NOT NULL
    UNION ALL
    SELECT account, 'fee_part', 1,
        CASE WHEN fee_currency = credit_currency THEN 'fill_in' ELSE 'fill_out' END,
        fee_currency, fee_value, coalesce(fee_basis, 'assumed'),
        event_at AS at, position, item, type, natural_id, source, order_id, pair, received_at
    FROM ledger
    WHERE (fee_value <> '0' OR (fee_value IS NULL AND fee_currency IS NOT NULL))
        AND fee_currency IN (credit_currency, debit_currency)
        AND coalesce(fee_basis,
            CASE WHEN fee_currency = credit_currency THEN 'net' ELSE 'gross' END) = 'net'
    UNION ALL
    SELECT account, 'fee', -1, 'fee', fee_currency, fee_value, coalesce(fee_basis, 'assumed'),
        event_at AS at, position, item, type, natural_id, source, order_id, pair, received_at
    FROM ledger WHERE (fee_value <> '0' OR (fee_value IS NULL AND fee_currency IS NOT NULL))
))));
