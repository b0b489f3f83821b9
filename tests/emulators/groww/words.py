"""Groww's words for what the exchange has, and its rows."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from tests.emulators.core.accounts import Position
from tests.emulators.core.clock import IST
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.messages import Response
from tests.emulators.core.orders import Fill, Order, Reason, Refusal, Row, Stage

VENUES = {
    "NSE": ("NSE", "CASH"),
    "BSE": ("BSE", "CASH"),
    "NFO": ("NSE", "FNO"),
    "BFO": ("BSE", "FNO"),
    "MCX": ("MCX", "COMMODITY"),
}
INDEX_SYMBOLS = {"MIDCPNIFTY": "NIFTYMIDSELECT"}  # the others go by their underlying
ORDER_TYPES = {"MARKET": "MARKET", "LIMIT": "LIMIT", "SL": "SL", "SL_M": "SL-M"}
PRODUCTS = ("CNC", "MIS", "NRML")
SETTLES_AFTER = 300  # seconds until an execution for delivery awaits it

STATUSES = {
    Stage.RECEIVED: "NEW",
    Stage.VALIDATING: "ACKED",
    Stage.SENDING: "ACKED",
    Stage.PARKED: "NEW",
    Stage.TRIGGER_PENDING: "TRIGGER_PENDING",
    Stage.MODIFY_VALIDATING: "MODIFICATION_REQUESTED",
    Stage.MODIFYING: "MODIFICATION_REQUESTED",
    Stage.CANCELLING: "CANCELLATION_REQUESTED",
    Stage.COMPLETE: "EXECUTED",
    Stage.CANCELLED: "CANCELLED",
    Stage.REJECTED: "REJECTED",
}

# Reason → (code, the sentence; facts of the refusal are filled in).
REFUSALS = {
    Reason.INSTRUMENT: ("GA001", "Invalid trading symbol"),
    Reason.TERMS: ("GA001", ""),
    Reason.PRODUCT: ("GA001", "Invalid product for this segment"),
    Reason.TICK: ("GA001", "Price must be a multiple of the tick size {tick}"),
    Reason.LOT: ("GA001", "Quantity must be a multiple of lot size"),
    Reason.FREEZE: ("GA001", "Quantity is above the freeze quantity {freeze}"),
    Reason.BAND: ("GA001", "Price is outside the circuit limits {low} and {high}"),
    Reason.PROTECTION: ("GA006", "Market orders are not allowed"),
    Reason.FUNDS: ("GA006", "Insufficient balance: {required} needed, {available} available"),
    Reason.HOLDINGS: ("GA006", "Insufficient holdings to sell"),
    Reason.AUTHORISATION: ("GA006", "Verify your holdings with the TPIN before selling"),
    Reason.CLOSED: ("GA006", "Market is closed"),
    Reason.UNKNOWN_ORDER: ("GA004", "Order does not exist"),
    Reason.FINAL: ("GA006", "Order is already in a final state"),
    Reason.BUSY: ("GA006", "Order cannot be modified right now"),
    Reason.TOO_MANY_CHANGES: ("GA006", "Too many modifications of this order"),
    Reason.DUPLICATE: ("GA007", "Duplicate order reference id"),
    Reason.POSITION: ("GA006", "Not enough open quantity"),
}
HTTP = {"GA001": 400, "GA003": 503, "GA004": 404, "GA005": 403, "GA006": 400, "GA007": 400}


def success(payload: Any, status: int = 200) -> Response:
    return Response.of({"status": "SUCCESS", "payload": payload}, status)


def failure(code: str, message: str, status: int | None = None) -> Response:
    error = {"code": code, "message": message, "metadata": None}
    return Response.of({"status": "FAILURE", "error": error}, status or HTTP.get(code, 400))


def refusal_answer(refusal: Refusal) -> Response:
    return failure(REFUSALS[refusal.reason][0], refusal_text(refusal))


def refusal_text(refusal: Refusal) -> str:
    if refusal.message != refusal.reason:  # the exchange or a test has words of its own
        return refusal.message
    facts = {"tick": "", "freeze": "", "low": "", "high": "", "required": "", "available": ""}
    return REFUSALS[refusal.reason][1].format(**{**facts, **refusal.facts})


def local(at: datetime) -> str:
    return at.astimezone(IST).strftime("%Y-%m-%dT%H:%M:%S")


def venue(instrument: Instrument) -> tuple[str, str]:
    return VENUES.get(instrument.exchange, (instrument.exchange, "CURRENCY"))


def symbol(instrument: Instrument) -> str:
    if instrument.is_index:
        name = instrument.underlying or instrument.symbol
        return INDEX_SYMBOLS.get(name, name)
    return instrument.symbol


def groww_symbol(instrument: Instrument) -> str:
    parts = [venue(instrument)[0], instrument.underlying or symbol(instrument)]
    if not instrument.is_derivative:
        return "-".join([parts[0], symbol(instrument)])
    parts.append(f"{instrument.expiry:%d%b%y}")
    if instrument.is_option:
        parts.append(f"{instrument.strike.normalize():f}")
    return "-".join([*parts, "FUT" if instrument.kind == "FUT" else instrument.kind])


def token(instrument: Instrument) -> str:
    if instrument.is_index and instrument.exchange == "NSE":
        return symbol(instrument)
    return str(instrument.token)


def status_of(order: Order, row: Row, now: datetime) -> str:
    """Return the word for an order. Both words for "live at the exchange" are in use: OPEN for
    shares, APPROVED for contracts.
    """
    word = STATUSES.get(row.stage)
    if word is None:
        word = "APPROVED" if order.instrument.is_derivative else "OPEN"
    if word == "REJECTED" and order.ticket.extra.get("failed"):
        return "FAILED"
    if word == "EXECUTED" and (now - row.at).total_seconds() > SETTLES_AFTER:
        return "DELIVERY_AWAITED" if order.product == "CNC" else "COMPLETED"
    return word


def order_row(order: Order, row: Row, now: datetime) -> dict[str, Any]:
    exchange, segment = venue(order.instrument)
    return {
        "groww_order_id": order.id,
        "trading_symbol": symbol(order.instrument),
        "order_status": status_of(order, row, now),
        "remark": row.message,
        "quantity": row.quantity,
        "price": row.price or 0,
        "trigger_price": row.trigger or 0,
        "filled_quantity": row.filled,
        "remaining_quantity": row.remaining,
        "average_fill_price": rupees(row.average),
        "deliverable_quantity": 0,
        "amo_status": "NA",
        "validity": row.validity,
        "exchange": exchange,
        "order_type": row.type.replace("-", "_"),
        "transaction_type": order.side,
        "segment": segment,
        "product": order.product,
        "created_at": local(order.placed_at),
        "exchange_time": local((row.reached_at and row.at) or order.placed_at),
        "trade_date": local(order.placed_at)[:10] + "T00:00:00Z",
        "order_reference_id": order.ticket.tag,
    }


def trade_row(fill: Fill) -> dict[str, Any]:
    order = fill.order
    exchange, segment = venue(order.instrument)
    return {
        "price": fill.price,
        "isin": order.instrument.isin,
        "quantity": fill.quantity,
        "groww_order_id": order.id,
        "groww_trade_id": "",
        "exchange_trade_id": fill.id,
        "exchange_order_id": order.exchange_id,
        "trade_status": "EXECUTED",
        "trading_symbol": symbol(order.instrument),
        "remark": "",
        "exchange": exchange,
        "segment": segment,
        "product": order.product,
        "transaction_type": order.side,
        "created_at": local(fill.at),
        "trade_date_time": local(fill.at),
        "settlement_number": "2026218",
    }


def position_row(position: Position, unit: int = 1) -> dict[str, Any]:
    """Return a position. ``unit`` 100 states amounts in paise."""
    exchange, segment = venue(position.instrument)
    carried = position.overnight
    return {
        "trading_symbol": symbol(position.instrument),
        "segment": segment,
        "exchange": exchange,
        "symbol_isin": position.instrument.isin,
        "product": position.product,
        "quantity": position.quantity,
        "net_price": rupees(abs(position.average)) * unit,
        "realised_pnl": rupees(position.realised) * unit,
        "credit_quantity": position.buy_quantity,
        "credit_price": _mean(position.buy_value, position.buy_quantity) * unit,
        "debit_quantity": position.sell_quantity,
        "debit_price": _mean(position.sell_value, position.sell_quantity) * unit,
        "carry_forward_credit_quantity": max(carried, 0),
        "carry_forward_credit_price": position.overnight_price * unit if carried > 0 else 0,
        "carry_forward_debit_quantity": max(-carried, 0),
        "carry_forward_debit_price": position.overnight_price * unit if carried < 0 else 0,
        "net_carry_forward_quantity": carried,
        "net_carry_forward_price": position.overnight_price * unit,
    }


def rupees(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.0001"))


def _mean(value: Decimal, quantity: int) -> Decimal:
    return rupees(value / quantity) if quantity else Decimal(0)
