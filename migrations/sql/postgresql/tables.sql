-- Every table and index. `account` leads every key, so one statement can distribute any table by account.
-- Times have microseconds. Amounts are exact: numeric without a scale.

-- --- The log and what is folded from it into sessions and gaps

-- The log. Positions count 1, 2, 3 … per account without a hole. Triggers refuse UPDATE and DELETE.
CREATE TABLE events (
    account text NOT NULL,
    position bigint NOT NULL,          -- 1 for the account's first event
    received_at timestamptz NOT NULL,  -- when the last byte was read, or when the recorder did what it notes
    elapsed_ns bigint,                 -- monotonic time since the connection was opened; null off a connection
    connection_id text,                -- the WebSocket connection; null for what belongs to none
    origin text NOT NULL,              -- received: a frame. sent: a frame of ours. fetched: a REST answer. noted: our own fact
    type text NOT NULL,                -- the frame's own "type", or the note's kind; empty where there is none
    payload text NOT NULL,             -- the text exactly as on the wire; base64 for what is no text
    encoding text NOT NULL,            -- text or base64
    digest bytea NOT NULL,             -- SHA-256 over the previous digest and this event
    CONSTRAINT events_pkey PRIMARY KEY (account, position),
    CONSTRAINT events_position CHECK (position >= 1),
    CONSTRAINT events_origin CHECK (origin IN ('received', 'sent', 'fetched', 'noted')),
    CONSTRAINT events_encoding CHECK (encoding IN ('text', 'base64')),
    CONSTRAINT events_digest CHECK (length(digest) = 32)
);

-- How far each projection has folded the log.
CREATE TABLE projections (
    account text NOT NULL,
    projection text NOT NULL,         -- its name
    position bigint NOT NULL,         -- the last event it has folded
    version integer NOT NULL,         -- of its rules; another version folds again from the first event
    updated_at timestamptz NOT NULL,
    error text,                       -- why it stopped; null while it runs
    CONSTRAINT projections_pkey PRIMARY KEY (account, projection)
);

-- Events that a projection could not fold, or only in part. It went on behind them.
CREATE TABLE fold_failures (
    account text NOT NULL,
    projection text NOT NULL,
    position bigint NOT NULL,
    reason text NOT NULL,
    CONSTRAINT fold_failures_pkey PRIMARY KEY (account, projection, position)
);

-- One row for each WebSocket connection.
CREATE TABLE connections (
    account text NOT NULL,
    connection_id text NOT NULL,
    opened_at timestamptz,
    authenticated_at timestamptz,
    closed_at timestamptz,
    close_code integer,
    close_reason text,
    closed_by text,                  -- who closed it
    last_frame_at timestamptz,
    frame_count bigint,
    state text NOT NULL,
    is_open boolean NOT NULL,
    first_position bigint NOT NULL,  -- of its first event
    last_position bigint NOT NULL,   -- of its last event
    CONSTRAINT connections_pkey PRIMARY KEY (account, connection_id)
);

-- One row for each stretch of time in which something may have been missed.
CREATE TABLE gaps (
    account text NOT NULL,
    gap_id bigint NOT NULL,                -- position of the note that opened it
    cause text NOT NULL,
    from_at timestamptz,                   -- last known good moment
    until_at timestamptz,                  -- null while it is open
    last_position_before bigint NOT NULL,  -- last event before the gap
    first_position_after bigint,           -- first event after the gap
    state text NOT NULL,                   -- open, closed, healed or unverifiable
    is_open boolean NOT NULL,
    healed_by text,                        -- positions of the answers that healed it
    unobserved_from timestamptz,           -- what counts as not observed, by the clock at its closing
    unobserved_until timestamptz,
    evidence text,
    losses bigint,                         -- losses of the connection while it was open
    causes text,                           -- their causes, in the order of their last time
    last_loss text,
    last_loss_position bigint,
    verdict text,                          -- why it is healed or unverifiable
    verdict_at timestamptz,
    verdict_position bigint,               -- the event of the verdict
    CONSTRAINT gaps_pkey PRIMARY KEY (account, gap_id)
);

-- --- Balances

