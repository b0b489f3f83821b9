"""Kite's words and payloads for orders and sessions ↔ ours. Pure: no network, no clock.

Source: https://kite.trade/docs/connect/v3/ (orders, user, postbacks). What the documentation leaves
open is settled so that nothing is guessed: an unknown status word is UNKNOWN and changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from brokerages.adapters.zerodha.values import (
    BROKER,
    moment,
    price,
    price_or_none,
    whole,
)
from brokerages.errors import InvalidOrder, NotSupported
from brokerages.types import (
    Exchange,
    FillReport,
    InstrumentRef,
    OrderChange,
    OrderHint,
    OrderReport,
    OrderRequest,
    OrderType,
    PositionConversion,
    ReportedStatus,
    Side,
)

S = ReportedStatus

# Kite counts quantities in lots on MCX and CDS, and its books do not say how large a lot is, so
# units could not be told from them: these exchanges are not offered.
TRADED = frozenset({Exchange.NSE, Exchange.BSE, Exchange.NFO, Exchange.BFO})

STATUSES = {
    "PUT ORDER REQ RECEIVED": S.RECEIVED,
    "VALIDATION PENDING": S.RECEIVED,
    "OPEN PENDING": S.RECEIVED,
    "OPEN": S.OPEN,
    "TRIGGER PENDING": S.TRIGGER_PENDING,
    "AMO REQ RECEIVED": S.OPEN,  # rests at the broker until the session
    "MODIFY AMO REQ RECEIVED": S.OPEN,
    "MODIFY VALIDATION PENDING": S.OPEN,
    "MODIFY PENDING": S.OPEN,
    "MODIFIED": S.OPEN,
    "NOT MODIFIED": S.OPEN,  # the change was refused, the order lives with its old terms
    "CANCEL PENDING": S.PENDING_CANCEL,
    "NOT CANCELLED": S.OPEN,
    "UPDATE": S.OPEN,  # streams and postbacks only: modified, or filled in part
    "COMPLETE": S.FILLED,
    "LAPSED": S.EXPIRED,
}
# Said of a live order whether or not its trigger was reached.
_HIDES_THE_TRIGGER = frozenset(
    {
        "MODIFY VALIDATION PENDING",
        "MODIFY PENDING",
        "MODIFIED",
        "NOT MODIFIED",
        "NOT CANCELLED",
        "UPDATE",
    }
)
_PARKED = frozenset({"AMO REQ RECEIVED", "MODIFY AMO REQ RECEIVED"})
# Kite decorates these two, e.g. CANCELLED AMO.
_ENDS = {"CANCELLED": S.CANCELLED, "REJECTED": S.REJECTED}

_STOPS = ("SL", "SL-M")
_PROTECTED = frozenset({OrderType.MARKET, OrderType.SL_M})
_AUTOMATIC = "-1"  # the protection that Kite chooses by the price
_SYSTEM_TAGS = re.compile(r"(?:mktp|autoslice)(?::.*)?")
_OUR_TAG = re.compile(r"[0-9A-Z]{20}")
_ORDER_ID = re.compile(r"[0-9A-Za-z]{1,40}")
# Series of shares (trade for trade, small companies) that Kite appends to the exchange's symbol.
_SERIES = re.compile(r"-(?:BE|BZ|SM|ST)$")


# --- What we send ---------------------------------------------------------------------------------


def order_form(request: OrderRequest) -> dict[str, Any]:
    """Return the arguments of ``place_order``. Prices are text, so that no float touches them.

    Raises:
        NotSupported: Kite has no such order. Nothing was sent.
        InvalidOrder: terms that Kite never takes. Nothing was sent.
    """
    instrument = request.instrument
    form: dict[str, Any] = {
        "variety": variety_of(request),
        "exchange": exchange_word(instrument),
        "tradingsymbol": symbol_of(instrument),
        "transaction_type": request.side.value,
        "quantity": request.quantity,
        "product": request.product.value,
        "order_type": request.order_type.value,
        "validity": request.validity.value,
        "tag": request.client_order_id,
        **_prices(request.order_type, request.price, request.trigger_price),
        **_protection(request.order_type, request.market_protection),
    }
    if request.disclosed_quantity:
        form["disclosed_quantity"] = request.disclosed_quantity
    if request.iceberg_legs:
        form["iceberg_legs"] = request.iceberg_legs
        form["iceberg_quantity"] = _leg_quantity(request)
    return form


def change_form(change: OrderChange, request: OrderRequest) -> dict[str, Any]:
    """Return the arguments of ``modify_order`` beside the order's id.

    Raises:
        NotSupported: a new quantity of an iceberg. Nothing was sent.
        InvalidOrder: terms that Kite never takes. Nothing was sent.
    """
    form: dict[str, Any] = {
        "variety": variety_of(request),
        "order_type": change.order_type.value,
        "validity": change.validity.value,
        **_prices(change.order_type, change.price, change.trigger_price),
        **_protection(change.order_type, request.market_protection),
    }
    if not request.iceberg_legs:
        form["quantity"] = change.quantity
    elif change.quantity != request.quantity:
        # a change goes to the leg that rests now: the total in it would be that leg's
        raise NotSupported(
            "Zerodha cannot change the quantity of an iceberg order. Cancel it and place another.",
            broker=BROKER,
            code="not_supported",
        )
    if change.disclosed_quantity or request.disclosed_quantity:
        form["disclosed_quantity"] = change.disclosed_quantity
    return form


def conversion_form(conversion: PositionConversion) -> dict[str, Any]:
    """Return the arguments of ``convert_position``."""
    return {
        "exchange": exchange_word(conversion.instrument),
        "tradingsymbol": symbol_of(conversion.instrument),
        "transaction_type": conversion.side.value,
        "position_type": "overnight" if conversion.overnight else "day",
        "quantity": conversion.quantity,
        "old_product": conversion.old_product.value,
        "new_product": conversion.new_product.value,
    }


def variety_of(request: OrderRequest) -> str:
    """Return the path of the order's kind: it is needed again to modify and to cancel.

    Raises:
        NotSupported: an after-market iceberg, for which Kite has no word.
    """
    if request.after_market and request.iceberg_legs:
        raise NotSupported(
            "Zerodha takes no after-market iceberg orders.", broker=BROKER, code="not_supported"
        )
    if request.after_market:
        return "amo"
    return "iceberg" if request.iceberg_legs else "regular"


def exchange_word(instrument: InstrumentRef) -> str:
    """Return Kite's word for the exchange of a contract that can be traded there.

    Raises:
        NotSupported: an exchange where Kite counts lots.
    """
    if instrument.exchange not in TRADED:
        raise NotSupported(
            f"Orders on {instrument.exchange} are not offered at Zerodha.",
            broker=BROKER,
            code="exchange_not_supported",
        )
    return instrument.exchange.value


def symbol_of(instrument: InstrumentRef) -> str:
    """Return Kite's ``tradingsymbol``: its own where we know it, else the exchange's."""
    return instrument.broker_symbol or instrument.symbol


def listed_symbol(exchange: Exchange, symbol: str) -> str:
    """Return the exchange's symbol of what Kite calls ``symbol``: without the series of a share."""
    return _SERIES.sub("", symbol) if exchange is Exchange.NSE else symbol


