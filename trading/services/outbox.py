"""Requests owed to brokers: enqueue, wake a worker, claim. The only module that wakes workers, also
for the inbox.

Waking is a hint and the row is the truth: a lost wake-up costs one sweep. Wake-ups of one lane are
coalesced: the first order of a burst leaves a mark and sends a message, the rest find the mark and
rely on the drain that the message starts. The drain removes the mark and reads once more after it.
So an order committed after that read always finds no mark and sends a message of its own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from django.db import connection, transaction
from kombu.exceptions import OperationalError

from audit.sql import Statement
from trading import push
from trading.models import Order, OrderCommand
from trading.services.edits import ORDER_COLUMNS, order_from_row

logger = logging.getLogger(__name__)

MARK_SECONDS = 1
# Drains that may be at work at once on what many connections share: while one waits for a commit,
# the next computes. The orders of one connection stay in one lane, in their order.
SHARED_LANES = 3
QUIET_SECONDS = (
    1.0  # how long no wake-up is tried after Redis failed, so that its absence never slows an order
)

LONGEST_COUNTDOWN = 30.0  # seconds that a message may wait in a worker for its time

_quiet_until = 0.0


@dataclass(frozen=True, slots=True)
class Claim:
    """A command that this worker alone may send."""

    id: int
    order: Order  # as it was when the command was claimed
    broker: str
    kind: str
    terms: dict[str, Any] | None
    attempts: int
    created_at: datetime
    stale: bool  # waited longer than it may; a CANCEL never does


def command_enqueue(
    order: Order, kind: str, *, lane: str, terms: dict[str, Any] | None = None
) -> OrderCommand:
    """Owe the broker a request. Call inside the transaction that changes the order; wakes a worker
    on commit.
    """
    command = OrderCommand.objects.create(order=order, kind=kind, lane=lane, terms=terms)
    transaction.on_commit(lambda: wake(lane))
    return command


def wake(lane: str) -> None:
    """Tell a worker that ``lane`` has something to send. Never raises, never waits long."""
    global _quiet_until  # noqa: PLW0603 - one clock a process
    if time.monotonic() < _quiet_until or not settings.WAKE_WORKERS:
        return
    try:
        if push.ask(b"SET", _mark(lane), b"1", b"NX", b"EX", b"%d" % MARK_SECONDS):
            _send(lane)
    except (redis.RedisError, OperationalError, OSError) as e:
        _quiet_until = time.monotonic() + QUIET_SECONDS
        logger.warning("no wake-up for lane %s, the sweeper will find it: %s", lane, e)


def wake_later(lane: str, seconds: float) -> None:
    """Tell a worker of ``lane`` in ``seconds``, when its pace allows the next request. One message
    for all who ask meanwhile; never raises. A long wait is left to the sweeper.
    """
    global _quiet_until  # noqa: PLW0603 - one clock a process
    if time.monotonic() < _quiet_until or not settings.WAKE_WORKERS:
        return
    if seconds > LONGEST_COUNTDOWN:
        return
    mark = b"sauda:lane-later:" + lane.encode()
    try:
        if push.ask(b"SET", mark, b"1", b"NX", b"PX", b"%d" % max(int(seconds * 1000), 1)):
            _send(lane, seconds)
    except (redis.RedisError, OperationalError, OSError) as e:
        _quiet_until = time.monotonic() + QUIET_SECONDS
        logger.warning("no wake-up for lane %s, the sweeper will find it: %s", lane, e)


_HOLD = """
UPDATE trading_ordercommand
SET not_before = greatest(not_before, clock_timestamp() + make_interval(secs => %s))
WHERE id IN (
    SELECT id FROM trading_ordercommand
    WHERE lane = %s AND state = 'WAITING' AND (%s OR kind <> 'CANCEL')
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
)
"""


def lane_hold(lane: str, seconds: float, *, cancels: bool) -> None:
    """Let nothing of ``lane`` be claimed for ``seconds``, cancels only with ``cancels``: the pace
    toward its broker is used up, and asking again for each command would not help.
    """
    with connection.cursor() as cursor:
        cursor.execute(_HOLD, [seconds, lane, cancels])


def wake_inbox(event_id: int, *, seconds: float = 0) -> None:
    """Tell a worker of a webhook that waits in the inbox. Never raises; a sweep finds the rest."""
    global _quiet_until  # noqa: PLW0603 - one clock a process
    if time.monotonic() < _quiet_until or not settings.WAKE_WORKERS:
        return
    from trading import tasks  # the one way up: an id and nothing else

    try:
        tasks.apply_inbound_event.apply_async(
            args=[event_id], countdown=seconds or None, expires=seconds + 60, retry=False
        )
    except (redis.RedisError, OperationalError, OSError) as e:
        _quiet_until = time.monotonic() + QUIET_SECONDS
        logger.warning("no wake-up for webhook %s, the sweep will find it: %s", event_id, e)


def wake_reconcile(connection_id: UUID, *, commands: bool) -> bool:
    """Have a worker look up the unsettled commands of a connection, or read its books; return
    whether one could be told. Never raises.
    """
    global _quiet_until  # noqa: PLW0603 - one clock a process
    if time.monotonic() < _quiet_until or not settings.WAKE_WORKERS:
        return False
    from trading import tasks  # the one way up: an id and nothing else

    task = tasks.reconcile_connection_commands if commands else tasks.reconcile_connection
    try:
        task.apply_async(args=[str(connection_id)], expires=5 if commands else 60, retry=False)
    except (redis.RedisError, OperationalError, OSError) as e:
        _quiet_until = time.monotonic() + QUIET_SECONDS
        logger.warning("no wake-up for the books of %s: %s", connection_id, e)
        return False
    return True


def lane_shared(name: str, connection_id: UUID) -> str:
    """Return the lane of a connection that shares workers with others: one of few."""
    return f"{name}:{connection_id.int % SHARED_LANES}"


class LaneMark:
    """The mark of a lane, in the hands of the drain.

    It is removed before anything is read: while a broker takes its time to answer, the next order
    of the lane wakes another worker. A shared lane waits for nobody, so there it stays until the
    lane is empty, and a burst costs one message.
    """

    def __init__(self, lane: str) -> None:
        self.lane, self.stands = lane, True
        self._shared = ":" in lane
        self._fresh_until = time.monotonic() + MARK_SECONDS / 2
        if not self._shared:
            self.remove()

    def keep(self) -> None:
        """Renew it in time: it expires by itself, in case its drain dies."""
        now = time.monotonic()
        if not self._shared or (self.stands and now < self._fresh_until):
            return
        self.stands, self._fresh_until = True, now + MARK_SECONDS / 2
        with contextlib.suppress(redis.RedisError, OSError):
            push.ask(b"SET", _mark(self.lane), b"1", b"EX", b"%d" % MARK_SECONDS)

    def remove(self) -> None:
        """Remove it; whoever does so has to read the lane once more."""
        if self.stands:
            self.stands = False
            with contextlib.suppress(redis.RedisError, OSError):  # then it expires
                push.ask(b"DEL", _mark(self.lane))


def lanes_waiting(*, older_than_seconds: float) -> list[str]:
    """Return lanes with commands that are due and that nobody took for a while."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT lane FROM trading_ordercommand"
            " WHERE state = 'WAITING' AND not_before <= clock_timestamp()"
            " AND created_at < clock_timestamp() - make_interval(secs => %s)",
            [older_than_seconds],
        )
        return [lane for (lane,) in cursor.fetchall()]


