-- Every table and index. `account` leads every key, so one statement can distribute any table by account.
-- Times are UTC texts, YYYY-MM-DD HH:MM:SS.ffffff. Amounts are exact decimal texts: SQLite's NUMERIC is a float.
-- Flags are 0 or 1.

-- --- The log and what is folded from it into sessions and gaps

-- The log. Positions count 1, 2, 3 … per account without a hole. Triggers refuse UPDATE and DELETE.
CREATE TABLE events (
    account TEXT NOT NULL,
    position INTEGER NOT NULL,  -- 1 for the account's first event
    received_at TEXT NOT NULL,  -- when the last byte was read, or when the recorder did what it notes
    elapsed_ns INTEGER,         -- monotonic time since the connection was opened; null off a connection
    connection_id TEXT,         -- the WebSocket connection; null for what belongs to none
    origin TEXT NOT NULL,       -- received: a frame. sent: a frame of ours. fetched: a REST answer. noted: our own fact
    type TEXT NOT NULL,         -- the frame's own "type", or the note's kind; empty where there is none
    payload TEXT NOT NULL,      -- the text exactly as on the wire; base64 for what is no text
    encoding TEXT NOT NULL,     -- text or base64
    digest BLOB NOT NULL,       -- SHA-256 over the previous digest and this event
    CONSTRAINT events_pkey PRIMARY KEY (account, position),
    CONSTRAINT events_position CHECK (position >= 1),
    CONSTRAINT events_origin CHECK (origin IN ('received', 'sent', 'fetched', 'noted')),
    CONSTRAINT events_encoding CHECK (encoding IN ('text', 'base64')),
    CONSTRAINT events_digest CHECK (length(digest) = 32)
) STRICT;

-- How far each projection has folded the log.
CREATE TABLE projections (
    account TEXT NOT NULL,
    projection TEXT NOT NULL,   -- its name
    position INTEGER NOT NULL,  -- the last event it has folded
    version INTEGER NOT NULL,   -- of its rules; another version folds again from the first event
    updated_at TEXT NOT NULL,
    error TEXT,                 -- why it stopped; null while it runs
    CONSTRAINT projections_pkey PRIMARY KEY (account, projection)
) STRICT;

-- Events that a projection could not fold, or only in part. It went on behind them.
CREATE TABLE fold_failures (
    account TEXT NOT NULL,
    projection TEXT NOT NULL,
    position INTEGER NOT NULL,
    reason TEXT NOT NULL,
    CONSTRAINT fold_failures_pkey PRIMARY KEY (account, projection, position)
) STRICT;

-- One row for each WebSocket connection.
CREATE TABLE connections (
    account TEXT NOT NULL,
    connection_id TEXT NOT NULL,
    opened_at TEXT,
    authenticated_at TEXT,
    closed_at TEXT,
    close_code INTEGER,
    close_reason TEXT,
    closed_by TEXT,                   -- who closed it
    last_frame_at TEXT,
    frame_count INTEGER,
    state TEXT NOT NULL,
    is_open INTEGER NOT NULL,
    first_position INTEGER NOT NULL,  -- of its first event
    last_position INTEGER NOT NULL,   -- of its last event
    CONSTRAINT connections_pkey PRIMARY KEY (account, connection_id)
) STRICT;

-- One row for each stretch of time in which something may have been missed.
CREATE TABLE gaps (
    account TEXT NOT NULL,
    gap_id INTEGER NOT NULL,                -- position of the note that opened it
    cause TEXT NOT NULL,
    from_at TEXT,                           -- last known good moment
    until_at TEXT,                          -- null while it is open
    last_position_before INTEGER NOT NULL,  -- last event before the gap
    first_position_after INTEGER,           -- first event after the gap
    state TEXT NOT NULL,                    -- open, closed, healed or unverifiable
    is_open INTEGER NOT NULL,
    healed_by TEXT,                         -- positions of the answers that healed it
    unobserved_from TEXT,                   -- what counts as not observed, by the clock at its closing
    unobserved_until TEXT,
    evidence TEXT,
    losses INTEGER,                         -- losses of the connection while it was open
    causes TEXT,                            -- their causes, in the order of their last time
    last_loss TEXT,
    last_loss_position INTEGER,
    verdict TEXT,                           -- why it is healed or unverifiable
    verdict_at TEXT,
    verdict_position INTEGER,               -- the event of the verdict
    CONSTRAINT gaps_pkey PRIMARY KEY (account, gap_id)
) STRICT;