-- What is held now, per currency.
CREATE TABLE balances (
    account text NOT NULL,
    currency text NOT NULL,
    available numeric,
    reserved numeric,
    total numeric,
    lend_reserved numeric,
    borrow_reserved numeric,
    borrowed_amount numeric,
    total_in_reference numeric,
    total_in_reference_weighted numeric,
    reference_currency text,
    basis text NOT NULL,                  -- reported: by the exchange. inferred_zero: left out of a full snapshot, so zero
    updated_at timestamptz,               -- by the exchange's time
    position bigint NOT NULL,             -- the event it is from
    connection_id text,                   -- the connection on which the exchange last named this currency
    CONSTRAINT balances_pkey PRIMARY KEY (account, currency)
);

-- Every value that balances ever had.
CREATE TABLE balance_history (
    account text NOT NULL,
    currency text NOT NULL,
    position bigint NOT NULL,             -- the event it is from
    available numeric,
    reserved numeric,
    total numeric,
    lend_reserved numeric,
    borrow_reserved numeric,
    borrowed_amount numeric,
    total_in_reference numeric,
    total_in_reference_weighted numeric,
    reference_currency text,
    basis text NOT NULL,                  -- reported: by the exchange. inferred_zero: left out of a full snapshot, so zero
    updated_at timestamptz,               -- by the exchange's time
    received_at timestamptz NOT NULL,
    CONSTRAINT balance_history_pkey PRIMARY KEY (account, currency, position)
);
CREATE INDEX balance_history_updated_at ON balance_history (account, currency, updated_at, position);
-- Without a time of the exchange: few rows, or none.
CREATE INDEX balance_history_undated ON balance_history (account, currency, received_at, position)
    WHERE basis = 'inferred_zero' OR updated_at IS NULL;

-- --- Orders

-- The open orders, as the last full list named them.
CREATE TABLE open_orders (
    account text NOT NULL,
    order_id text NOT NULL,
    customer_order_id text,
    pair text,
    side text,
    type text,
    time_in_force text,
    allow_margin boolean,
    price numeric,
    stop_price numeric,
    original_quantity numeric,
    remaining_quantity numeric,
    status text,                 -- the exchange's own word
    created_at timestamptz,      -- by the exchange's time
    updated_at timestamptz,      -- by the exchange's time
    filled_percentage numeric,
    position bigint NOT NULL,    -- the event of the list
    CONSTRAINT open_orders_pkey PRIMARY KEY (account, order_id)
);

-- Every order ever seen, in its latest state.
CREATE TABLE orders (
    account text NOT NULL,
    order_id text NOT NULL,
    customer_order_id text,
    pair text,
    side text,
    type text,
    time_in_force text,
    allow_margin boolean,
    price numeric,
    stop_price numeric,
    original_quantity numeric,
    remaining_quantity numeric,
    status text,                            -- the exchange's own word
    created_at timestamptz,                 -- by the exchange's time
    updated_at timestamptz,                 -- by the exchange's time
    state text NOT NULL,                    -- the recorder's word for it; docs/reference/tables.md lists them
    live boolean NOT NULL,                  -- open at the exchange
    listed boolean NOT NULL,                -- named by the last full list
    executed_quantity numeric,
    executed_price numeric,                 -- of the latest execution, as the exchange reported it
    counted_quantity numeric,               -- sum over the executions that were seen
    counted_remaining numeric,              -- what remained after the last of them
    executed_value numeric,                 -- sum of price times quantity over them
    counted_fee numeric,                    -- sum of their fees
    average_price numeric,                  -- executed_value / counted_quantity; null where an execution was missed
    fee numeric,                            -- null where an execution was missed
    fee_currency text,
    reason text,                            -- why it failed
    connection_id text,
    first_position bigint NOT NULL,
    last_position bigint NOT NULL,
    source text NOT NULL DEFAULT 'stream',  -- stream or backfill: where it was seen first
    began_at timestamptz,                   -- by the exchange's time
    ended_at timestamptz,                   -- by the exchange's time; null while it is open
    ended_position bigint,                  -- the event after which it was no longer open; null while it is
    validity_by_position bigint,            -- interval-tree index of [first_position, ended_position)
    validity_by_time bigint,                -- interval-tree index of [began_at, ended_at)
    CONSTRAINT orders_pkey PRIMARY KEY (account, order_id)
);
CREATE INDEX orders_validity_by_position ON orders (account, validity_by_position, ended_position);
CREATE INDEX orders_validity_by_time ON orders (account, validity_by_time, ended_at);
CREATE INDEX orders_live ON orders (account, order_id) WHERE live;
CREATE INDEX orders_executed ON orders (account, pair, last_position)
    WHERE executed_price IS NOT NULL;
