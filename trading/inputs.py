"""What clients send, read strictly: closed vocabularies, whole quantities, plain decimals.

Nothing is guessed or rounded. The hot paths decode with msgspec; a wrong field is named.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from rest_framework.exceptions import ParseError, ValidationError

from brokerages.types import InstrumentRef, OrderType, Product, Segment, Side, Validity
from marketdata.selectors import ref_by_key
from trading.risk import MAX_LEGS, OrderTerms

T = TypeVar("T")

_NULL = msgspec.Raw(b"null")
# no sign, no exponent, no NaN; what is stored has four decimals
AMOUNT = re.compile(r"[0-9]{1,10}(\.[0-9]{1,4})?")
_FINEST_PERCENT = Decimal("0.01")
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_AT = re.compile(r" - at `\$\.?(?P<field>[^`\[.]*)[^`]*`$")
_NAMED = re.compile(r"field `(?P<field>[^`]*)`")


class OrderPlaceInput(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an order. ``product`` defaults to CNC for shares and NRML for derivatives."""

    symbol: str
    side: Side
    quantity: int
    order_type: OrderType = OrderType.MARKET
    product: Product | None = None
    validity: Validity = Validity.DAY
    price: msgspec.Raw = _NULL
    trigger_price: msgspec.Raw = _NULL
    disclosed_quantity: int = 0
    after_market: bool = False
    iceberg_legs: int = 0
    market_protection: msgspec.Raw = _NULL
    client_order_id: str | None = None
    connection_id: UUID | None = None


class OrderModifyInput(msgspec.Struct, forbid_unknown_fields=True):
    """The terms to change; a field that is left out stays."""

    quantity: int | msgspec.UnsetType = msgspec.UNSET
    order_type: OrderType | msgspec.UnsetType = msgspec.UNSET
    validity: Validity | msgspec.UnsetType = msgspec.UNSET
    price: msgspec.Raw = _NULL
    trigger_price: msgspec.Raw = _NULL
    disclosed_quantity: int | msgspec.UnsetType = msgspec.UNSET


place_decoder = msgspec.json.Decoder(OrderPlaceInput)
modify_decoder = msgspec.json.Decoder(OrderModifyInput)


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Read a JSON body.

    Raises:
        ParseError: it is not JSON in UTF-8.
        ValidationError: a field is missing, unknown or of the wrong kind; it is named.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as e:
        raise ValidationError(_named(str(e))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ParseError("The body is not valid JSON in UTF-8.") from None


def order_terms(body: OrderPlaceInput) -> OrderTerms:
    """Return the terms of an order, its instrument found.

    Raises:
        ValidationError: a field cannot be right for any order.
    """
    if body.client_order_id is not None:
        key("client_order_id", body.client_order_id)
    ref = instrument(body.symbol)
    return OrderTerms(
        instrument=ref,
        side=body.side,
        quantity=whole("quantity", body.quantity),
        order_type=body.order_type,
        product=body.product or default_product(ref),
        validity=body.validity,
        price=amount("price", body.price),
        trigger_price=amount("trigger_price", body.trigger_price),
        disclosed_quantity=whole("disclosed_quantity", body.disclosed_quantity, low=0),
        after_market=body.after_market,
        iceberg_legs=whole("iceberg_legs", body.iceberg_legs, low=0, high=MAX_LEGS),
        market_protection=percent("market_protection", body.market_protection),
    )


def modify_changes(body: OrderModifyInput) -> dict[str, Any]:
    """Return the fields that a modify names.

    Raises:
        ValidationError: a field cannot be right, or none was named.
    """
    changes: dict[str, Any] = {}
    for name in ("order_type", "validity"):
        if (value := getattr(body, name)) is not msgspec.UNSET:
            changes[name] = value
    for name, low in (("quantity", 1), ("disclosed_quantity", 0)):
        if (value := getattr(body, name)) is not msgspec.UNSET:
            changes[name] = whole(name, value, low=low)
    for name in ("price", "trigger_price"):
        if (value := amount(name, getattr(body, name))) is not None:
            changes[name] = value
    if not changes:
        raise ValidationError({"non_field_errors": ["Name at least one field to change."]})
    return changes


def instrument(symbol: str) -> InstrumentRef:
    """Return the instrument of ``NSE:RELIANCE``; a bare symbol means NSE.

    Raises:
        ValidationError: there is none.
    """
    name = symbol.strip().upper()
    ref = ref_by_key(name if ":" in name else f"NSE:{name}") if 0 < len(name) <= 64 else None
    if ref is None:
        raise ValidationError({"symbol": [f"Unknown instrument: {symbol[:64]!r}."]})
    return ref


def default_product(ref: InstrumentRef) -> Product:
    return Product.CNC if ref.segment is Segment.EQUITY else Product.NRML


def whole(name: str, value: int, *, low: int = 1, high: int = 10_000_000) -> int:
    if not low <= value <= high:
        raise ValidationError({name: [f"Must be a whole number from {low} to {high}."]})
    return value


def amount(name: str, raw: msgspec.Raw) -> Decimal | None:
    """Read a JSON number or string as an exact amount; null is None.

    Raises:
        ValidationError: it has a sign, an exponent, more than four decimals, or is no number.
    """
    text = bytes(raw).decode("utf-8", "replace")
    if text == "null":
        return None
    if text[:1] == text[-1:] == '"' and len(text) > 1:
        text = text[1:-1]
    if not AMOUNT.fullmatch(text):
        raise ValidationError(
            {name: ["Must be a plain number above 0 with at most four decimals, such as 1450.05."]}
        )
    return Decimal(text)


def percent(name: str, raw: msgspec.Raw) -> Decimal | None:
    """Read a percentage above 0 and at most 100 with two decimals; null is None.

    Raises:
        ValidationError: it is anything else.
    """
    value = amount(name, raw)
    if value is not None and (not 0 < value <= 100 or value % _FINEST_PERCENT):
        raise ValidationError({name: ["Must be a percentage from 0.01 to 100."]})
    return value


def key(name: str, text: str) -> str:
    """Check an idempotency key or client order id.

    Raises:
        ValidationError: it is empty, too long or has other characters.
    """
    if not _KEY.fullmatch(text):
        raise ValidationError({name: ["Must be 1 to 64 characters from A-Z a-z 0-9 _ -."]})
    return text


def _named(message: str) -> dict[str, list[str]]:
    """Turn msgspec's words into the error of one field."""
    found = _AT.search(message) or _NAMED.search(message)
    field = (found["field"] if found else "") or "non_field_errors"
    if "missing required field" in message:
        named = _NAMED.search(message)
        return {named["field"] if named else field: ["This field is required."]}
    if "unknown field" in message:
        named = _NAMED.search(message)
        return {named["field"] if named else field: ["Unknown field."]}
    return {field: [_AT.sub("", message) + "."]}
