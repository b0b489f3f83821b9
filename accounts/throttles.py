"""Counting attempts: exactly and in PostgreSQL where guessing is at stake, roughly and in Redis for
floods.

Counters are written on their own, outside the transaction of what they guard, so that an attempt
counts even if it fails.
"""

import hashlib
import ipaddress
import math
from datetime import timedelta
from typing import Any

from django.db import connection
from django.utils import timezone
from django_ratelimit.core import get_usage
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts import limits
from accounts.errors import Throttled
from accounts.models import ThrottleCounter
from audit.middleware import client_ip

IPV6_NETWORK = 64  # one customer of a provider has all of these addresses

_FRESH = "ARRAY(SELECT h FROM unnest(c.hits) h WHERE h > %(since)s ORDER BY h)"
_HIT = f"""
    INSERT INTO accounts_throttlecounter AS c (key, hits, admitted, failures, expires_at)
    VALUES (%(key)s, ARRAY[%(now)s::timestamptz], true, 0, %(expires)s)
    ON CONFLICT (key) DO UPDATE SET
        admitted = cardinality({_FRESH}) < %(count)s,
        hits = CASE WHEN cardinality({_FRESH}) < %(count)s
                    THEN {_FRESH} || %(now)s::timestamptz ELSE {_FRESH} END,
        expires_at = %(expires)s
    RETURNING admitted, hits[1]
"""  # noqa: S608
_BACKOFF = """
    INSERT INTO accounts_throttlecounter AS c
                (key, hits, admitted, failures, blocked_until, expires_at)
    VALUES (%(key)s, '{}', true, 1, NULL, %(expires)s)
    ON CONFLICT (key) DO UPDATE SET
        admitted = c.blocked_until IS NULL OR c.blocked_until <= %(now)s,
        failures = CASE WHEN c.blocked_until > %(now)s THEN c.failures
                        WHEN c.expires_at <= %(now)s THEN 1 ELSE c.failures + 1 END,
        blocked_until = CASE
            WHEN c.blocked_until > %(now)s THEN c.blocked_until
            WHEN c.expires_at > %(now)s AND c.failures + 1 >= %(free)s
            THEN %(now)s + interval '1 second' * least(
                %(first)s * power(2, least(c.failures + 1 - %(free)s, 30)), %(longest)s) END,
        expires_at = CASE WHEN c.blocked_until > %(now)s THEN c.expires_at ELSE %(expires)s END
    RETURNING admitted, blocked_until
"""


def hit(name: str, subject: str | None) -> None:
    """Count one event under a limit of `limits.py`, whatever comes of it.

    Raises:
        Throttled: the limit is reached; this event was not counted.
    """
    limit = limits.limit(name)
    if limit is None:
        return
    now = timezone.now()
    span = timedelta(seconds=limit.seconds)
    values: dict[str, Any] = {
        "key": _key(name, subject),
        "now": now,
        "since": now - span,
        "expires": now + span,
        "count": limit.count,
    }
    with connection.cursor() as cursor:
        cursor.execute(_HIT, values)
        admitted, oldest = cursor.fetchone()
    if not admitted:
        raise Throttled(retry_after=_seconds(oldest + span - now))


def backoff_begin(subject: str) -> None:
    """Count a try of a password as failed, before it is looked at; ``backoff_clear`` takes it back.

    Counting first is what makes the limit hold for tries that come at the same instant.

    Raises:
        Throttled: the waiting time after the last failure is not over.
    """
    now = timezone.now()
    values: dict[str, Any] = {
        "key": _key("backoff", subject),
        "now": now,
        "expires": now + timedelta(seconds=limits.FAILURES_FORGOTTEN_SECONDS),
        "free": limits.FREE_FAILURES,
        "first": limits.FIRST_WAIT_SECONDS,
        "longest": limits.LONGEST_WAIT_SECONDS,
    }
    with connection.cursor() as cursor:
        cursor.execute(_BACKOFF, values)
        admitted, blocked_until = cursor.fetchone()
    if not admitted:
        raise Throttled(retry_after=_seconds(blocked_until - now))


def backoff_clear(subject: str) -> None:
    """Forget the failures: the password was right, or was reset by the owner of the mailbox."""
    ThrottleCounter.objects.filter(key=_key("backoff", subject)).delete()


def backoff_undo(subject: str) -> None:
    """Take back one count of a try that was never looked at."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE accounts_throttlecounter"
            " SET failures = greatest(failures - 1, 0), blocked_until = NULL WHERE key = %s",
            [_key("backoff", subject)],
        )


def network_of(ip: str | None) -> str:
    """Return what an address is counted as: itself, or its whole /64 network."""
    if not ip:
        return "none"
    address = ipaddress.ip_address(ip)
    if address.version == 4:
        return ip
    return str(ipaddress.ip_network((address, IPV6_NETWORK), strict=False))


def _key(name: str, subject: str | None) -> str:
    return hashlib.sha256(f"{name}|{subject}".encode()).hexdigest()


def _seconds(wait: timedelta) -> int:
    return max(1, math.ceil(wait.total_seconds()))


class AuthFloodThrottle(BaseThrottle):
    """A cheap gate before the database, per address, for paths that need no login.

    Counted in Redis; without Redis it is open, and the exact limits behind it hold alone.
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        limit = limits.limit("auth_ip")
        if limit is None:
            return True
        usage = get_usage(
            request._request,
            group="accounts.auth",
            key=lambda group, r: network_of(client_ip(r)),
            rate=(limit.count, limit.seconds),
            increment=True,
        )
        self._wait = max(1, usage["time_left"]) if usage else 1
        return not (usage and usage["should_limit"])

    def wait(self) -> float:
        return float(self._wait)
