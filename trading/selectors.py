"""Reads, each for one user. Another user's object looks the same as none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import Q, QuerySet
from django.utils import timezone

from audit.sql import Statement
from brokerages.registry import is_venue
from brokerages.types import ZERO, Product, Quote
from marketdata.broker_prices import quotes_shown
from marketdata.quotes import quotes_latest
from marketdata.selectors import ref_by_id, ref_by_key
from trading.errors import NotFound
from trading.models import Fill, Notification, Order, OrderEvent, Position, Trade
from trading.order_states import CLOSED
from trading.outputs import (
    ORDER_FIELDS,
    POSITION_FIELDS,
    fill_output,
    order_event_output,
    order_output,
    position_output,
    rupees,
    trade_output,
)
from trading.pnl import OpenQuantity, average, unrealised

IST = ZoneInfo("Asia/Kolkata")
DELIVERY = (Product.CNC.value, Product.MTF.value)

# How far before the last known event a replay begins: sequence numbers can commit out of order.
OVERLAP = timedelta(seconds=30)
OVERLAP_EVENTS = 1000


def _select(fields: Iterable[str], table: str) -> str:
    """Return a SELECT of ``values()`` names; a name of the connection is read from there."""
    columns = [
        f"c.{name.removeprefix('connection__')}" if "__" in name else f"t.{name}" for name in fields
    ]
    return (
        f"SELECT {', '.join(columns)} FROM {table} t"  # noqa: S608 - constants
        " JOIN brokerages_brokerconnection c ON c.id = t.connection_id WHERE t.user_id = %(user)s"
    )


# The two lists that every client keeps asking for; the ORM would build each query anew.
_NEWEST = " ORDER BY t.id DESC LIMIT %(limit)s"
_ORDERS = Statement(_select(ORDER_FIELDS, "trading_order") + _NEWEST)
_ORDERS_BEFORE = Statement(
    _select(ORDER_FIELDS, "trading_order") + " AND t.id < %(cursor)s" + _NEWEST
)
_SHOWN = " AND (t.quantity <> 0 OR t.last_fill_at >= %(midnight)s)"
_LATEST = " ORDER BY t.last_fill_at DESC, t.id"
_POSITIONS = Statement(_select(POSITION_FIELDS, "trading_position") + _SHOWN + _LATEST)
_POSITIONS_OF = Statement(
    _select(POSITION_FIELDS, "trading_position")
    + _SHOWN
    + " AND t.connection_id = %(connection)s"
    + _LATEST
)

Quotes = Mapping[tuple[str, int], Quote]
"""By broker and instrument: a position at a real broker is worth what that broker quotes. The
platform's own prices, which paper trades at, are under the name "".
"""
Page = tuple[list[dict[str, Any]], str | None]

_PRICED = ("connection_id", "connection__broker", "instrument_id")  # what a price is looked up by
_CLOSED = [status.value for status in sorted(CLOSED)]
_FILL_FIELDS = (
    "id", "order_id", "connection_id", "instrument_id", "side", "product", "quantity", "price",
    "fill_id", "filled_at",
)  # fmt: skip


def order_list(
    *,
    user_id: UUID,
    status: str | None = None,
    symbol: str | None = None,
    connection_id: UUID | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page:
    """Return orders, newest first, and the cursor of the next page. ``status``: open, closed or one
    status word.
    """
    if not (status or symbol or connection_id):  # what every client and the dashboard asks for
        values = {"user": user_id, "cursor": cursor, "limit": limit + 1}
        found = [
            dict(zip(ORDER_FIELDS, row, strict=True))
            for row in (_ORDERS_BEFORE if cursor else _ORDERS).rows(values)
        ]
        return [order_output(row) for row in found[:limit]], _following(found, limit)
    orders = Order.objects.filter(user_id=user_id)
    if status == "open":
        orders = orders.exclude(status__in=_CLOSED)
    elif status == "closed":
        orders = orders.filter(status__in=_CLOSED)
    elif status:
        orders = orders.filter(status=status)
    if connection_id is not None:
        orders = orders.filter(connection_id=connection_id)
    if symbol:
        ref = ref_by_key(symbol)
        orders = orders.filter(instrument_id=ref.id) if ref else orders.none()
    rows, following = _page(orders, ORDER_FIELDS, limit, cursor)
    return [order_output(row) for row in rows], following


def order_get(*, user_id: UUID, order_id: UUID) -> dict[str, Any]:
    """Return the user's order.

    Raises:
        NotFound: no such order, or another user's.
    """
    row = Order.objects.filter(pk=order_id, user_id=user_id).values(*ORDER_FIELDS).first()
    if row is None:
        raise NotFound("no such order")
    return order_output(row)


def order_events(*, user_id: UUID, order_id: UUID) -> list[dict[str, Any]]:
    """Return the whole timeline of the user's order, oldest first."""
    order_get(user_id=user_id, order_id=order_id)
    return [
        order_event_output(row)
        for row in OrderEvent.objects.filter(order_id=order_id).order_by("id").values()
    ]