-- --- Balances

-- What is held now, per currency.
CREATE TABLE balances (
    account TEXT NOT NULL,
    currency TEXT NOT NULL,
    available TEXT,
    reserved TEXT,
    total TEXT,
    lend_reserved TEXT,
    borrow_reserved TEXT,
    borrowed_amount TEXT,
    total_in_reference TEXT,
    total_in_reference_weighted TEXT,
    reference_currency TEXT,
    basis TEXT NOT NULL,               -- reported: by the exchange. inferred_zero: left out of a full snapshot, so zero
    updated_at TEXT,                   -- by the exchange's time
    position INTEGER NOT NULL,         -- the event it is from
    connection_id TEXT,                -- the connection on which the exchange last named this currency
    CONSTRAINT balances_pkey PRIMARY KEY (account, currency)
) STRICT;

-- Every value that balances ever had.
CREATE TABLE balance_history (
    account TEXT NOT NULL,
    currency TEXT NOT NULL,
    position INTEGER NOT NULL,         -- the event it is from
    available TEXT,
    reserved TEXT,
    total TEXT,
    lend_reserved TEXT,
    borrow_reserved TEXT,
    borrowed_amount TEXT,
    total_in_reference TEXT,
    total_in_reference_weighted TEXT,
    reference_currency TEXT,
    basis TEXT NOT NULL,               -- reported: by the exchange. inferred_zero: left out of a full snapshot, so zero
    updated_at TEXT,                   -- by the exchange's time
    received_at TEXT NOT NULL,
    CONSTRAINT balance_history_pkey PRIMARY KEY (account, currency, position)
) STRICT;
CREATE INDEX balance_history_updated_at ON balance_history (account, currency, updated_at, position);
-- Without a time of the exchange: few rows, or none.
CREATE INDEX balance_history_undated ON balance_history (account, currency, received_at, position)
    WHERE basis = 'inferred_zero' OR updated_at IS NULL;

-- --- Orders

-- The open orders, as the last full list named them.
CREATE TABLE open_orders (
    account TEXT NOT NULL,
    order_id TEXT NOT NULL,
    customer_order_id TEXT,
    pair TEXT,
    side TEXT,
    type TEXT,
    time_in_force TEXT,
    allow_margin INTEGER,
    price TEXT,
    stop_price TEXT,
    original_quantity TEXT,
    remaining_quantity TEXT,
    status TEXT,                -- the exchange's own word
    created_at TEXT,            -- by the exchange's time
    updated_at TEXT,            -- by the exchange's time
    filled_percentage TEXT,
    position INTEGER NOT NULL,  -- the event of the list
    CONSTRAINT open_orders_pkey PRIMARY KEY (account, order_id)
) STRICT;

