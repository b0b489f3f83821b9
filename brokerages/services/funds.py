"""The money at a broker, as pages show it: asked for seldom, and never twice at once in vain."""

from __future__ import annotations

from decimal import Decimal

from django.core.cache import cache

from brokerages.base import SessionRenewal
from brokerages.errors import BrokerError, NotSent
from brokerages.models import BrokerConnection
from brokerages.registry import adapter_class
from brokerages.services.adapters import adapter_for
from brokerages.types import Funds

# A page asks every few seconds; a broker that does not answer must not hold up each of its turns.
KEEP_SECONDS = 10


def funds_latest(connection: BrokerConnection) -> Funds:
    """Return the funds of a connection, at most ten seconds old.

    Whoever decides by them (the risk check, a preview) asks the adapter instead.

    Raises:
        BrokerError: the broker could not be asked, now or a moment ago.
    """
    if adapter_class(connection.broker).capabilities.session_renewal is SessionRenewal.NONE:
        return adapter_for(connection).fetch_funds()  # in our own tables
    key = f"funds:{connection.pk}"
    known = cache.get(key)
    if isinstance(known, str):
        raise NotSent(known, broker=connection.broker, code="asked_a_moment_ago")
    if known is not None:
        return Funds(*map(Decimal, known))
    try:
        funds = adapter_for(connection).fetch_funds()
    except BrokerError as e:
        cache.set(key, e.message, KEEP_SECONDS)
        raise
    cache.set(key, [str(funds.available), str(funds.used), str(funds.total)], KEEP_SECONDS)
    return funds
