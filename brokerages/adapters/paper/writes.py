"""What one transaction of the paper broker changes, written as one statement."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection as database

from brokerages.adapters.paper.records import (
    AccountRecord,
    Book,
    EventRecord,
    FillRecord,
    OrderRecord,
    PositionRecord,
    instrument_to_json,
)


@dataclass(slots=True)
class Changes:
    """What one transaction writes."""

    new_order: OrderRecord | None = None
    orders: list[OrderRecord] = field(default_factory=list)
    fills: list[FillRecord] = field(default_factory=list)
    accounts: list[AccountRecord] = field(default_factory=list)
    positions: list[PositionRecord] = field(default_factory=list)
    events: list[EventRecord] = field(default_factory=list)
    book: Book | None = None


def save(changes: Changes) -> None:
    """Write everything in one statement."""
    parts: list[str] = []
    params: list[Any] = []
    for name, statement, values in _statements(changes):
        parts.append(f"{name} AS ({statement})")
        params.extend(values)
    if not parts:
        return
    with database.cursor() as cursor:
        cursor.execute(f"WITH {', '.join(parts)} SELECT 1", params)


def _statements(changes: Changes) -> Iterable[tuple[str, str, list[Any]]]:
    if changes.new_order is not None:
        yield "placed", _INSERT_ORDER, _inserted_order(changes.new_order)
    if changes.orders:
        yield "changed", _UPDATE_ORDERS, _updated_orders(changes.orders)
    if changes.fills:
        yield "filled", _INSERT_FILLS, _inserted_fills(changes.fills)
    if changes.accounts:
        yield "paid", _UPDATE_ACCOUNTS, _updated_accounts(changes.accounts)
    if changes.positions:
        yield "held", _UPSERT_POSITIONS, _upserted_positions(changes.positions)
    if changes.events:
        yield "told", _INSERT_EVENTS, _inserted_events(changes.events)
    if changes.book is not None:
        yield "taken", _UPDATE_BOOK, _updated_book(changes.book)


_INSERT_ORDER = """
INSERT INTO brokerages_paperorder (
    id, connection_id, client_order_id, instrument_id, instrument, side, product, order_type,
    validity, quantity, price, trigger_price, disclosed_quantity, status, filled_quantity,
    filled_value, fill_count, closing_quantity, block_unit, block, code, message, placed_at,
    queued_at, eligible_at, expires_at, triggered_at, updated_at
) VALUES (
    %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,
    %s, %s, %s, %s
)
"""


def _inserted_order(record: OrderRecord) -> list[Any]:
    return [
        record.id,
        record.connection_id,
        record.client_order_id,
        record.instrument.id,
        json.dumps(instrument_to_json(record.instrument)),
        record.side.value,
        record.product.value,
        record.order_type.value,
        record.validity.value,
        record.quantity,
        record.price,
        record.trigger_price,
        record.disclosed_quantity,
        record.status.value,
        record.filled_quantity,
        record.filled_value,
        record.fill_count,
        record.closing_quantity,
        record.block_unit,
        record.hold.block,
        record.code,
        record.message,
        record.placed_at,
        record.queued_at,
        record.eligible_at,
        record.expires_at,
        record.triggered_at,
        record.updated_at,
    ]


_UPDATE_ORDERS = """
UPDATE brokerages_paperorder o SET
    order_type = n.order_type, validity = n.validity, quantity = n.quantity, price = n.price,
    trigger_price = n.trigger_price, disclosed_quantity = n.disclosed_quantity, status = n.status,
    filled_quantity = n.filled_quantity, filled_value = n.filled_value, fill_count = n.fill_count,
    closing_quantity = n.closing_quantity, block_unit = n.block_unit, block = n.block,
    code = n.code, message = n.message, queued_at = n.queued_at, triggered_at = n.triggered_at,
    updated_at = n.updated_at
