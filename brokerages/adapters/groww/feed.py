"""What travels over Groww's feed: subjects, and protobuf messages in our words. No network.

Messages are read with the classes that the SDK brings. Prices of ticks are rupees. Order updates
carry whole numbers that fit paise only; nothing documents it, so an order's terms are not taken
from them, and whoever is told of a fill reads the order.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from growwapi.groww.proto.stock_orders_socket_response_pb2 import OrderDetailsBroadCastDto
from growwapi.groww.proto.stocks_socket_response_pb2 import StocksSocketResponseProtoDto

from brokerages.adapters.groww.answers import BROKER
from brokerages.adapters.groww.mapping import CHANGING, status_of, venue_of
from brokerages.adapters.groww.market import LEVELS, feed_token
from brokerages.errors import NotSupported
from brokerages.types import (
    BookLevel,
    InstrumentKind,
    InstrumentRef,
    OrderHint,
    OrderReport,
    Quote,
    QuoteDepth,
    ReportedStatus,
    Tick,
)

logger = logging.getLogger(__name__)

ORDERS = ("stocks/order/updates.apex.", "stocks_fo/order/updates.apex.")
ENDS = frozenset({ReportedStatus.CANCELLED, ReportedStatus.REJECTED})
FOUR = Decimal("0.0001")
PAISE = Decimal(100)
_FOLDERS = {"CASH": "eq", "FNO": "fo"}
_STATUS = OrderDetailsBroadCastDto.DESCRIPTOR.fields_by_name[
    "orderDetailUpdateDto"
].message_type.fields_by_name
_STATUS_WORDS = _STATUS["orderStatus"].enum_type.values_by_number
_TYPE_WORDS = _STATUS["orderType"].enum_type.values_by_number


def order_subjects(subscription_id: str) -> list[str]:
    """Return where the account's order updates come.

    Raises:
        ValueError: no such id, e.g. one with a wildcard.
    """
    if not subscription_id.replace("-", "").replace("_", "").isalnum():
        raise ValueError("not a subscription id")
    return [prefix + subscription_id for prefix in ORDERS]


def is_order(subject: str) -> bool:
    return subject.startswith(ORDERS)


def tick_subjects(instrument: InstrumentRef, depth: QuoteDepth) -> list[str]:
    """Return where an instrument's ticks come: prices, and for FULL its book as well.

    Raises:
        NotSupported: Groww's number of it is not known, or it has no feed.
    """
    exchange, segment = venue_of(instrument)
    token = feed_token(instrument)
    if not token.replace("-", "").isalnum():
        raise NotSupported(
            f"Groww has no feed of {instrument.key}.", broker=BROKER, code="instrument_unlisted"
        )
    is_index = instrument.kind is InstrumentKind.INDEX
    folder = f"/ld/{'indices' if is_index else _FOLDERS[segment]}/{exchange.lower()}"
    kinds = ["price", "book"] if depth is QuoteDepth.FULL and not is_index else ["price"]
    return [f"{folder}/{kind}.{token}" for kind in kinds]


def order_events(data: bytes, now: datetime) -> list[OrderReport | OrderHint]:
    """Read an order update: what it says and, where it has to be read further (fills, or an end
    that must not be missed), which order. It has no reference of ours and no time.

    Raises:
        ValueError: it is none.
    """
    row = OrderDetailsBroadCastDto.FromString(data).orderDetailUpdateDto
    if not row.growwOrderId:
        raise ValueError("an order update without a number")
    status, kind = _word(_STATUS_WORDS, row.orderStatus), _word(_TYPE_WORDS, row.orderType)
    filled = row.filledQty
    report = OrderReport(
        broker_order_id=row.growwOrderId,
        client_order_id="",
        status=status_of(status, filled, kind),
        filled_quantity=filled,
        average_price=Decimal(row.avgFillPrice) / PAISE if filled and row.avgFillPrice else None,
        reported_at=now,
        message=row.remark,
        exchange_order_id=row.exchangeOrderId,
        quantity=row.qty or None if status != CHANGING else None,
        raw={"feed": "order", "status": status, "filled": filled},
    )
    if not filled and report.status not in ENDS:
        return [report]
    return [report, OrderHint(row.growwOrderId, dedupe_key=f"{status}:{filled}")]


class Board:
    """The latest of each instrument that is subscribed: price and book come apart."""

    def __init__(self) -> None:
        self._last: dict[int, Tick] = {}
        self._day: dict[int, dict[str, Any]] = {}
        self._books: dict[int, dict[str, Any]] = {}
        self._sequence = 0

    def forget(self, instrument: InstrumentRef) -> None:
        for kept in (self._last, self._day, self._books):
            kept.pop(instrument.id, None)

    def tick(self, instrument: InstrumentRef, data: bytes, now: datetime) -> Tick | None:
        """Take a message in; return the tick that it makes, None while the price is not known."""
        message = StocksSocketResponseProtoDto.FromString(data)
        if message.HasField("stocksMarketDepth"):
            return self._book(instrument, message.stocksMarketDepth, now)
        if message.HasField("stocksLiveIndices"):
            return self._price(instrument, message.stocksLiveIndices, "value", now)
        if message.HasField("stockLivePrice"):
            self._take_day(instrument, message.stockLivePrice)
            return self._price(instrument, message.stockLivePrice, "ltp", now)
        return None

    def _take_day(self, instrument: InstrumentRef, row: Any) -> None:
        """Keep the figures of the day that are there: 0 stands for a field that is not filled."""
        day = self._day.setdefault(instrument.id, {})
        for ours, value in (("open", row.open), ("high", row.high), ("low", row.low)):
            if value > 0:
                day[ours] = _decimal(value)
        if row.openInterest > 0:
            day["open_interest"] = int(row.openInterest)
        if row.volume > 0:
            day["volume"] = int(row.volume)

    def _price(self, instrument: InstrumentRef, row: Any, name: str, now: datetime) -> Tick | None:
        value = getattr(row, name)
        if not 0 < value < float("inf"):
            return None
        return self._tell(instrument, _decimal(value), _time(row.tsInMillis, now))

    def _book(self, instrument: InstrumentRef, row: Any, now: datetime) -> Tick | None:
        self._books[instrument.id] = {"bids": _levels(row.buyBook), "asks": _levels(row.sellBook)}
        before = self._last.get(instrument.id)
        if before is None:
            return None
        at = max(_time(row.tsInMillis, now), before.at)
        return self._tell(instrument, before.last_price, at)

    def _tell(self, instrument: InstrumentRef, price: Decimal, at: datetime) -> Tick:
        known = self._day.get(instrument.id, {}) | self._books.get(instrument.id, {})
        self._sequence += 1
        quote = Quote(instrument.id, price, at, BROKER, sequence=self._sequence, **known)
        volume = known.get("volume", 0)
        tick = Tick(instrument.id, price, at, volume, BROKER, quote if known else None)
        self._last[instrument.id] = tick
        return tick


def _levels(book: Any) -> tuple[BookLevel, ...]:
    """Return the levels of one side by their number, best first."""
    rows = [book[level] for level in sorted(book)]
    found = [BookLevel(_decimal(r.price), int(r.qty)) for r in rows if r.price > 0 and r.qty >= 1]
    return tuple(found[:LEVELS])


def _decimal(value: float) -> Decimal:
    """Return a price: four digits are more than any tick has, and drop what binary adds."""
    return Decimal(repr(value)).quantize(FOUR).normalize() + 0


def _time(millis: float, now: datetime) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC) if 0 < millis < 1e14 else now


def _word(words: Any, number: int) -> str:
    value = words.get(number)
    return value.name if value is not None else f"#{number}"