CREATE INDEX orders_customer_order_id ON orders (account, customer_order_id);

-- Each report about an order.
CREATE TABLE order_history (
    account text NOT NULL,
    order_id text NOT NULL,
    position bigint NOT NULL,
    event_type text NOT NULL,
    status text,                       -- the exchange's own word
    state text NOT NULL,               -- the recorder's word
    applied boolean NOT NULL,          -- false where a newer report had already been folded
    price numeric,
    original_quantity numeric,
    remaining_quantity numeric,
    executed_price numeric,
    executed_quantity numeric,
    executed_fee numeric,
    reason text,
    updated_at timestamptz,            -- by the exchange's time
    received_at timestamptz NOT NULL,
    CONSTRAINT order_history_pkey PRIMARY KEY (account, order_id, position)
);

-- --- Fills, transactions, transfers

-- Fills.
CREATE TABLE trades (
    account text NOT NULL,
    position bigint NOT NULL,               -- the event it was first reported by
    trade_id text,
    order_id text,
    customer_order_id text,
    pair text,
    side text,
    price numeric,
    quantity numeric,
    fee numeric,
    fee_currency text,
    traded_at timestamptz,                  -- by the exchange's time
    received_at timestamptz NOT NULL,
    item integer NOT NULL DEFAULT 0,        -- place within an answer of several rows; 0 for a frame
    natural_id text,                        -- the exchange's id, or "@" and the position of a frame that had none
    source text NOT NULL DEFAULT 'stream',  -- stream or backfill: where it was reported first
    matched_by text NOT NULL DEFAULT 'id',  -- how: id, counted, alone or undecided (docs/explanation/back-fill.md)
    CONSTRAINT trades_pkey PRIMARY KEY (account, position, item)
);
CREATE UNIQUE INDEX trades_natural_id ON trades (account, natural_id);
CREATE INDEX trades_traded_at ON trades (account, traded_at);
CREATE UNIQUE INDEX trades_trade_id ON trades (account, trade_id);
CREATE INDEX trades_order_id ON trades (account, order_id);
CREATE INDEX trades_pair ON trades (account, pair, position);

-- The exchange's transaction history.
CREATE TABLE ledger (
    account text NOT NULL,
    position bigint NOT NULL,               -- the event it was first reported by
    transaction_id text,
    type text,
    description text,
    debit_currency text,
    debit_value numeric,
    credit_currency text,
    credit_value numeric,
    fee_currency text,
    fee_value numeric,
    order_id text,
    pair text,
    cost_per_coin numeric,
    cost_per_coin_symbol text,
    additional text,                        -- additionalInfo as JSON text
    event_at timestamptz,                   -- by the exchange's time
    received_at timestamptz NOT NULL,
    item integer NOT NULL DEFAULT 0,        -- place within an answer of several rows; 0 for a frame
    natural_id text,                        -- the exchange's id, or "@" and the position of a frame that had none
    source text NOT NULL DEFAULT 'stream',  -- stream or backfill: where it was reported first
    matched_by text NOT NULL DEFAULT 'id',  -- how: id, counted, alone or undecided (docs/explanation/back-fill.md)
    fee_basis text,                         -- what the row's price proves: net (fee already taken off) or gross
    CONSTRAINT ledger_pkey PRIMARY KEY (account, position, item)
);
CREATE UNIQUE INDEX ledger_natural_id ON ledger (account, natural_id);
CREATE INDEX ledger_event_at ON ledger (account, event_at);
CREATE INDEX ledger_order_id ON ledger (account, order_id);
CREATE UNIQUE INDEX ledger_transaction_id ON ledger (account, transaction_id);