-- Every order ever seen, in its latest state.
CREATE TABLE orders (
    account TEXT NOT NULL,
    order_id TEXT NOT NULL,
    customer_order_id TEXT,
    pair TEXT,
    side TEXT,
    type TEXT,
    time_in_force TEXT,
    allow_margin INTEGER,
    price TEXT,
    stop_price TEXT,
    original_quantity TEXT,
    remaining_quantity TEXT,
    status TEXT,                            -- the exchange's own word
    created_at TEXT,                        -- by the exchange's time
    updated_at TEXT,                        -- by the exchange's time
    state TEXT NOT NULL,                    -- the recorder's word for it; docs/reference/tables.md lists them
    live INTEGER NOT NULL,                  -- open at the exchange
    listed INTEGER NOT NULL,                -- named by the last full list
    executed_quantity TEXT,
    executed_price TEXT,                    -- of the latest execution, as the exchange reported it
    counted_quantity TEXT,                  -- sum over the executions that were seen
    counted_remaining TEXT,                 -- what remained after the last of them
    executed_value TEXT,                    -- sum of price times quantity over them
    counted_fee TEXT,                       -- sum of their fees
    average_price TEXT,                     -- executed_value / counted_quantity; null where an execution was missed
    fee TEXT,                               -- null where an execution was missed
    fee_currency TEXT,
    reason TEXT,                            -- why it failed
    connection_id TEXT,
    first_position INTEGER NOT NULL,
    last_position INTEGER NOT NULL,
    source TEXT NOT NULL DEFAULT 'stream',  -- stream or backfill: where it was seen first
    began_at TEXT,                          -- by the exchange's time
    ended_at TEXT,                          -- by the exchange's time; null while it is open
    ended_position INTEGER,                 -- the event after which it was no longer open; null while it is
    validity_by_position INTEGER,           -- interval-tree index of [first_position, ended_position)
    validity_by_time INTEGER,               -- interval-tree index of [began_at, ended_at)
    CONSTRAINT orders_pkey PRIMARY KEY (account, order_id)
) STRICT;
CREATE INDEX orders_validity_by_position ON orders (account, validity_by_position, ended_position);
CREATE INDEX orders_validity_by_time ON orders (account, validity_by_time, ended_at);
CREATE INDEX orders_live ON orders (account, order_id) WHERE live = 1;
CREATE INDEX orders_executed ON orders (account, pair, last_position)
    WHERE executed_price IS NOT NULL;
CREATE INDEX orders_customer_order_id ON orders (account, customer_order_id);

-- Each report about an order.
CREATE TABLE order_history (
    account TEXT NOT NULL,
    order_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    status TEXT,                -- the exchange's own word
    state TEXT NOT NULL,        -- the recorder's word
    applied INTEGER NOT NULL,   -- false where a newer report had already been folded
    price TEXT,
    original_quantity TEXT,
    remaining_quantity TEXT,
    executed_price TEXT,
    executed_quantity TEXT,
    executed_fee TEXT,
    reason TEXT,
    updated_at TEXT,            -- by the exchange's time
    received_at TEXT NOT NULL,
    CONSTRAINT order_history_pkey PRIMARY KEY (account, order_id, position)
) STRICT;

-- --- Fills, transactions, transfers

-- Fills.
CREATE TABLE trades (
    account TEXT NOT NULL,
    position INTEGER NOT NULL,              -- the event it was first reported by
    trade_id TEXT,
    order_id TEXT,
    customer_order_id TEXT,
    pair TEXT,
    side TEXT,
    price TEXT,
    quantity TEXT,
    fee TEXT,
    fee_currency TEXT,
    traded_at TEXT,                         -- by the exchange's time
    received_at TEXT NOT NULL,
    item INTEGER NOT NULL DEFAULT 0,        -- place within an answer of several rows; 0 for a frame
    natural_id TEXT,                        -- the exchange's id, or "@" and the position of a frame that had none
    source TEXT NOT NULL DEFAULT 'stream',  -- stream or backfill: where it was reported first
    matched_by TEXT NOT NULL DEFAULT 'id',  -- how: id, counted, alone or undecided (docs/explanation/back-fill.md)
    CONSTRAINT trades_pkey PRIMARY KEY (account, position, item)
) STRICT;
CREATE UNIQUE INDEX trades_natural_id ON trades (account, natural_id);
CREATE INDEX trades_traded_at ON trades (account, traded_at);
CREATE UNIQUE INDEX trades_trade_id ON trades (account, trade_id);
CREATE INDEX trades_order_id ON trades (account, order_id);
CREATE INDEX trades_pair ON trades (account, pair, position);

