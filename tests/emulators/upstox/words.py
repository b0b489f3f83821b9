"""Upstox's words: envelope, errors, statuses, instrument keys, order rows."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from tests.emulators.core.clock import IST
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.messages import Response
from tests.emulators.core.orders import Fill, Order, Reason, Refusal, Row, Stage

S = Stage
ZERO = Decimal(0)

STATUS = {
    S.RECEIVED: "put order req received",
    S.VALIDATING: "validation pending",
    S.SENDING: "open pending",
    S.PARKED: "after market order req received",
    S.TRIGGER_PENDING: "trigger pending",
    S.OPEN: "open",
    S.MODIFY_VALIDATING: "modify validation pending",
    S.MODIFYING: "modify pending",
    S.MODIFIED: "modified",
    S.NOT_MODIFIED: "not modified",
    S.CANCELLING: "cancel pending",
    S.NOT_CANCELLED: "not cancelled",
    S.COMPLETE: "complete",
    S.CANCELLED: "cancelled",
    S.REJECTED: "rejected",
}
SEGMENTS = {
    "NSE": "NSE_EQ",
    "BSE": "BSE_EQ",
    "NFO": "NSE_FO",
    "BFO": "BSE_FO",
    "CDS": "NCD_FO",
    "MCX": "MCX_FO",
}
INDEX_NAMES = {
    "NIFTY 50": "Nifty 50",
    "NIFTY BANK": "Nifty Bank",
    "NIFTY FIN SERVICE": "Nifty Fin Service",
    "INDIA VIX": "India VIX",
}
EXCHANGES = ("NSE", "NFO", "BSE", "BFO", "CDS", "BCD", "MCX")
PRODUCTS = ("D", "I", "MTF")
ORDER_TYPES = ("MARKET", "LIMIT", "SL", "SL-M")
OUR_PRODUCT = {"I": "MIS", "MTF": "MTF"}
DEFAULT_PROTECTION = Decimal(3)  # percent, of -1


class Wrong(ValueError):
    """A request that Upstox does not take; ``code`` and the sentence are its own."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


def success(data: Any, **more: Any) -> Response:
    return Response.of({"status": "success", "data": data, **more})


def error(status: int, code: str, message: str, **headers: str) -> Response:
    """Return an error with both spellings of every field, as the broker sends them."""
    one = {
        "errorCode": code,
        "message": message,
        "propertyPath": None,
        "invalidValue": None,
        "error_code": code,
        "property_path": None,
        "invalid_value": None,
    }
    return Response.of({"status": "error", "errors": [one]}, status, **headers)


# The risk system and the exchange say these of an order that was taken: it ends `rejected`.
LATE = {
    Reason.TICK: "The price is not a multiple of the tick size",
    Reason.BAND: "The price is out of the day's circuit limits",
    Reason.LOT: "The quantity is not a multiple of the lot size",
    Reason.FREEZE: "The quantity is above the freeze quantity of the contract",
    Reason.FUNDS: "RMS: margin exceeds, cash available is not enough",
    Reason.HOLDINGS: "RMS: holdings are not enough for this sale",
    Reason.AUTHORISATION: "RMS: the sale is not authorised at the depository",
}
REFUSED = {
    Reason.INSTRUMENT: ("UDAPI100011", "Invalid Instrument key"),
    Reason.TERMS: ("UDAPI100036", "Invalid Input"),
    Reason.PRODUCT: ("UDAPI100036", "Invalid Input"),
    Reason.PROTECTION: (
        "UDAPI1158",
        "Market orders are not allowed. Use market protection, or place a limit order.",
    ),
    Reason.CLOSED: ("UDAPI100057", "The market is closed"),
    Reason.UNKNOWN_ORDER: ("UDAPI100010", "Order not found"),
    Reason.FINAL: (
        "UDAPI100041",
        "Modification of an already cancelled, rejected or completed order is not allowed",
    ),
    Reason.BUSY: ("UDAPI100036", "The order is being processed"),
    Reason.TOO_MANY_CHANGES: ("UDAPI100036", "The order was modified too often"),
    Reason.DUPLICATE: ("UDAPI100036", "Invalid Input"),
    Reason.POSITION: ("UDAPI1035", "The position cannot be converted"),
}


def refused(refusal: Refusal) -> Response:
    code, message = REFUSED.get(refusal.reason, ("UDAPI100036", LATE.get(refusal.reason, "")))
    given = refusal.message if refusal.message != refusal.reason else ""
    return error(400, code, given or message)


def number(amount: Decimal | None) -> Decimal:
    """Return an amount as Upstox shows it: 0 for none, four decimals at most."""
    return ZERO if amount is None else amount.quantize(Decimal("0.0001"), ROUND_HALF_UP)


def stamp(at: datetime | None) -> str | None:
    return at.astimezone(IST).strftime("%Y-%m-%d %H:%M:%S") if at else None


def millis(at: datetime) -> int:
    return int(at.timestamp() * 1000)


# --- Instruments ----------------------------------------------------------------------------------