-- Deposits and withdrawals.
CREATE TABLE transfers (
    account text NOT NULL,
    position bigint NOT NULL,               -- the event it was first reported by
    transfer_id text NOT NULL,
    direction text NOT NULL,
    currency text,
    amount numeric,
    fee numeric,
    address text,
    transaction_hash text,
    network text,
    confirmations integer,
    confirmed boolean,
    status text,
    reason text,
    created_at timestamptz,
    last_position bigint NOT NULL,
    received_at timestamptz NOT NULL,
    item integer NOT NULL DEFAULT 0,        -- place within an answer of several rows; 0 for a frame
    source text NOT NULL DEFAULT 'stream',  -- stream or backfill: where it was reported first
    index_in_transaction bigint,            -- of a deposit, where a frame reported it
    CONSTRAINT transfers_pkey PRIMARY KEY (account, position, item)
);
CREATE INDEX transfers_transaction_hash ON transfers (account, transaction_hash);
CREATE UNIQUE INDEX transfers_transfer_id ON transfers (account, transfer_id);

-- --- Futures

-- Positions of futures, in their latest state.
CREATE TABLE positions (
    account text NOT NULL,
    position_id text NOT NULL,
    pair text,
    side text,
    quantity numeric,
    realised_pnl numeric,
    unrealised_pnl numeric,
    average_entry_price numeric,
    session_average_entry_price numeric,
    total_session_entry_quantity numeric,
    total_session_value numeric,
    leverage_tier integer,
    state text NOT NULL,                   -- open, closed, or end_unknown: no longer held, final state unknown
    basis text NOT NULL,                   -- as of balances; unconfirmed: a list that was requested did not name it
    created_at timestamptz,
    updated_at timestamptz,
    is_open boolean NOT NULL,
    reduced_at timestamptz,                -- the exchange's time of the latest reduction
    connection_id text,                    -- the connection on which the exchange last named it
    first_position bigint NOT NULL,
    position bigint NOT NULL,              -- the event it is from
    CONSTRAINT positions_pkey PRIMARY KEY (account, position_id)
);
CREATE INDEX positions_open ON positions (account, position_id) WHERE is_open;

-- Every report about a position of futures.
CREATE TABLE position_history (
    account text NOT NULL,
    position_id text NOT NULL,
    position bigint NOT NULL,
    event_type text NOT NULL,
    pair text,
    side text,
    quantity numeric,
    realised_pnl numeric,
    unrealised_pnl numeric,
    average_entry_price numeric,
    session_average_entry_price numeric,
    total_session_entry_quantity numeric,
    total_session_value numeric,
    leverage_tier integer,
    state text NOT NULL,                       -- open, closed, or end_unknown: no longer held, final state unknown
    basis text NOT NULL,                       -- as of balances; unconfirmed: a list that was requested did not name it
    created_at timestamptz,
    updated_at timestamptz,
    closed_quantity numeric,                   -- the next seven: what a REDUCE_POSITION closed
    close_price numeric,
    closed_pnl numeric,                        -- result, fees taken off
    closed_fees numeric,
    close_type text,
    initial_margin_fraction_at_close numeric,
    closed_at timestamptz,
    received_at timestamptz NOT NULL,
    CONSTRAINT position_history_pkey PRIMARY KEY (account, position_id, position)
);
CREATE INDEX position_history_received_at ON position_history (account, position_id, received_at, position);

-- Conditional orders, in their latest state.
CREATE TABLE conditional_orders (
    account text NOT NULL,
    order_id text NOT NULL,
    customer_order_id text,
    pair text,
    trigger_order_side text,
    trigger_order_type text,
    trigger_type text,
    conditional_type text,
    position_side text,
    position_id text,
    quantity numeric,                   -- zero, as VALR writes it, is the whole position
    take_profit_trigger_price numeric,
    take_profit_place_price numeric,
    stop_loss_trigger_price numeric,
    stop_loss_place_price numeric,
    allow_margin boolean,
    linked_order_id text,
    status text,                        -- the exchange's own word, where a REST list reported it
    state text NOT NULL,                -- open, removed, end_unknown, or the end that a history reported
    basis text NOT NULL,                -- as of positions; unconfirmed also: not named since the account reconnected
    reason text,
    created_at timestamptz,
    updated_at timestamptz,
    is_open boolean NOT NULL,
    connection_id text,
    first_position bigint NOT NULL,
    last_position bigint NOT NULL,
    CONSTRAINT conditional_orders_pkey PRIMARY KEY (account, order_id)
);
CREATE INDEX conditional_orders_open ON conditional_orders (account, order_id) WHERE is_open;

