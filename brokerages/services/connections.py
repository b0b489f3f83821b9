"""Making and changing broker connections. Every change is audited in its transaction; secrets are
never written there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

import audit.services
from brokerages import crypto
from brokerages.base import BrokerAdapter, SessionRenewal
from brokerages.models import (
    PAPER_OPEN,
    BrokerConnection,
    BrokerCredential,
    BrokerSession,
    PaperOrder,
    PostbackAddress,
)
from brokerages.problems import ConnectionConflict, InvalidConnection
from brokerages.registry import BROKER_NAMES, UnknownBroker, adapter_class
from brokerages.selectors import connection_get, unknown_connection
from brokerages.services.adapters import place_of
from brokerages.services.postbacks import address_make, sends_postbacks
from brokerages.services.sessions import session_open

PAPER = "paper"
MOST_CONNECTIONS = 50
MAX_SECRET_LENGTH = 4096

Source = BrokerConnection.DataSource


def connection_create(
    *,
    user_id: UUID,
    broker: str,
    label: str = "",
    credentials: Mapping[str, str] | None = None,
    data_source: str | None = None,
) -> BrokerConnection:
    """Connect a user to a broker. The first connection becomes the default.

    Where the broker has no login (paper), a session is opened at once.

    Raises:
        InvalidConnection: unknown broker, credential fields or data source.
        ConnectionConflict: the user has too many connections.
    """
    adapter = adapter_named(broker)
    given = checked_credentials(adapter, credentials or {}, complete=True)
    source = _data_source(broker, data_source)
    with transaction.atomic():
        user_lock(user_id)
        live = BrokerConnection.objects.filter(user_id=user_id, disabled_at__isnull=True)
        if live.count() >= MOST_CONNECTIONS:
            raise ConnectionConflict(
                f"There are {MOST_CONNECTIONS} connections already.", code="too_many_connections"
            )
        connection = BrokerConnection.objects.create(
            user_id=user_id,
            broker=broker,
            label=label or adapter.label,
            is_default=not live.filter(is_default=True).exists(),
            data_source=source,
        )
        _store_credentials(connection, given)
        _audit(
            connection,
            "connection.created",
            {
                "broker": broker,
                "label": connection.label,
                "data_source": source,
                "is_default": connection.is_default,
                "fields": sorted(given),
            },
        )
        if sends_postbacks(broker):
            address_make(connection)
    if adapter.capabilities.session_renewal is SessionRenewal.NONE:
        session_open(user_id=user_id, connection_id=connection.pk)
    return connection_get(user_id=user_id, connection_id=connection.pk)


def connection_update(
    *,
    user_id: UUID,
    connection_id: UUID,
    label: str | None = None,
    data_source: str | None = None,
    credentials: Mapping[str, str] | None = None,
) -> BrokerConnection:
    """Change the label, the source of market data, or some of the credentials; None leaves a
    thing as it is.

    Raises:
        NotFound: no such connection of this user.
        InvalidConnection: unknown credential fields or data source.
    """
    with transaction.atomic():
        connection = connection_lock(user_id=user_id, connection_id=connection_id)
        changes: dict[str, Any] = {}
        if label is not None and label != connection.label:
            changes["label"] = [connection.label, label]
            connection.label = label
        if data_source is not None and data_source != connection.data_source:
            source = _data_source(connection.broker, data_source)
            changes["data_source"] = [connection.data_source, source]
            connection.data_source = source
        if changes:
            connection.save(update_fields=["label", "data_source"])
        if credentials:
            adapter = adapter_named(connection.broker)
            given = checked_credentials(adapter, credentials, complete=False)
            _store_credentials(connection, given)
            changes["fields"] = sorted(given)
        if changes:
            _audit(connection, "connection.updated", changes)
    return connection_get(user_id=user_id, connection_id=connection_id)


def connection_set_default(*, user_id: UUID, connection_id: UUID) -> BrokerConnection:
    """Make this the connection that is used where none is named.

    Raises:
        NotFound: no such connection of this user.
    """
    with transaction.atomic():
        user_lock(user_id)
        connection = connection_lock(user_id=user_id, connection_id=connection_id)
        if not connection.is_default:
            _make_default(connection)
    return connection_get(user_id=user_id, connection_id=connection_id)


def connection_disable(*, user_id: UUID, connection_id: UUID, reason: str = "") -> None:
    """Take the connection out of use for good. Its history stays; its secrets and session are
    destroyed.

    If it was the default, the oldest other connection becomes it.

    Raises:
        NotFound: no such connection of this user.
        ConnectionConflict: paper orders are still open there.
    """
    with transaction.atomic():
        user_lock(user_id)
        connection = connection_lock(user_id=user_id, connection_id=connection_id)
        if PaperOrder.objects.filter(connection=connection, status__in=PAPER_OPEN).exists():
            raise ConnectionConflict("Cancel the open orders first.", code="open_orders")
        now = timezone.now()
        was_default = connection.is_default
        connection.disabled_at, connection.is_default = now, False
        connection.save(update_fields=["disabled_at", "is_default"])
        connection.credentials.all().delete()
        PostbackAddress.objects.filter(connection=connection).delete()
        BrokerSession.objects.filter(connection=connection).update(
            state=BrokerSession.State.CLOSED, ciphertext="", key_id="", closed_at=now
        )
        _audit(connection, "connection.disabled", {"was_default": was_default}, reason)
        heir = (
            BrokerConnection.objects.filter(user_id=user_id, disabled_at__isnull=True)
            .order_by("id")
            .first()
        )
        if was_default and heir is not None:
            _make_default(heir)


def adapter_named(broker: str) -> type[BrokerAdapter]:
    """Return the adapter class of ``broker``.

    Raises:
        InvalidConnection: there is no such broker; the detail names those there are.
    """
    try:
        return adapter_class(broker)
    except UnknownBroker:
        raise InvalidConnection(
            f"This broker is not available. Available: {', '.join(BROKER_NAMES)}.",
            code="broker_not_available",
            detail={"available": list(BROKER_NAMES)},
        ) from None


def checked_credentials(
    adapter: type[BrokerAdapter], credentials: Mapping[str, str], *, complete: bool
) -> dict[str, str]:
    """Return the credentials that are not empty. With ``complete``, every required one must be
    among them.

    Raises:
        InvalidConnection: an unknown field, a missing one, or a value that is too long.
    """
    fields = {field.name: field for field in adapter.credential_fields}
    if unknown := sorted(set(credentials) - set(fields)):
        raise InvalidConnection(
            f"{adapter.label} has no credential named {unknown[0]!r}.",
            code="unknown_credential",
            detail={"unknown": unknown, "known": list(fields)},
        )
    given = {name: value.strip() for name, value in credentials.items() if value.strip()}
    if long := [name for name, value in given.items() if len(value) > MAX_SECRET_LENGTH]:
        raise InvalidConnection(f"{fields[long[0]].label} is too long.", code="credential_too_long")
    missing = [f.name for f in fields.values() if f.required and f.name not in given]
    if complete and missing:
        raise InvalidConnection(
            f"{adapter.label} needs: {', '.join(fields[name].label for name in missing)}.",
            code="missing_credentials",
            detail={"missing": missing},
        )
    return given


def user_lock(user_id: UUID) -> None:
    """Let one change of the set of a user's connections happen at a time."""
    users = get_user_model().objects.select_for_update(no_key=True)
    if not users.filter(pk=user_id).exists():
        raise InvalidConnection("There is no such user.", code="unknown_user")


