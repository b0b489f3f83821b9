"""The address at which a broker tells of a connection's orders, and whose address it is."""

from __future__ import annotations

import hashlib
import logging
import secrets
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

import audit.services
from brokerages import crypto
from brokerages.models import BrokerConnection, PostbackAddress
from brokerages.problems import ConnectionConflict
from brokerages.registry import UnknownBroker, adapter_class
from brokerages.selectors import connection_get
from brokerages.services.adapters import place_of

logger = logging.getLogger(__name__)

TOKEN_BYTES = 24  # 192 bits
TOKEN_FIELD = "postback"  # noqa: S105 - the name of a field
PATH = "/api/v1/webhooks/{broker}/{token}"


def postback_url(*, user_id: UUID, connection_id: UUID) -> str | None:
    """Return the address to enter at the broker, or None where it sends no postbacks or none was
    made yet.

    Raises:
        NotFound: no such connection of this user.
    """
    connection = connection_get(user_id=user_id, connection_id=connection_id)
    address = PostbackAddress.objects.filter(connection=connection).first()
    if address is None:
        return None
    sealed = crypto.Sealed(address.ciphertext, address.key_id)
    try:
        return _url(connection, crypto.open_secret(place_of(connection, TOKEN_FIELD), sealed))
    except crypto.DecryptionError as e:  # its owner can have a new one
        logger.error("the postback address of connection %s: %s", connection.pk, e)
        return None


def postback_rotate(*, user_id: UUID, connection_id: UUID) -> str:
    """Make a new address and return it; the one before counts for nothing from now on.

    Raises:
        NotFound: no such connection of this user.
        ConnectionConflict: its broker sends no postbacks.
    """
    connection = connection_get(user_id=user_id, connection_id=connection_id)
    if not sends_postbacks(connection.broker):
        raise ConnectionConflict("This broker sends no postbacks.", code="postbacks_not_supported")
    return _url(connection, address_make(connection))


def address_make(connection: BrokerConnection) -> str:
    """Give the connection a new token and return it. In the caller's transaction, if it has one."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    sealed = crypto.seal_secret(place_of(connection, TOKEN_FIELD), token)
    with transaction.atomic():
        _, is_new = PostbackAddress.objects.update_or_create(
            connection=connection,
            defaults={
                "token_hash": _hash(token),
                "ciphertext": sealed.ciphertext,
                "key_id": sealed.key_id,
                "created_at": timezone.now(),
            },
        )
        audit.services.record(
            "connection.postback_made" if is_new else "connection.postback_rotated",
            object_type="connection",
            object_id=connection.pk,
            user_id=connection.user_id,
            changes={"fingerprint": crypto.fingerprint(token)},
        )
    return token


def connection_of_token(broker: str, token: str) -> BrokerConnection | None:
    """Return the live connection that this address belongs to."""
    address = (
        PostbackAddress.objects.select_related("connection")
        .filter(
            token_hash=_hash(token), connection__broker=broker, connection__disabled_at__isnull=True
        )
        .first()
    )
    return address.connection if address else None


def connection_secrets(connection: BrokerConnection) -> dict[str, str]:
    """Return the stored credentials of a connection, decrypted.

    Raises:
        DecryptionError: one of them is not readable.
    """
    return {
        row.field: crypto.open_secret(
            place_of(connection, row.field), crypto.Sealed(row.ciphertext, row.key_id)
        )
        for row in connection.credentials.all()
    }


def sends_postbacks(broker: str) -> bool:
    """Whether the broker posts to an address of ours: about orders, or sessions it has opened."""
    try:
        able = adapter_class(broker).capabilities
    except UnknownBroker:
        return False
    return able.sends_postbacks or able.opens_by_approval


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _url(connection: BrokerConnection, token: str) -> str:
    return settings.PUBLIC_URL + PATH.format(broker=connection.broker, token=token)
