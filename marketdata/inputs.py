"""What is asked in quote requests, checked without the database: the hot paths of this app."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from rest_framework.exceptions import ValidationError

from brokerages.registry import BROKER_NAMES
from brokerages.types import Exchange
from marketdata import selectors
from marketdata.sources.base import Listing

MAX_INSTRUMENTS = 500
_TYPES = {"EQ", "INDEX", "FUT", "CE", "PE"}
# What brokers call derivatives; they live on the exchange's derivatives segment.
_DERIVATIVES = {
    "FUT", "CE", "PE", "OPT", "FUTIDX", "FUTSTK", "FUTCUR", "FUTCOM",
    "OPTIDX", "OPTSTK", "OPTCUR", "OPTFUT",
}  # fmt: skip
_DERIVATIVES_OF = {"NSE": "NFO", "BSE": "BFO"}


Text = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]


class QuoteItem(msgspec.Struct):
    """One instrument of a quote request: ``symbol``, or ``exchange_token`` with ``exchange``."""

    symbol: Text | None = None
    exchange_token: Text | int | None = None
    exchange: Text | None = None
    instrument_type: Text | None = None


_TEXT = {"type": "string", "minLength": 1, "maxLength": 60}
# The body of a quote request, for the API description.
QUOTE_ITEMS = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_INSTRUMENTS,
    "items": {
        "anyOf": [
            {
                "type": "object",
                "title": "By symbol",
                "required": ["symbol"],
                "properties": {"symbol": {**_TEXT, "description": "E.g. NSE:RELIANCE."}},
            },
            {
                "type": "object",
                "title": "By the exchange's own number",
                "required": ["exchange_token", "exchange"],
                "properties": {
                    "exchange_token": {"anyOf": [_TEXT, {"type": "integer"}]},
                    "exchange": {"type": "string", "enum": [str(x) for x in Exchange]},
                    "instrument_type": {
                        "type": "string",
                        "enum": sorted(_TYPES | _DERIVATIVES),
                        "description": "EQ if left out. A derivative of NSE is looked up on NFO, "
                        "one of BSE on BFO.",
                    },
                },
            },
        ]
    },
}


def quote_items(body: Any) -> dict[str, Listing | None]:
    """Return what is asked for by the name it was asked by; None where there is no such instrument.

    Raises:
        ValidationError: not a list of 1 to 500 items, or an item that cannot be understood.
    """
    if not isinstance(body, list) or not 1 <= len(body) <= MAX_INSTRUMENTS:
        raise ValidationError([f"A list of 1 to {MAX_INSTRUMENTS} instruments is needed."])
    try:
        items = msgspec.convert(body, list[QuoteItem])
    except msgspec.ValidationError as e:
        raise ValidationError([str(e)]) from e
    found: dict[str, Listing | None] = {}
    for number, item in enumerate(items):
        name, listing = _listing(number, item)
        other = found.setdefault(name, listing)
        if other is not listing:
            raise _wrong(number, f"{name} was asked on two exchanges; ask in two requests.")
    return found


def _listing(number: int, item: QuoteItem) -> tuple[str, Listing | None]:
    try:
        return instrument_asked(
            item.symbol, item.exchange_token, item.exchange, item.instrument_type
        )
    except ValidationError as e:
        raise ValidationError({str(number): e.detail}) from e


def instrument_asked(
    symbol: str | None, exchange_token: str | int | None, exchange: str | None, kind: str | None
) -> tuple[str, Listing | None]:
    """Return the name that an instrument was asked by, and its listing: None where there is none.

    Raises:
        ValidationError: neither a symbol nor a number with its exchange.
    """
    if symbol is not None:
        if exchange_token is not None:
            raise ValidationError(["Give either symbol or exchange_token."])
        return symbol, selectors.listing_by_key(symbol)
    if exchange_token is None:
        raise ValidationError(["symbol, or exchange_token with exchange, is needed."])
    place = (exchange or "").upper()
    if place not in Exchange.__members__:
        raise ValidationError([f"exchange must be one of {', '.join(Exchange)}."])
    word = (kind or "EQ").upper()
    if word in _DERIVATIVES:
        place = _DERIVATIVES_OF.get(place, place)
    elif word not in _TYPES:
        raise ValidationError([f"instrument_type {word[:20]!r} is not known."])
    token = str(exchange_token)
    return token, selectors.listing_by_token(place, token)


def symbols(text: str) -> dict[str, Listing | None]:
    """Return the instruments of a comma-separated list of keys; None where there is none.

    Raises:
        ValidationError: none, or more than 500.
    """
    keys = list(dict.fromkeys(key for part in text.split(",") if (key := part.strip())))
    if not 1 <= len(keys) <= MAX_INSTRUMENTS:
        raise ValidationError({"symbols": [f"1 to {MAX_INSTRUMENTS} symbols are needed."]})
    return {key: selectors.listing_by_key(key) for key in keys}


def broker_type(query: Mapping[str, str]) -> str | None:
    """Return the broker that was named, if any.

    Raises:
        ValidationError: no such broker.
    """
    name = query.get("broker_type")
    if name is not None and name not in BROKER_NAMES:
        raise ValidationError({"broker_type": [f"Must be one of {', '.join(BROKER_NAMES)}."]})
    return name


def offset_of(cursor: str) -> int:
    """Return where a page begins.

    Raises:
        ValidationError: not a cursor of ours.
    """
    if not cursor:
        return 0
    try:
        number = int(base64.urlsafe_b64decode(cursor.encode()).decode().removeprefix("o"))
    except (ValueError, binascii.Error) as e:
        raise ValidationError({"cursor": ["This is not a cursor of an earlier page."]}) from e
    if not 0 <= number <= 1_000_000:
        raise ValidationError({"cursor": ["This is not a cursor of an earlier page."]})
    return number


def cursor_of(offset: int) -> str:
    return base64.urlsafe_b64encode(f"o{offset}".encode()).decode()


def _wrong(number: int, message: str) -> ValidationError:
    return ValidationError({str(number): [message]})
