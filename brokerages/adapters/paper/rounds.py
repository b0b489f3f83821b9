"""What the paper venue's engine reads: which orders a round concerns, and the outbox. No locks
are taken here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection as database

from brokerages.adapters.paper.matching import Contender
from brokerages.adapters.paper.records import Book, instrument_from_json
from brokerages.types import InstrumentRef, Quote, Side

_OPEN = "('OPEN', 'TRIGGER_PENDING', 'PARTIALLY_FILLED')"


@dataclass(frozen=True, slots=True)
class Moved:
    """An open order that the present quote concerns."""

    instrument_id: int
    connection_id: UUID
    side: Side
    contender: Contender


def expired_orders(now: datetime, limit: int) -> list[tuple[UUID, int]]:
    """Return (connection, order) of open orders whose day is over."""
    with database.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT connection_id, id FROM brokerages_paperorder
            WHERE status IN {_OPEN} AND expires_at <= %s ORDER BY expires_at, id LIMIT %s
            """,  # noqa: S608 - a constant list of words
            [now, limit],
        )
        return [(connection_id, number) for connection_id, number in cursor.fetchall()]


def open_instruments(instrument_ids: Sequence[int] | None) -> list[InstrumentRef]:
    """Return every instrument with an open order, or those of ``instrument_ids`` that have one."""
    only = "" if instrument_ids is None else "AND instrument_id = ANY(%s)"
    with database.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT DISTINCT ON (instrument_id) instrument FROM brokerages_paperorder
            WHERE status IN {_OPEN} {only} ORDER BY instrument_id, id DESC
            """,  # noqa: S608 - a constant list of words
            None if instrument_ids is None else [list(instrument_ids)],
        )
        return [instrument_from_json(json.loads(row[0])) for row in cursor.fetchall()]


def moved_orders(
    quotes: Mapping[int, Quote],
    reachable: Mapping[int, tuple[Decimal | None, Decimal | None]],
    now: datetime,
) -> list[Moved]:
    """Return the open orders that these quotes trigger, fill or (IOC) end.

    ``reachable`` is the best price for buyers and for sellers, None where there is nothing left
    to take.
    """
    ids = list(quotes)
    with database.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT o.instrument_id, o.connection_id, o.side, o.id,
                CASE WHEN o.order_type IN ('LIMIT', 'SL') THEN o.price END,
                o.quantity - o.filled_quantity,
                CASE WHEN o.status = 'TRIGGER_PENDING' THEN %s ELSE o.queued_at END
            FROM unnest(%s::bigint[], %s::numeric[], %s::numeric[], %s::numeric[])
                AS q(id, last, ask, bid)
            JOIN brokerages_paperorder o ON o.instrument_id = q.id AND o.status IN {_OPEN}
            WHERE o.eligible_at <= %s AND o.expires_at > %s AND CASE
                WHEN o.status = 'TRIGGER_PENDING' AND o.side = 'BUY' THEN q.last >= o.trigger_price
                WHEN o.status = 'TRIGGER_PENDING' THEN q.last <= o.trigger_price
                WHEN o.validity = 'IOC' THEN true
                WHEN o.side = 'BUY' THEN
                    q.ask IS NOT NULL AND (o.order_type NOT IN ('LIMIT', 'SL') OR o.price >= q.ask)
                ELSE q.bid IS NOT NULL AND (o.order_type NOT IN ('LIMIT', 'SL') OR o.price <= q.bid)
            END
            """,  # noqa: S608 - a constant list of words
            [
                now,
                ids,
                [quotes[i].last_price for i in ids],
                [reachable[i][0] for i in ids],
                [reachable[i][1] for i in ids],
                now,
                now,
            ],
        )
        return [
            Moved(row[0], row[1], Side(row[2]), Contender(*row[3:])) for row in cursor.fetchall()
        ]


def read_books(quotes: Mapping[int, Quote]) -> dict[int, Book]:
    """Return, without locks, the books of those quotes from which something was taken already."""
    ids = list(quotes)
    with database.cursor() as cursor:
        cursor.execute(
            """
            SELECT b.instrument_id, b.source, b.sequence, b.quoted_at, b.matched_at, b.taken
            FROM unnest(%s::bigint[], %s::text[], %s::bigint[]) AS q(id, source, sequence)
            JOIN brokerages_paperbook b
                ON b.instrument_id = q.id AND b.source = q.source AND b.sequence = q.sequence
            """,
            [ids, [quotes[i].source for i in ids], [quotes[i].sequence for i in ids]],
        )
        return {
            number: Book(number, source, sequence, quoted_at, matched_at, json.loads(taken))
            for number, source, sequence, quoted_at, matched_at, taken in cursor.fetchall()
        }


def read_events(limit: int) -> list[tuple[int, UUID, int, dict[str, Any], list[dict[str, Any]]]]:
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT id, connection_id, order_id, report, fills FROM brokerages_paperevent "
            "ORDER BY id LIMIT %s",
            [limit],
        )
        return [(*row[:3], json.loads(row[3]), json.loads(row[4])) for row in cursor.fetchall()]


def delete_events(event_ids: Sequence[int]) -> None:
    with database.cursor() as cursor:
        cursor.execute("DELETE FROM brokerages_paperevent WHERE id = ANY(%s)", [list(event_ids)])