-- The exchange's transaction history.
CREATE TABLE ledger (
    account TEXT NOT NULL,
    position INTEGER NOT NULL,              -- the event it was first reported by
    transaction_id TEXT,
    type TEXT,
    description TEXT,
    debit_currency TEXT,
    debit_value TEXT,
    credit_currency TEXT,
    credit_value TEXT,
    fee_currency TEXT,
    fee_value TEXT,
    order_id TEXT,
    pair TEXT,
    cost_per_coin TEXT,
    cost_per_coin_symbol TEXT,
    additional TEXT,                        -- additionalInfo as JSON text
    event_at TEXT,                          -- by the exchange's time
    received_at TEXT NOT NULL,
    item INTEGER NOT NULL DEFAULT 0,        -- place within an answer of several rows; 0 for a frame
    natural_id TEXT,                        -- the exchange's id, or "@" and the position of a frame that had none
    source TEXT NOT NULL DEFAULT 'stream',  -- stream or backfill: where it was reported first
    matched_by TEXT NOT NULL DEFAULT 'id',  -- how: id, counted, alone or undecided (docs/explanation/back-fill.md)
    fee_basis TEXT,                         -- what the row's price proves: net (fee already taken off) or gross
    CONSTRAINT ledger_pkey PRIMARY KEY (account, position, item)
) STRICT;
CREATE UNIQUE INDEX ledger_natural_id ON ledger (account, natural_id);
CREATE INDEX ledger_event_at ON ledger (account, event_at);
CREATE INDEX ledger_order_id ON ledger (account, order_id);
CREATE UNIQUE INDEX ledger_transaction_id ON ledger (account, transaction_id);

-- Deposits and withdrawals.
CREATE TABLE transfers (
    account TEXT NOT NULL,
    position INTEGER NOT NULL,              -- the event it was first reported by
    transfer_id TEXT NOT NULL,
    direction TEXT NOT NULL,
    currency TEXT,
    amount TEXT,
    fee TEXT,
    address TEXT,
    transaction_hash TEXT,
    network TEXT,
    confirmations INTEGER,
    confirmed INTEGER,
    status TEXT,
    reason TEXT,
    created_at TEXT,
    last_position INTEGER NOT NULL,
    received_at TEXT NOT NULL,
    item INTEGER NOT NULL DEFAULT 0,        -- place within an answer of several rows; 0 for a frame
    source TEXT NOT NULL DEFAULT 'stream',  -- stream or backfill: where it was reported first
    index_in_transaction INTEGER,           -- of a deposit, where a frame reported it
    CONSTRAINT transfers_pkey PRIMARY KEY (account, position, item)
) STRICT;
CREATE INDEX transfers_transaction_hash ON transfers (account, transaction_hash);
CREATE UNIQUE INDEX transfers_transfer_id ON transfers (account, transfer_id);

-- --- Futures

-- Positions of futures, in their latest state.
CREATE TABLE positions (
    account TEXT NOT NULL,
    position_id TEXT NOT NULL,
    pair TEXT,
    side TEXT,
    quantity TEXT,
    realised_pnl TEXT,
    unrealised_pnl TEXT,
    average_entry_price TEXT,
    session_average_entry_price TEXT,
    total_session_entry_quantity TEXT,
    total_session_value TEXT,
    leverage_tier INTEGER,
    state TEXT NOT NULL,                -- open, closed, or end_unknown: no longer held, final state unknown
    basis TEXT NOT NULL,                -- as of balances; unconfirmed: a list that was requested did not name it
    created_at TEXT,
    updated_at TEXT,
    is_open INTEGER NOT NULL,
    reduced_at TEXT,                    -- the exchange's time of the latest reduction
    connection_id TEXT,                 -- the connection on which the exchange last named it
    first_position INTEGER NOT NULL,
    position INTEGER NOT NULL,          -- the event it is from
    CONSTRAINT positions_pkey PRIMARY KEY (account, position_id)
) STRICT;
CREATE INDEX positions_open ON positions (account, position_id) WHERE is_open = 1;

-- Every report about a position of futures.
CREATE TABLE position_history (
    account TEXT NOT NULL,
    position_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    pair TEXT,
    side TEXT,
    quantity TEXT,
    realised_pnl TEXT,
    unrealised_pnl TEXT,
    average_entry_price TEXT,
    session_average_entry_price TEXT,
    total_session_entry_quantity TEXT,
    total_session_value TEXT,
    leverage_tier INTEGER,
    state TEXT NOT NULL,                    -- open, closed, or end_unknown: no longer held, final state unknown
    basis TEXT NOT NULL,                    -- as of balances; unconfirmed: a list that was requested did not name it
    created_at TEXT,
    updated_at TEXT,
    closed_quantity TEXT,                   -- the next seven: what a REDUCE_POSITION closed
    close_price TEXT,
    closed_pnl TEXT,                        -- result, fees taken off
    closed_fees TEXT,
    close_type TEXT,
    initial_margin_fraction_at_close TEXT,
    closed_at TEXT,
    received_at TEXT NOT NULL,
    CONSTRAINT position_history_pkey PRIMARY KEY (account, position_id, position)
) STRICT;
CREATE INDEX position_history_received_at ON position_history (account, position_id, received_at, position);

