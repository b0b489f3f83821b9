"""Reading connections. All functions take the user: what is not theirs does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils import timezone

from audit.sql import Statement
from brokerages.base import BrokerAdapter
from brokerages.models import BrokerConnection, BrokerSession
from brokerages.problems import NoConnection, NotFound
from brokerages.registry import BROKER_NAMES, adapter_class


@dataclass(frozen=True, slots=True)
class ConnectionBrief:
    """As much of a live connection as placing an order needs."""

    id: UUID
    broker: str
    label: str


def connection_list(*, user_id: UUID, include_disabled: bool = False) -> QuerySet[BrokerConnection]:
    """Return the user's connections, oldest first, with their sessions and masked credentials."""
    connections = (
        BrokerConnection.objects.filter(user_id=user_id)
        .select_related("session")
        .prefetch_related("credentials")
        .order_by("id")
    )
    return connections if include_disabled else connections.filter(disabled_at__isnull=True)


def connection_get(
    *, user_id: UUID, connection_id: UUID, include_disabled: bool = False
) -> BrokerConnection:
    """Return one of the user's connections.

    Raises:
        NotFound: no such connection, another user's, or a disabled one.
    """
    found = connection_list(user_id=user_id, include_disabled=include_disabled)
    connection = found.filter(pk=connection_id).first()
    if connection is None:
        raise unknown_connection()
    return connection


def connection_default(*, user_id: UUID) -> BrokerConnection:
    """Return the user's default connection.

    Raises:
        NoConnection: the user has none.
    """
    connection = connection_list(user_id=user_id).filter(is_default=True).first()
    if connection is None:
        raise no_connection()
    return connection


_BRIEF_OF = (
    "SELECT id, broker, label FROM brokerages_brokerconnection"
    " WHERE user_id = %s AND disabled_at IS NULL AND "
)
_BRIEF_DEFAULT, _BRIEF = Statement(f"{_BRIEF_OF} is_default"), Statement(f"{_BRIEF_OF} id = %s")


def connection_brief(*, user_id: UUID, connection_id: UUID | None) -> ConnectionBrief:
    """Return the connection, or the user's default one for None: one small SELECT, for the order
    path.

    Raises:
        NotFound: as `connection_get`.
        NoConnection: as `connection_default`.
    """
    if connection_id is None:
        row = _BRIEF_DEFAULT.row([user_id])
    else:
        row = _BRIEF.row([user_id, connection_id])
    if row is not None:
        return ConnectionBrief(*row)
    if connection_id is None:
        raise no_connection()
    raise unknown_connection()


_PRICES_OF = (
    "SELECT id, broker, label, data_source FROM brokerages_brokerconnection"
    " WHERE user_id = %s AND disabled_at IS NULL AND "
)
_PRICES_DEFAULT = Statement(f"{_PRICES_OF} is_default")
_PRICES = Statement(f"{_PRICES_OF} broker = %s ORDER BY is_default DESC, id LIMIT 1")


def connection_for_prices(*, user_id: UUID, broker: str | None) -> tuple[ConnectionBrief, str]:
    """Return the user's connection at ``broker`` (the default one, or the oldest), or their default
    one for None; and where it takes its prices from.

    Raises:
        NoConnection: the user has none there.
    """
    row = _PRICES_DEFAULT.row([user_id]) if broker is None else _PRICES.row([user_id, broker])
    if row is not None:
        return ConnectionBrief(*row[:3]), row[3]
    if broker is None:
        raise no_connection()
    raise NoConnection(f"Connect {adapter_class(broker).label} first.")


def session_get(*, user_id: UUID, connection_id: UUID) -> BrokerSession:
    """Return the session of one of the user's connections.

    Raises:
        NotFound: no such connection, or none of its sessions was ever opened.
    """
    connection = connection_get(user_id=user_id, connection_id=connection_id)
    session = session_of(connection)
    if session is None:
        raise NotFound("No session was opened for this connection yet.", code="no_session")
    return session


def session_of(connection: BrokerConnection) -> BrokerSession | None:
    """Return the session of a connection whose owner was checked already."""
    try:
        return connection.session
    except BrokerSession.DoesNotExist:
        return None


def connections_with_session(broker: str) -> list[UUID]:
    """Return the connections of all users whose session at ``broker`` is open, newest first.

    For what the platform itself reads and is the same for everybody, such as instrument lists.
    """
    now = timezone.now()
    return list(
        BrokerSession.objects.filter(
            Q(expires_at=None) | Q(expires_at__gt=now),
            connection__broker=broker,
            connection__disabled_at=None,
            state=BrokerSession.State.ACTIVE,
        )
        .order_by("-opened_at")
        .values_list("connection_id", flat=True)
    )


def broker_list() -> Iterable[type[BrokerAdapter]]:
    """Return the adapter class of every broker that can be connected."""
    return [adapter_class(name) for name in BROKER_NAMES]


def unknown_connection() -> NotFound:
    return NotFound("No such connection.")


def no_connection() -> NoConnection:
    return NoConnection("Connect a broker first: there is no default connection.")
