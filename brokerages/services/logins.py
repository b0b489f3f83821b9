"""Logins at a broker's own page: started here, finished by the redirect that leads back.

The ``state`` that travels with it is signed, good once and for ten minutes, and stands for one user
and one connection; the database keeps its hash. A login that was started in a browser is finished
by the same user's browser only. A client of the API has no cookie in the browser that it opens:
there the state alone counts, unless somebody else is signed in (`docs/decisions`).
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.core import signing
from django.utils import timezone

import audit.services
from accounts.models import LoginSession
from accounts.principals import Principal, principal_get
from audit import context
from brokerages.models import BrokerConnection, BrokerLogin, BrokerSession
from brokerages.problems import InvalidConnection, InvalidLogin
from brokerages.selectors import connection_get
from brokerages.services.adapters import adapter_without_session
from brokerages.services.sessions import session_open

LIFETIME = timedelta(minutes=10)
KEPT = timedelta(days=1)  # after their end, so that a second use is told from nonsense
STATE_BYTES = 24
STATE_LENGTH = 128  # more than any of ours has


@dataclass(frozen=True, slots=True)
class StartedLogin:
    """Where the user logs in, and until when the way back is open."""

    url: str
    expires_at: datetime


def login_start(*, principal: Principal, connection_id: UUID) -> StartedLogin:
    """Begin a login of the user at the broker of one of their connections.

    Raises:
        NotFound: no such connection of this user.
        NotSupported: its broker has no login page.
        Refused: the stored credentials are not readable.
    """
    connection = connection_get(user_id=principal.id, connection_id=connection_id)
    state = _signer(connection.broker).sign(secrets.token_urlsafe(STATE_BYTES))
    url = adapter_without_session(connection).login_url(state)
    now = timezone.now()
    in_browser = principal.kind == LoginSession.Kind.BROWSER
    kinds = BrokerLogin.StartedIn
    BrokerLogin.objects.create(
        connection=connection,
        state_hash=_hash(state),
        started_in=kinds.BROWSER if in_browser else kinds.API,
        login_session_id=principal.session_id,
        created_at=now,
        expires_at=now + LIFETIME,
    )
    return StartedLogin(url, now + LIFETIME)


def login_finish(
    *, broker: str, state: str, grant: str, asker: Principal | None
) -> tuple[BrokerConnection, BrokerSession]:
    """Open the session for which ``state`` was made, with the ``grant`` of the redirect.

    Raises:
        InvalidLogin: the state is not one of ours, was used, is too old, or is somebody else's.
        BrokerError: the broker did not open a session. The state is used up all the same.
    """
    login = _claim(broker, state, asker)
    connection = login.connection
    with context.scope(
        actor_kind=context.ActorKind.USER,
        actor_id=connection.user_id,
        session_id=login.login_session_id,
    ):
        if not grant:
            message = "The login at the broker was cancelled."
            raise InvalidLogin(message, code="login_cancelled")
        session = session_open(
            user_id=connection.user_id,
            connection_id=connection.pk,
            grant=grant,
            same_account=True,
        )
    return connection, session


def login_connection(broker: str, state: str, *, user_id: UUID) -> UUID | None:
    """Return the user's connection that a state was made for, whether it is still good or not."""
    login = BrokerLogin.objects.filter(
        state_hash=_hash(state), connection__broker=broker, connection__user_id=user_id
    ).first()
    return login.connection_id if login else None


def logins_delete_old() -> int:
    """Forget logins that ended a day ago; return how many."""
    return BrokerLogin.objects.filter(expires_at__lt=timezone.now() - KEPT).delete()[0]


def _claim(broker: str, state: str, asker: Principal | None) -> BrokerLogin:
    """Use the state up, for whom it was made."""
    if len(state) > STATE_LENGTH or not state.isascii():
        raise InvalidLogin
    try:
        _signer(broker).unsign(state, max_age=LIFETIME)
    except signing.BadSignature:  # which includes those that are too old
        raise InvalidLogin from None
    login = (
        BrokerLogin.objects.select_related("connection")
        .filter(state_hash=_hash(state), connection__broker=broker)
        .first()
    )
    if login is None:
        raise InvalidLogin
    user_id = login.connection.user_id
    started_in_browser = login.started_in == BrokerLogin.StartedIn.BROWSER
    if (asker is None and started_in_browser) or (asker is not None and asker.id != user_id):
        raise InvalidLogin  # and it stays good for its user
    kind = LoginSession.Kind.BROWSER if started_in_browser else LoginSession.Kind.API
    if principal_get(user_id, login.login_session_id, kind) is None:
        raise InvalidLogin  # whoever started it has signed out since
    now = timezone.now()
    used = BrokerLogin.objects.filter(pk=login.pk, used_at__isnull=True, expires_at__gt=now).update(
        used_at=now
    )
    if not used:
        raise InvalidLogin
    return login


def session_request(*, user_id: UUID, connection_id: UUID) -> datetime | None:
    """Have the broker ask its user to approve a session; return until when they may, if it says.

    Raises:
        NotFound: no such connection of this user.
        InvalidConnection: its broker does not do that.
        BrokerError: the broker did not ask.
    """
    connection = connection_get(user_id=user_id, connection_id=connection_id)
    adapter = adapter_without_session(connection)
    if not adapter.capabilities.opens_by_approval:
        raise InvalidConnection(
            f"{adapter.label} opens no sessions by approval.", code="approval_not_supported"
        )
    until = adapter.request_session()
    audit.services.record(
        "session.requested",
        object_type="connection",
        object_id=connection.pk,
        user_id=user_id,
        changes={"until": until.isoformat() if until else None},
    )
    return until


def _signer(broker: str) -> signing.TimestampSigner:
    return signing.TimestampSigner(salt=f"brokerages.login.{broker}", sep=".")


def _hash(state: str) -> str:
    return hashlib.sha256(state.encode(errors="replace")).hexdigest()
