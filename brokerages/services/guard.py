"""Watches the calls of an adapter: what a failure means for more than this one call is noted
here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from brokerages.base import BrokerAdapter
from brokerages.errors import BrokerError, RateLimited, Refused, SessionExpired
from brokerages.limiter import PACED, Pacer

CALLS = (
    "open_session", "renew_session", "check_session", "close_session",
    "place_order", "modify_order", "cancel_order", "convert_position",
    "find_order", "fetch_order", "fetch_orders", "fetch_fills", "fetch_order_fills",
    "fetch_positions", "fetch_holdings", "fetch_funds", "fetch_profile", "fetch_quotes",
    "fetch_candles", "estimate_margin",
)  # fmt: skip
"""All calls of an adapter that ask its broker something and return when it answered."""
SESSION_CALLS = tuple(set(CALLS) - {"open_session", "renew_session", "close_session"})
COMMITS = ("place_order", "modify_order", "convert_position")


def paced(adapter: BrokerAdapter, pacer: Pacer) -> BrokerAdapter:
    """Return ``adapter``; when its broker says that a request was one too many, nobody sends
    another of the kind for as long as it asks.
    """

    def react(error: BrokerError) -> None:
        if isinstance(error, RateLimited) and error.code != PACED:
            pacer.penalise(error.retry_after)

    return watched(adapter, react)


def ended_once(adapter: BrokerAdapter, on_end: Callable[[SessionExpired], None]) -> BrokerAdapter:
    """Return ``adapter``; when its broker says that the session is over, ``on_end`` hears of it,
    and every later call fails with the same words: a dead token is never sent again.
    """
    ended: list[SessionExpired] = []

    def react(error: BrokerError) -> None:
        if isinstance(error, SessionExpired) and not ended:
            ended.append(error)
            on_end(error)

    watched(adapter, react)
    for name in SESSION_CALLS:
        setattr(adapter, name, _unless_ended(getattr(adapter, name), ended))
    return adapter


def _unless_ended(call: Callable[..., Any], ended: list[SessionExpired]) -> Callable[..., Any]:
    @functools.wraps(call)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if ended:
            raise SessionExpired(ended[0].message, broker=ended[0].broker, code=ended[0].code)
        return call(*args, **kwargs)

    return wrapper


def held_back(adapter: BrokerAdapter) -> BrokerAdapter:
    """Return ``adapter`` for a platform that trades at no real broker: it reads and cancels, and
    refuses what would commit money, before anything is sent.
    """
    refused = Refused(
        "Orders at real brokers are switched off on this platform.",
        broker=adapter.name,
        code="live_trading_disabled",
    )

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise refused

    for name in COMMITS:
        setattr(adapter, name, refuse)
    return adapter


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
