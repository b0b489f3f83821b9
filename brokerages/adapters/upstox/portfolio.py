"""Upstox's payloads of portfolio, money, profile and sessions ↔ ours. Pure Python.

Rupees and units. Rows of products and exchanges that we do not trade are left out; what cannot be
read is a `ValueError`. Source: https://upstox.com/developer/api-documentation/
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from brokerages.adapters.upstox.mapping import EXCHANGES, product_of, symbol_of
from brokerages.adapters.upstox.values import (
    Row,
    amount,
    decimal,
    each,
    from_millis,
    price,
    read_json,
    record,
    required,
    rows,
    text,
    units,
)
from brokerages.types import Exchange, Funds, HoldingReport, PositionReport, Profile, SessionToken

MAX_TOKEN = 4096


def parse_positions(data: Any) -> tuple[list[PositionReport], int]:
    """Read the day's positions, or those of MTF, and how many could not be read."""
    found, unread = each(rows(data), _position)
    return [position for position in found if position is not None], unread


def _position(row: Row) -> PositionReport | None:
    key = required(row, "instrument_token")
    product = product_of(required(row, "product"), key)
    exchange = EXCHANGES.get(required(row, "exchange"))
    if product is None or exchange is None:
        return None
    return PositionReport(
        exchange=exchange,
        symbol=symbol_of(row, key),
        product=product,
        quantity=units(row, "quantity") * _units_each(row, exchange),
        average_price=amount(row, "average_price"),
        last_price=price(row, "last_price"),
        realised=amount(row, "realised"),
        unrealised=amount(row, "unrealised"),
    )


def _units_each(row: Row, exchange: Exchange) -> int:
    """Return the units of one: commodities are counted in lots, and the row says of how many."""
    return max(units(row, "multiplier"), 1) if exchange is Exchange.MCX else 1


def parse_holdings(data: Any) -> tuple[list[HoldingReport], int]:
    """Read the shares held for delivery, and how many rows could not be read. ``quantity`` includes
    what settles tomorrow.
    """
    return each([row for row in rows(data) if row.get("exchange") in EXCHANGES], _holding)


def _holding(row: Row) -> HoldingReport:
    return HoldingReport(
        exchange=EXCHANGES[required(row, "exchange")],
        symbol=symbol_of(row, text(row, "instrument_token") or "NSE_EQ|"),
        isin=text(row, "isin"),
        quantity=units(row, "quantity"),
        average_price=amount(row, "average_price"),
        t1_quantity=units(row, "t1_quantity"),
        last_price=price(row, "last_price"),
    )


def parse_funds(data: Any) -> Funds:
    """Read ``GET /v3/user/get-funds-and-margin``: cash and pledged shares together, in rupees."""
    tradable = record(record(data)["available_to_trade"])
    available = decimal(tradable["total"])
    used = Decimal(0)
    for name in ("cash_available_to_trade", "pledge_available_to_trade"):
        part = record(tradable.get(name) or {})
        used += amount(record(part.get("margin_used") or {}), "total")
    return Funds(available=available, used=used, total=available + used)


def parse_profile(data: Any) -> Profile:
    row = record(data)
    exchanges = row.get("exchanges")
    if exchanges is not None and not isinstance(exchanges, list):
        raise ValueError("exchanges are no list")
    return Profile(
        broker_user_id=required(row, "user_id"),
        name=text(row, "user_name"),
        email=text(row, "email"),
        exchanges=frozenset(EXCHANGES[word] for word in exchanges or () if word in EXCHANGES),
    )


def parse_margin(data: Any) -> Decimal:
    """Return the rupees that the orders of a margin call need together, after hedges."""
    row = record(data)
    value = row.get("final_margin")
    return decimal(row["required_margin"] if value is None else value)


def parse_charges(data: Any) -> Decimal:
    """Return the rupees that ``GET /v2/charges/brokerage`` states in all."""
    return decimal(record(record(data)["charges"])["total"])


def parse_token(body: Any, expires_at: datetime) -> SessionToken:
    """Read the answer of the code's exchange, which has no envelope."""
    row = record(body)
    return SessionToken({"access_token": _token(row)}, expires_at, text(row, "user_id"))


def _token(row: Row) -> str:
    """Return the token of a row: what may stand in a header."""
    token = required(row, "access_token")
    if not (token.isascii() and token.isprintable()) or " " in token or len(token) > MAX_TOKEN:
        raise ValueError("not a token")
    return token


def parse_request(data: Any) -> datetime | None:
    """Return until when the user may approve a requested session."""
    until = record(data).get("authorization_expiry")
    return from_millis(until) if until else None


def parse_session_notice(body: bytes, credentials: Mapping[str, str]) -> SessionToken:
    """Read what the broker posts to the notifier's address after an approval. Nobody signed it.

    Raises:
        ValueError: not such a notice, or one for another app.
    """
    row = record(read_json(body))
    if text(row, "message_type") != "access_token":
        raise ValueError("not a notice of a session")
    if not credentials.get("api_key") or text(row, "client_id") != credentials["api_key"]:
        raise ValueError("a notice for another app")
    return SessionToken(
        {"access_token": _token(row)},
        from_millis(row.get("expires_at")),
        text(row, "user_id"),
    )