# The order is found by its key alone. A plain "status = 'PENDING'" lets the planner read all open
# orders through a partial index instead: few by its statistics, thousands once a market has opened.
_CLAIM = """
WITH next AS (
    SELECT id FROM trading_ordercommand
    WHERE {where} AND state = 'WAITING' AND not_before <= clock_timestamp()
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED LIMIT 1
), claimed AS (
    UPDATE trading_ordercommand c
    SET state = 'SENDING', sends = c.sends + 1, attempts = c.attempts + 1,
        claimed_at = clock_timestamp()
    FROM next WHERE c.id = next.id
    RETURNING c.id, c.order_id, c.kind, c.terms, c.attempts, c.created_at
), submitted AS (
    UPDATE trading_order o
    SET status = 'SUBMITTED', version = o.version + 1, updated_at = clock_timestamp()
    FROM claimed
    WHERE o.id = claimed.order_id AND claimed.kind = 'PLACE' AND o.status || '' = 'PENDING'
)
SELECT set_config('synchronous_commit', %s, true),
       c.id, b.broker, c.kind, c.terms::text, c.attempts, c.created_at,
       c.kind <> 'CANCEL' AND c.created_at < clock_timestamp() - make_interval(secs => %s),
       {columns}
FROM claimed c JOIN trading_order o ON o.id = c.order_id
JOIN brokerages_brokerconnection b ON b.id = o.connection_id
"""
_CLAIM_NEXT = Statement(_CLAIM.format(where="lane = %s", columns=ORDER_COLUMNS))
_CLAIM_ONE = Statement(_CLAIM.format(where="id = %s", columns=ORDER_COLUMNS))


def command_claim(*, lane: str | None = None, command_id: int | None = None) -> Claim | None:
    """Take the next due command of ``lane`` (or one command), or None. One statement, committed at
    once.

    The claim is committed before anything is sent: whoever dies after it leaves SENDING, which
    nobody resends.
    """
    if connection.in_atomic_block and not getattr(
        connection.atomic_blocks[-1], "_from_testcase", False
    ):
        raise RuntimeError(
            "a claim has to be committed before the send; call it outside a transaction"
        )
    statement, value = (_CLAIM_NEXT, lane) if command_id is None else (_CLAIM_ONE, command_id)
    row = statement.row([value, _durability(lane), settings.STALE_COMMAND_SECONDS])
    if row is None:
        return None
    _, command_pk, broker, kind, terms, attempts, created_at, stale, *columns = row
    order = order_from_row(columns)
    return Claim(command_pk, order, broker, kind, _decode(terms), attempts, created_at, stale)


def _durability(lane: str | None) -> str:
    """Return how long a claim's commit waits: for the disk, wherever something leaves us after it.

    A venue inside the platform (shared lanes) keeps its orders in the same log, after the claim: a
    crash that loses the claim loses what it did as well, and nobody was told anything yet.
    """
    return "off" if lane is not None and ":" in lane else "on"


def _decode(terms: str | None) -> dict[str, Any] | None:
    return None if terms is None else json.loads(terms)


def _mark(lane: str) -> bytes:
    return b"sauda:lane:" + lane.encode()


def _send(lane: str, seconds: float | None = None) -> None:
    from trading import tasks  # the one way up: an id and nothing else

    tasks.dispatch_lane.apply_async(args=[lane], countdown=seconds, retry=False)
