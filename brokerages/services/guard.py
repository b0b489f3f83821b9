"""Watches the calls of an adapter: what a failure means for more than this one call is noted here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from brokerages.base import BrokerAdapter
from brokerages.errors import BrokerError, RateLimited
from brokerages.limiter import PACED, Pacer

CALLS = (
    "open_session", "renew_session", "check_session", "close_session",
    "place_order", "modify_order", "cancel_order", "convert_position",
    "find_order", "fetch_order", "fetch_orders", "fetch_fills", "fetch_order_fills",
    "fetch_positions", "fetch_holdings", "fetch_funds", "fetch_profile", "fetch_quotes",
    "fetch_candles", "estimate_margin",
)  # fmt: skip
"""All calls of an adapter that ask its broker something and return when it answered."""


def paced(adapter: BrokerAdapter, pacer: Pacer) -> BrokerAdapter:
    """Return ``adapter``; when its broker says that a request was one too many, nobody sends
    another of the kind for as long as it asks.
    """

    def react(error: BrokerError) -> None:
        if isinstance(error, RateLimited) and error.code != PACED:
            pacer.penalise(error.retry_after)

    return watched(adapter, react)


def watched(adapter: BrokerAdapter, react: Callable[[BrokerError], None]) -> BrokerAdapter:
    """Return ``adapter`` with ``react`` called for each `BrokerError` that a call of it raises,
    once, before the caller gets it.
    """
    for name in CALLS:
        setattr(adapter, name, _watched(getattr(adapter, name), react))
    return adapter


def _watched(call: Callable[..., Any], react: Callable[[BrokerError], None]) -> Callable[..., Any]:
    @functools.wraps(call)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except BrokerError as e:
            # a call that used another one raises the same error again
            seen = getattr(e, "seen_by", ())
            if react not in seen:
                e.seen_by = (*seen, react)  # type: ignore[attr-defined]
                react(e)
            raise

    return wrapper
