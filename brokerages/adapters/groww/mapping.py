"""Groww's words and rows in ours, and ours in Groww's. Pure Python.

Prices on REST are rupees, times are IST without an offset, quantities are units and may arrive as
``10.0``. Numbers must have been read as decimals (`answers.read`).

Sources: https://groww.in/trade-api/docs/python-sdk (orders, portfolio, margin, annexures)
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

from brokerages.adapters.groww.answers import BROKER
from brokerages.errors import InvalidOrder, NotSupported, OrderNotFound
from brokerages.types import (
    Exchange,
    FillReport,
    InstrumentRef,
    OrderChange,
    OrderReport,
    OrderRequest,
    OrderType,
    Product,
    ReportedStatus,
    SessionToken,
    Side,
    Validity,
)

logger = logging.getLogger(__name__)

IST = timezone(timedelta(hours=5, minutes=30))
ZERO = Decimal(0)
FILL_STEP = Decimal("0.0001")

S = ReportedStatus

# Ours → Groww's.
VENUES = {
    Exchange.NSE: ("NSE", "CASH"),
    Exchange.BSE: ("BSE", "CASH"),
    Exchange.NFO: ("NSE", "FNO"),
    Exchange.BFO: ("BSE", "FNO"),
}
ORDER_TYPES = {
    OrderType.MARKET: "MARKET",
    OrderType.LIMIT: "LIMIT",
    OrderType.SL: "SL",
    OrderType.SL_M: "SL_M",
}
# The SDK also has constants for MTF, CO, BO and ARB, and for IOC, GTC, GTD and EOS: whether the API
# takes them is not documented, so they are not offered.
PRODUCTS = {Product.CNC: "CNC", Product.MIS: "MIS", Product.NRML: "NRML"}
VALIDITIES = {Validity.DAY: "DAY"}

# Groww's → ours.
EXCHANGES = {words: ours for ours, words in VENUES.items()} | {
    ("MCX", "COMMODITY"): Exchange.MCX,  # seen in portfolios; not offered for trading
}
SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
STATUSES = {
    "NEW": S.RECEIVED,
    "ACKED": S.RECEIVED,
    "TRIGGER_PENDING": S.TRIGGER_PENDING,
    "APPROVED": S.OPEN,
    "OPEN": S.OPEN,  # in every example, though not in the list of statuses
    "CANCELLATION_REQUESTED": S.PENDING_CANCEL,
    "EXECUTED": S.FILLED,
    "DELIVERY_AWAITED": S.FILLED,
    "COMPLETED": S.FILLED,
    "CANCELLED": S.CANCELLED,
    "REJECTED": S.REJECTED,
    "FAILED": S.REJECTED,
}
CHANGING = "MODIFICATION_REQUESTED"
EXECUTED_TRADES = frozenset({"EXECUTED", "DELIVERY_AWAITED", "COMPLETED"})
STOPS = frozenset({"SL", "SL_M"})

SEGMENTS = ("CASH", "FNO")  # where orders of ours can be
ORDER_PAGE = 25  # the page size that both documents of Groww agree on
TRADE_PAGE = 25
CLOSE = time(15, 30)  # of derivatives of shares and indices, in India

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REFERENCE = re.compile(r"(?=.{8,20}\Z)[A-Za-z0-9]+(-[A-Za-z0-9]+){0,2}")


class Terms(NamedTuple):
    """What a resting order is for; None where it is not known."""

    quantity: int | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None


# --- Values ---------------------------------------------------------------------------------------


def amount(value: Any) -> Decimal:
    """Return a number, exact.

    Raises:
        ValueError: no number, or one that was read as a float.
    """
    if isinstance(value, Decimal) and value.is_finite():
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return Decimal(value)
    raise ValueError(f"not an amount: {value!r}")


def optional(value: Any) -> Decimal | None:
    return None if value is None else amount(value)


def positive(value: Any) -> Decimal | None:
    """Return a price, or None for null and 0, which Groww sends where there is none."""
    number = optional(value)
    return number if number is not None and number > 0 else None


def fill_price(value: Decimal) -> Decimal:
    """Return the price of an execution as it is kept, in hundredths of a paisa: Groww's averages
    have more digits.
    """
    return value.quantize(FILL_STEP, ROUND_HALF_UP)


def units(value: Any) -> int:
    """Return a quantity; null is none.

    Raises:
        ValueError: no whole number.
    """
    number = amount(0 if value is None else value)
    if number != number.to_integral_value():
        raise ValueError(f"not a quantity: {value!r}")
    return int(number)


def moment(value: Any) -> datetime:
    """Return a time of Groww's as aware UTC. Without an offset it is IST; a trailing ``Z`` in its
    examples is no offset.

    Raises:
        ValueError: no time.
    """
    if not isinstance(value, str):
        raise ValueError(f"not a time: {value!r}")
    at = datetime.fromisoformat(value.strip().removesuffix("Z"))
    return (at if at.tzinfo else at.replace(tzinfo=IST)).astimezone(UTC)


# --- Orders ---------------------------------------------------------------------------------------


def segment_of(instrument: InstrumentRef) -> str:
    """Return Groww's segment, which most of its order calls want.

    Raises:
        NotSupported: it has none for the exchange.
    """
    return venue_of(instrument)[1]


def venue_of(instrument: InstrumentRef) -> tuple[str, str]:
    """Return Groww's (exchange, segment)."""
    try:
        return VENUES[instrument.exchange]
    except KeyError:
        raise _unsupported(f"the exchange {instrument.exchange}") from None


