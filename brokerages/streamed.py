"""Which connections may have a stream: for the processes that follow brokers for all users."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from brokerages.models import BrokerSession


@dataclass(frozen=True, slots=True)
class StreamedConnection:
    """A connection with an open session. ``opened_at`` tells one session from the next."""

    id: UUID
    user_id: UUID
    broker: str
    data_source: str
    opened_at: datetime | None


def connections_streamed(brokers: Iterable[str]) -> list[StreamedConnection]:
    """Return the connections of all users whose session at one of ``brokers`` is open."""
    now = timezone.now()
    found = BrokerSession.objects.filter(
        Q(expires_at=None) | Q(expires_at__gt=now),
        connection__broker__in=list(brokers),
        connection__disabled_at=None,
        state=BrokerSession.State.ACTIVE,
    )
    rows = found.values_list(
        "connection_id", "connection__user_id", "connection__broker", "connection__data_source",
        "opened_at",
    )  # fmt: skip
    return [StreamedConnection(*row) for row in rows.order_by("connection_id")]