-- Conditional orders, in their latest state.
CREATE TABLE conditional_orders (
    account TEXT NOT NULL,
    order_id TEXT NOT NULL,
    customer_order_id TEXT,
    pair TEXT,
    trigger_order_side TEXT,
    trigger_order_type TEXT,
    trigger_type TEXT,
    conditional_type TEXT,
    position_side TEXT,
    position_id TEXT,
    quantity TEXT,                    -- zero, as VALR writes it, is the whole position
    take_profit_trigger_price TEXT,
    take_profit_place_price TEXT,
    stop_loss_trigger_price TEXT,
    stop_loss_place_price TEXT,
    allow_margin INTEGER,
    linked_order_id TEXT,
    status TEXT,                      -- the exchange's own word, where a REST list reported it
    state TEXT NOT NULL,              -- open, removed, end_unknown, or the end that a history reported
    basis TEXT NOT NULL,              -- as of positions; unconfirmed also: not named since the account reconnected
    reason TEXT,
    created_at TEXT,
    updated_at TEXT,
    is_open INTEGER NOT NULL,
    connection_id TEXT,
    first_position INTEGER NOT NULL,
    last_position INTEGER NOT NULL,
    CONSTRAINT conditional_orders_pkey PRIMARY KEY (account, order_id)
) STRICT;
CREATE INDEX conditional_orders_open ON conditional_orders (account, order_id) WHERE is_open = 1;

-- Every report about a conditional order.
CREATE TABLE conditional_order_history (
    account TEXT NOT NULL,
    order_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    customer_order_id TEXT,
    pair TEXT,
    trigger_order_side TEXT,
    trigger_order_type TEXT,
    trigger_type TEXT,
    conditional_type TEXT,
    position_side TEXT,
    position_id TEXT,
    quantity TEXT,                   -- zero, as VALR writes it, is the whole position
    take_profit_trigger_price TEXT,
    take_profit_place_price TEXT,
    stop_loss_trigger_price TEXT,
    stop_loss_place_price TEXT,
    allow_margin INTEGER,
    linked_order_id TEXT,
    status TEXT,                     -- the exchange's own word, where a REST list reported it
    state TEXT NOT NULL,             -- open, removed, end_unknown, or the end that a history reported
    basis TEXT NOT NULL,             -- as of positions; unconfirmed also: not named since the account reconnected
    reason TEXT,
    created_at TEXT,
    updated_at TEXT,
    received_at TEXT NOT NULL,
    CONSTRAINT conditional_order_history_pkey PRIMARY KEY (account, order_id, position)
) STRICT;
CREATE INDEX conditional_order_history_received_at ON conditional_order_history (account, order_id, received_at, position);

-- --- The outbox and what governs it

