-- Orders that no command of the outbox placed.
--
-- A command placed an order if it was sent and the order has the command's customerOrderId, or the
-- order id that the exchange gave. An order of a batch has the batch's customerOrderId with two
-- digits added, or one that the batch's payload names. Cancelling or changing an order isn't placing.

CREATE VIEW foreign_orders AS
SELECT o.account, o.order_id, o.customer_order_id, o.pair, o.side, o.type, o.price,
    o.original_quantity, o.remaining_quantity, o.state, o.live, o.created_at, o.updated_at,
    o.first_position, o.last_position
FROM orders AS o
WHERE NOT EXISTS (SELECT 1 FROM outbox AS c
        WHERE c.account = o.account AND c.order_id = o.order_id
            AND c.command IN ('PLACE_LIMIT_ORDER', 'PLACE_MARKET_ORDER', 'PLACE_BATCH_ORDERS'))
    AND NOT EXISTS (SELECT 1 FROM outbox AS c
        WHERE c.account = o.account AND c.customer_order_id = o.customer_order_id
            AND c.command IN ('PLACE_LIMIT_ORDER', 'PLACE_MARKET_ORDER', 'PLACE_BATCH_ORDERS')
            AND c.status NOT IN ('queued', 'expired', 'withdrawn', 'refused'))
    AND NOT EXISTS (SELECT 1 FROM outbox AS c
        WHERE c.account = o.account AND length(o.customer_order_id) > 2
            AND c.customer_order_id
                = substr(o.customer_order_id, 1, length(o.customer_order_id) - 2)
            AND c.command = 'PLACE_BATCH_ORDERS'
            AND c.status NOT IN ('queued', 'expired', 'withdrawn', 'refused'))
    AND NOT EXISTS (SELECT 1 FROM outbox AS c
        WHERE c.account = o.account AND c.command = 'PLACE_BATCH_ORDERS'
            AND c.payload LIKE '%"' || o.customer_order_id || '"%'
            AND c.status NOT IN ('queued', 'expired', 'withdrawn', 'refused'));