def order_events_since(*, user_id: UUID, sequence: int, limit: int = 1000) -> list[dict[str, Any]]:
    """Return the user's order events after ``sequence`` with each order as it is now, oldest first.

    Sequence numbers can commit out of order, so events of the last seconds before ``sequence`` come
    again; the number tells a client which it has.
    """
    missed = Q(id__gt=sequence)
    before = OrderEvent.objects.filter(user_id=user_id, id__lte=sequence).order_by("-id")
    if known := list(before.values_list("id", "at")[:OVERLAP_EVENTS]):
        since = known[0][1] - OVERLAP
        missed |= Q(id__in=[pk for pk, at in known if at >= since])
    events = list(
        OrderEvent.objects.filter(missed, user_id=user_id).order_by("id").values()[:limit]
    )
    orders = {
        row["id"]: row
        for row in Order.objects.filter(pk__in={e["order_id"] for e in events}).values(
            *ORDER_FIELDS
        )
    }
    return [
        {
            "sequence": event["id"],
            "order": order_output(orders[event["order_id"]]),
            "event": order_event_output(event),
        }
        for event in events
    ]


def order_sequence(*, user_id: UUID) -> int:
    """Return the number of the user's latest order event, 0 before the first."""
    return (
        OrderEvent.objects.filter(user_id=user_id)
        .order_by("-id")
        .values_list("id", flat=True)
        .first()
        or 0
    )


def quotes_held(*, user_id: UUID) -> Quotes:
    """Return one reading of the latest quotes of everything the user holds or traded today, for
    lists that are shown together: their figures then agree.
    """
    positions = Position.objects.filter(
        Q(last_fill_at__gte=_today_start()) | ~Q(quantity=0), user_id=user_id
    )
    return _quotes(positions.values(*_PRICED))


def position_list(
    *, user_id: UUID, connection_id: UUID | None = None, quotes: Quotes | None = None
) -> list[dict[str, Any]]:
    """Return positions that are open or were traded today (IST), latest fill first, at the latest
    prices, or at those of ``quotes``.
    """
    values = {"user": user_id, "midnight": _today_start(), "connection": connection_id}
    rows = [
        dict(zip(POSITION_FIELDS, row, strict=True))
        for row in (_POSITIONS_OF if connection_id else _POSITIONS).rows(values)
    ]
    quotes = _quotes(rows) if quotes is None else quotes
    return [position_output(row, quotes.get(_priced_as(row))) for row in rows]


def position_get(*, user_id: UUID, position_id: UUID) -> dict[str, Any]:
    """Return the user's position.

    Raises:
        NotFound: no such position, or another user's.
    """
    row = Position.objects.filter(pk=position_id, user_id=user_id).values(*POSITION_FIELDS).first()
    if row is None:
        raise NotFound("no such position")
    return position_output(row, _quotes([row]).get(_priced_as(row)))


def holding_list(
    *, user_id: UUID, connection_id: UUID | None = None, quotes: Quotes | None = None
) -> list[dict[str, Any]]:
    """Return what the user owns: delivery positions, today's purchases included."""
    positions = Position.objects.filter(user_id=user_id, product__in=DELIVERY, quantity__gt=0)
    if connection_id is not None:
        positions = positions.filter(connection_id=connection_id)
    rows = list(positions.order_by("instrument__symbol", "id").values(*POSITION_FIELDS))
    quotes = _quotes(rows) if quotes is None else quotes
    return [_holding_output(row, quotes.get(_priced_as(row))) for row in rows]


