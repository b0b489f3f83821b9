"""The ends of broker sessions: stored once, their tokens destroyed, their users told."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

import audit.services
from accounts.services.mail import mail_enqueue
from brokerages import ports
from brokerages.base import SessionRenewal
from brokerages.models import BrokerConnection, BrokerSession
from brokerages.registry import UnknownBroker, adapter_class

State = BrokerSession.State

OVER = "The broker session has ended."


def session_end(connection: BrokerConnection, state: str, action: str, error: str) -> BrokerSession:
    """Store the end of the present session, whatever it is."""
    with transaction.atomic():
        session = BrokerSession.objects.select_for_update(of=("self",), no_key=True).get(
            connection=connection
        )
        _store(session, connection, state, action, error)
    return session


def session_expired(
    connection_id: UUID, *, message: str, opened_at: datetime | None = None, foreseen: bool = False
) -> bool:
    """Store that the open session is over, and tell its user where only they can go on.

    ``opened_at`` names the session that was found to be over: one that was opened meanwhile
    stands. A ``foreseen`` end that a job renews by itself is told to nobody. Returns whether there
    was one to end; so of many callers who find it out one stores and tells it.
    """
    with transaction.atomic():
        session = (
            BrokerSession.objects.select_for_update(of=("self",), no_key=True)
            .select_related("connection")
            .filter(connection_id=connection_id, state=State.ACTIVE)
            .first()
        )
        if session is None or (opened_at is not None and session.opened_at != opened_at):
            return False
        if foreseen and (session.expires_at is None or session.expires_at > timezone.now()):
            return False
        connection = session.connection
        state = ended_state(connection)
        _store(session, connection, state, "session.expired", message)
        if connection.disabled_at is None and (state == State.LOGIN_NEEDED or not foreseen):
            tell_login_needed(connection)
    return True


def ended_state(connection: BrokerConnection) -> str:
    """Return EXPIRED where a job can open the next one, LOGIN_NEEDED where only the user can."""
    try:
        renewal = adapter_class(connection.broker).capabilities.session_renewal
    except UnknownBroker:
        return State.EXPIRED
    return State.LOGIN_NEEDED if renewal is SessionRenewal.INTERACTIVE else State.EXPIRED


def tell_login_needed(connection: BrokerConnection, reason: str = "") -> None:
    """Tell the user in the platform and by mail that their login is needed, in the caller's
    transaction. The link in the mail leads to the dashboard and holds no secret.
    """
    label = connection.label
    ports.notify_user(
        connection.user_id,
        "broker_login_needed",
        f"Log in again: {label}",
        reason
        or f"The session at {label} has ended. Orders are rejected until you log in there again.",
        {"connection_id": str(connection.pk)},
    )
    address = get_user_model().objects.filter(pk=connection.user_id, is_active=True)
    for email in address.values_list("email", flat=True):
        mail_enqueue(
            "broker_login_needed",
            to=email,
            values={
                "label": label,
                "reason": reason,
                "path": f"/connections/{connection.pk}/login/start",
            },
        )


def _store(
    session: BrokerSession, connection: BrokerConnection, state: str, action: str, error: str
) -> None:
    before = session.state
    session.state, session.ciphertext, session.key_id = state, "", ""
    session.closed_at, session.last_error = timezone.now(), error
    session.save(update_fields=["state", "ciphertext", "key_id", "closed_at", "last_error"])
    audit.services.record(
        action,
        object_type="connection",
        object_id=connection.pk,
        user_id=connection.user_id,
        changes={"state": [before, str(state)]},
    )