FROM unnest(
    %s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::numeric[], %s::numeric[],
    %s::bigint[], %s::text[], %s::bigint[], %s::numeric[], %s::int[], %s::bigint[],
    %s::numeric[], %s::numeric[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[],
    %s::timestamptz[]
) AS n(
    id, order_type, validity, quantity, price, trigger_price,
    disclosed_quantity, status, filled_quantity, filled_value, fill_count, closing_quantity,
    block_unit, block, code, message, queued_at, triggered_at,
    updated_at
) WHERE o.id = n.id
"""


def _updated_orders(records: list[OrderRecord]) -> list[Any]:
    return _columns(
        [
            (
                r.id,
                r.order_type.value,
                r.validity.value,
                r.quantity,
                r.price,
                r.trigger_price,
                r.disclosed_quantity,
                r.status.value,
                r.filled_quantity,
                r.filled_value,
                r.fill_count,
                r.closing_quantity,
                r.block_unit,
                r.hold.block,
                r.code,
                r.message,
                r.queued_at,
                r.triggered_at,
                r.updated_at,
            )
            for r in records
        ]
    )


_INSERT_FILLS = """
INSERT INTO brokerages_paperfill (order_id, number, connection_id, quantity, price, filled_at)
SELECT * FROM unnest(
    %s::bigint[], %s::int[], %s::uuid[], %s::bigint[], %s::numeric[], %s::timestamptz[]
)
"""


def _inserted_fills(records: list[FillRecord]) -> list[Any]:
    return _columns(
        [(r.order_id, r.number, r.connection_id, r.quantity, r.price, r.filled_at) for r in records]
    )


_UPDATE_ACCOUNTS = """
UPDATE brokerages_paperaccount a SET cash = n.cash, debt = n.debt, realised = n.realised
FROM unnest(%s::uuid[], %s::numeric[], %s::numeric[], %s::numeric[]) AS n(id, cash, debt, realised)
WHERE a.connection_id = n.id
"""


def _updated_accounts(records: list[AccountRecord]) -> list[Any]:
    return _columns(
        [(r.connection_id, r.money.cash, r.money.debt, r.money.realised) for r in records]
    )


_UPSERT_POSITIONS = """
INSERT INTO brokerages_paperposition (
    connection_id, instrument_id, instrument, product, day, quantity, cost, margin, realised, bought
) SELECT * FROM unnest(
    %s::uuid[], %s::bigint[], %s::text[]::jsonb[], %s::text[], %s::date[], %s::bigint[],
    %s::numeric[], %s::numeric[], %s::numeric[], %s::bigint[]
) ON CONFLICT (connection_id, instrument_id, product) DO UPDATE SET
    day = excluded.day, quantity = excluded.quantity, cost = excluded.cost,
    margin = excluded.margin, realised = excluded.realised, bought = excluded.bought
"""


def _upserted_positions(records: list[PositionRecord]) -> list[Any]:
    return _columns(
        [
            (
                r.connection_id,
                r.instrument.id,
                json.dumps(instrument_to_json(r.instrument)),
                r.product.value,
                r.position.day,
                r.position.quantity,
                r.position.cost,
                r.position.margin,
                r.position.realised,
                r.position.bought,
            )
            for r in records
        ]
    )


_INSERT_EVENTS = """
INSERT INTO brokerages_paperevent (connection_id, order_id, report, fills, created_at)
SELECT * FROM unnest(
    %s::uuid[], %s::bigint[], %s::text[]::jsonb[], %s::text[]::jsonb[], %s::timestamptz[]
)
"""


def _inserted_events(records: list[EventRecord]) -> list[Any]:
    return _columns(
        [
            (r.connection_id, r.order_id, json.dumps(r.report), json.dumps(r.fills), r.created_at)
            for r in records
        ]
    )


_UPDATE_BOOK = """
UPDATE brokerages_paperbook SET sequence = %s, quoted_at = %s, taken = %s
WHERE instrument_id = %s AND source = %s
"""


def _updated_book(book: Book) -> list[Any]:
    return [
        book.sequence,
        book.quoted_at,
        json.dumps(book.taken),
        book.instrument_id,
        book.source,
    ]


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
