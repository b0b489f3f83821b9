"""How many webhooks are taken. Counted in Redis; without Redis nothing is refused.

Valid deliveries count after their signature, invalid ones by the address they come from. An address
that sends nothing but rubbish is refused before its body is read. One that has sent something valid
lately is always looked at: a broker's servers speak for all of its users at once, and a secret that
was just retired must not shut out its successor.
"""

from __future__ import annotations

import math
import time
from typing import Any

from django.core.cache import cache
from django.http import HttpRequest
from django_ratelimit.core import get_usage

from accounts import limits
from accounts.throttles import network_of
from audit.middleware import client_ip

KNOWN_SECONDS = 600
_marked: dict[str, float] = {}  # by address: when this process last noted that it is known
MOST_MARKED = 10_000


def is_flooding(request: HttpRequest) -> int | None:
    """Return the seconds to wait for an address that only sends what is not valid, else None."""
    # in this order: should Redis go away in between, nobody is refused
    if _is_marked(_address(request), KNOWN_SECONDS) or cache.get(_known(request)):
        return None
    return _count(request, "webhook_invalid_ip", _address(request), count=False)


def invalid(request: HttpRequest) -> int | None:
    """Count a delivery that nobody signed; return the seconds to wait if there are too many."""
    return _count(request, "webhook_invalid_ip", _address(request))


def valid(request: HttpRequest, subject: str = "") -> int | None:
    """Count a valid delivery, of an address or of the connection ``subject``; return the seconds
    to wait if there are too many.
    """
    _mark(request)
    if subject:
        return _count(request, "webhook_connection", subject)
    return _count(request, "webhook_valid_ip", _address(request))


def _mark(request: HttpRequest) -> None:
    address = _address(request)
    if _is_marked(address, KNOWN_SECONDS / 2):
        return
    if len(_marked) >= MOST_MARKED:
        _marked.clear()
    _marked[address] = time.monotonic()
    cache.set(_known(request), 1, KNOWN_SECONDS)


def _is_marked(address: str, seconds: float) -> bool:
    return time.monotonic() - _marked.get(address, -math.inf) < seconds


def _known(request: HttpRequest) -> str:
    return f"webhooks.known.{_address(request)}"


def _address(request: HttpRequest) -> str:
    return network_of(client_ip(request))


def _count(request: HttpRequest, name: str, subject: str, *, count: bool = True) -> int | None:
    limit = limits.limit(name)
    if limit is None:
        return None
    usage: dict[str, Any] | None = get_usage(
        request,
        group=name,
        key=lambda group, asked: subject,
        rate=(limit.count, limit.seconds),
        increment=count,
    )
    if not usage or not usage["should_limit"]:
        return None
    return max(1, math.ceil(float(usage["time_left"])))
