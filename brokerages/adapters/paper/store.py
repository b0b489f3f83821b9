"""The paper broker's tables: the only adapter file that speaks to the database, in plain SQL with few round trips.

Locks are taken in one order, always: account rows (by connection id), then the book of the instrument, then orders. The account's
lock covers its orders and positions: nobody changes them without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import connection as database
from django.db import transaction

from brokerages.adapters.paper.ledger import Money, Position
from brokerages.adapters.paper.matching import Contender
from brokerages.adapters.paper.records import (
    AccountRecord,
    Book,
    EventRecord,
    FillRecord,
    OrderRecord,
    PositionRecord,
    instrument_from_json,
    instrument_to_json,
)
from brokerages.base import IST
from brokerages.types import (
    Exchange,
    InstrumentRef,
    OrderType,
    Product,
    Quote,
    ReportedStatus,
    Side,
    Validity,
)

T = TypeVar("T")

_OPEN = "('OPEN', 'TRIGGER_PENDING', 'PARTIALLY_FILLED')"

_ORDER_COLUMNS = (
    "id, connection_id, client_order_id, instrument, side, product, order_type, validity, quantity, price, trigger_price, "
    "disclosed_quantity, status, placed_at, queued_at, eligible_at, expires_at, updated_at, filled_quantity, filled_value, "
    "fill_count, closing_quantity, block_unit, code, message, triggered_at"
)


class StaleQuote(Exception):
    """The quote is older than the book that was matched already: read it again."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How the paper venue behaves, from the settings."""

    latency_ms: int
    reject_rate: Decimal
    slippage_bps: Decimal
    starting_cash: Decimal


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


@dataclass(frozen=True, slots=True)
class Desk:
    """What a new order finds: its number, the order that has its tag already, the position, and what is promised of it."""

    order_id: int
    first_id: int | None
    position: Position | None
    promised: int


@dataclass(frozen=True, slots=True)
class Moved:
    """An open order that the present quote concerns."""

    instrument_id: int
    connection_id: UUID
    side: Side
    contender: Contender


def policy() -> Policy:
    return Policy(
        int(settings.PAPER_LATENCY_MS),
        Decimal(settings.PAPER_REJECT_RATE),
        Decimal(settings.PAPER_SLIPPAGE_BPS),
        Decimal(settings.PAPER_STARTING_CASH),
    )


def in_transaction(work: Callable[[], T]) -> T:
    """Run ``work`` in one transaction: all of it happens, or nothing."""
    with transaction.atomic():
        return work()


# --- Accounts ------------------------------------------------------------------------------------


def lock_account(connection_id: UUID, starting_cash: Decimal) -> Money:
    """Lock the account until the transaction ends and return its money. The first call opens the account."""
    money = lock_accounts([connection_id]).get(connection_id)
    if money is None:
        with database.cursor() as cursor:
            cursor.execute(
                "INSERT INTO brokerages_paperaccount (connection_id, starting_cash, cash, debt, realised, opened_at) "
                "VALUES (%s, %s, %s, 0, 0, now()) ON CONFLICT DO NOTHING",
                [connection_id, starting_cash, starting_cash],
            )
        money = lock_accounts([connection_id])[connection_id]
    return money


def lock_accounts(connection_ids: Iterable[UUID]) -> dict[UUID, Money]:
    """Lock several accounts, always in the same order."""
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT connection_id, cash, debt, realised FROM brokerages_paperaccount "
            "WHERE connection_id = ANY(%s) ORDER BY connection_id FOR NO KEY UPDATE",
            [list(connection_ids)],
        )
        return {row[0]: Money(*row[1:]) for row in cursor.fetchall()}