-- Every report about a conditional order.
CREATE TABLE conditional_order_history (
    account text NOT NULL,
    order_id text NOT NULL,
    position bigint NOT NULL,
    event_type text NOT NULL,
    customer_order_id text,
    pair text,
    trigger_order_side text,
    trigger_order_type text,
    trigger_type text,
    conditional_type text,
    position_side text,
    position_id text,
    quantity numeric,                   -- zero, as VALR writes it, is the whole position
    take_profit_trigger_price numeric,
    take_profit_place_price numeric,
    stop_loss_trigger_price numeric,
    stop_loss_place_price numeric,
    allow_margin boolean,
    linked_order_id text,
    status text,                        -- the exchange's own word, where a REST list reported it
    state text NOT NULL,                -- open, removed, end_unknown, or the end that a history reported
    basis text NOT NULL,                -- as of positions; unconfirmed also: not named since the account reconnected
    reason text,
    created_at timestamptz,
    updated_at timestamptz,
    received_at timestamptz NOT NULL,
    CONSTRAINT conditional_order_history_pkey PRIMARY KEY (account, order_id, position)
);
CREATE INDEX conditional_order_history_received_at ON conditional_order_history (account, order_id, received_at, position);

-- --- The outbox and what governs it

-- Commands to send. Callers fill the first columns; each has a default except three.
CREATE TABLE outbox (
    account text NOT NULL,
    outbox_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    client_msg_id text NOT NULL DEFAULT replace(gen_random_uuid()::text, '-', ''),  -- unique per account: the caller's idempotency key
    command text NOT NULL,
    payload text NOT NULL,                        -- a JSON object
    priority integer NOT NULL DEFAULT 0,          -- the higher goes first
    not_before timestamptz,
    expires_at timestamptz,                       -- never sent after this time
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT session_user,
    status text NOT NULL DEFAULT 'queued',        -- docs/reference/outbox.md has the diagram
    reason text,                                  -- from here on the recorder writes
    epoch bigint,                                 -- of the lease under which it was claimed
    connection_id text,
    customer_order_id text,
    order_id text,
    modify_request_id text,
    sent_position bigint,                         -- of the frame that was sent
    acknowledged_position bigint,                 -- of the exchange's response
    resolved_position bigint,                     -- of the evidence
    updated_at timestamptz,
    in_order boolean NOT NULL DEFAULT false,      -- the caller's: wait for every earlier command of the pair
    attempts integer NOT NULL DEFAULT 0,          -- how often a rate limit put it back to queued
    requeue_of bigint,                            -- the caller's: the settled command that this one sends again
    CONSTRAINT outbox_pkey PRIMARY KEY (account, outbox_id),
    CONSTRAINT outbox_command CHECK (command IN (
        'PLACE_LIMIT_ORDER', 'PLACE_MARKET_ORDER', 'CANCEL_ORDER', 'MODIFY_ORDER',
        'PLACE_BATCH_ORDERS'
    )),
    CONSTRAINT outbox_status CHECK (status IN (
        'queued', 'sending', 'sent', 'acknowledged', 'accepted', 'rejected', 'in_doubt',
        'not_placed', 'expired', 'withdrawn', 'refused'
    )),
    CONSTRAINT outbox_client_msg_id UNIQUE (account, client_msg_id),
    CONSTRAINT outbox_client_msg CHECK (length(client_msg_id) BETWEEN 1 AND 100)
);
CREATE INDEX outbox_queued ON outbox (account, priority, outbox_id) WHERE status = 'queued';
CREATE INDEX outbox_unresolved ON outbox (account, outbox_id)
    WHERE status IN ('sending', 'sent', 'acknowledged', 'in_doubt');
