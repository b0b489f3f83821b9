"""From a stored connection to the adapter that acts for it: secrets are decrypted here, late, and
kept nowhere.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from audit.sql import Statement
from brokerages import ports
from brokerages.base import AdapterContext, BrokerAdapter, SessionRenewal
from brokerages.crypto import DecryptionError, Place, Sealed, open_secret
from brokerages.errors import NotSupported, Refused, SessionExpired
from brokerages.limiter import Pacer, pace_of
from brokerages.models import BrokerConnection, BrokerSession
from brokerages.registry import UnknownBroker, adapter_class, is_venue
from brokerages.services.endings import OVER, session_expired
from brokerages.services.guard import ended_once, held_back, paced
from brokerages.services.scrubbing import scrubbed
from brokerages.types import SessionToken

logger = logging.getLogger(__name__)

SESSION_FIELD = "session"
CALLBACK = "/api/v1/connections/callback"

# Read anew for every use, also where the caller has the connection: it may have been disabled or
# logged out since.
_PARTS = Statement("""
    SELECT c.user_id, c.broker, c.disabled_at,
        s.state, s.ciphertext, s.key_id, s.expires_at, s.broker_user_id, s.opened_at,
        k.field, k.ciphertext, k.key_id
    FROM brokerages_brokerconnection c
    LEFT JOIN brokerages_brokersession s ON s.connection_id = c.id
    LEFT JOIN brokerages_brokercredential k ON k.connection_id = c.id
    WHERE c.id = %s
""")


def adapter_for(connection: BrokerConnection | UUID) -> BrokerAdapter:
    """Return an adapter with the connection's open session.

    The caller has checked whose connection it is. One SELECT, whatever the broker.

    Raises:
        SessionExpired: no session is open; the user (or the renewal) has to open one.
        Refused: the connection is disabled, or its stored secrets are not readable.
        NotSupported: its broker is not available.
    """
    return _adapter(connection, with_session=True)


def adapter_without_session(connection: BrokerConnection | UUID) -> BrokerAdapter:
    """Return an adapter that can only open a session. Raises as `adapter_for`, but for the
    session.
    """
    return _adapter(connection, with_session=False)


def adapter_to_renew(connection: BrokerConnection | UUID) -> BrokerAdapter:
    """Return an adapter with the token of the last session, where one is left, to renew it. It may
    be used by a thread that must not touch the database.
    """
    return _adapter(connection, with_session=False, to_renew=True)


def place_of(connection: BrokerConnection, field: str) -> Place:
    """Return where a secret of this connection belongs."""
    return Place(str(connection.user_id), str(connection.pk), connection.broker, field)


def redirect_url(broker: str) -> str:
    """Return where ``broker`` sends users back to after a login; to be entered at its console."""
    return f"{settings.PUBLIC_URL}{CALLBACK}/{broker}"


def token_to_text(token: SessionToken) -> str:
    """Return the part of a session token that is kept encrypted."""
    return json.dumps(dict(token.secrets))


def _adapter(
    connection: BrokerConnection | UUID, *, with_session: bool, to_renew: bool = False
) -> BrokerAdapter:
    connection_id = connection if isinstance(connection, UUID) else connection.pk
    rows = _PARTS.rows([connection_id])
    if not rows:
        raise Refused("The connection does not exist.", broker="", code="no_connection")
    (
        user_id, broker, disabled_at,
        state, ciphertext, key_id, expires_at, broker_user_id, opened_at,
    ) = rows[0][:9]  # fmt: skip
    if disabled_at is not None:
        raise Refused("The connection is disabled.", broker=broker, code="connection_disabled")
    try:
        cls = adapter_class(broker)
    except UnknownBroker:
        raise NotSupported(
            f"The broker {broker} is not available.", broker=broker, code="broker_not_available"
        ) from None
    token = None
    try:
        credentials = _credentials(str(user_id), str(connection_id), broker, rows)
        if with_session:
            _require_open(connection_id, broker, state, expires_at)
        if with_session or to_renew:
            token = SessionToken({}, expires_at, broker_user_id)
            if ciphertext:
                place = Place(str(user_id), str(connection_id), broker, SESSION_FIELD)
                secrets = json.loads(open_secret(place, Sealed(ciphertext, key_id)))
                token = SessionToken(secrets, expires_at, broker_user_id)
    except DecryptionError:
        raise Refused(
            "The stored credentials are not readable; enter them again.",
            broker=broker,
            code="credentials_unreadable",
        ) from None
    pace = pace_of(
        broker,
        cls.capabilities,
        account=broker_user_id or str(connection_id),
        app=credentials.get("api_key", ""),
    )
    context = AdapterContext(
        connection_id=str(connection_id),
        quote=ports.latest_quote,
        now=timezone.now,
        market_open=ports.market_open,
        day_end=ports.day_end,
        pace=pace,
        endpoints=settings.BROKER_ENDPOINTS.get(broker, {}),
        redirect_url=redirect_url(broker),
    )
    adapter = scrubbed(cls(context, credentials, token))
    if isinstance(pace, Pacer):
        paced(adapter, pace)
    if with_session and cls.capabilities.session_renewal is not SessionRenewal.NONE:
        ended_once(
            adapter,
            lambda e: note_end(connection_id, message=e.message, opened_at=opened_at),
        )
    if not (settings.LIVE_TRADING_ENABLED or is_venue(broker) or context.endpoints.get("api")):
        held_back(adapter)
    return adapter


def note_end(connection_id: UUID, **what: Any) -> None:
    """Store that a session is over. The caller learns of it in any case: a failure is logged."""
    try:
        session_expired(connection_id, **what)
    except DatabaseError:
        logger.exception("the end of the session of connection %s was not stored", connection_id)


def _credentials(
    user_id: str, connection_id: str, broker: str, rows: list[tuple[Any, ...]]
) -> Mapping[str, str]:
    return {
        field: open_secret(Place(user_id, connection_id, broker, field), Sealed(ciphertext, key_id))
        for *_, field, ciphertext, key_id in rows
        if field is not None
    }


def _require_open(
    connection_id: UUID, broker: str, state: str | None, expires_at: datetime | None
) -> None:
    if state != BrokerSession.State.ACTIVE:
        raise SessionExpired(
            "No broker session is open. Open one first.", broker=broker, code="no_session"
        )
    if expires_at is not None and expires_at <= timezone.now():
        note_end(connection_id, message=OVER, foreseen=True)
        raise SessionExpired(OVER, broker=broker, code="session_expired")