def read_money(connection_id: UUID) -> tuple[Money, Decimal] | None:
    """Return the account's money and what its open orders and margined positions block; None before it is opened."""
    with database.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT a.cash, a.debt, a.realised,
                (SELECT coalesce(sum(block), 0) FROM brokerages_paperorder
                 WHERE connection_id = a.connection_id AND status IN {_OPEN})
                + (SELECT coalesce(sum(margin), 0) FROM brokerages_paperposition
                   WHERE connection_id = a.connection_id AND product <> 'CNC')
            FROM brokerages_paperaccount a WHERE a.connection_id = %s
            """,  # noqa: S608 - a constant list of words
            [connection_id],
        )
        row = cursor.fetchone()
    return None if row is None else (Money(*row[:3]), row[3])


# --- Orders --------------------------------------------------------------------------------------


def read_desk(
    connection_id: UUID, client_order_id: str, instrument_id: int, product: Product, side: Side
) -> Desk:
    """Return what a new order finds. Call it with the account locked."""
    with database.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT nextval('brokerages_paperorder_id_seq'),
                (SELECT id FROM brokerages_paperorder
                 WHERE connection_id = %(connection)s AND client_order_id = %(tag)s),
                (SELECT coalesce(sum(closing_quantity), 0) FROM brokerages_paperorder
                 WHERE connection_id = %(connection)s AND instrument_id = %(instrument)s
                   AND product = %(product)s AND side = %(side)s AND status IN {_OPEN}),
                p.day, p.quantity, p.cost, p.margin, p.realised, p.bought
            FROM (VALUES (1)) AS one LEFT JOIN brokerages_paperposition p
                ON p.connection_id = %(connection)s AND p.instrument_id = %(instrument)s
                AND p.product = %(product)s
            """,  # noqa: S608 - a constant list of words
            {
                "connection": connection_id,
                "tag": client_order_id,
                "instrument": instrument_id,
                "product": product.value,
                "side": side.value,
            },
        )
        row = cursor.fetchone()
    position = None if row[3] is None else Position(*row[3:])
    return Desk(row[0], row[1], position, int(row[2]))


def read_order(connection_id: UUID, order_id: int, *, lock: bool = False) -> OrderRecord | None:
    found = _orders(
        "WHERE id = %s AND connection_id = %s" + (" FOR NO KEY UPDATE" if lock else ""),
        [order_id, connection_id],
    )
    return found[0] if found else None


def read_order_by_tag(connection_id: UUID, client_order_id: str) -> OrderRecord | None:
    found = _orders(
        "WHERE connection_id = %s AND client_order_id = %s", [connection_id, client_order_id]
    )
    return found[0] if found else None


def read_orders_since(connection_id: UUID, since: datetime) -> list[OrderRecord]:
    """Return the day's orders, and older ones that are still open, oldest first."""
    return _orders(
        f"WHERE connection_id = %s AND (placed_at >= %s OR status IN {_OPEN}) ORDER BY placed_at, id",
        [connection_id, since],
    )


def lock_orders(order_ids: Sequence[int]) -> list[OrderRecord]:
    """Lock those of the orders that are still open. Their accounts have to be locked first."""
    return _orders(
        f"WHERE id = ANY(%s) AND status IN {_OPEN} ORDER BY id FOR NO KEY UPDATE", [list(order_ids)]
    )


def _orders(where: str, params: list[Any]) -> list[OrderRecord]:
    with database.cursor() as cursor:
        cursor.execute(f"SELECT {_ORDER_COLUMNS} FROM brokerages_paperorder {where}", params)  # noqa: S608
        return [_order(row) for row in cursor.fetchall()]


def _order(row: Sequence[Any]) -> OrderRecord:
    number, connection_id, tag, instrument, side, product, order_type, validity, *rest = row
    return OrderRecord(
        number,
        connection_id,
        tag,
        instrument_from_json(json.loads(instrument)),
        Side(side),
        Product(product),
        OrderType(order_type),
        Validity(validity),
        *rest[:4],
        ReportedStatus(rest[4]),
        *rest[5:],
    )


