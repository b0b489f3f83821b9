"""Upstox's words and payloads of orders ↔ ours. Pure Python.

Prices are rupees per unit, quantities units. A word that is not in a table is never guessed at: an
unknown status is UNKNOWN, a row of a product or exchange that we do not trade is left out, anything
else unreadable is a `ValueError`. Source: https://upstox.com/developer/api-documentation/
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from brokerages.adapters.upstox.refusals import BROKER, plain
from brokerages.adapters.upstox.values import (
    Row,
    each,
    moment,
    price,
    read_json,
    record,
    required,
    rows,
    text,
    units,
)
from brokerages.errors import InvalidOrder, NotSupported, OverFreeze
from brokerages.types import (
    Exchange,
    FillReport,
    InstrumentKind,
    InstrumentRef,
    OrderChange,
    OrderHint,
    OrderReport,
    OrderRequest,
    OrderType,
    PositionConversion,
    Product,
    ReportedStatus,
    Segment,
    Side,
)

S = ReportedStatus

# The official list has exactly these 17, lower case. The second column tells what is between two
# requests: an order in one of those is as it was before, which the word does not say.
STATUSES: dict[str, ReportedStatus] = {
    "put order req received": S.RECEIVED,
    "validation pending": S.RECEIVED,
    "open pending": S.RECEIVED,
    "after market order req received": S.RECEIVED,
    "modify after market order req received": S.RECEIVED,
    "open": S.OPEN,
    "trigger pending": S.TRIGGER_PENDING,
    "modify validation pending": S.OPEN,
    "modify pending": S.OPEN,
    "modified": S.OPEN,
    "not modified": S.OPEN,
    "cancel pending": S.PENDING_CANCEL,
    "not cancelled": S.OPEN,
    "complete": S.FILLED,
    "cancelled": S.CANCELLED,
    "cancelled after market order": S.CANCELLED,
    "rejected": S.REJECTED,
}
# A stop in one of these may or may not have been triggered.
_IN_BETWEEN = frozenset(
    {"modify validation pending", "modify pending", "modified", "not modified", "not cancelled"}
)
_ENDS = frozenset({S.FILLED, S.CANCELLED, S.REJECTED})

EXCHANGES = {
    "NSE": Exchange.NSE,
    "BSE": Exchange.BSE,
    "NFO": Exchange.NFO,
    "BFO": Exchange.BFO,
    "CDS": Exchange.CDS,
    "MCX": Exchange.MCX,
}
EQUITY_SEGMENTS = {Exchange.NSE: "NSE_EQ", Exchange.BSE: "BSE_EQ"}
INDEX_SEGMENTS = {Exchange.NSE: "NSE_INDEX", Exchange.BSE: "BSE_INDEX"}
# Index keys keep the exchange's own spelling. For any other index the key comes from the list.
INDEX_NAMES = {
    "NIFTY 50": "Nifty 50",
    "NIFTY BANK": "Nifty Bank",
    "NIFTY FIN SERVICE": "Nifty Fin Service",
    "NIFTY MID SELECT": "NIFTY MID SELECT",
    "INDIA VIX": "India VIX",
    "SENSEX": "SENSEX",
    "BANKEX": "BANKEX",
}
_PRODUCTS = {
    Product.CNC: "D",
    Product.NRML: "D",
    Product.MIS: "I",
    Product.MTF: "MTF",
}
_DELIVERED = frozenset({Product.CNC, Product.MTF})
BROKERS_OWN_PROTECTION = -1  # percent: the exchange's default
MOST_SLICES = 25
MAX_TOKEN = 4096
SLICED = "SLICED"  # ends the tag of an order that the broker splits, so that its rows are known


# --- Words ----------------------------------------------------------------------------------------


def instrument_key(instrument: InstrumentRef) -> str:
    """Return Upstox's name of an instrument, e.g. ``NSE_EQ|INE002A01018``.

    Raises:
        NotSupported: it is in no list of the broker, and its key cannot be built.
    """
    if instrument.broker_token:
        return instrument.broker_token
    if instrument.kind is InstrumentKind.INDEX:
        if (name := INDEX_NAMES.get(instrument.symbol)) and instrument.exchange in INDEX_SEGMENTS:
            return f"{INDEX_SEGMENTS[instrument.exchange]}|{name}"
    elif instrument.isin and instrument.exchange in EQUITY_SEGMENTS:
        return f"{EQUITY_SEGMENTS[instrument.exchange]}|{instrument.isin}"
    raise NotSupported(
        f"Upstox's instrument list does not have {instrument.key}.",
        broker=BROKER,
        code="instrument_not_listed",
    )


def product_word(product: Product, instrument: InstrumentRef) -> str:
    """Return the broker's product. Delivery and carried derivatives share one word, so that a
    product that does not fit the instrument is refused here rather than become another.
    """
    delivers = instrument.segment is Segment.EQUITY
    if (product in _DELIVERED and not delivers) or (product is Product.NRML and delivers):
        raise InvalidOrder(
            f"The product {product} does not fit {instrument.key}.",
            broker=BROKER,
            code="product_does_not_fit",
        )
    return _PRODUCTS[product]


def is_share(key: str) -> bool:
    return key.startswith(("NSE_EQ|", "BSE_EQ|"))


def product_of(word: str, key: str) -> Product | None:
    """Return our product, or None for one that we do not trade (e.g. CO). ``key`` is the
    instrument's.
    """
    if word == "D":
        return (
            Product.CNC if key.split("|", maxsplit=1)[0] in ("NSE_EQ", "BSE_EQ") else Product.NRML
        )
    return {"I": Product.MIS, "MTF": Product.MTF}.get(word)


def symbol_of(row: Row, key: str) -> str:
    """Return the exchange's symbol of a row; share symbols may carry their series (``NHPC-EQ``)."""
    symbol = text(row, "trading_symbol") or required(row, "tradingsymbol")
    return (
        symbol.removesuffix("-EQ")
        if key.split("|", maxsplit=1)[0] in ("NSE_EQ", "BSE_EQ")
        else symbol
    )