def fill_list(
    *,
    user_id: UUID,
    order_id: UUID | None = None,
    symbol: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page:
    """Return executions, newest first, and the cursor of the next page."""
    fills = Fill.objects.filter(user_id=user_id)
    if order_id is not None:
        fills = fills.filter(order_id=order_id)
    if symbol:
        ref = ref_by_key(symbol)
        fills = fills.filter(instrument_id=ref.id) if ref else fills.none()
    rows, following = _page(fills, _FILL_FIELDS, limit, cursor)
    return [fill_output(row) for row in rows], following


def trade_list(
    *, user_id: UUID, status: str | None = None, limit: int = 50, cursor: str | None = None
) -> Page:
    """Return round trips, newest first, and the cursor of the next page."""
    trades = Trade.objects.filter(user_id=user_id)
    if status:
        trades = trades.filter(status=status)
    rows, following = _page(trades, (), limit, cursor)
    return [trade_output(row) for row in rows], following


def trade_get(*, user_id: UUID, trade_id: UUID) -> dict[str, Any]:
    """Return the user's round trip.

    Raises:
        NotFound: no such trade, or another user's.
    """
    row = Trade.objects.filter(pk=trade_id, user_id=user_id).values().first()
    if row is None:
        raise NotFound("no such trade")
    return trade_output(row)


def pnl_summary(
    *, user_id: UUID, connection_id: UUID | None = None, quotes: Quotes | None = None
) -> dict[str, Any]:
    """Return gross profit and loss over all positions ever held, in rupees, and what is invested
    and worth now.

    ``unrealised_pnl`` and ``value`` leave out instruments without a price; ``unpriced`` counts
    them.
    """
    positions = Position.objects.filter(user_id=user_id)
    if connection_id is not None:
        positions = positions.filter(connection_id=connection_id)
    rows = list(positions.values(*_PRICED, "quantity", "open_cost", "realised_pnl"))
    quotes = _quotes([row for row in rows if row["quantity"]]) if quotes is None else quotes
    open_pnl = value = invested = ZERO
    unpriced = 0
    for row in rows:
        if not row["quantity"]:
            continue
        invested += abs(row["open_cost"])
        if (quote := quotes.get(_priced_as(row))) is None:
            unpriced += 1
            continue
        open_pnl += unrealised(OpenQuantity(row["quantity"], row["open_cost"]), quote.last_price)
        value += row["quantity"] * quote.last_price
    realised = sum((row["realised_pnl"] for row in rows), ZERO)
    return {
        "realised_pnl": rupees(realised),
        "unrealised_pnl": rupees(open_pnl),
        "pnl": rupees(realised + open_pnl),
        "invested": rupees(invested),
        "value": rupees(value),
        "unpriced": unpriced,
    }


def notification_list(
    *, user_id: UUID, unread: bool = False, limit: int = 50, cursor: str | None = None
) -> Page:
    notifications = Notification.objects.filter(user_id=user_id)
    if unread:
        notifications = notifications.filter(read_at__isnull=True)
    return _page(
        notifications,
        ("id", "kind", "title", "body", "data", "created_at", "read_at"),
        limit,
        cursor,
    )


def notification_exists(*, user_id: UUID, notification_id: UUID) -> bool:
    return Notification.objects.filter(user_id=user_id, pk=notification_id).exists()


def notifications_unread(*, user_id: UUID) -> int:
    return Notification.objects.filter(user_id=user_id, read_at__isnull=True).count()


def _page(rows: QuerySet[Any], fields: Iterable[str], limit: int, cursor: str | None) -> Page:
    """Return one keyset page by descending id; ids are time-ordered, so a page never shifts under
    new rows.
    """
    if cursor:
        rows = rows.filter(pk__lt=cursor)
    found = list(rows.order_by("-pk").values(*fields)[: limit + 1])
    return found[:limit], _following(found, limit)


def _following(found: list[dict[str, Any]], limit: int) -> str | None:
    return str(found[limit - 1]["id"]) if len(found) > limit else None


def _quotes(rows: Iterable[Mapping[str, Any]]) -> Quotes:
    ours: set[int] = set()
    theirs: dict[tuple[UUID, str], set[int]] = {}
    for row in rows:
        broker, pk = row["connection__broker"], row["instrument_id"]
        if is_venue(broker):
            ours.add(pk)
        else:
            theirs.setdefault((row["connection_id"], broker), set()).add(pk)
    found: dict[tuple[str, int], Quote] = {
        ("", quote.instrument_id): quote for quote in quotes_latest(ref_by_id(pk) for pk in ours)
    }
    for (connection_id, broker), ids in theirs.items():
        quotes = quotes_shown(connection_id, broker, ids)
        found |= {(broker, pk): quote for pk, quote in quotes.items()}
    return found


def _priced_as(row: Mapping[str, Any]) -> tuple[str, int]:
    broker = row["connection__broker"]
    return "" if is_venue(broker) else broker, row["instrument_id"]


def _today_start() -> datetime:
    return timezone.now().astimezone(IST).replace(hour=0, minute=0, second=0, microsecond=0)


def _holding_output(row: dict[str, Any], quote: Quote | None) -> dict[str, Any]:
    ref = ref_by_id(row["instrument_id"])
    cost: Decimal = row["open_cost"]
    value = row["quantity"] * quote.last_price if quote else None
    return {
        "id": row["id"],
        "connection_id": row["connection_id"],
        "broker": row["connection__broker"],
        "symbol": ref.key,
        "name": ref.name,
        "isin": ref.isin,
        "product": row["product"],
        "quantity": row["quantity"],
        "average_price": rupees(average(cost, row["quantity"])),
        "last_price": rupees(quote.last_price) if quote else None,
        "invested": rupees(cost),
        "value": rupees(value),
        "pnl": rupees(value - cost) if value is not None else None,
        "simulated": quote.simulated if quote else None,
    }