def segment_of(instrument: Instrument) -> str:
    if instrument.is_index:
        return f"{instrument.exchange}_INDEX"
    return SEGMENTS[instrument.exchange]


def key_of(instrument: Instrument) -> str:
    """Return the instrument key, e.g. ``NSE_EQ|INE002A01018``, ``NSE_FO|53001``."""
    if instrument.is_index:
        name = INDEX_NAMES.get(instrument.symbol, instrument.symbol)
        return f"{segment_of(instrument)}|{name}"
    return f"{segment_of(instrument)}|{instrument.isin or instrument.token}"


def answer_key(instrument: Instrument) -> str:
    """Return how quotes name the instrument, which is not how they are asked for it."""
    if instrument.is_index:
        return key_of(instrument).replace("|", ":")
    return f"{segment_of(instrument)}:{instrument.symbol}"


def is_weekly(instrument: Instrument) -> bool:
    """Return whether a contract's symbol names a day of expiry and not only the month."""
    return instrument.is_derivative and not re.match(
        rf"{re.escape(instrument.underlying)}\d\d[A-Z]{{3}}(\d|FUT)", instrument.symbol
    )


def long_symbol(instrument: Instrument) -> str:
    """Return the symbol of the instrument list, e.g. ``NIFTY 24800 CE 24 NOV 26``."""
    if not instrument.is_derivative or instrument.expiry is None:
        return instrument.symbol
    expiry = f"{instrument.expiry:%d %b %y}".upper()
    if instrument.kind == "FUT":
        return f"{instrument.underlying} FUT {expiry}"
    return f"{instrument.underlying} {instrument.strike:f} {instrument.kind} {expiry}"


# --- Orders ---------------------------------------------------------------------------------------


def product_word(product: str) -> str:
    return {"MIS": "I", "MTF": "MTF"}.get(product, "D")


def our_product(word: str, instrument: Instrument) -> str:
    if word == "D":
        return "NRML" if instrument.is_derivative else "CNC"
    return OUR_PRODUCT[word]


def status_of(order: Order, row: Row) -> str:
    parked = order.ticket.after_market and row.reached_at is None
    if parked and row.stage is S.CANCELLED:
        return "cancelled after market order"
    if parked and row.stage is S.PARKED and row.changes:
        return "modify after market order req received"
    return STATUS[row.stage]


def order_row(order: Order, row: Row) -> dict[str, Any]:
    """Return an order as the book and the details show it."""
    ticket, instrument = order.ticket, order.instrument
    alive = row.stage not in (S.COMPLETE, S.CANCELLED, S.REJECTED)
    return {
        "exchange": instrument.exchange,
        "product": product_word(order.product),
        "price": number(row.price),
        "quantity": row.quantity,
        "status": status_of(order, row),
        "guid": None,
        "tag": ticket.tag or None,
        "instrument_token": key_of(instrument),
        "placed_by": order.account.user_id,
        "tradingsymbol": instrument.symbol,
        "trading_symbol": instrument.symbol,
        "order_type": row.type,
        "validity": row.validity,
        "trigger_price": number(row.trigger),
        "disclosed_quantity": row.disclosed,
        "transaction_type": order.side,
        "average_price": number(row.average),
        "filled_quantity": row.filled,
        "pending_quantity": row.remaining if alive else 0,
        "status_message": row.message or None,
        "status_message_raw": row.message or None,
        "exchange_order_id": row.exchange_id or None,
        "parent_order_id": None,
        "order_id": order.id,
        "variety": "AMO" if ticket.after_market else "SIMPLE",
        "order_timestamp": stamp(row.at),
        "exchange_timestamp": stamp(row.reached_at),
        "is_amo": ticket.after_market,
        "order_request_id": str(1 + row.changes),
        "order_ref_id": f"GTT{order.id}",
    }


ABSENT_IN_HISTORY = ("guid", "order_ref_id", "pending_quantity", "status_message_raw")


def history_row(order: Order, row: Row) -> dict[str, Any]:
    return {k: v for k, v in order_row(order, row).items() if k not in ABSENT_IN_HISTORY}


def update_row(order: Order, row: Row) -> dict[str, Any]:
    """Return an order as the stream and the postbacks tell of it."""
    shown = order_row(order, row)
    user = order.account.user_id
    shown |= {
        "update_type": "order",
        "user_id": user,
        "userId": user,
        "instrument_key": shown["instrument_token"],
    }
    return shown


def trade_row(fill: Fill) -> dict[str, Any]:
    order = fill.order
    shown = order_row(order, order.rows[-1])
    names = (
        "exchange",
        "product",
        "tradingsymbol",
        "trading_symbol",
        "instrument_token",
        "order_type",
        "transaction_type",
        "exchange_order_id",
        "order_id",
        "order_ref_id",
    )
    return {name: shown[name] for name in names} | {
        "quantity": fill.quantity,
        "average_price": number(fill.price),
        "trade_id": fill.id,
        "exchange_timestamp": stamp(fill.at),
        "order_timestamp": stamp(order.placed_at),
    }