# --- Requests -------------------------------------------------------------------------------------


def is_sliced(request: OrderRequest) -> bool:
    """Return whether the order is above the freeze quantity, so that the broker has to split it."""
    freeze = request.instrument.freeze_quantity
    return bool(freeze) and request.quantity > (freeze or 0)


def tag_of(request: OrderRequest) -> str:
    return request.client_order_id + (SLICED if is_sliced(request) else "")


def client_tag(row: Row) -> str:
    """Return our tag of a row, also where it is a slice."""
    return text(row, "tag").removesuffix(SLICED)


def build_order(request: OrderRequest) -> dict[str, Any]:
    """Return the body of ``POST /v3/order/place``.

    Raises:
        NotSupported, InvalidOrder, OverFreeze: the broker has no way to say this.
    """
    sliced, freeze = is_sliced(request), request.instrument.freeze_quantity
    if sliced and freeze and request.quantity > freeze * MOST_SLICES:
        raise OverFreeze(
            f"Upstox splits an order into at most {MOST_SLICES} parts of {freeze} units.",
            broker=BROKER,
            code="too_many_slices",
        )
    if request.iceberg_legs:
        raise NotSupported(
            "Upstox takes no iceberg orders.", broker=BROKER, code="iceberg_not_supported"
        )
    return {
        "instrument_token": instrument_key(request.instrument),
        "transaction_type": request.side.value,
        "quantity": request.quantity,
        "product": product_word(request.product, request.instrument),
        "is_amo": request.after_market,
        "tag": tag_of(request),
        "slice": sliced,
        **_terms(
            request.order_type,
            request.price,
            request.trigger_price,
            request.disclosed_quantity,
            request.market_protection,
        ),
        "validity": request.validity.value,
    }


def build_change(
    broker_order_id: str, change: OrderChange, request: OrderRequest
) -> dict[str, Any]:
    """Return the body of ``PUT /v3/order/modify``. ``request`` gives the market protection.

    Raises:
        InvalidOrder, OverFreeze: the broker has no way to say this.
    """
    freeze = request.instrument.freeze_quantity
    if freeze and change.quantity > freeze:  # only a new order is split
        raise OverFreeze(
            f"An order cannot be raised above {freeze} units.", broker=BROKER, code="over_freeze"
        )
    return {
        "order_id": broker_order_id,
        "quantity": change.quantity,
        "validity": change.validity.value,
        **_terms(
            change.order_type,
            change.price,
            change.trigger_price,
            change.disclosed_quantity,
            request.market_protection,
        ),
    }


