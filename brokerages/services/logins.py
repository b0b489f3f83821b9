"""Logins at a broker's own page: started by a user, finished by the redirect that comes back.

What the broker carries through (``state``) is signed, expires, works once, and stands for one
connection. The session that it opens belongs to whoever started it, however it comes back.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from uuid import UUID

from django.core import signing
from django.utils import timezone

import audit.services
from brokerages.base import SessionRenewal
from brokerages.models import BrokerConnection, BrokerLogin, BrokerSession
from brokerages.problems import InvalidConnection, LoginRefused
from brokerages.registry import adapter_class
from brokerages.selectors import connection_get
from brokerages.services.adapters import adapter_without_session
from brokerages.services.sessions import session_open

StartedIn = BrokerLogin.StartedIn

LOGIN_MINUTES = 10
STATE_LENGTH = 200
_SIGNER = signing.TimestampSigner(salt="brokerages.login", sep=".")


def login_start(
    *, user_id: UUID, connection_id: UUID, started_in: str, login_session_id: UUID
) -> tuple[str, datetime]:
    """Return where the user logs in at the broker, and until when the redirect back is taken.

    Raises:
        NotFound: no such connection of this user.
        InvalidConnection: its broker has no login page; its session opens with the credentials.
        BrokerError: the stored credentials cannot be used.
    """
    connection = connection_get(user_id=user_id, connection_id=connection_id)
    adapter = adapter_class(connection.broker)
    if adapter.capabilities.session_renewal is not SessionRenewal.INTERACTIVE:
        raise InvalidConnection(
            f"{adapter.label} has no login page: open the session with the stored credentials.",
            code="no_login_page",
        )
    state = _SIGNER.sign(secrets.token_urlsafe(24))
    url = adapter_without_session(connection).login_url(state)
    now = timezone.now()
    expires_at = now + timedelta(minutes=LOGIN_MINUTES)
    BrokerLogin.objects.create(
        connection=connection,
        state_hash=_hash(state),
        started_in=started_in,
        login_session_id=login_session_id,
        created_at=now,
        expires_at=expires_at,
    )
    return url, expires_at


def login_finish(
    *, broker: str, state: str, grant: str, browser_user_id: UUID | None
) -> tuple[BrokerConnection, BrokerSession]:
    """Open the session that a redirect brings; return it with its connection.

    A login that was started in a browser is finished by the same user's browser only. One that an
    API client started comes back in a browser that we do not know: there the state alone proves it.

    Raises:
        LoginRefused: a state that is not ours, was used, has expired, or is another user's.
        BrokerError: the broker did not open a session, or opened another account's.
    """
    login = _take(broker, state)
    connection = connection_get(user_id=login.connection.user_id, connection_id=login.connection_id)
    if login.started_in == StartedIn.BROWSER and browser_user_id != connection.user_id:
        _audit(connection, "another user's browser")
        raise LoginRefused(
            "This login was started by somebody else, or in another browser. Start it again here.",
            code="login_of_another_user",
        )
    session = session_open(
        user_id=connection.user_id, connection_id=connection.pk, grant=grant, same_account=True
    )
    return connection, session


def login_cancelled(*, broker: str, state: str) -> None:
    """Burn the state of a login that the user gave up at the broker."""
    _take(broker, state)


def logins_delete_old() -> int:
    """Delete logins that ended a day ago; return how many."""
    old = timezone.now() - timedelta(days=1)
    return BrokerLogin.objects.filter(expires_at__lt=old).delete()[0]


def _take(broker: str, state: str) -> BrokerLogin:
    """Use up the state: one conditional UPDATE, so that of two at once only one goes on."""
    refused = LoginRefused("This login has expired or was used already. Start it again.")
    try:
        _SIGNER.unsign(state, max_age=timedelta(minutes=LOGIN_MINUTES))
    except signing.BadSignature:
        raise refused from None
    now = timezone.now()
    logins = BrokerLogin.objects.filter(state_hash=_hash(state), connection__broker=broker)
    if not logins.filter(used_at__isnull=True, expires_at__gt=now).update(used_at=now):
        raise refused
    return logins.select_related("connection").get()


def _hash(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()


def _audit(connection: BrokerConnection, reason: str) -> None:
    audit.services.record(
        "session.login_refused",
        object_type="connection",
        object_id=connection.pk,
        user_id=connection.user_id,
        changes={"reason": reason},
    )
