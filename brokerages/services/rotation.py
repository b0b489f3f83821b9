"""Moving stored secrets to the newest key, in batches that other processes do not notice."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from django.db import transaction
from django.db.models import QuerySet

import audit.services
from brokerages import crypto
from brokerages.models import BrokerCredential, BrokerSession, InboundEvent, PostbackAddress
from brokerages.services.adapters import SESSION_FIELD, place_of
from brokerages.services.inbox import BODY_FIELD
from brokerages.services.postbacks import TOKEN_FIELD

logger = logging.getLogger(__name__)

Sealed = BrokerCredential | BrokerSession | PostbackAddress | InboundEvent
Row = TypeVar("Row", BrokerCredential, BrokerSession, PostbackAddress, InboundEvent)


@dataclass(frozen=True, slots=True)
class Progress:
    """One batch: how many secrets it moved, how many it could not read."""

    moved: int
    unreadable: int


def credentials_rotate(*, batch: int) -> Iterator[Progress]:
    """Encrypt every secret, session token, postback address and kept postback of an older key
    anew, ``batch`` rows a transaction.

    Yields after each batch. Safe to interrupt and to run twice at once: rows that another run has
    are skipped, rows that were done are not found again. Unreadable rows stay as they are.
    """
    yield from _rotate(old_credentials(), batch)
    yield from _rotate(old_sessions(), batch)
    yield from _rotate(old_addresses(), batch)
    yield from _rotate(old_postbacks(), batch)


def credentials_remaining() -> int:
    """Return how many rows still need an older key."""
    old = (old_credentials(), old_sessions(), old_addresses(), old_postbacks())
    return sum(rows.count() for rows in old)


def old_credentials() -> QuerySet[BrokerCredential]:
    return BrokerCredential.objects.exclude(key_id=crypto.current_key_id())


def old_sessions() -> QuerySet[BrokerSession]:
    return BrokerSession.objects.exclude(key_id=crypto.current_key_id()).exclude(ciphertext="")


def old_addresses() -> QuerySet[PostbackAddress]:
    return PostbackAddress.objects.exclude(key_id=crypto.current_key_id())


def old_postbacks() -> QuerySet[InboundEvent]:
    return InboundEvent.objects.exclude(key_id="").exclude(key_id=crypto.current_key_id())


def _rotate(old: QuerySet[Row], batch: int) -> Iterator[Progress]:
    last = None
    while True:
        with transaction.atomic():
            rows = old.select_for_update(of=("self",), no_key=True, skip_locked=True)
            rows = rows.select_related("connection").order_by("pk")
            if last is not None:
                rows = rows.filter(pk__gt=last)  # past those that could not be read
            found = list(rows[:batch])
            if not found:
                return
            moved = [row for row in found if _reseal(row)]
            text = "body" if old.model is InboundEvent else "ciphertext"
            old.model._default_manager.bulk_update(moved, [text, "key_id"])
            if moved:
                audit.services.record(
                    "credentials.rotated",
                    object_type="key",
                    object_id=crypto.current_key_id(),
                    user_id=None,
                    changes={"kind": old.model._meta.model_name, "count": len(moved)},
                )
        last = found[-1].pk
        yield Progress(len(moved), len(found) - len(moved))


def _reseal(row: Sealed) -> bool:
    field, place = _field(row), None
    if row.connection is not None:
        place = place_of(row.connection, field)
    text = bytes(row.body).decode("latin-1") if isinstance(row, InboundEvent) else row.ciphertext
    try:
        if place is None:
            raise crypto.DecryptionError("it belongs to no connection")
        sealed = crypto.reseal_secret(place, crypto.Sealed(text, row.key_id))
    except crypto.DecryptionError as e:
        logger.error("%s of connection %s: %s", field, row.connection_id, e)
        return False
    if isinstance(row, InboundEvent):
        row.body = sealed.ciphertext.encode()
    else:
        row.ciphertext = sealed.ciphertext
    row.key_id = sealed.key_id
    return True


def _field(row: Sealed) -> str:
    if isinstance(row, BrokerCredential):
        return row.field
    if isinstance(row, BrokerSession):
        return SESSION_FIELD
    return TOKEN_FIELD if isinstance(row, PostbackAddress) else BODY_FIELD
