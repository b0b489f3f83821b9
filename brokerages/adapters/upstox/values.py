"""Reading Upstox's JSON and times exactly. Pure Python; floats never enter.

Every reader raises `ValueError` for what it cannot read, and guesses nothing. Timestamps of order
and trade rows are India's time without an offset; expiries and feed times are epoch milliseconds.
Source: https://upstox.com/developer/api-documentation/
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, TypeVar

IST = timezone(timedelta(hours=5, minutes=30))
_FORMATS = ("%Y-%m-%d %H:%M:%S", "%d-%b-%Y %H:%M:%S")

Row = Mapping[str, Any]
T = TypeVar("T")
R = TypeVar("R")


def read_json(body: bytes | str) -> Any:
    """Return a JSON document with exact decimals.

    Raises:
        ValueError: not JSON, or with a number that is none.
    """
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("too deeply nested") from None


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not a number")


def decimal(value: Any) -> Decimal:
    """Return a JSON number as it was written; a protobuf double by its shortest form."""
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal, float)):
        raise ValueError(f"not a number: {value!r}")
    if isinstance(value, float):
        value = int(value) if value.is_integer() else repr(value)
    try:
        number = Decimal(value)
    except ArithmeticError:
        raise ValueError(f"not a number: {value!r}") from None
    if not number.is_finite():
        raise ValueError(f"not a number: {value!r}")
    return number


def amount(row: Row, name: str) -> Decimal:
    """Return a number of ``row``; missing, null and empty are zero, as the broker means them."""
    value = row.get(name)
    return Decimal(0) if value is None or value == "" else decimal(value)


def price(row: Row, name: str) -> Decimal | None:
    """Return a price of ``row`` in rupees, or None where the broker has none (zero or missing)."""
    return amount(row, name) or None


def units(row: Row, name: str) -> int:
    """Return a quantity of ``row``; missing, null and empty are zero."""
    number = amount(row, name)
    if number != int(number):
        raise ValueError(f"{name} is not whole: {number}")
    return int(number)


def text(row: Row, name: str) -> str:
    """Return a word of ``row``, empty where the broker has none."""
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"{name} is no text: {value!r}")
    return str(value)


def required(row: Row, name: str) -> str:
    """Return a word of ``row`` that must be there."""
    if not (value := text(row, name)):
        raise ValueError(f"{name} is missing")
    return value


def rows(value: Any) -> list[Row]:
    """Return a list of objects; null is an empty one."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ValueError("not a list of rows")
    return value


def each(items: Iterable[T], read: Callable[[T], R]) -> tuple[list[R], int]:
    """Read each item for itself, so that one that cannot be read hides no other. Return what was
    read and how many were not.
    """
    found, unread = list[R](), 0
    for item in items:
        try:
            found.append(read(item))
        except (ValueError, KeyError, TypeError):
            unread += 1
    return found, unread


def record(value: Any) -> Row:
    """Return an object as it is."""
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def moment(value: Any) -> datetime | None:
    """Return a timestamp of an order or trade row, or None where it is empty."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError(f"not a time: {value!r}")
    for form in _FORMATS:
        try:
            return datetime.strptime(value, form).replace(tzinfo=IST).astimezone(UTC)
        except ValueError:
            continue
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"not a time: {value!r}") from None
    return (at if at.tzinfo else at.replace(tzinfo=IST)).astimezone(UTC)


def from_millis(value: Any) -> datetime:
    """Return the time of epoch milliseconds, which the broker writes as numbers and as strings."""
    number = decimal(value)
    if not 0 < number < 10**14:
        raise ValueError(f"not a time: {value!r}")
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(number))


def date_of_millis(value: Any) -> date:
    """Return the day in India of epoch milliseconds."""
    return from_millis(value).astimezone(IST).date()


def session_end(opened: datetime) -> datetime:
    """Return when a token made at ``opened`` dies: the next 03:30 in India."""
    local = opened.astimezone(IST)
    end = datetime.combine(local.date(), time(3, 30), IST)
    return (end if local < end else end + timedelta(days=1)).astimezone(UTC)
