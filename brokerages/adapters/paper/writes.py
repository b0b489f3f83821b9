"""What one transaction of the paper broker changes, written as one statement.

Each table's rows go in as one JSON parameter, which the database turns into rows of that table:
that is less work for both sides than a parameter for every value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec

from audit.sql import Statement
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
    parts = [(name, sql, rows) for name, sql, rows in _parts(changes) if rows]
    if not parts:
        return
    statement = _together(tuple((name, sql) for name, sql, _ in parts))
    statement.rows([_encode(rows).decode() for _, _, rows in parts])


@cache
def _together(parts: tuple[tuple[str, str], ...]) -> Statement:
    """Return one statement of all parts.

    Its transaction does not wait for the disk: what the platform makes of it is committed later in
    the same log, and does wait. A crash in between loses both, as if the order had never arrived.
    """
    before = ", ".join(f"{name} AS ({sql})" for name, sql in parts)
    return Statement(f"WITH {before} SELECT set_config('synchronous_commit', 'off', true)")


def _parts(changes: Changes) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Return, for each table, a name, the statement and its rows."""
    new = [] if changes.new_order is None else [_order(changes.new_order)]
    book = [] if changes.book is None else [_book(changes.book)]
    yield "placed", _INSERT_ORDER, new
    yield "changed", _UPDATE_ORDERS, [_order(record) for record in changes.orders]
    yield "filled", _INSERT_FILLS, [_fill(record) for record in changes.fills]
    yield "paid", _UPDATE_ACCOUNTS, [_account(record) for record in changes.accounts]
    yield "held", _UPSERT_POSITIONS, [_position(record) for record in changes.positions]
    yield "told", _INSERT_EVENTS, [_event(record) for record in changes.events]
    yield "taken", _UPDATE_BOOK, book


_encode = msgspec.json.Encoder(decimal_format="string", uuid_format="canonical").encode


_INSERT_ORDER = """
INSERT INTO brokerages_paperorder
SELECT * FROM jsonb_populate_recordset(NULL::brokerages_paperorder, %s::jsonb)
"""

_UPDATE_ORDERS = """
UPDATE brokerages_paperorder o SET
    order_type = n.order_type, validity = n.validity, quantity = n.quantity, price = n.price,
    trigger_price = n.trigger_price, disclosed_quantity = n.disclosed_quantity, status = n.status,
    filled_quantity = n.filled_quantity, filled_value = n.filled_value, fill_count = n.fill_count,
    closing_quantity = n.closing_quantity, block_unit = n.block_unit, block = n.block,
    code = n.code, message = n.message, queued_at = n.queued_at, triggered_at = n.triggered_at,
    updated_at = n.updated_at
FROM jsonb_populate_recordset(NULL::brokerages_paperorder, %s::jsonb) n WHERE o.id = n.id
"""


def _order(record: OrderRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "connection_id": record.connection_id,
        "client_order_id": record.client_order_id,
        "instrument_id": record.instrument.id,
        "instrument": instrument_to_json(record.instrument),
        "side": record.side,
        "product": record.product,
        "order_type": record.order_type,
        "validity": record.validity,
        "quantity": record.quantity,
        "price": record.price,
        "trigger_price": record.trigger_price,
        "disclosed_quantity": record.disclosed_quantity,
        "status": record.status,
        "filled_quantity": record.filled_quantity,
        "filled_value": record.filled_value,
        "fill_count": record.fill_count,
        "closing_quantity": record.closing_quantity,
        "block_unit": record.block_unit,
        "block": record.hold.block,
        "code": record.code,
        "message": record.message,
        "placed_at": record.placed_at,
        "queued_at": record.queued_at,
        "eligible_at": record.eligible_at,
        "expires_at": record.expires_at,
        "triggered_at": record.triggered_at,
        "updated_at": record.updated_at,
    }


_INSERT_FILLS = """
INSERT INTO brokerages_paperfill (order_id, number, connection_id, quantity, price, filled_at)
SELECT order_id, number, connection_id, quantity, price, filled_at
FROM jsonb_populate_recordset(NULL::brokerages_paperfill, %s::jsonb)
"""


def _fill(record: FillRecord) -> dict[str, Any]:
    return {
        "order_id": record.order_id,
        "number": record.number,
        "connection_id": record.connection_id,
        "quantity": record.quantity,
        "price": record.price,
        "filled_at": record.filled_at,
    }


_UPDATE_ACCOUNTS = """
UPDATE brokerages_paperaccount a SET cash = n.cash, debt = n.debt, realised = n.realised
FROM jsonb_populate_recordset(NULL::brokerages_paperaccount, %s::jsonb) n
WHERE a.connection_id = n.connection_id
"""


def _account(record: AccountRecord) -> dict[str, Any]:
    money = record.money
    return {
        "connection_id": record.connection_id,
        "cash": money.cash,
        "debt": money.debt,
        "realised": money.realised,
    }


_UPSERT_POSITIONS = """
INSERT INTO brokerages_paperposition (
    connection_id, instrument_id, instrument, product, day, quantity, cost, margin, realised, bought
)
SELECT
    connection_id, instrument_id, instrument, product, day, quantity, cost, margin, realised, bought
FROM jsonb_populate_recordset(NULL::brokerages_paperposition, %s::jsonb)
ON CONFLICT (connection_id, instrument_id, product) DO UPDATE SET
    day = excluded.day, quantity = excluded.quantity, cost = excluded.cost,
    margin = excluded.margin, realised = excluded.realised, bought = excluded.bought
"""


def _position(record: PositionRecord) -> dict[str, Any]:
    position = record.position
    return {
        "connection_id": record.connection_id,
        "instrument_id": record.instrument.id,
        "instrument": instrument_to_json(record.instrument),
        "product": record.product,
        "day": position.day,
        "quantity": position.quantity,
        "cost": position.cost,
        "margin": position.margin,
        "realised": position.realised,
        "bought": position.bought,
    }


_INSERT_EVENTS = """
INSERT INTO brokerages_paperevent (connection_id, order_id, report, fills, created_at)
SELECT connection_id, order_id, report, fills, created_at
FROM jsonb_populate_recordset(NULL::brokerages_paperevent, %s::jsonb)
"""


def _event(record: EventRecord) -> dict[str, Any]:
    return {
        "connection_id": record.connection_id,
        "order_id": record.order_id,
        "report": record.report,
        "fills": record.fills,
        "created_at": record.created_at,
    }


_UPDATE_BOOK = """
UPDATE brokerages_paperbook b SET
    sequence = n.sequence, quoted_at = n.quoted_at, matched_at = n.matched_at, taken = n.taken
FROM jsonb_populate_recordset(NULL::brokerages_paperbook, %s::jsonb) n
WHERE b.instrument_id = n.instrument_id AND b.source = n.source
"""


def _book(book: Book) -> dict[str, Any]:
    return {
        "instrument_id": book.instrument_id,
        "source": book.source,
        "sequence": book.sequence,
        "quoted_at": book.quoted_at,
        "matched_at": book.matched_at,
        "taken": book.taken,
    }