def connection_lock(*, user_id: UUID, connection_id: UUID) -> BrokerConnection:
    """Return the user's live connection, locked until the transaction ends. Raises `NotFound`."""
    connection = (
        BrokerConnection.objects.select_for_update(of=("self",), no_key=True)
        .filter(user_id=user_id, pk=connection_id, disabled_at__isnull=True)
        .first()
    )
    if connection is None:
        raise unknown_connection()
    return connection


def _make_default(connection: BrokerConnection) -> None:
    """Move the default here. The user's row is locked: no two of these run at once for one user."""
    BrokerConnection.objects.filter(user_id=connection.user_id, is_default=True).update(
        is_default=False
    )
    connection.is_default = True
    connection.save(update_fields=["is_default"])
    _audit(connection, "connection.made_default", {})


def _data_source(broker: str, asked: str | None) -> str:
    if asked is None:
        return Source.SIMULATED if broker == PAPER else Source.BROKER
    if asked not in Source.values or (broker == PAPER and asked == Source.BROKER):
        allowed = [value for value in Source.values if broker != PAPER or value != Source.BROKER]
        raise InvalidConnection(
            f"This connection can take its prices from: {', '.join(allowed)}.",
            code="data_source",
            detail={"allowed": allowed},
        )
    return asked


def _store_credentials(connection: BrokerConnection, given: Mapping[str, str]) -> None:
    for field, secret in given.items():
        sealed = crypto.seal_secret(place_of(connection, field), secret)
        BrokerCredential.objects.update_or_create(
            connection=connection,
            field=field,
            defaults={
                "ciphertext": sealed.ciphertext,
                "key_id": sealed.key_id,
                "last_four": crypto.last_four(secret),
                "fingerprint": crypto.fingerprint(secret),
            },
        )


def _audit(
    connection: BrokerConnection, action: str, changes: Mapping[str, Any], reason: str = ""
) -> None:
    audit.services.record(
        action,
        object_type="connection",
        object_id=connection.pk,
        user_id=connection.user_id,
        changes=changes,
        reason=reason,
    )
