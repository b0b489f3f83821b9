"""What can be wrong with a request to trade. HTTP statuses are given in `config/exceptions.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class TradingError(Exception):
    """Base: ``code`` is stable for programs, the message is a sentence for the user."""

    code = "trading_error"

    def __init__(
        self, message: str, *, code: str = "", detail: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.detail = message, dict(detail or {})
        if code:
            self.code = code


class NotFound(TradingError):
    """No such object, or another user's; the two look the same from outside."""

    code = "not_found"


class MissingIdempotencyKey(TradingError):
    """The request has neither an ``Idempotency-Key`` nor a ``client_order_id``."""

    code = "idempotency_key_required"


class IdempotencyMismatch(TradingError):
    """The key was used for a different order."""

    code = "idempotency_key_reused"


class OrderDenied(TradingError):
    """Our checks or the broker's stated capabilities rule the order out. Nothing was sent."""

    code = "order_denied"


class OrderStateConflict(TradingError):
    """The order is not in a state that allows this."""

    code = "order_state_conflict"


class JournalOnly(TradingError):
    """A trade made by the broker's fills cannot be edited."""

    code = "trade_not_editable"