-- Commands to send. Callers fill the first columns; each has a default except three. Whatever is refused ends the
-- caller's transaction, as on PostgreSQL: one that was forgotten would keep the write lock.
CREATE TABLE outbox (
    account TEXT NOT NULL ON CONFLICT ROLLBACK,
    outbox_id INTEGER NOT NULL PRIMARY KEY ON CONFLICT ROLLBACK AUTOINCREMENT,  -- the rowid, which SQLite never gives twice
    client_msg_id TEXT NOT NULL ON CONFLICT ROLLBACK DEFAULT (lower(hex(randomblob(16)))),  -- unique per account: the caller's idempotency key
    command TEXT NOT NULL ON CONFLICT ROLLBACK,
    payload TEXT NOT NULL ON CONFLICT ROLLBACK,  -- a JSON object
    priority INTEGER NOT NULL ON CONFLICT ROLLBACK DEFAULT 0,  -- the higher goes first
    not_before TEXT,
    expires_at TEXT,  -- never sent after this time
    created_at TEXT NOT NULL ON CONFLICT ROLLBACK DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')),
    created_by TEXT NOT NULL ON CONFLICT ROLLBACK DEFAULT 'sqlite',
    status TEXT NOT NULL ON CONFLICT ROLLBACK DEFAULT 'queued',  -- docs/reference/outbox.md has the diagram
    reason TEXT,  -- from here on the recorder writes
    epoch INTEGER,  -- of the lease under which it was claimed
    connection_id TEXT,
    customer_order_id TEXT,
    order_id TEXT,
    modify_request_id TEXT,
    sent_position INTEGER,  -- of the frame that was sent
    acknowledged_position INTEGER,  -- of the exchange's response
    resolved_position INTEGER,  -- of the evidence
    updated_at TEXT,
    in_order INTEGER NOT NULL ON CONFLICT ROLLBACK DEFAULT 0,  -- the caller's: wait for every earlier command of the pair
    attempts INTEGER NOT NULL ON CONFLICT ROLLBACK DEFAULT 0,  -- how often a rate limit put it back to queued
    requeue_of INTEGER,  -- the caller's: the settled command that this one sends again
    CONSTRAINT outbox_command CHECK (command IN (
        'PLACE_LIMIT_ORDER', 'PLACE_MARKET_ORDER', 'CANCEL_ORDER', 'MODIFY_ORDER',
        'PLACE_BATCH_ORDERS'
    )),
    CONSTRAINT outbox_status CHECK (status IN (
        'queued', 'sending', 'sent', 'acknowledged', 'accepted', 'rejected', 'in_doubt',
        'not_placed', 'expired', 'withdrawn', 'refused'
    )),
    CONSTRAINT outbox_client_msg_id UNIQUE (account, client_msg_id) ON CONFLICT ROLLBACK,
    CONSTRAINT outbox_client_msg CHECK (length(client_msg_id) BETWEEN 1 AND 100)
) STRICT;
CREATE INDEX outbox_queued ON outbox (account, priority, outbox_id) WHERE status = 'queued';
CREATE INDEX outbox_unresolved ON outbox (account, outbox_id)
    WHERE status IN ('sending', 'sent', 'acknowledged', 'in_doubt');
CREATE INDEX outbox_in_order ON outbox (account, outbox_id)
    WHERE status = 'queued' AND in_order = 1;
-- What a late frame may overturn.
CREATE INDEX outbox_not_placed ON outbox (account, outbox_id) WHERE status = 'not_placed';
CREATE INDEX outbox_requeue_of ON outbox (account, requeue_of) WHERE requeue_of IS NOT NULL;
CREATE INDEX outbox_batches ON outbox (account, outbox_id) WHERE command = 'PLACE_BATCH_ORDERS';
CREATE INDEX outbox_order_id ON outbox (account, order_id);
CREATE INDEX outbox_customer_order_id ON outbox (account, customer_order_id);
CREATE INDEX outbox_modify_request_id ON outbox (account, modify_request_id);

-- Every change of a command's status, written by trigger.
CREATE TABLE outbox_transitions (
    account TEXT NOT NULL,
    outbox_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,         -- 1, 2, 3 … per command
    from_status TEXT,             -- null for the first
    to_status TEXT NOT NULL,
    reason TEXT,
    client_msg_id TEXT NOT NULL,  -- shows the trigger a row that REPLACE deleted on SQLite
    changed_at TEXT NOT NULL,
    changed_by TEXT NOT NULL,
    CONSTRAINT outbox_transitions_pkey PRIMARY KEY (account, outbox_id, seq)
) STRICT;
CREATE UNIQUE INDEX outbox_transitions_client_msg_id ON outbox_transitions (account, client_msg_id)
    WHERE seq = 1;

-- Every look-up about a command whose outcome was open, and its finding.
CREATE TABLE outbox_lookups (
    account TEXT NOT NULL,
    outbox_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,        -- 1, 2, 3 … per command
    looked_at TEXT NOT NULL,
    request TEXT NOT NULL,       -- the REST path with its query; it holds no secret
    position INTEGER,            -- of the fetched event with the answer; null where no answer arrived
    finding TEXT NOT NULL,
    answer TEXT NOT NULL,        -- what the answer shows about the command
    CONSTRAINT outbox_lookups_pkey PRIMARY KEY (account, outbox_id, seq),
    CONSTRAINT outbox_lookups_finding CHECK (finding IN (
        'effect', 'refused', 'absent', 'unchanged', 'unclear', 'no_answer'
    ))
) STRICT;