def read_rivals(
    instrument_id: int, side: Side, best: Decimal | None, now: datetime, *, limit: int = 500
) -> list[Contender]:
    """Return resting orders of all users that could trade at ``best`` now, in no order."""
    if best is None:
        return []
    reach = ">=" if side is Side.BUY else "<="
    with database.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT id, CASE WHEN order_type IN ('LIMIT', 'SL') THEN price END,
                quantity - filled_quantity, queued_at
            FROM brokerages_paperorder
            WHERE instrument_id = %s AND side = %s AND status IN ('OPEN', 'PARTIALLY_FILLED')
                AND eligible_at <= %s
                AND (order_type NOT IN ('LIMIT', 'SL') OR price {reach} %s)
            LIMIT %s
            """,  # noqa: S608 - a comparison sign
            [instrument_id, side.value, now, best, limit],
        )
        return [Contender(*row) for row in cursor.fetchall()]


# --- Fills, positions ----------------------------------------------------------------------------


def read_fills(
    connection_id: UUID, *, order_id: int | None = None, since: datetime | None = None
) -> list[FillRecord]:
    """Return fills of one order, or all since a time, oldest first."""
    condition = "f.order_id = %s" if order_id is not None else "f.filled_at >= %s"
    with database.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT f.order_id, f.number, f.connection_id, o.client_order_id, o.instrument ->> 'exchange', o.side,
                f.quantity, f.price, f.filled_at
            FROM brokerages_paperfill f JOIN brokerages_paperorder o ON o.id = f.order_id
            WHERE f.connection_id = %s AND {condition} ORDER BY f.filled_at, f.order_id, f.number
            """,  # noqa: S608 - one of two constants
            [connection_id, order_id if order_id is not None else since],
        )
        return [
            FillRecord(*row[:4], Exchange(row[4]), Side(row[5]), *row[6:])
            for row in cursor.fetchall()
        ]


def read_positions(connection_id: UUID) -> list[PositionRecord]:
    return _positions("WHERE connection_id = %s ORDER BY id", [connection_id])


def read_positions_of(
    connection_ids: Sequence[UUID], instrument_id: int
) -> dict[tuple[UUID, Product], Position]:
    """Return the positions of several accounts in one instrument."""
    found = _positions(
        "WHERE connection_id = ANY(%s) AND instrument_id = %s",
        [list(connection_ids), instrument_id],
    )
    return {(record.connection_id, record.product): record.position for record in found}


def _positions(where: str, params: list[Any]) -> list[PositionRecord]:
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT connection_id, instrument, product, day, quantity, cost, margin, realised, bought "
            f"FROM brokerages_paperposition {where}",  # noqa: S608
            params,
        )
        return [
            PositionRecord(
                row[0],
                instrument_from_json(json.loads(row[1])),
                Product(row[2]),
                Position(*row[3:]),
            )
            for row in cursor.fetchall()
        ]


# --- The book ------------------------------------------------------------------------------------


def lock_book(instrument_id: int, quote: Quote) -> Book:
    """Lock what was taken from the instrument's book, for this quote's sequence.

    Raises:
        StaleQuote: a newer book of the same source was matched already.
    """
    row = _lock_book_row(instrument_id, quote.source)
    if row is None:
        with database.cursor() as cursor:
            cursor.execute(
                "INSERT INTO brokerages_paperbook (instrument_id, source, sequence, quoted_at, taken) "
                "VALUES (%s, %s, %s, %s, '{}') ON CONFLICT DO NOTHING",
                [instrument_id, quote.source, quote.sequence, quote.at],
            )
        row = _lock_book_row(instrument_id, quote.source)
        assert row is not None  # noqa: S101 - rows of this table are never deleted
    sequence, quoted_at, taken = row
    if sequence == quote.sequence:
        return Book(instrument_id, quote.source, sequence, quoted_at, json.loads(taken))
    if sequence > quote.sequence and quoted_at >= quote.at:
        raise StaleQuote
    return Book(instrument_id, quote.source, quote.sequence, quote.at, {})


