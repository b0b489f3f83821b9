"""The inbox: what a webhook delivered is stored once, and whoever is above is told in the same
transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection as database
from django.db import transaction
from django.utils import timezone

import audit.services
from brokerages import crypto
from brokerages.events import inbound_event_stored
from brokerages.models import BrokerConnection, InboundEvent
from brokerages.problems import NotFound
from brokerages.services.adapters import place_of

Kind, State = InboundEvent.Kind, InboundEvent.State

EVENTS = "events"
"""The source of what is signed with our own secrets; a postback's is its broker."""

BODY_FIELD = "inbound"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook as it came in. ``dedupe_key`` is unique within ``source``."""

    source: str
    kind: str
    dedupe_key: str
    body: bytes
    signed: bool
    connection: BrokerConnection | None = None
    subject: str = ""
    event_at: datetime | None = None
    headers: Mapping[str, str] | None = None


_INSERT = """
INSERT INTO brokerages_inboundevent (
    source, kind, connection_id, subject, dedupe_key, body, key_id, headers, signed, event_at,
    received_at, state, attempts, next_at, error
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s, %s, 0, %s, %s)
ON CONFLICT (source, dedupe_key) DO NOTHING
RETURNING id
"""


def event_receive(delivery: Delivery, *, ignored: str = "") -> InboundEvent | None:
    """Store a delivery and let it have its effect, in one transaction; None if it was stored
    before, which then changes nothing.

    With ``ignored``, the reason, it is kept and nobody is told. A postback's body is encrypted: it
    may carry what opens a session.
    """
    now = timezone.now()
    body, key_id = delivery.body, ""
    if delivery.connection is not None:
        place = place_of(delivery.connection, BODY_FIELD)
        sealed = crypto.seal_secret(place, body.decode("latin-1"))
        body, key_id = sealed.ciphertext.encode(), sealed.key_id
    event = InboundEvent(
        source=delivery.source,
        kind=delivery.kind,
        connection=delivery.connection,
        subject=delivery.subject[:64],
        dedupe_key=delivery.dedupe_key,
        body=body,
        key_id=key_id,
        headers=dict(delivery.headers or {}),
        signed=delivery.signed,
        event_at=delivery.event_at,
        received_at=now,
        state=State.IGNORED if ignored else State.NEW,
        next_at=None if ignored else now,
        error=ignored,
    )
    with transaction.atomic():
        with database.cursor() as cursor:
            cursor.execute(
                _INSERT,
                [
                    event.source, event.kind, event.connection_id, event.subject, event.dedupe_key,
                    body, key_id, json.dumps(event.headers), event.signed,
                    event.event_at, event.received_at, event.state, event.next_at, event.error,
                ],
            )  # fmt: skip
            row = cursor.fetchone()
        if row is None:
            return None
        event.pk = row[0]
        event._state.adding = False
        if not ignored:
            inbound_event_stored.send(sender=InboundEvent, event=event)
    return event


def event_body(event: InboundEvent) -> bytes:
    """Return the body as it came.

    Raises:
        DecryptionError: its key is gone, or it belongs to another row.
    """
    body = bytes(event.body)
    if not event.key_id:
        return body
    if event.connection is None:
        raise crypto.DecryptionError("a stored body has no connection")
    place = place_of(event.connection, BODY_FIELD)
    text = crypto.open_secret(place, crypto.Sealed(body.decode("ascii"), event.key_id))
    return text.encode("latin-1")


def event_replay(*, event_id: int, by: UUID | None) -> InboundEvent:
    """Try a delivery again that was given up, ignored or parked, from its first attempt.

    Raises:
        NotFound: no such row, or one that was applied.
    """
    with transaction.atomic():
        event = (
            InboundEvent.objects.select_for_update(of=("self",), no_key=True)
            .filter(pk=event_id, state__in=[State.DEAD, State.PARKED, State.IGNORED])
            .first()
        )
        if event is None or not event.body:
            raise NotFound("Nothing to replay: it was applied, or its body is gone.")
        before = event.state
        event.state, event.attempts, event.error = State.NEW, 0, ""
        event.next_at, event.settled_at = timezone.now(), None
        event.save(update_fields=["state", "attempts", "error", "next_at", "settled_at"])
        audit.services.record(
            "webhook.replayed",
            object_type="inbound_event",
            object_id=str(event.pk),
            user_id=by,
            changes={"state": [before, str(State.NEW)], "source": event.source},
        )
    return event