def _terms(
    order_type: OrderType,
    limit: Decimal | None,
    trigger: Decimal | None,
    disclosed: int,
    protection: Decimal | None,
) -> dict[str, Any]:
    terms: dict[str, Any] = {
        "order_type": order_type.value,
        "price": limit if order_type.has_price and limit is not None else 0,
        "trigger_price": trigger if order_type.has_trigger and trigger is not None else 0,
        "disclosed_quantity": disclosed,
    }
    if not order_type.has_price:  # refused without a protection since April 2026
        if protection is not None and not 1 <= protection <= 25:
            raise InvalidOrder(
                "The market protection is a percentage from 1 to 25.",
                broker=BROKER,
                code="market_protection",
            )
        terms["market_protection"] = BROKERS_OWN_PROTECTION if protection is None else protection
    return terms


def build_conversion(conversion: PositionConversion) -> dict[str, Any]:
    """Return the body of ``PUT /v2/portfolio/convert-position``."""
    instrument = conversion.instrument
    return {
        "instrument_token": instrument_key(instrument),
        "transaction_type": conversion.side.value,
        "quantity": conversion.quantity,
        "old_product": product_word(conversion.old_product, instrument),
        "new_product": product_word(conversion.new_product, instrument),
    }


def build_margin(requests: Sequence[OrderRequest]) -> dict[str, Any]:
    """Return the body of ``POST /v2/charges/margin``. Without a price the broker takes the last."""
    instruments = []
    for request in requests:
        leg: dict[str, Any] = {
            "instrument_key": instrument_key(request.instrument),
            "quantity": request.quantity,
            "transaction_type": request.side.value,
            "product": product_word(request.product, request.instrument),
        }
        if request.order_type.has_price and request.price is not None:
            leg["price"] = request.price
        instruments.append(leg)
    return {"instruments": instruments}


# --- Orders ---------------------------------------------------------------------------------------


def parse_order(row: Row, now: datetime) -> OrderReport:
    """Read one row of the book, of the details or of the stream.

    ``reported_at`` is the later of the broker's two times, ``now`` where it gives none. There is no
    word for a partial fill: it is a live order with something filled.
    """
    word, order_type = required(row, "status"), text(row, "order_type")
    status = STATUSES.get(word, S.UNKNOWN)
    filled, quantity = units(row, "filled_quantity"), units(row, "quantity")
    if status in (S.OPEN, S.TRIGGER_PENDING) and 0 < filled < quantity:
        status = S.PARTIALLY_FILLED
    elif word in _IN_BETWEEN and order_type in (OrderType.SL, OrderType.SL_M):
        status = S.UNKNOWN
    times = [
        at for name in ("order_timestamp", "exchange_timestamp") if (at := moment(row.get(name)))
    ]
    return OrderReport(
        broker_order_id=required(row, "order_id"),
        client_order_id=client_tag(row),
        status=status,
        filled_quantity=filled,
        average_price=price(row, "average_price") if filled else None,
        reported_at=max((at for at in times if at), default=now),
        message=plain(text(row, "status_message") or text(row, "status_message_raw")),
        exchange_order_id=text(row, "exchange_order_id"),
        quantity=quantity or None,
        price=price(row, "price") if order_type in (OrderType.LIMIT, OrderType.SL) else None,
        trigger_price=(
            price(row, "trigger_price") if order_type in (OrderType.SL, OrderType.SL_M) else None
        ),
        raw={"status": word},
    )


def parse_book(data: Any, now: datetime) -> tuple[list[OrderReport], int]:
    """Read the day's orders, oldest first, and how many could not be read. The slices of one order
    become one report.
    """
    found: dict[str, list[Row]] = {}
    for row in rows(data):
        tag = row.get("tag")
        sliced = isinstance(tag, str) and tag.endswith(SLICED)
        found.setdefault(str(tag if sliced else row.get("order_id")), []).append(row)
    reports, unread = each(
        found.values(), lambda group: merge([parse_order(row, now) for row in group])
    )
    return sorted(reports, key=lambda report: report.broker_order_id), unread


def parse_history(data: Any, now: datetime) -> OrderReport | None:
    """Read ``GET /v2/order/history`` by tag: every state of every order that carries it.

    Times are whole seconds, so that the states of one second are told apart by what they mean: an
    end comes after a rest, a rest after the way there, more filled after less.
    """
    history = rows(data)
    if len(history) > 1 and text(history[0], "order_timestamp") > text(
        history[-1], "order_timestamp"
    ):
        history = history[::-1]
    latest: dict[str, tuple[tuple[int, int, str, int], Row]] = {}
    for index, row in enumerate(history):
        status = STATUSES.get(required(row, "status"), S.UNKNOWN)
        rank = 2 if status in _ENDS else 0 if status is S.RECEIVED else 1
        key = (rank, units(row, "filled_quantity"), text(row, "order_timestamp"), index)
        number = required(row, "order_id")
        if number not in latest or latest[number][0] < key:
            latest[number] = (key, row)
    if not latest:
        return None
    return merge([parse_order(row, now) for _, row in latest.values()])


