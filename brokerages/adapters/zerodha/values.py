"""Numbers and times of Kite's answers as exact values. Pure.

Kite states rupees as JSON numbers, sometimes with the noise of binary floats
(``99725.05000000002``), and times as IST without an offset.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_DOWN, ROUND_UP, Decimal, InvalidOperation
from typing import Any, TypeVar

from brokerages.base import IST
from brokerages.types import PAISA

T = TypeVar("T")

BROKER = "zerodha"
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)

TICK_OF_TICKS = Decimal("0.0001")  # finer than any tick that we trade; takes float noise away
LARGEST = Decimal(10) ** 15


def each(rows: Any, read: Callable[[Any], T | None]) -> tuple[list[T], int]:
    """Return what ``read`` makes of each row of a list, but None, and how many rows it cannot read:
    one of them does not hide the others.

    Raises:
        ValueError: not a list, or nothing of it can be read.
    """
    if not isinstance(rows, list):
        raise ValueError("not a list")
    found, unread = [], 0
    for row in rows:
        try:
            made = read(row)
        except UNREADABLE:
            unread += 1
            continue
        if made is not None:
            found.append(made)
    if unread and unread == len(rows):
        raise ValueError("no row can be read")
    return found, unread


def exact(value: Any) -> Decimal:
    """Return a number of an answer unchanged, as a Decimal.

    Raises:
        ValueError: not a number, not finite, or absurdly large.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError(f"not a number: {type(value).__name__}")
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise ValueError("not a number") from None
    if not number.is_finite() or abs(number) >= LARGEST:
        raise ValueError("a number out of all bounds")
    return number


def price(value: Any) -> Decimal:
    """Return rupees per unit to four places, without zeros beyond the paise."""
    number = exact(value).quantize(TICK_OF_TICKS)
    paise = number.quantize(PAISA)
    return paise if paise == number else number


def price_or_none(value: Any) -> Decimal | None:
    """Return a price, or None where Kite writes 0 or nothing for "has none"."""
    if value is None:
        return None
    return price(value) or None


def money(value: Any) -> Decimal:
    """Return an amount of rupees to the paisa."""
    return exact(value).quantize(PAISA)


def money_down(value: Any) -> Decimal:
    """Return what there is, never more than stated, float noise aside."""
    return exact(value).quantize(TICK_OF_TICKS).quantize(PAISA, ROUND_DOWN)


def money_up(value: Any) -> Decimal:
    """Return what is owed, never less than stated, float noise aside."""
    return exact(value).quantize(TICK_OF_TICKS).quantize(PAISA, ROUND_UP)


def whole(value: Any) -> int:
    """Return a count.

    Raises:
        ValueError: not a whole number.
    """
    number = exact(value)
    if number != number.to_integral_value():
        raise ValueError("not a whole number")
    return int(number)


def moment(value: Any) -> datetime | None:
    """Return a time of an answer in UTC, or None where there is none.

    Takes the text of the wire as well as what the SDK makes of it (a naive time in IST; with an
    offset in candles).
    """
    if value is None or value == "":
        return None
    at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return (at if at.tzinfo else at.replace(tzinfo=IST)).astimezone(UTC)