-- The trading switch.
CREATE TABLE controls (
    account TEXT NOT NULL,
    trading TEXT NOT NULL,
    reason TEXT,
    changed_by TEXT NOT NULL DEFAULT 'sqlite',
    changed_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')),
    CONSTRAINT controls_pkey PRIMARY KEY (account),
    CONSTRAINT controls_trading CHECK (trading IN ('on', 'cancel_only', 'off'))
) STRICT;

-- Which process owns an account.
CREATE TABLE leases (
    account TEXT NOT NULL,
    epoch INTEGER NOT NULL,    -- grows with each owner
    holder TEXT NOT NULL,
    taken_at TEXT NOT NULL,
    renewed_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    CONSTRAINT leases_pkey PRIMARY KEY (account)
) STRICT;

-- The largest command that may be sent, per account and pair.
CREATE TABLE limits (
    account TEXT NOT NULL,
    pair TEXT NOT NULL,                           -- or '*': then each value holds for every pair
    max_quantity TEXT,
    max_value TEXT,
    max_open_orders INTEGER,
    max_price_deviation TEXT,                     -- a fraction: 0.05 is 5 % above or below the last price seen
    changed_by TEXT NOT NULL DEFAULT 'sqlite',
    changed_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')),
    CONSTRAINT limits_pkey PRIMARY KEY (account, pair),
    CONSTRAINT limits_pair CHECK (
        pair = '*'
        OR length(pair) BETWEEN 1 AND 40 AND pair NOT GLOB '*[^0-9A-Z_-]*'
    ),
    CONSTRAINT limits_max_open_orders CHECK (max_open_orders >= 0),
    CONSTRAINT limits_max_quantity CHECK (
        trim(max_quantity, '0123456789') IN ('', '.')
        AND max_quantity NOT LIKE '.%' AND max_quantity NOT LIKE '%.'
        AND trim(max_quantity, '0.') <> '' AND length(max_quantity) <= 64
    ),
    CONSTRAINT limits_max_value CHECK (
        trim(max_value, '0123456789') IN ('', '.')
        AND max_value NOT LIKE '.%' AND max_value NOT LIKE '%.'
        AND trim(max_value, '0.') <> '' AND length(max_value) <= 64
    ),
    CONSTRAINT limits_max_price_deviation CHECK (
        trim(max_price_deviation, '0123456789') IN ('', '.')
        AND max_price_deviation NOT LIKE '.%' AND max_price_deviation NOT LIKE '%.'
        AND trim(max_price_deviation, '0.') <> '' AND length(max_price_deviation) <= 64
        AND max_price_deviation LIKE '0%' AND CAST(max_price_deviation AS REAL) < 1
    )
) STRICT;

-- --- Back-fill

-- Periods to fetch from the exchange's history. A plain INSERT requests one.
CREATE TABLE backfills (
    account TEXT NOT NULL,
    backfill_id TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))),
    from_at TEXT NOT NULL,
    until_at TEXT NOT NULL,
    requested_by TEXT NOT NULL DEFAULT 'sqlite',
    requested_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')),
    state TEXT NOT NULL DEFAULT 'requested',      -- from here on the recorder writes
    run_id INTEGER,
    reason TEXT,
    updated_at TEXT,
    CONSTRAINT backfills_pkey PRIMARY KEY (account, backfill_id),
    CONSTRAINT backfills_state CHECK (state IN ('requested', 'running', 'complete', 'incomplete')),
    CONSTRAINT backfills_period CHECK (until_at > from_at),
    CONSTRAINT backfills_from_at CHECK (
        length(from_at) IN (19, 23, 26)
        AND strftime('%Y-%m-%d %H:%M:', from_at) || substr(from_at, 18) IS from_at
    ),
    CONSTRAINT backfills_until_at CHECK (
        length(until_at) IN (19, 23, 26)
        AND strftime('%Y-%m-%d %H:%M:', until_at) || substr(until_at, 18) IS until_at
    )
) STRICT;

