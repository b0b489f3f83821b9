"""Opening, checking and closing broker sessions. The broker is asked outside of any transaction;
what it said is stored after.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

import audit.services
from brokerages import crypto
from brokerages.errors import BrokerError, Refused, SessionExpired
from brokerages.events import session_opened
from brokerages.models import BrokerConnection, BrokerSession, SessionRenewal
from brokerages.selectors import connection_get, session_get, unknown_connection
from brokerages.services.adapters import (
    SESSION_FIELD,
    adapter_for,
    adapter_to_renew,
    adapter_without_session,
    place_of,
    token_to_text,
)
from brokerages.services.endings import OVER, session_end, session_expired
from brokerages.types import SessionToken

State = BrokerSession.State


def session_open(
    *,
    user_id: UUID,
    connection_id: UUID,
    grant: str | None = None,
    same_account: bool = False,
) -> BrokerSession:
    """Log in at the broker with the stored credentials and, where it gives one, the ``grant`` of
    its redirect.

    ``same_account``: the grant came from outside, so it has to be of the account at the broker that
    the connection had before, if it had one.

    Raises:
        NotFound: no such connection of this user.
        BrokerError: the broker did not open a session; an older one stays as it was.
    """
    connection = connection_get(user_id=user_id, connection_id=connection_id)
    token = adapter_without_session(connection).open_session(grant)
    if same_account:
        before = BrokerSession.objects.filter(connection=connection).first()
        accounts = {before.broker_user_id if before else "", token.broker_user_id} - {""}
        if len(accounts) > 1:
            raise Refused(
                "The login was of another account at the broker. Connect that one by itself.",
                broker=connection.broker,
                code="other_account",
            )
    return store_token(connection, token)


def session_check(*, user_id: UUID, connection_id: UUID) -> BrokerSession:
    """Ask the broker whether the session still stands, and record the answer.

    Raises:
        NotFound: no such connection of this user, or none of its sessions was ever opened.
        BrokerError: the broker could not be asked; the stored state stays as it was.
    """
    connection = connection_get(user_id=user_id, connection_id=connection_id)
    session = session_get(user_id=user_id, connection_id=connection_id)
    if session.state != State.ACTIVE:
        return session
    try:
        adapter_for(connection).check_session()
    except SessionExpired:  # and that is stored by now
        return session_get(user_id=user_id, connection_id=connection_id)
    BrokerSession.objects.filter(connection=connection).update(checked_at=timezone.now())
    return session_get(user_id=user_id, connection_id=connection_id)


def session_close(*, user_id: UUID, connection_id: UUID) -> BrokerSession:
    """End the session here, and at the broker as far as it can be reached. Closing twice changes
    nothing.

    Raises:
        NotFound: no such connection of this user, or none of its sessions was ever opened.
    """
    connection = connection_get(user_id=user_id, connection_id=connection_id)
    session = session_get(user_id=user_id, connection_id=connection_id)
    if session.state == State.CLOSED:
        return session
    error = ""
    try:
        if session.state == State.ACTIVE:  # unwatched: that it is over already is no news now
            adapter_to_renew(connection).close_session()
    except BrokerError as e:
        error = e.message  # ours ends in any case: its token is destroyed
    return session_end(connection, State.CLOSED, "session.closed", error)


def sessions_expire() -> int:
    """End every session whose time is over, so that it reads as ended before anyone runs into it.

    Returns how many ended. Safe to run twice at once: each row is locked and looked at again.
    """
    overdue = BrokerSession.objects.filter(state=State.ACTIVE, expires_at__lte=timezone.now())
    ids = list(overdue.order_by("expires_at").values_list("connection_id", flat=True))
    return sum(session_expired(pk, message=OVER, foreseen=True) for pk in ids)


def store_token(connection: BrokerConnection, token: SessionToken) -> BrokerSession:
    """Keep a session that was opened, instead of the one before.

    Raises:
        NotFound: the connection was disabled meanwhile.
    """
    sealed = crypto.Sealed("", "")
    if token.secrets:
        sealed = crypto.seal_secret(place_of(connection, SESSION_FIELD), token_to_text(token))
    now = timezone.now()
    with transaction.atomic():
        # The connection may have been disabled while the broker was asked.
        live = BrokerConnection.objects.select_for_update(of=("self",), no_key=True).filter(
            pk=connection.pk, disabled_at__isnull=True
        )
        if not live.exists():
            raise unknown_connection()
        session, _ = BrokerSession.objects.update_or_create(
            connection=connection,
            defaults={
                "state": State.ACTIVE,
                "ciphertext": sealed.ciphertext,
                "key_id": sealed.key_id,
                "broker_user_id": token.broker_user_id,
                "expires_at": token.expires_at,
                "opened_at": now,
                "checked_at": now,
                "closed_at": None,
                "last_error": "",
            },
        )
        SessionRenewal.objects.filter(
            connection=connection, state=SessionRenewal.State.ASKED
        ).update(state=SessionRenewal.State.DONE, finished_at=now)
        expires = token.expires_at.isoformat() if token.expires_at else None
        _audit(connection, "session.opened", {"expires_at": expires})
        transaction.on_commit(
            lambda: session_opened.send_robust(
                BrokerSession, broker=connection.broker, connection_id=connection.pk
            )
        )
    return session


def _audit(connection: BrokerConnection, action: str, changes: Mapping[str, Any]) -> None:
    audit.services.record(
        action,
        object_type="connection",
        object_id=connection.pk,
        user_id=connection.user_id,
        changes=changes,
    )