def symbol_of(instrument: InstrumentRef) -> str:
    return instrument.broker_symbol or instrument.symbol


def order_id(value: str) -> str:
    """Return a number that may stand in a path.

    Raises:
        OrderNotFound: Groww cannot have given such a number.
    """
    if not _ID.fullmatch(value):
        raise OrderNotFound("Groww knows no such order.", broker=BROKER, code="unknown_order")
    return value


def build_order(request: OrderRequest) -> dict[str, Any]:
    """Return the arguments of the SDK's ``place_order``.

    Raises:
        NotSupported: terms that Groww cannot express.
        InvalidOrder: a price that JSON cannot carry exactly.
    """
    _check_expressible(request)
    exchange, segment = venue_of(request.instrument)
    return {
        "trading_symbol": symbol_of(request.instrument),
        "exchange": exchange,
        "segment": segment,
        "transaction_type": request.side.value,
        "quantity": request.quantity,
        "order_type": ORDER_TYPES[request.order_type],
        "product": PRODUCTS[request.product],
        "validity": VALIDITIES[request.validity],
        "price": _number(request.price) if request.order_type.has_price else 0.0,
        "trigger_price": _number(request.trigger_price) if request.order_type.has_trigger else None,
        "order_reference_id": request.client_order_id,
    }


def build_change(number: str, change: OrderChange, request: OrderRequest) -> dict[str, Any]:
    """Return the arguments of the SDK's ``modify_order``. The quantity is the new total."""
    if change.validity not in VALIDITIES:
        raise _unsupported(f"{change.validity} orders")
    if change.disclosed_quantity:
        raise _unsupported("disclosed quantities")
    kind = change.order_type
    return {
        "groww_order_id": order_id(number),
        "segment": segment_of(request.instrument),
        "order_type": ORDER_TYPES[kind],
        "quantity": change.quantity,
        "price": _number(change.price) if kind.has_price else None,
        "trigger_price": _number(change.trigger_price) if kind.has_trigger else None,
    }


def build_margin(request: OrderRequest, price: Decimal) -> dict[str, Any]:
    """Return one order of the SDK's ``get_order_margin_details``; ``price`` is in rupees."""
    exchange, _ = venue_of(request.instrument)
    return {
        "trading_symbol": symbol_of(request.instrument),
        "exchange": exchange,
        "transaction_type": request.side.value,
        "quantity": request.quantity,
        "order_type": ORDER_TYPES[request.order_type],
        "product": PRODUCTS[request.product],
        "price": _number(price),
    }