CREATE INDEX outbox_in_order ON outbox (account, outbox_id) WHERE status = 'queued' AND in_order;
-- What a late frame may overturn.
CREATE INDEX outbox_not_placed ON outbox (account, outbox_id) WHERE status = 'not_placed';
CREATE INDEX outbox_requeue_of ON outbox (account, requeue_of) WHERE requeue_of IS NOT NULL;
CREATE INDEX outbox_batches ON outbox (account, outbox_id) WHERE command = 'PLACE_BATCH_ORDERS';
CREATE INDEX outbox_order_id ON outbox (account, order_id);
CREATE INDEX outbox_customer_order_id ON outbox (account, customer_order_id);
CREATE INDEX outbox_modify_request_id ON outbox (account, modify_request_id);

-- Every change of a command's status, written by trigger.
CREATE TABLE outbox_transitions (
    account text NOT NULL,
    outbox_id bigint NOT NULL,
    seq integer NOT NULL,             -- 1, 2, 3 … per command
    from_status text,                 -- null for the first
    to_status text NOT NULL,
    reason text,
    client_msg_id text NOT NULL,      -- shows the trigger a row that REPLACE deleted on SQLite
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL,
    CONSTRAINT outbox_transitions_pkey PRIMARY KEY (account, outbox_id, seq)
);
CREATE UNIQUE INDEX outbox_transitions_client_msg_id ON outbox_transitions (account, client_msg_id)
    WHERE seq = 1;

-- Every look-up about a command whose outcome was open, and its finding.
CREATE TABLE outbox_lookups (
    account text NOT NULL,
    outbox_id bigint NOT NULL,
    seq integer NOT NULL,            -- 1, 2, 3 … per command
    looked_at timestamptz NOT NULL,
    request text NOT NULL,           -- the REST path with its query; it holds no secret
    position bigint,                 -- of the fetched event with the answer; null where no answer arrived
    finding text NOT NULL,
    answer text NOT NULL,            -- what the answer shows about the command
    CONSTRAINT outbox_lookups_pkey PRIMARY KEY (account, outbox_id, seq),
    CONSTRAINT outbox_lookups_finding CHECK (finding IN (
        'effect', 'refused', 'absent', 'unchanged', 'unclear', 'no_answer'
    ))
);

-- The trading switch.
CREATE TABLE controls (
    account text NOT NULL,
    trading text NOT NULL,
    reason text,
    changed_by text NOT NULL DEFAULT session_user,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT controls_pkey PRIMARY KEY (account),
    CONSTRAINT controls_trading CHECK (trading IN ('on', 'cancel_only', 'off'))
);

-- Which process owns an account.
CREATE TABLE leases (
    account text NOT NULL,
    epoch bigint NOT NULL,            -- grows with each owner
    holder text NOT NULL,
    taken_at timestamptz NOT NULL,
    renewed_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT leases_pkey PRIMARY KEY (account)
);

-- The largest command that may be sent, per account and pair.
CREATE TABLE limits (
    account text NOT NULL,
    pair text NOT NULL,                           -- or '*': then each value holds for every pair
    max_quantity numeric,
    max_value numeric,
    max_open_orders integer,
    max_price_deviation numeric,                  -- a fraction: 0.05 is 5 % above or below the last price seen
    changed_by text NOT NULL DEFAULT session_user,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT limits_pkey PRIMARY KEY (account, pair),
    CONSTRAINT limits_pair CHECK (pair = '*' OR pair ~ '^[0-9A-Z_-]{1,40}$'),
    CONSTRAINT limits_max_open_orders CHECK (max_open_orders >= 0),
    CONSTRAINT limits_max_quantity CHECK (max_quantity > 0 AND max_quantity < 'Infinity'),
    CONSTRAINT limits_max_value CHECK (max_value > 0 AND max_value < 'Infinity'),
    CONSTRAINT limits_max_price_deviation CHECK (max_price_deviation > 0 AND max_price_deviation < 1)
);

-- --- Back-fill