def merge(reports: Sequence[OrderReport]) -> OrderReport:
    """Return one report of the slices of an order, under the lowest of their numbers.

    It is at its end when all slices are: filled when all are, rejected when all are, else
    cancelled with what was filled.
    """
    if len(reports) == 1:
        return reports[0]
    first = min(reports, key=lambda report: report.broker_order_id)
    filled = sum(report.filled_quantity for report in reports)
    quantity = sum(report.quantity or 0 for report in reports)
    value = sum(
        (r.filled_quantity * r.average_price for r in reports if r.average_price), Decimal(0)
    )
    return OrderReport(
        broker_order_id=first.broker_order_id,
        client_order_id=first.client_order_id,
        status=_merged({report.status for report in reports}, filled),
        filled_quantity=filled,
        average_price=value / filled if filled else None,
        reported_at=max(report.reported_at for report in reports),
        message=next((report.message for report in reports if report.message), ""),
        exchange_order_id=first.exchange_order_id,
        quantity=quantity or None,
        price=first.price,
        trigger_price=first.trigger_price,
        raw={"slices": sorted(report.broker_order_id for report in reports)},
    )


def _merged(statuses: set[ReportedStatus], filled: int) -> ReportedStatus:
    if statuses <= _ENDS:
        return next(iter(statuses)) if len(statuses) == 1 else S.CANCELLED
    alive = statuses - _ENDS
    if S.UNKNOWN in alive:
        return S.UNKNOWN
    if filled:
        return S.PARTIALLY_FILLED
    return alive.pop() if len(alive) == 1 else S.OPEN


def parse_trades(data: Any, orders: Iterable[Row]) -> tuple[list[FillReport], int]:
    """Read the day's trades, oldest first, and how many could not be read. ``orders`` is the book:
    it knows the tags, and which numbers are slices of one order.
    """
    tags = {text(row, "order_id"): text(row, "tag") for row in orders}
    first: dict[str, str] = {}
    for number, tag in sorted(tags.items(), reverse=True):
        if tag.endswith(SLICED):
            first[tag] = number
    traded = [row for row in rows(data) if row.get("exchange") in EXCHANGES]
    fills, unread = each(traded, lambda row: _fill(row, tags, first))
    return sorted(fills, key=lambda fill: fill.filled_at), unread


def _fill(row: Row, tags: Mapping[str, str], first: Mapping[str, str]) -> FillReport:
    number = required(row, "order_id")
    tag = tags.get(number, "")
    at = moment(row.get("exchange_timestamp")) or moment(row.get("order_timestamp"))
    paid = price(row, "average_price")
    if at is None or paid is None:
        raise ValueError("a trade without a time or a price")
    return FillReport(
        fill_id=required(row, "trade_id"),
        broker_order_id=first.get(tag, number),
        client_order_id=tag.removesuffix(SLICED),
        exchange=EXCHANGES[required(row, "exchange")],
        side=Side(required(row, "transaction_type")),
        quantity=units(row, "quantity"),
        price=paid.quantize(Decimal("0.0001"), ROUND_HALF_UP),  # as fills are stored and compared
        filled_at=at,
    )


def parse_update(message: Row, now: datetime) -> OrderReport | OrderHint | None:
    """Read one message of the portfolio stream; None if it is of no order.

    A slice alone does not say how its order stands, and a message that cannot be read still names
    its order: both become hints.
    """
    if message.get("update_type", "order") != "order":
        return None
    if text(message, "tag").endswith(SLICED):
        return OrderHint(broker_order_id="", client_order_id=client_tag(message))
    try:
        return parse_order(message, now)
    except ValueError:
        return OrderHint(required(message, "order_id"))


def parse_postback(body: bytes) -> list[OrderHint]:
    """Read a postback: the payload of the stream, unsigned, so that it is never more than a hint.

    Raises:
        ValueError: not a postback.
    """
    message = record(read_json(body))
    kind = text(message, "update_type")
    if kind == "gtt_order":
        return []
    if kind not in ("", "order"):
        raise ValueError(f"an update of another kind: {kind[:32]}")
    sliced = text(message, "tag").endswith(SLICED)
    number = required(message, "order_id")
    digest = hashlib.sha256(body).hexdigest()
    return [OrderHint("" if sliced else number, client_tag(message), digest)]