def reference(tag: str) -> str:
    """Return the tag as an order reference: 8 to 20 letters and digits, at most two hyphens."""
    if not _REFERENCE.fullmatch(tag):
        raise _unsupported(f"the order reference {tag!r}")
    return tag


def parse_ack(payload: Mapping[str, Any]) -> str:
    """Return the number of the order that an answer is about.

    Raises:
        ValueError: it names none.
    """
    number = payload.get("groww_order_id")
    if not isinstance(number, str) or not _ID.fullmatch(number):
        raise ValueError("no order number")
    return number


def parse_order(row: Mapping[str, Any], asked_at: datetime) -> OrderReport:
    """Read an order of the list or the detail. There is no word for a partial fill: it is a resting
    order with a filled quantity. While a change is under way nobody can tell whether the terms are
    those before or after it.

    The row's own times are those of its registration, so it is as old as the request for it:
    ``asked_at`` is the time just before that.
    """
    filled = units(row["filled_quantity"])
    terms = Terms(
        units(row["quantity"]), positive(row.get("price")), positive(row.get("trigger_price"))
    )
    if row["order_status"] == CHANGING:
        terms = Terms()
    return OrderReport(
        broker_order_id=parse_ack(row),
        client_order_id=str(row.get("order_reference_id") or ""),
        status=status_of(row["order_status"], filled, str(row.get("order_type"))),
        filled_quantity=filled,
        average_price=positive(row.get("average_fill_price")) if filled else None,
        reported_at=asked_at,
        message=str(row.get("remark") or ""),
        exchange_order_id=str(row.get("exchange_order_id") or ""),
        quantity=terms.quantity,
        price=terms.price,
        trigger_price=terms.trigger_price,
        raw=dict(row),
    )


def parse_status(row: Mapping[str, Any], asked_at: datetime) -> OrderReport:
    """Read the short answer about one order: it has neither terms nor prices nor a time."""
    filled = units(row.get("filled_quantity"))
    return OrderReport(
        broker_order_id=parse_ack(row),
        client_order_id=str(row.get("order_reference_id") or ""),
        status=status_of(row["order_status"], filled, ""),
        filled_quantity=filled,
        average_price=None,
        reported_at=asked_at,
        message=str(row.get("remark") or ""),
        raw=dict(row),
    )


def status_of(word: Any, filled: int, order_type: str) -> ReportedStatus:
    """Return what a status means. A word that we do not know changes nothing."""
    if word == CHANGING:
        # In force is what was before; of a stop nobody can tell whether it had been triggered.
        status = S.UNKNOWN if order_type in STOPS and not filled else S.OPEN
    else:
        status = STATUSES.get(word, S.UNKNOWN)
        if status is S.UNKNOWN:
            logger.error("groww reports an order status that we do not know: %.40r", word)
    if status is S.OPEN and filled:
        return S.PARTIALLY_FILLED
    return status


def parse_fills(
    rows: Sequence[Mapping[str, Any]], report: OrderReport, now: datetime
) -> list[FillReport]:
    """Read the trades of one order, each once, oldest first.

    A trade without the exchange's number is left out until it has one: under any other name it
    would be counted again later.
    """
    found: dict[str, FillReport] = {}
    for row in rows:
        if row["trade_status"] not in EXECUTED_TRADES:
            if row["trade_status"] != "CANCELLED":
                logger.error(
                    "groww reports a trade status that we do not know: %.40r", row["trade_status"]
                )
            continue
        number = str(row.get("exchange_trade_id") or "")
        if not number:
            logger.info("groww has a trade that the exchange has not numbered yet")
            continue
        at = row.get("trade_date_time") or row.get("created_at")
        found[number] = FillReport(
            fill_id=number,
            broker_order_id=report.broker_order_id,
            client_order_id=report.client_order_id,
            exchange=EXCHANGES[(row["exchange"], row["segment"])],
            side=SIDES[row["transaction_type"]],
            quantity=units(row["quantity"]),
            price=fill_price(amount(row["price"])),
            filled_at=moment(at) if at else now,
        )
    return sorted(found.values(), key=lambda fill: fill.filled_at)


