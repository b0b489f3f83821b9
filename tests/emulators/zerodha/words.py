"""Kite's words: envelope, errors, statuses, timestamps, tokens."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from tests.emulators.core.clock import IST
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.messages import Response
from tests.emulators.core.orders import Order, Reason, Refusal, Row, Stage

S = Stage

STATUS = {
    S.RECEIVED: "PUT ORDER REQ RECEIVED",
    S.VALIDATING: "VALIDATION PENDING",
    S.SENDING: "OPEN PENDING",
    S.PARKED: "AMO REQ RECEIVED",
    S.TRIGGER_PENDING: "TRIGGER PENDING",
    S.OPEN: "OPEN",
    S.MODIFY_VALIDATING: "MODIFY VALIDATION PENDING",
    S.MODIFYING: "MODIFY PENDING",
    S.MODIFIED: "MODIFIED",
    S.NOT_MODIFIED: "NOT MODIFIED",
    S.CANCELLING: "CANCEL PENDING",
    S.NOT_CANCELLED: "NOT CANCELLED",
    S.COMPLETE: "COMPLETE",
    S.CANCELLED: "CANCELLED",
    S.REJECTED: "REJECTED",
}

EXCHANGES = ("NSE", "BSE", "NFO", "BFO", "CDS", "BCD", "MCX")
SEGMENTS = {"NSE": 1, "NFO": 2, "CDS": 3, "BSE": 4, "BFO": 5, "BCD": 6, "MCX": 7}
INDICES = 9
# Kite numbers indices in a list of its own.
INDEX_NUMBERS = {
    "NIFTY 50": 1001,
    "NIFTY BANK": 1016,
    "NIFTY FIN SERVICE": 1007,
    "NIFTY MID SELECT": 1125,
    "INDIA VIX": 1035,
    "SENSEX": 1,
}
AUTOMATIC_PROTECTION = Decimal(2)  # percent


def exchange_token(instrument: Instrument) -> int:
    return INDEX_NUMBERS[instrument.symbol] if instrument.is_index else instrument.token


def token_of(instrument: Instrument) -> int:
    segment = INDICES if instrument.is_index else SEGMENTS[instrument.exchange]
    return exchange_token(instrument) * 256 + segment


def segment_of(instrument: Instrument) -> str:
    if instrument.is_index:
        return "INDICES"
    if instrument.is_derivative:
        return f"{instrument.exchange}-{'OPT' if instrument.is_option else 'FUT'}"
    return instrument.exchange


def success(data: Any) -> Response:
    return Response.of({"status": "success", "data": data})


def error(status: int, kind: str, message: str) -> Response:
    body = {"status": "error", "message": message, "data": None, "error_type": kind}
    return Response.of(body, status)


class BadInput(ValueError):
    """A field that Kite does not take; ``message`` is its sentence."""


def money(amount: Decimal) -> str:
    return str(amount.quantize(Decimal("0.01"), ROUND_HALF_UP))


def number(amount: Decimal | None) -> Decimal:
    """Return an amount as Kite shows it: 0 for none, four decimals at most."""
    return Decimal(0) if amount is None else amount.quantize(Decimal("0.0001"), ROUND_HALF_UP)


def stamp(at: datetime | None) -> str | None:
    return at.astimezone(IST).strftime("%Y-%m-%d %H:%M:%S") if at else None


_REFUSALS: dict[Reason, tuple[int, str, Callable[[Refusal], str]]] = {
    Reason.INSTRUMENT: (
        400,
        "InputException",
        lambda r: (
            "The instrument you are placing an order for has either expired or does not exist."
        ),
    ),
    Reason.TERMS: (
        400,
        "InputException",
        lambda r: f"Invalid `{r.facts.get('field', 'quantity')}`.",
    ),
    Reason.PRODUCT: (400, "InputException", lambda r: "Invalid `product`."),
    Reason.TICK: (
        400,
        "InputException",
        lambda r: (
            f"Tick size for this script is {r.facts.get('tick')}. "
            "Kindly enter price in the multiple of tick size for this script."
        ),
    ),
    Reason.LOT: (
        400,
        "InputException",
        lambda r: (
            f"Invalid quantity. Quantity must be a multiple of lot size {r.facts.get('lot')}."
        ),
    ),
    Reason.FREEZE: (
        400,
        "InputException",
        lambda r: (
            f"Quantity {r.facts.get('quantity')} exceeds the freeze quantity "
            f"{r.facts.get('freeze')} for this instrument."
        ),
    ),
    Reason.BAND: (
        400,
        "InputException",
        lambda r: (
            "The price is out of the circuit limits of the instrument "
            f"({r.facts.get('low')} - {r.facts.get('high')})."
        ),
    ),
    Reason.PROTECTION: (
        400,
        "InputException",
        lambda r: "Market orders without market protection are not allowed through the API.",
    ),
    Reason.FUNDS: (
        400,
        "MarginException",
        lambda r: (
            f"Insufficient funds. Required margin is {money(r.facts.get('required', Decimal(0)))} "
            f"but available margin is {money(r.facts.get('available', Decimal(0)))}."
        ),
    ),
    Reason.HOLDINGS: (
        400,
        "HoldingException",
        lambda r: (
            f"Insufficient stock holding. Wanted {r.facts.get('wanted')}, "
            f"holding {r.facts.get('held')}."
        ),
    ),
    Reason.AUTHORISATION: (
        400,
        "HoldingException",
        lambda r: "Authorise the holdings at CDSL (TPIN) before they are sold.",
    ),
    Reason.CLOSED: (
        400,
        "OrderException",
        lambda r: "Markets are closed right now. Place an after market order (AMO) instead.",
    ),
    Reason.UNKNOWN_ORDER: (400, "OrderException", lambda r: "Couldn't find that `order_id`."),
    Reason.FINAL: (
        400,
        "OrderException",
        lambda r: f"Order cannot be changed: it is already {str(r.facts.get('stage')).lower()}.",
    ),
    Reason.BUSY: (
        400,
        "OrderException",
        lambda r: "Order cannot be changed as it is being processed. Try later.",
    ),
    Reason.TOO_MANY_CHANGES: (
        400,
        "OrderException",
        lambda r: "Maximum allowed order modifications exceeded.",
    ),
    Reason.DUPLICATE: (400, "OrderException", lambda r: "The order was placed already."),
    Reason.POSITION: (
        400,
        "InputException",
        lambda r: f"Insufficient open quantity to convert: {r.facts.get('held', 0)}.",
    ),
}


def refusal_text(refusal: Refusal) -> str:
    return _REFUSALS[refusal.reason][2](refusal)


def refusal_answer(refusal: Refusal) -> Response:
    status, kind, say = _REFUSALS[refusal.reason]
    given = refusal.message if refusal.message != refusal.reason else ""
    stock = refusal.reason in (Reason.INSTRUMENT, Reason.TERMS)
    return error(status, kind, say(refusal) if stock or not given else given)


def status_of(order: Order, row: Row) -> str:
    parked = order.ticket.after_market and row.reached_at is None
    if parked and row.stage is Stage.CANCELLED:
        return "CANCELLED AMO"
    if parked and row.stage is Stage.PARKED and row.changes:
        return "MODIFY AMO REQ RECEIVED"
    return STATUS[row.stage]


def order_row(order: Order, row: Row, status: str = "") -> dict[str, Any]:
    """Return an order as the book, the history and the pushes show it."""
    ticket, instrument = order.ticket, order.instrument
    extra = ticket.extra
    protected = order.protected and not ticket.has_trigger
    tags = [tag for tag in (ticket.tag,) if tag] + list(extra.get("tags", ()))
    if protected:
        tags += ["mktp", f"mktp:{ticket.protection:.2f}"]
    open_rest = row.remaining if row.stage not in (S.REJECTED, S.COMPLETE) else 0
    shown = {
        "account_id": order.account.user_id,
        "placed_by": order.account.user_id,
        "order_id": order.id,
        "exchange_order_id": row.exchange_id or None,
        "parent_order_id": extra.get("parent"),
        "status": status or status_of(order, row),
        "status_message": row.message or None,
        "status_message_raw": f"RMS:{row.message}" if row.message else None,
        "order_timestamp": stamp(row.at),
        "exchange_timestamp": stamp(row.reached_at),
        "exchange_update_timestamp": stamp(row.at) if row.reached_at else None,
        "variety": extra.get("variety", "regular"),
        "modified": row.changes > 0,
        "exchange": instrument.exchange,
        "tradingsymbol": instrument.symbol,
        "instrument_token": token_of(instrument),
        "order_type": "LIMIT" if protected else row.type,
        "transaction_type": order.side,
        "validity": extra.get("validity", row.validity),
        "validity_ttl": extra.get("ttl", 0),
        "product": extra.get("product", order.product),
        "quantity": row.quantity,
        "disclosed_quantity": row.disclosed,
        "price": number(order.limit if protected else row.price),
        "trigger_price": number(row.trigger),
        "average_price": number(row.average),
        "filled_quantity": row.filled,
        "pending_quantity": open_rest,
        "cancelled_quantity": row.remaining if row.stage is S.CANCELLED else 0,
        "market_protection": ticket.protection or 0,
        "meta": extra.get("meta", {}),
        "tag": ticket.tag or None,
        "guid": extra.get("guid"),
    }
    if tags:
        shown["tags"] = tags
    return shown
