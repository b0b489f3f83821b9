"""Connecting a broker and opening its session in one call."""

from __future__ import annotations

from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.db import transaction

from brokerages.base import BrokerAdapter
from brokerages.models import BrokerConnection
from brokerages.problems import InvalidConnection
from brokerages.selectors import connection_get, connection_list
from brokerages.services.connections import (
    PAPER,
    adapter_named,
    checked_credentials,
    connection_create,
    connection_update,
    user_lock,
)
from brokerages.services.sessions import session_open


def activate_brokerage(
    *,
    user_id: UUID,
    brokerage: str,
    api_url: str = "",
    api_key: str = "",
    api_secret: str = "",
    request_token: str = "",
) -> tuple[BrokerConnection, bool]:
    """Create or update the user's connection to ``brokerage`` and open a session.

    Return the connection and whether it is new. For paper nothing but the name is needed, and
    nothing else is used. Nothing is ever sent to ``api_url``: it is compared with the addresses
    that the adapter knows.

    Raises:
        InvalidConnection: no such broker, an address that is not the broker's own, missing
            credentials.
        BrokerError: the broker did not open a session. The connection is kept, so that the user
            can try again.
    """
    broker = brokerage.strip().lower()
    adapter = adapter_named(broker)
    if broker != PAPER and api_url not in emulator_urls(broker):
        check_api_url(adapter, api_url)
    asked_for = {field.name for field in adapter.credential_fields}
    given = {"api_key": api_key, "api_secret": api_secret}
    credentials = {name: value for name, value in given.items() if name in asked_for}
    with transaction.atomic():
        user_lock(user_id)  # or two clicks make two connections
        existing = (
            connection_list(user_id=user_id)
            .filter(broker=broker)
            .order_by("-is_default", "id")
            .first()
        )
        if existing is None:
            connection = connection_create(user_id=user_id, broker=broker, credentials=credentials)
        else:
            checked_credentials(adapter, credentials, complete=True)
            connection = connection_update(
                user_id=user_id, connection_id=existing.pk, credentials=credentials
            )
    session_open(user_id=user_id, connection_id=connection.pk, grant=request_token or None)
    return connection_get(user_id=user_id, connection_id=connection.pk), existing is None


def emulator_urls(broker: str) -> set[str]:
    """Return how the address of the broker's configured emulator may be written."""
    origin = settings.BROKER_ENDPOINTS.get(broker, {}).get("api")
    return {origin, f"{origin}/"} if origin else set()


def check_api_url(adapter: type[BrokerAdapter], api_url: str) -> None:
    """Raise `InvalidConnection` unless ``api_url`` is https at one of the broker's own hosts, and
    nothing more.
    """
    try:
        parts = urlsplit(api_url)
        port = parts.port
    except ValueError:
        raise _refused(adapter) from None
    host = parts.netloc.removesuffix(":443")
    allowed = (
        api_url.isascii()
        and api_url.isprintable()
        and not set(api_url) & set(" \\@%")
        and parts.scheme == "https"
        and port in (None, 443)
        and host in adapter.api_hosts
        and not (parts.query or parts.fragment)
    )
    if not allowed:
        raise _refused(adapter)


def _refused(adapter: type[BrokerAdapter]) -> InvalidConnection:
    hosts = sorted(adapter.api_hosts)
    return InvalidConnection(
        f"The address is not one of {adapter.label}.",
        code="api_url_not_allowed",
        detail={"allowed": [f"https://{host}" for host in hosts]},
    )