def _lock_book_row(instrument_id: int, source: str) -> tuple[int, datetime, str] | None:
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT sequence, quoted_at, taken FROM brokerages_paperbook "
            "WHERE instrument_id = %s AND source = %s FOR NO KEY UPDATE",
            [instrument_id, source],
        )
        row: tuple[int, datetime, str] | None = cursor.fetchone()
    return row


# --- The engine's views --------------------------------------------------------------------------


def expired_orders(now: datetime, limit: int) -> list[tuple[UUID, int]]:
    """Return (connection, order) of open orders whose day is over."""
    with database.cursor() as cursor:
        cursor.execute(
            f"SELECT connection_id, id FROM brokerages_paperorder WHERE status IN {_OPEN} AND expires_at <= %s "  # noqa: S608
            "ORDER BY expires_at, id LIMIT %s",
            [now, limit],
        )
        return cursor.fetchall()


def open_instruments(instrument_ids: Sequence[int] | None) -> list[InstrumentRef]:
    """Return every instrument with an open order, or those of ``instrument_ids`` that have one."""
    only = "" if instrument_ids is None else "AND instrument_id = ANY(%s)"
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT ON (instrument_id) instrument FROM brokerages_paperorder "
            f"WHERE status IN {_OPEN} {only} ORDER BY instrument_id, id DESC",  # noqa: S608
            None if instrument_ids is None else [list(instrument_ids)],
        )
        return [instrument_from_json(json.loads(row[0])) for row in cursor.fetchall()]


