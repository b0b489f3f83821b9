"""The paper broker's tables: the only adapter file that speaks to the database, in plain SQL with
few round trips.

Locks are taken in one order, always: account rows (by connection id), then the book of the
    instrument, then orders. The account's lock covers its orders and positions: nobody changes
    them without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import connection as database
from django.db import transaction

from audit.sql import Statement
from brokerages.adapters.paper.ledger import Money, Position
from brokerages.adapters.paper.matching import Contender
from brokerages.adapters.paper.records import (
    Book,
    FillRecord,
    OrderRecord,
    PositionRecord,
    instrument_from_json,
)
from brokerages.base import IST
from brokerages.types import (
    Exchange,
    OrderType,
    Product,
    Quote,
    ReportedStatus,
    Side,
    Validity,
)

T = TypeVar("T")

MOMENT = timedelta(seconds=10)
"""How far one process's quotes may lag behind another's."""

_OPEN = "('OPEN', 'TRIGGER_PENDING', 'PARTIALLY_FILLED')"

_WORDS = {
    "side": Side,
    "product": Product,
    "order_type": OrderType,
    "validity": Validity,
    "status": ReportedStatus,
}
_ORDER_FIELDS = tuple(spec.name for spec in fields(OrderRecord))  # each is a column
_ORDER_COLUMNS = ", ".join(_ORDER_FIELDS)


class StaleQuote(Exception):
    """The quote is older than the book that was matched already: read it again."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How the paper venue behaves, from the settings."""

    latency_ms: int
    reject_rate: Decimal
    slippage_bps: Decimal
    starting_cash: Decimal


@dataclass(frozen=True, slots=True)
class View:
    """What a new order finds: its number, the order that has its tag already, the position, and
    what is promised of it.
    """

    order_id: int
    first_id: int | None
    position: Position | None
    promised: int


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
    """Lock the account until the transaction ends and return its money. The first call opens the
    account.
    """
    money = lock_accounts([connection_id]).get(connection_id)
    if money is None:
        with database.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO brokerages_paperaccount (
                    connection_id, starting_cash, cash, debt, realised, opened_at
                ) VALUES (%s, %s, %s, 0, 0, now()) ON CONFLICT DO NOTHING
                """,
                [connection_id, starting_cash, starting_cash],
            )
        money = lock_accounts([connection_id])[connection_id]
    return money


_LOCK_ACCOUNTS = Statement(
    "SELECT connection_id, cash, debt, realised FROM brokerages_paperaccount"
    " WHERE connection_id = ANY(%s) ORDER BY connection_id FOR NO KEY UPDATE"
)


def lock_accounts(connection_ids: Iterable[UUID]) -> dict[UUID, Money]:
    """Lock several accounts, always in the same order."""
    return {row[0]: Money(*row[1:]) for row in _LOCK_ACCOUNTS.rows([list(connection_ids)])}


def read_money(connection_id: UUID) -> tuple[Money, Decimal] | None:
    """Return the account's money and what its open orders and margined positions block; None
    before it is opened.
    """
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


_VIEW = Statement(
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
            """  # noqa: S608 - a constant list of words
)


def read_view(
    connection_id: UUID, client_order_id: str, instrument_id: int, product: Product, side: Side
) -> View:
    """Return what a new order finds. Call it with the account locked."""
    row = _VIEW.row(
        {
            "connection": connection_id,
            "tag": client_order_id,
            "instrument": instrument_id,
            "product": product.value,
            "side": side.value,
        }
    )
    assert row is not None  # noqa: S101 - there is always one
    position = None if row[3] is None else Position(*row[3:])
    return View(row[0], row[1], position, int(row[2]))


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
        f"WHERE connection_id = %s AND (placed_at >= %s OR status IN {_OPEN}) "
        "ORDER BY placed_at, id",
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
    values = dict(zip(_ORDER_FIELDS, row, strict=True))
    values["instrument"] = instrument_from_json(json.loads(values["instrument"]))
    for name, words in _WORDS.items():
        values[name] = words(values[name])
    return OrderRecord(**values)


