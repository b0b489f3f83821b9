"""How long a session of Kite lasts, and what its postbacks prove. Pure.

Source: https://kite.trade/docs/connect/v3/user/ and postbacks/.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from brokerages.adapters.zerodha.mapping import order_hint
from brokerages.base import IST
from brokerages.types import OrderHint

_SESSION_ENDS = time(6)  # IST, every day


def session_end(now: datetime) -> datetime:
    """Return when a session opened now ends: at the next 06:00 IST."""
    local = now.astimezone(IST)
    day = local.date() if local.time() < _SESSION_ENDS else local.date() + timedelta(days=1)
    return datetime.combine(day, _SESSION_ENDS, IST).astimezone(UTC)


def postback_is_genuine(body: bytes, secret: str) -> bool:
    """Return whether the checksum of a postback was made with the app's secret.

    It covers the order's id and time, not its status or quantities: a genuine postback is still
    only a hint to read the order.
    """
    try:
        row = _json_object(body)
    except ValueError:
        return False
    number, at, checksum = (row.get(k) for k in ("order_id", "order_timestamp", "checksum"))
    if not (secret and isinstance(number, str) and isinstance(at, str) and number):
        return False
    expected = hashlib.sha256((number + at + secret).encode("utf-8", "replace")).hexdigest()
    return isinstance(checksum, str) and hmac.compare_digest(
        expected.encode(), checksum.encode("utf-8", "replace")
    )


def postback_hints(body: bytes) -> list[OrderHint]:
    """Return the order that a postback names.

    Raises:
        ValueError: not a postback of Kite.
    """
    row = _json_object(body)
    try:
        return [order_hint(row)]
    except KeyError:
        raise ValueError("a postback without an order") from None


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        row = json.loads(body, parse_float=Decimal)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return row
