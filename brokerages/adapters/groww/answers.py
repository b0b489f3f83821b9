"""What an answer of Groww proves. Pure Python.

Groww wraps answers in ``{"status": "SUCCESS", "payload": {...}}`` or ``{"status": "FAILURE",
"error": {"code": "GA001", "message": ...}}``. Which HTTP status goes with which code is not
documented, and a FAILURE may come with any. A refusal counts only where its code (or a bare 401 or
403) is on the list below; whatever else is not a success proves nothing. The words of a refusal
only choose between kinds of refusals, or take a refusal's proof away: a time-out, and a new order
whose reference is in use, perhaps by itself. They never prove that the broker did not act.

Source: https://groww.in/trade-api/docs/python-sdk/exceptions
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from brokerages.errors import (
    BrokerError,
    InsufficientFunds,
    InsufficientHoldings,
    InvalidOrder,
    MarketClosed,
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

BROKER = "groww"

DUPLICATE_REFERENCE = "GA007"  # an order with this reference exists: perhaps the one just sent
NOT_FOUND = "GA004"
NOT_AUTHORISED = "GA005"
MISSING = frozenset({NOT_FOUND, "404"})  # also a 404 without an envelope

REFUSALS: dict[str, type[Refused]] = {
    "GA001": Refused,  # bad request
    NOT_FOUND: OrderNotFound,  # the requested entity does not exist
    NOT_AUTHORISED: PermissionDenied,  # the user is not authorised for this
    "GA006": Refused,  # cannot process this request
}
UNSPECIFIC = frozenset({"GA001", "GA006"})
# GA000 (internal error) and GA003 (unable to serve right now) prove nothing, nor do new codes.

KINDS: tuple[tuple[re.Pattern[str], type[Refused]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"\bIP\b|whitelist", StaticIpRefused),
        (r"insufficient (funds?|balance|margin|cash)|(margin|funds?) (is )?(short|insufficient)"
         r"|not enough (funds?|balance|margin|cash)", InsufficientFunds),
        (r"holdings?|insufficient (quantity|shares|stocks?)|t-?pin|\bedis\b|demat",
         InsufficientHoldings),
        (r"\btick", OffTick),
        (r"freeze", OverFreeze),
        (r"markets? (is |are )?(now )?closed|(market|trading) hours", MarketClosed),
        (r"already", OrderNotFound),
    )
)  # fmt: skip
_IN_USE = re.compile(
    r"\balready\b|duplicate|\breference\b.*\b(in use|used|exists?|taken|unique)\b"
    r"|\b(used|existing|unique)\b.*\breference\b",
    re.IGNORECASE | re.DOTALL,
)
_TIMED_OUT = re.compile(r"time(d)?[ -]?out|try again", re.IGNORECASE)


def read(content: bytes) -> Any:
    """Return a JSON body with exact decimals.

    Raises:
        ValueError: it is none.
    """
    return json.loads(content, parse_float=Decimal, parse_constant=_no_number)


def payload_of(
    status: int,
    content: bytes,
    headers: Mapping[str, str],
    *,
    order: bool = False,
    places: bool = False,
    enveloped: bool = True,
) -> dict[str, Any]:
    """Return the payload of an answer, or the whole body where Groww wraps none.

    ``order`` says that the request was one to place, change or cancel an order; ``places``, that it
    was one to place it.

    Raises:
        BrokerError: by what the answer proves.
    """
    if status == 429:
        raise RateLimited(
            "Groww takes no more requests right now.",
            broker=BROKER,
            code="429",
            retry_after=_seconds(headers.get("Retry-After", "")),
        )
    try:
        body = read(content)
    except ValueError:
        body = None
    if status >= 500 or not isinstance(body, dict):
        raise _bare(status, body)
    if body.get("status") == "FAILURE":
        raise _failure(status, body.get("error"), order=order, places=places)
    if not 200 <= status < 300:
        raise _bare(status, body)
    payload = body.get("payload") if enveloped else body.get("payload", body)
    if not isinstance(payload, dict):
        raise unreadable("an answer without a payload")
    return payload


def unreadable(what: str) -> OutcomeUnknown:
    return OutcomeUnknown(f"Groww answered unreadably: {what}.", broker=BROKER, code="unreadable")


def _failure(status: int, error: Any, *, order: bool, places: bool) -> BrokerError:
    if not isinstance(error, dict) or not isinstance(error.get("code"), str):
        return _bare(status, error)
    code = error["code"]
    words = str(error.get("message") or "").strip() or f"Groww refused the request ({code})."
    if status == 401:
        return SessionExpired(words, broker=BROKER, code=code)
    kind = REFUSALS.get(code)
    if kind is None or _TIMED_OUT.search(words):
        return OutcomeUnknown(words, broker=BROKER, code=code)
    if places and code in UNSPECIFIC and _IN_USE.search(words):
        return OutcomeUnknown(words, broker=BROKER, code=code)
    if order:
        kind = _kind_of(code, words, kind)
    return kind(words, broker=BROKER, code=code)


def _kind_of(code: str, words: str, kind: type[Refused]) -> type[Refused]:
    if code == NOT_FOUND:
        return kind
    for pattern, special in KINDS:
        if pattern.search(words):
            return special
    return InvalidOrder if code == "GA001" else kind


def _bare(status: int, body: Any) -> BrokerError:
    """Return the error of an answer without the envelope: only its HTTP status speaks."""
    code = str(status)
    if status == 401:
        return SessionExpired("Groww does not take the session any more.", broker=BROKER, code=code)
    if status == 403:
        return PermissionDenied("Groww does not allow this request.", broker=BROKER, code=code)
    if 200 <= status < 300:
        return unreadable(f"HTTP {status} without what was asked for")
    return OutcomeUnknown(f"Groww answered with HTTP {status}.", broker=BROKER, code=code)


def mint_refusal(status: int, content: bytes) -> BrokerError | None:
    """Return the refusal of a request for an access token, None where the answer is none.

    Its errors carry ``error.displayMessage``. Nothing is bought by such a request: every answer of
    the 400s is a refusal.
    """
    if not 400 <= status < 500 or status == 429:
        return None
    try:
        error = read(content)["error"]
        words = str(error.get("displayMessage") or error.get("message") or "").strip()
    except (ValueError, KeyError, TypeError, AttributeError):
        words = ""
    return Refused(words or "Groww refused the credentials.", broker=BROKER, code=str(status))


def _seconds(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 60.0)
    except ValueError:
        return 1.0


def _no_number(text: str) -> Any:
    raise ValueError(f"not a JSON number: {text}")