def is_order_id(text: str) -> bool:
    """Return whether ``text`` can be an order's id: it becomes part of an address."""
    return _ORDER_ID.fullmatch(text) is not None


def plain(number: Decimal) -> str:
    """Return a price as text without an exponent or zeros that say nothing."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _prices(kind: OrderType, limit: Decimal | None, trigger: Decimal | None) -> dict[str, str]:
    prices = {}
    for name, wanted, value in (
        ("price", kind.has_price, limit),
        ("trigger_price", kind.has_trigger, trigger),
    ):
        if not wanted:
            continue
        if value is None:
            raise InvalidOrder(
                f"A {kind} order needs a {name.replace('_', ' ')}.", broker=BROKER, code="no_price"
            )
        prices[name] = plain(value)
    return prices


def _protection(kind: OrderType, percent: Decimal | None) -> dict[str, str]:
    """Kite refuses MARKET and SL-M orders without market protection (since 2026-04-01)."""
    if kind not in _PROTECTED:
        return {}
    if percent is None:
        return {"market_protection": _AUTOMATIC}
    if not 0 < percent <= 100:
        raise InvalidOrder(
            "Market protection must be a percentage above 0 and at most 100.",
            broker=BROKER,
            code="market_protection",
        )
    return {"market_protection": plain(percent)}


def _leg_quantity(request: OrderRequest) -> int:
    lot = max(request.instrument.lot_size, 1)
    lots, legs = request.quantity // lot, request.iceberg_legs
    per_leg = -(-lots // legs)
    if legs < 2 or per_leg * (legs - 1) >= lots:
        raise InvalidOrder(
            f"{request.quantity} units cannot be shown in {legs} parts.",
            broker=BROKER,
            code="iceberg_legs",
        )
    return per_leg * lot


# --- What Kite says of orders ---------------------------------------------------------------------


def status_of(row: Mapping[str, Any]) -> ReportedStatus:
    """Return the status of an order row in our words; UNKNOWN where we cannot tell."""
    word = str(row.get("status") or "").strip().upper()
    status = STATUSES.get(word)
    if status is None:
        status = next((s for end, s in _ENDS.items() if word.startswith(end)), S.UNKNOWN)
    if status is S.OPEN:
        filled = whole(row.get("filled_quantity") or 0)
        if filled:
            return S.PARTIALLY_FILLED
        if row.get("order_type") in _STOPS:
            if word in _HIDES_THE_TRIGGER:
                return S.UNKNOWN  # waiting or triggered: the next full row tells
            if word in _PARKED:
                return S.TRIGGER_PENDING
    return status


def order_report(row: Mapping[str, Any], now: datetime) -> OrderReport:
    """Read one row of an order book, a history, a stream or a postback.

    ``price`` is left out where Kite put a protective one in place of "market". ``now`` stands in
    for a time that the row lacks.

    Raises:
        KeyError, TypeError, ValueError: not an order row.
    """
    market = any(t.startswith("mktp") for t in _tags(row)) or row.get("order_type") == "MARKET"
    return OrderReport(
        broker_order_id=id_of(row["order_id"]),
        client_order_id=tag_of(row),
        status=status_of(row),
        filled_quantity=whole(row.get("filled_quantity") or 0),
        average_price=price_or_none(row.get("average_price")),
        reported_at=moment(row.get("order_timestamp"))
        or moment(row.get("exchange_update_timestamp"))
        or now,
        message=str(row.get("status_message") or row.get("status_message_raw") or ""),
        exchange_order_id=str(row.get("exchange_order_id") or ""),
        quantity=whole(row["quantity"]),
        price=None if market else price_or_none(row.get("price")),
        trigger_price=price_or_none(row.get("trigger_price")),
        raw={"status": row.get("status"), "variety": row.get("variety")},
    )


def order_hint(row: Mapping[str, Any]) -> OrderHint:
    """Return which order a stream's or postback's row names, and what tells this word of it from
    the next.
    """
    key = "|".join(
        str(row.get(name) or "")
        for name in (
            "order_id",
            "status",
            "filled_quantity",
            "order_timestamp",
            "exchange_update_timestamp",
            "guid",
        )
    )
    return OrderHint(
        broker_order_id=id_of(row["order_id"]),
        client_order_id=tag_of(row),
        dedupe_key=hashlib.sha256(key.encode()).hexdigest(),
    )


def fill_report(row: Mapping[str, Any]) -> FillReport | None:
    """Read one row of ``GET /trades``; None where Kite counts lots. Trades carry no tag, see
    `fills_of_orders`.

    Raises:
        KeyError, TypeError, ValueError: not a trade.
    """
    if row["exchange"] not in TRADED:
        return None
    at = moment(row.get("fill_timestamp")) or moment(row.get("exchange_timestamp"))
    if at is None:
        raise ValueError("a trade without a time")
    return FillReport(
        fill_id=id_of(row["trade_id"]),
        broker_order_id=id_of(row["order_id"]),
        client_order_id="",
        exchange=Exchange(row["exchange"]),
        side=Side(row["transaction_type"]),
        quantity=whole(row["quantity"]),
        price=price(row["average_price"]),
        filled_at=at,
    )


def tag_of(row: Mapping[str, Any]) -> str:
    """Return the tag that the order was placed with: ours if one has our shape, else the first
    that a person gave.
    """
    tags = given_tags(row)
    return next((tag for tag in tags if _OUR_TAG.fullmatch(tag)), tags[0] if tags else "")


def given_tags(row: Mapping[str, Any]) -> list[str]:
    """Return all tags but those that Kite adds."""
    tags = [str(tag) for tag in (row.get("tag"), *_tags(row)) if tag]
    return [tag for tag in tags if not _SYSTEM_TAGS.fullmatch(tag)]


def _tags(row: Mapping[str, Any]) -> list[str]:
    tags = row.get("tags")
    return [str(tag) for tag in tags] if isinstance(tags, list) else []


def id_of(value: Any) -> str:
    """Return an id as opaque text.

    Raises:
        ValueError: nothing that names anything.
    """
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError("not an id")
    return str(value)