-- Periods to fetch from the exchange's history. A plain INSERT requests one.
CREATE TABLE backfills (
    account text NOT NULL,
    backfill_id text NOT NULL DEFAULT gen_random_uuid()::text,
    from_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL,
    requested_by text NOT NULL DEFAULT session_user,
    requested_at timestamptz NOT NULL DEFAULT now(),
    state text NOT NULL DEFAULT 'requested',      -- from here on the recorder writes
    run_id bigint,
    reason text,
    updated_at timestamptz,
    CONSTRAINT backfills_pkey PRIMARY KEY (account, backfill_id),
    CONSTRAINT backfills_state CHECK (state IN ('requested', 'running', 'complete', 'incomplete')),
    CONSTRAINT backfills_period CHECK (until_at > from_at)
);

-- Each fetching of a period, for a gap or for a row of backfills.
CREATE TABLE backfill_runs (
    account text NOT NULL,
    run_id bigint NOT NULL,           -- position of the note that began it
    gap_id bigint,
    backfill_id text,
    from_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL,
    state text NOT NULL,              -- running, complete or incomplete
    is_open boolean NOT NULL,
    pages integer NOT NULL,           -- pages read
    answers integer NOT NULL,         -- all answers
    rows integer NOT NULL,            -- rows in the pages
    reason text,                      -- what is missing
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    last_position bigint NOT NULL,
    CONSTRAINT backfill_runs_pkey PRIMARY KEY (account, run_id)
);
CREATE INDEX backfill_runs_gap_id ON backfill_runs (account, gap_id);

-- How far each list of a run is.
CREATE TABLE backfill_lists (
    account text NOT NULL,
    run_id bigint NOT NULL,
    list text NOT NULL,
    state text NOT NULL,            -- running, complete or incomplete
    pages integer NOT NULL,
    rows integer NOT NULL,
    unread integer NOT NULL,        -- rows that could not be read
    next text,                      -- where reading goes on, as JSON text; null at its end
    reason text,
    last_position bigint NOT NULL,
    CONSTRAINT backfill_lists_pkey PRIMARY KEY (account, run_id, list)
);

-- --- Reconciliation

-- Requests to compare with the exchange. A plain INSERT makes one.
CREATE TABLE reconciliation_requests (
    account text NOT NULL,
    request_id text NOT NULL DEFAULT gen_random_uuid()::text,
    requested_by text NOT NULL DEFAULT session_user,
    requested_at timestamptz NOT NULL DEFAULT now(),
    reconciliation_id bigint,                     -- the reconciliation made for it
    updated_at timestamptz,
    CONSTRAINT reconciliation_requests_pkey PRIMARY KEY (account, request_id)
);

-- Each comparison with the exchange.
CREATE TABLE reconciliations (
    account text NOT NULL,
    reconciliation_id bigint NOT NULL,  -- position of the note that began it
    requested_by text NOT NULL,         -- schedule or person
    request_id text,
    from_at timestamptz,                -- the period of the histories compared; null where none was
    until_at timestamptz,
    state text NOT NULL,                -- running, clean, differing or incomplete
    is_open boolean NOT NULL,
    reason text,                        -- what could not be compared
    balances integer,                   -- balances compared
    open_orders integer,                -- open orders compared
    history_rows integer,               -- rows of histories read
    answers integer NOT NULL,
    differences integer NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    last_position bigint NOT NULL,
    CONSTRAINT reconciliations_pkey PRIMARY KEY (account, reconciliation_id)
);

-- Each value that differed from the exchange's, and how that ended.
CREATE TABLE differences (
    account text NOT NULL,
    difference_id bigint NOT NULL,      -- position of the note about it
    reconciliation_id bigint NOT NULL,
    list text NOT NULL,
    key text NOT NULL,                  -- the currency, or the exchange's id of the order, fill, transaction or transfer
    field text NOT NULL,
    ours text,
    theirs text,
    position bigint,                    -- the event our value is from
    answer_position bigint,             -- the answer that differs
    state text NOT NULL,                -- open, or how it ended: gone, found_again, filled_in
    is_open boolean NOT NULL,
    ended_position bigint,
    found_at timestamptz NOT NULL,
    ended_at timestamptz,
    CONSTRAINT differences_pkey PRIMARY KEY (account, difference_id)
);
CREATE INDEX differences_reconciliation_id ON differences (account, reconciliation_id);
CREATE INDEX differences_open ON differences (account, difference_id) WHERE is_open;