def _rivals(side: Side) -> Statement:
    reach = ">=" if side is Side.BUY else "<="
    found = f"""
        SELECT id, CASE WHEN order_type IN ('LIMIT', 'SL') THEN price END,
            quantity - filled_quantity, queued_at
        FROM brokerages_paperorder
        WHERE instrument_id = %(instrument)s AND side = '{side}'
            AND status IN ('OPEN', 'PARTIALLY_FILLED') AND eligible_at <= %(now)s
    """  # noqa: S608 - one of two constants
    # Two parts that the index on the price serves; one with OR reads every resting order.
    return Statement(
        f"{found} AND order_type IN ('LIMIT', 'SL') AND price {reach} %(best)s"
        f" UNION ALL {found} AND order_type NOT IN ('LIMIT', 'SL') AND price IS NULL"
        " LIMIT %(limit)s"
    )


_RIVALS = {side: _rivals(side) for side in Side}


def read_rivals(
    instrument_id: int, side: Side, best: Decimal | None, now: datetime, *, limit: int = 500
) -> list[Contender]:
    """Return resting orders of all users that could trade at ``best`` now, in no order."""
    if best is None:
        return []
    values = {"instrument": instrument_id, "now": now, "best": best, "limit": limit}
    return [Contender(*row) for row in _RIVALS[side].rows(values)]


# --- Fills, positions ----------------------------------------------------------------------------


def read_fills(
    connection_id: UUID, *, order_id: int | None = None, since: datetime | None = None
) -> list[FillRecord]:
    """Return fills of one order, or all since a time, oldest first."""
    condition = "f.order_id = %s" if order_id is not None else "f.filled_at >= %s"
    with database.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT f.order_id, f.number, f.connection_id, o.client_order_id,
                o.instrument ->> 'exchange', o.side, f.quantity, f.price, f.filled_at
            FROM brokerages_paperfill f JOIN brokerages_paperorder o ON o.id = f.order_id
            WHERE f.connection_id = %s AND {condition} ORDER BY f.filled_at, f.order_id, f.number
            """,  # noqa: S608 - one of two constants
            [connection_id, order_id if order_id is not None else since],
        )
        return [_fill(*row) for row in cursor.fetchall()]


def _fill(order_id: int, number: int, connection_id: UUID, *rest: Any) -> FillRecord:
    tag, exchange, side, quantity, price, filled_at = rest
    return FillRecord(
        order_id,
        number,
        connection_id,
        tag,
        Exchange(exchange),
        Side(side),
        quantity,
        price,
        filled_at,
    )


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
            f"""
            SELECT connection_id, instrument, product, day, quantity, cost, margin, realised, bought
            FROM brokerages_paperposition {where}
            """,  # noqa: S608 - one of two constants
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


def lock_book(instrument_id: int, quote: Quote, now: datetime) -> Book:
    """Lock what was taken from the instrument's book, for this quote's sequence.

    A source that was started anew counts from the beginning: once nothing was matched for a while,
    any quote is the latest.

    Raises:
        StaleQuote: a newer book of the same source was matched a moment ago.
    """
    row = _lock_book_row(instrument_id, quote.source)
    if row is None:
        with database.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO brokerages_paperbook (
                    instrument_id, source, sequence, quoted_at, matched_at, taken
                ) VALUES (%s, %s, %s, %s, %s, '{}') ON CONFLICT DO NOTHING
                """,
                [instrument_id, quote.source, quote.sequence, quote.at, now],
            )
        row = _lock_book_row(instrument_id, quote.source)
        assert row is not None  # noqa: S101 - rows of this table are never deleted
    sequence, quoted_at, matched_at, taken = row
    if sequence == quote.sequence:
        return Book(instrument_id, quote.source, sequence, quoted_at, now, json.loads(taken))
    behind = sequence > quote.sequence and quoted_at >= quote.at
    if behind and now - matched_at < MOMENT:
        raise StaleQuote
    return Book(instrument_id, quote.source, quote.sequence, quote.at, now, {})


_LOCK_BOOK = Statement(
    "SELECT sequence, quoted_at, matched_at, taken FROM brokerages_paperbook"
    " WHERE instrument_id = %s AND source = %s FOR NO KEY UPDATE"
)


def _lock_book_row(instrument_id: int, source: str) -> tuple[int, datetime, datetime, str] | None:
    row: tuple[int, datetime, datetime, str] | None = _LOCK_BOOK.row([instrument_id, source])
    return row


def day_start(now: datetime) -> datetime:
    """Return the last midnight in India before ``now``."""
    return datetime.combine(today(now), datetime.min.time(), IST)


def today(now: datetime) -> date:
    """Return the trading day of ``now``, in India."""
    return now.astimezone(IST).date()