def moved_orders(
    quotes: Mapping[int, Quote],
    reachable: Mapping[int, tuple[Decimal | None, Decimal | None]],
    now: datetime,
) -> list[Moved]:
    """Return the open orders that these quotes trigger, fill or (IOC) end.

    ``reachable`` is the best price for buyers and for sellers, None where there is nothing left to take.
    """
    ids = list(quotes)
    with database.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT o.instrument_id, o.connection_id, o.side, o.id,
                CASE WHEN o.order_type IN ('LIMIT', 'SL') THEN o.price END, o.quantity - o.filled_quantity,
                CASE WHEN o.status = 'TRIGGER_PENDING' THEN %s ELSE o.queued_at END
            FROM unnest(%s::bigint[], %s::numeric[], %s::numeric[], %s::numeric[]) AS q(id, last, ask, bid)
            JOIN brokerages_paperorder o ON o.instrument_id = q.id AND o.status IN {_OPEN}
            WHERE o.eligible_at <= %s AND o.expires_at > %s AND CASE
                WHEN o.status = 'TRIGGER_PENDING' AND o.side = 'BUY' THEN q.last >= o.trigger_price
                WHEN o.status = 'TRIGGER_PENDING' THEN q.last <= o.trigger_price
                WHEN o.validity = 'IOC' THEN true
                WHEN o.side = 'BUY' THEN
                    q.ask IS NOT NULL AND (o.order_type NOT IN ('LIMIT', 'SL') OR o.price >= q.ask)
                ELSE q.bid IS NOT NULL AND (o.order_type NOT IN ('LIMIT', 'SL') OR o.price <= q.bid)
            END
            """,  # noqa: S608 - a constant list of words
            [
                now,
                ids,
                [quotes[i].last_price for i in ids],
                [reachable[i][0] for i in ids],
                [reachable[i][1] for i in ids],
                now,
                now,
            ],
        )
        return [
            Moved(row[0], row[1], Side(row[2]), Contender(*row[3:])) for row in cursor.fetchall()
        ]


def read_books(quotes: Mapping[int, Quote]) -> dict[int, Book]:
    """Return, without locks, the books of those quotes from which something was taken already."""
    ids = list(quotes)
    with database.cursor() as cursor:
        cursor.execute(
            """
            SELECT b.instrument_id, b.source, b.sequence, b.quoted_at, b.taken
            FROM unnest(%s::bigint[], %s::text[], %s::bigint[]) AS q(id, source, sequence)
            JOIN brokerages_paperbook b
                ON b.instrument_id = q.id AND b.source = q.source AND b.sequence = q.sequence
            """,
            [ids, [quotes[i].source for i in ids], [quotes[i].sequence for i in ids]],
        )
        return {row[0]: Book(*row[:4], json.loads(row[4])) for row in cursor.fetchall()}


def read_events(limit: int) -> list[tuple[int, UUID, int, dict[str, Any], list[dict[str, Any]]]]:
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT id, connection_id, order_id, report, fills FROM brokerages_paperevent ORDER BY id LIMIT %s",
            [limit],
        )
        return [(*row[:3], json.loads(row[3]), json.loads(row[4])) for row in cursor.fetchall()]


def delete_events(event_ids: Sequence[int]) -> None:
    with database.cursor() as cursor:
        cursor.execute("DELETE FROM brokerages_paperevent WHERE id = ANY(%s)", [list(event_ids)])


# --- Writing -------------------------------------------------------------------------------------


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
        cursor.execute(f"WITH {', '.join(parts)} SELECT 1", params)  # noqa: S608


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
    id, connection_id, client_order_id, instrument_id, instrument, side, product, order_type, validity, quantity, price,
    trigger_price, disclosed_quantity, status, filled_quantity, filled_value, fill_count, closing_quantity, block_unit, block,
    code, message, placed_at, queued_at, eligible_at, expires_at, triggered_at, updated_at
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
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
    closing_quantity = n.closing_quantity, block_unit = n.block_unit, block = n.block, code = n.code, message = n.message,
    queued_at = n.queued_at, triggered_at = n.triggered_at, updated_at = n.updated_at
FROM unnest(
    %s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::numeric[], %s::numeric[], %s::bigint[], %s::text[], %s::bigint[],
    %s::numeric[], %s::int[], %s::bigint[], %s::numeric[], %s::numeric[], %s::text[], %s::text[], %s::timestamptz[],
    %s::timestamptz[], %s::timestamptz[]
) AS n(
    id, order_type, validity, quantity, price, trigger_price, disclosed_quantity, status, filled_quantity, filled_value,
    fill_count, closing_quantity, block_unit, block, code, message, queued_at, triggered_at, updated_at
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
SELECT * FROM unnest(%s::bigint[], %s::int[], %s::uuid[], %s::bigint[], %s::numeric[], %s::timestamptz[])
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
    %s::uuid[], %s::bigint[], %s::text[]::jsonb[], %s::text[], %s::date[], %s::bigint[], %s::numeric[], %s::numeric[],
    %s::numeric[], %s::bigint[]
) ON CONFLICT (connection_id, instrument_id, product) DO UPDATE SET
    day = excluded.day, quantity = excluded.quantity, cost = excluded.cost, margin = excluded.margin,
    realised = excluded.realised, bought = excluded.bought
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
SELECT * FROM unnest(%s::uuid[], %s::bigint[], %s::text[]::jsonb[], %s::text[]::jsonb[], %s::timestamptz[])
"""


def _inserted_events(records: list[EventRecord]) -> list[Any]:
    return _columns(
        [
            (r.connection_id, r.order_id, json.dumps(r.report), json.dumps(r.fills), r.created_at)
            for r in records
        ]
    )


_UPDATE_BOOK = """
UPDATE brokerages_paperbook SET sequence = %s, quoted_at = %s, taken = %s WHERE instrument_id = %s AND source = %s
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


def day_start(now: datetime) -> datetime:
    """Return the last midnight in India before ``now``."""
    return datetime.combine(today(now), datetime.min.time(), IST)


def today(now: datetime) -> date:
    """Return the trading day of ``now``, in India."""
    return now.astimezone(IST).date()
