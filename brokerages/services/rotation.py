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
from brokerages.models import BrokerCredential, BrokerSession
from brokerages.services.adapters import SESSION_FIELD, place_of

logger = logging.getLogger(__name__)

Row = TypeVar("Row", BrokerCredential, BrokerSession)


@dataclass(frozen=True, slots=True)
class Progress:
    """One batch: how many secrets it moved, how many it could not read."""

    moved: int
    unreadable: int


def credentials_rotate(*, batch: int) -> Iterator[Progress]:
    """Encrypt every secret and session token of an older key anew, ``batch`` rows a transaction.

    Yields after each batch. Safe to interrupt and to run twice at once: rows that another run has
    are skipped, rows that were done are not found again. Unreadable rows stay as they are.
    """
    yield from _rotate(old_credentials(), batch)
    yield from _rotate(old_sessions(), batch)


def credentials_remaining() -> int:
    """Return how many secrets and session tokens still need an older key."""
    return old_credentials().count() + old_sessions().count()


def old_credentials() -> QuerySet[BrokerCredential]:
    return BrokerCredential.objects.exclude(key_id=crypto.current_key_id())


def old_sessions() -> QuerySet[BrokerSession]:
    return BrokerSession.objects.exclude(key_id=crypto.current_key_id()).exclude(ciphertext="")


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
            old.model._default_manager.bulk_update(moved, ["ciphertext", "key_id"])
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


def _reseal(row: BrokerCredential | BrokerSession) -> bool:
    field = row.field if isinstance(row, BrokerCredential) else SESSION_FIELD
    place = place_of(row.connection, field)
    try:
        sealed = crypto.reseal_secret(place, crypto.Sealed(row.ciphertext, row.key_id))
    except crypto.DecryptionError as e:
        logger.error("%s of connection %s: %s", field, row.connection_id, e)
        return False
    row.ciphertext, row.key_id = sealed.ciphertext, sealed.key_id
    return True
