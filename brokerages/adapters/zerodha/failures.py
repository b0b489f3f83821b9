"""What a failing answer of Kite proves. Pure.

Only what is listed here counts as a refusal; everything else may have been acted on. Kite has been
seen to answer ``400 OrderException: Order request timed out`` and to place the order seconds later,
so the status code alone proves nothing. Source: https://kite.trade/docs/connect/v3/exceptions/ and
the developers' forum.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from brokerages.adapters.zerodha.values import BROKER
from brokerages.errors import (
    BrokerError,
    InsufficientFunds,
    InsufficientHoldings,
    InvalidOrder,
    MarketClosed,
    NotSent,
    OffTick,
    OrderNotFound,
    OutcomeUnknown,
    OverFreeze,
    PermissionDenied,
    RateLimited,
    Refused,
    SessionExpired,
    StaticIpRefused,
)

LONGEST_MESSAGE = 500
LONGEST_WAIT = 60.0

# Said when the order may exist all the same, whatever the status code and type.
_UNSURE = re.compile(r"timed[ -]?out|time-?out|confirm before placing", re.I)

# Said by the gate before the order system: nothing was done, and the same request may pass later.
_TOO_EARLY = re.compile(r"being processed", re.I)

_Words = tuple[tuple[re.Pattern[str], type[Refused]], ...]


def _table(words: dict[type[Refused], tuple[str, ...]]) -> _Words:
    return tuple((re.compile("|".join(said), re.I), error) for error, said in words.items())


# Kite's and its risk system's words, first match. Types have changed over time; the words tell.
_WORDS = _table(
    {
        StaticIpRefused: (
            r"no ips? configured",
            r"ip (?:address )?(?:is )?not allowed",
            "static ip",
        ),
        SessionExpired: (r"(?:incorrect|invalid) `?(?:api_key|access_token)`?",),
        InsufficientHoldings: (
            r"insufficient (?:stock )?holding",
            r"not (?:enough|sufficient) holding",
            "not in your holdings",
            "check holdings",
            "holding quantity",
            "authori[sz]e.*(?:sale|sell)",
            "cdsl",
        ),
        InsufficientFunds: (
            r"insufficient (?:funds?|margin|balance)",
            r"margin (?:exceeds|shortfall)",
        ),
        OverFreeze: (r"freeze (?:qty|quantity|limit)", "quantity freeze"),
        OffTick: ("tick size", r"multiples? of (?:the )?tick"),
        PermissionDenied: (
            "(?:segment|product|account).* not (?:enabled|activated|active)",
            "not (?:enabled|activated).* (?:segment|account)",
        ),
        MarketClosed: (
            r"markets? (?:is|are) (?:currently )?closed",
            r"(?:exchange|segment) is closed",
            "market hours",
            r"\bamo\b",
            "after[- ]market order",
        ),
        InvalidOrder: (
            "circuit limit",
            "price (?:band|range)",
            "market[ _]protection",
            "lot size",
            r"multiples? of (?:the )?lot",
            "trigger price",
            "disclosed quantity",
            r"(?:limit|maximum).* modifications?",
            r"modifications?\b.*(?:limit|exceed)",
        ),
    }
)

# The same, where the request named an order.
_ORDER_WORDS = _table(
    {
        OrderNotFound: (
            r"(?:couldn.t|could not|cannot|can.t|unable to) find",
            "not found",
            "(?:doesn.t|not) exist",
            "invalid `?order_id`?",
            "not (?:an )?open order",
            r"(?:is|it.s|already|been) (?:complete|completed|cancelled|rejected|executed)\b",
        ),
        Refused: ("order (?:cannot|can.t|can not) be (?:modified|changed|cancelled)",),
    }
)

# By the status code and the documented type, where the words said nothing. Others are unknown.
_TYPES: dict[int, dict[str, type[Refused]]] = {
    400: {
        "InputException": InvalidOrder,
        "MarginException": InsufficientFunds,
        "HoldingException": InsufficientHoldings,
    },
    403: {
        "TwoFAException": SessionExpired,
        "PermissionException": PermissionDenied,
        "PermissionError": PermissionDenied,
        "UserException": PermissionDenied,
    },
}
_LAST_WORDS = _table({InvalidOrder: (r"not (?:enabled|activated|permitted|allowed)", "blocked")})
_NO_SUCH_CALL = frozenset({404, 405, 410})


def failure_of(
    status: int, body: Any, *, retry_after: str | None = None, of_order: bool = False
) -> BrokerError:
    """Return the error that an answer stands for.

    ``body`` is the parsed JSON of the answer, None where it is none. ``of_order`` says that the
    request named an order, so that "no such thing" means the order.
    """
    kind, words = _kind_and_words(body)
    code = kind or f"http_{status}"
    if status == 429:
        return RateLimited(
            words or "Zerodha takes no more requests right now.",
            broker=BROKER,
            code=code,
            retry_after=_seconds(retry_after),
        )
    if not kind or not 400 <= status < 500:
        return unknown(words or f"Zerodha answered with HTTP {status}.", code)
    if status == 403 and kind == "TokenException":
        return SessionExpired(words, broker=BROKER, code=code)
    if _UNSURE.search(words):
        return unknown(words, code)
    if _TOO_EARLY.search(words):
        # Of a change or a cancel they say that it came before the order was there. Of a placement
        # they may as well say that the order was taken: it must not be sent again.
        if not of_order:
            return unknown(words, code)
        return NotSent(words, broker=BROKER, code="being_processed")
    error = _match(_ORDER_WORDS, words) if of_order else None
    error = error or _match(_WORDS, words) or _TYPES.get(status, {}).get(kind)
    if error is None and status == 400:
        error = _match(_LAST_WORDS, words)
    if error is None and status in _NO_SUCH_CALL:
        error = OrderNotFound if of_order else Refused
    return unknown(words, code) if error is None else error(words, broker=BROKER, code=code)


def _match(table: _Words, words: str) -> type[Refused] | None:
    return next((error for pattern, error in table if pattern.search(words)), None)


def unknown(words: str, code: str) -> OutcomeUnknown:
    return OutcomeUnknown(words, broker=BROKER, code=code)


def unreadable(status: int | None = None) -> OutcomeUnknown:
    """Return what an answer proves that cannot be understood: nothing."""
    said = "" if status is None else f" (HTTP {status})"
    return unknown(f"Zerodha's answer could not be read{said}.", "unreadable")


def _kind_and_words(body: Any) -> tuple[str, str]:
    """Return the error's type and message; the type is empty where it is not an error of Kite."""
    if not isinstance(body, Mapping):
        return "", ""
    kind, words = body.get("error_type"), body.get("message")
    if not isinstance(kind, str) or not isinstance(words, str) or not kind:
        return "", ""
    return kind[:64], words.strip()[:LONGEST_MESSAGE] or kind[:64]


def _seconds(retry_after: str | None) -> float:
    """Return the wait that a header asks for; a second where it says none, or a date."""
    try:
        seconds = float(retry_after or 1)
    except ValueError:
        return 1.0
    return min(max(seconds, 0.2), LONGEST_WAIT) if math.isfinite(seconds) else 1.0