def fill_of_total(report: OrderReport) -> FillReport | None:
    """Return all that an ended order filled as one execution at its average: what is left where
    Groww has no trades of it. None while it may still trade, or without a price. Number and time
    are the same whenever it is read.

    Raises:
        ValueError: the order has no time.
    """
    ended = report.status in (S.FILLED, S.CANCELLED, S.REJECTED)
    if not ended or not report.filled_quantity or report.average_price is None:
        return None
    times = [report.raw.get("created_at"), report.raw.get("exchange_time")]
    return FillReport(
        fill_id=f"{report.broker_order_id}-ALL",
        broker_order_id=report.broker_order_id,
        client_order_id=report.client_order_id,
        exchange=EXCHANGES[(report.raw["exchange"], report.raw["segment"])],
        side=SIDES[report.raw["transaction_type"]],
        quantity=report.filled_quantity,
        price=fill_price(report.average_price),
        filled_at=max(moment(at) for at in times if at),
    )


def day_end_of(report: OrderReport) -> datetime:
    """Return when the trading day of an order ends by its making: at the close of derivatives, and
    of an order that was made after it (a special evening session) at midnight in India.

    Raises:
        ValueError: it is not known when the order was made.
    """
    made_at = moment(report.raw.get("created_at")).astimezone(IST)
    close = datetime.combine(made_at.date(), CLOSE, IST)
    if made_at >= close:
        close = datetime.combine(made_at.date() + timedelta(days=1), time(), IST)
    return close.astimezone(UTC)


# --- Sessions -------------------------------------------------------------------------------------


def parse_session(body: Mapping[str, Any], now: datetime) -> SessionToken:
    """Read the answer to a request for an access token.

    Raises:
        ValueError: it has no token.
    """
    token = body.get("token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise ValueError("no access token")
    try:
        expires_at = moment(body.get("expiry"))
    except ValueError:
        expires_at = next_expiry(now)
    if expires_at <= now:  # a time that we misread: the documented end stands
        expires_at = next_expiry(now)
    return SessionToken({"access_token": token}, expires_at)


def next_expiry(now: datetime) -> datetime:
    """Return when Groww ends a session that is opened ``now``: at 06:00 in India."""
    local = now.astimezone(IST)
    end = datetime.combine(local.date(), time(6), IST)
    return (end if end > local else end + timedelta(days=1)).astimezone(UTC)


def _check_expressible(request: OrderRequest) -> None:
    reference(request.client_order_id)
    if request.product not in PRODUCTS:
        raise _unsupported(f"the product {request.product}")
    if request.validity not in VALIDITIES:
        raise _unsupported(f"{request.validity} orders")
    for asked, what in (
        (request.disclosed_quantity, "disclosed quantities"),
        (request.after_market, "after-market orders"),
        (request.iceberg_legs, "iceberg orders"),
        (request.market_protection is not None, "market protection"),
    ):
        if asked:
            raise _unsupported(what)


def _number(price: Decimal | None) -> float:
    """Return a price as JSON carries it, if it carries it exactly."""
    if price is None or not price.is_finite() or price <= 0:
        raise InvalidOrder("A price is missing.", broker=BROKER, code="price_missing")
    number = float(price)
    if Decimal(repr(number)) != price:
        raise InvalidOrder("The price has too many digits.", broker=BROKER, code="price_digits")
    return number


def _unsupported(what: str) -> NotSupported:
    return NotSupported(f"Groww's API does not take {what}.", broker=BROKER, code="not_supported")