-- Each fetching of a period, for a gap or for a row of backfills.
CREATE TABLE backfill_runs (
    account TEXT NOT NULL,
    run_id INTEGER NOT NULL,         -- position of the note that began it
    gap_id INTEGER,
    backfill_id TEXT,
    from_at TEXT NOT NULL,
    until_at TEXT NOT NULL,
    state TEXT NOT NULL,             -- running, complete or incomplete
    is_open INTEGER NOT NULL,
    pages INTEGER NOT NULL,          -- pages read
    answers INTEGER NOT NULL,        -- all answers
    rows INTEGER NOT NULL,           -- rows in the pages
    reason TEXT,                     -- what is missing
    started_at TEXT NOT NULL,
    ended_at TEXT,
    last_position INTEGER NOT NULL,
    CONSTRAINT backfill_runs_pkey PRIMARY KEY (account, run_id)
) STRICT;
CREATE INDEX backfill_runs_gap_id ON backfill_runs (account, gap_id);

-- How far each list of a run is.
CREATE TABLE backfill_lists (
    account TEXT NOT NULL,
    run_id INTEGER NOT NULL,
    list TEXT NOT NULL,
    state TEXT NOT NULL,             -- running, complete or incomplete
    pages INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    unread INTEGER NOT NULL,         -- rows that could not be read
    next TEXT,                       -- where reading goes on, as JSON text; null at its end
    reason TEXT,
    last_position INTEGER NOT NULL,
    CONSTRAINT backfill_lists_pkey PRIMARY KEY (account, run_id, list)
) STRICT;

-- --- Reconciliation

-- Requests to compare with the exchange. A plain INSERT makes one.
CREATE TABLE reconciliation_requests (
    account TEXT NOT NULL,
    request_id TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))),
    requested_by TEXT NOT NULL DEFAULT 'sqlite',
    requested_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')),
    reconciliation_id INTEGER,                    -- the reconciliation made for it
    updated_at TEXT,
    CONSTRAINT reconciliation_requests_pkey PRIMARY KEY (account, request_id)
) STRICT;

-- Each comparison with the exchange.
CREATE TABLE reconciliations (
    account TEXT NOT NULL,
    reconciliation_id INTEGER NOT NULL,  -- position of the note that began it
    requested_by TEXT NOT NULL,          -- schedule or person
    request_id TEXT,
    from_at TEXT,                        -- the period of the histories compared; null where none was
    until_at TEXT,
    state TEXT NOT NULL,                 -- running, clean, differing or incomplete
    is_open INTEGER NOT NULL,
    reason TEXT,                         -- what could not be compared
    balances INTEGER,                    -- balances compared
    open_orders INTEGER,                 -- open orders compared
    history_rows INTEGER,                -- rows of histories read
    answers INTEGER NOT NULL,
    differences INTEGER NOT NULL,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    last_position INTEGER NOT NULL,
    CONSTRAINT reconciliations_pkey PRIMARY KEY (account, reconciliation_id)
) STRICT;

-- Each value that differed from the exchange's, and how that ended.
CREATE TABLE differences (
    account TEXT NOT NULL,
    difference_id INTEGER NOT NULL,      -- position of the note about it
    reconciliation_id INTEGER NOT NULL,
    list TEXT NOT NULL,
    key TEXT NOT NULL,                   -- the currency, or the exchange's id of the order, fill, transaction or transfer
    field TEXT NOT NULL,
    ours TEXT,
    theirs TEXT,
    position INTEGER,                    -- the event our value is from
    answer_position INTEGER,             -- the answer that differs
    state TEXT NOT NULL,                 -- open, or how it ended: gone, found_again, filled_in
    is_open INTEGER NOT NULL,
    ended_position INTEGER,
    found_at TEXT NOT NULL,
    ended_at TEXT,
    CONSTRAINT differences_pkey PRIMARY KEY (account, difference_id)
) STRICT;
CREATE INDEX differences_reconciliation_id ON differences (account, reconciliation_id);
CREATE INDEX differences_open ON differences (account, difference_id) WHERE is_open = 1;
