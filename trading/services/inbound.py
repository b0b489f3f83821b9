"""What webhooks tell of orders. Everything goes through `report_apply` and `fill_apply`; so it may
come twice, late and in any order.

A signed event is applied in the transaction that stored it. A broker's own postback, and an event
that says too little or is too old, only makes a worker read the order at the broker. What cannot be
applied yet (a fill may come before the broker's id of its order) is parked and tried again; in the
end it is given up, and a person looks at it. Events of one order go one after the other; those of
different orders never wait for each other.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError, transaction
from django.db import connection as database
from django.db.models import Q
from django.utils import timezone

from audit import context
from brokerages.base import BrokerAdapter
from brokerages.crypto import DecryptionError
from brokerages.errors import BrokerError, Refused, SessionExpired
from brokerages.models import InboundEvent
from brokerages.platform_events import FILL, ORDER, InvalidEvent, PlatformEvent, parse_event
from brokerages.registry import adapter_class
from brokerages.services import adapter_for
from brokerages.services.inbox import event_body
from brokerages.services.notices import notice_take
from brokerages.types import FillReport, OrderHint, OrderReport, ReportedStatus, Side
from marketdata.selectors import ref_by_id
from trading.models import Order
from trading.services import outbox
from trading.services.execution import stored_request
from trading.services.reports import fill_apply, report_apply

logger = logging.getLogger(__name__)

Kind, State = InboundEvent.Kind, InboundEvent.State

RETRY_AFTER = (1, 5, 30, 120)  # seconds; one more failure and it is given up
MOST_ATTEMPTS = len(RETRY_AFTER) + 1
LEASE = timedelta(seconds=60)  # of a try: longer than any read of a broker takes
AT_ONCE = 500  # wake-ups of one sweep
LONGEST_COUNTDOWN = 60  # seconds; a longer wait is left to the sweep
CLOCKS_DIFFER = timedelta(seconds=1)

_ENDS = frozenset({ReportedStatus.CANCELLED, ReportedStatus.REJECTED, ReportedStatus.EXPIRED})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one try. NEW: a worker has to read the order at the broker."""

    state: str
    reason: str = ""


APPLIED = Outcome(State.APPLIED)
READ = Outcome(State.NEW)


def event_stored(event: InboundEvent, **_: Any) -> None:
    """Make the first try of a webhook, inside the transaction that stored it: a receiver of
    `inbound_event_stored`.
    """
    if event.kind != Kind.EVENT:
        _settle(event, READ)
        return
    event.attempts = 1
    try:
        with transaction.atomic():
            outcome = _event_apply(event)
    except (OperationalError, InterfaceError):
        raise  # nothing is stored then, and the sender sends it again
    except Exception:
        outcome = _failed(event)
    _settle(event, outcome)


def event_process(event_id: int) -> bool:
    """Make the next try of a webhook, if it is due; return whether this run made it."""
    event = _claim(event_id)
    if event is None:
        return False
    with context.scope(actor_kind=context.ActorKind.BROKER):
        try:
            if event.attempts > MOST_ATTEMPTS:  # its worker died each time
                outcome = _parked("It was tried too often.")
            elif event.kind == Kind.EVENT:
                outcome = _event_process(event)
            elif event.kind == Kind.POSTBACK:
                outcome = _hints_follow(event)
            else:
                outcome = _session_take(event)
        except Exception:
            outcome = _failed(event)
        with transaction.atomic():
            _settle(event, outcome)
    return True


def events_sweep() -> int:
    """Wake a worker for each webhook that is due; return how many."""
    due = (
        InboundEvent.objects.filter(
            state__in=[State.NEW, State.PARKED], next_at__lte=timezone.now()
        )
        .order_by("next_at")
        .values_list("pk", flat=True)[:AT_ONCE]
    )
    for event_id in (found := list(due)):
        outbox.wake_inbox(event_id)
    return len(found)


# --- Signed events --------------------------------------------------------------------------------


def _event_process(event: InboundEvent) -> Outcome:
    with transaction.atomic():
        outcome = _event_apply(event)
        if outcome is not READ:
            return outcome
    told = parse_event(event_body(event), event.received_at)
    order = _order_named(told)
    if order is None:
        return _parked("No order of ours is known by this name.")
    if told.is_stale(event.received_at):
        return _read(event, order, "", absent=Outcome(State.IGNORED, "The broker has it no more."))
    return _read(event, order, told.broker_order_id)


def _event_apply(event: InboundEvent) -> Outcome:
    """Bring the order to what a signed event says, in the caller's transaction."""
    try:
        told = parse_event(event_body(event), event.received_at)
    except InvalidEvent as e:
        return Outcome(State.DEAD, e.message)
    if told.type not in (FILL, ORDER):
        return Outcome(State.IGNORED, "No event of a kind that is known.")
    order = _order_named(told)
    if order is None:
        return _parked("No order of ours is known by this name.")
    order_serialise(order.pk)
    event.subject, event.connection = str(order.pk), order.connection
    if told.is_stale(event.received_at):
        return READ
    return _fill_take(told, order) if told.type == FILL else _status_take(event, told, order)


def _fill_take(told: PlatformEvent, order: Order) -> Outcome:
    fill = told.fill(
        broker_order_id=order.broker_order_id,
        tag=order.tag,
        exchange=ref_by_id(order.instrument_id).exchange,
        side=Side(order.side),
    )
    if fill is None:
        return READ  # two equal parts of an order look the same: the trade book tells them apart
    fill_apply(connection_id=order.connection_id, broker=order.connection.broker, fill=fill)
    return APPLIED


def _status_take(event: InboundEvent, told: PlatformEvent, order: Order) -> Outcome:
    report = told.report(
        broker_order_id=order.broker_order_id, tag=order.tag, received_at=event.received_at
    )
    if report is None:
        return READ  # a word that is not ours is never guessed at
    if report.status not in _ENDS and _is_outdated(event, order):
        return Outcome(State.IGNORED, "A later event of this order was applied before.")
    after = report_apply(
        connection_id=order.connection_id, broker=order.connection.broker, report=report
    )
    missing = (told.filled_quantity or 0) > (after or order).filled_quantity
    return READ if missing else APPLIED


def _is_outdated(event: InboundEvent, order: Order) -> bool:
    if event.event_at is None:
        return False
    return (
        InboundEvent.objects.filter(
            connection_id=order.connection_id,
            subject=str(order.pk),
            kind=Kind.EVENT,
            state=State.APPLIED,
            event_at__gt=event.event_at,
        )
        .exclude(pk=event.pk)
        .exists()
    )


def _order_named(told: PlatformEvent) -> Order | None:
    if told.order_id is not None:
        return Order.objects.select_related("connection").filter(pk=told.order_id).first()
    if told.connection_id is None:
        return None
    return _order_of(told.connection_id, told.broker_order_id, told.tag)


# --- Postbacks: hints -----------------------------------------------------------------------------


def _hints_follow(event: InboundEvent) -> Outcome:
    """Read each order that a postback names, and apply what the broker says then."""
    try:
        body = event_body(event)
    except DecryptionError as e:
        return Outcome(State.DEAD, str(e))
    outcome = Outcome(State.IGNORED, "It names no order.")
    for hint in adapter_class(event.source).parse_postback(body):
        outcome = _hint_follow(event, hint)
        if outcome.state != State.APPLIED:
            break
    return outcome


def _hint_follow(event: InboundEvent, hint: OrderHint) -> Outcome:
    if event.connection_id is None:
        return Outcome(State.DEAD, "It belongs to no connection.")
    order = _order_of(event.connection_id, hint.broker_order_id, hint.client_order_id)
    if order is None:
        return _parked("No order of ours has this id.")
    return _read(event, order, hint.broker_order_id)


def _read(
    event: InboundEvent, order: Order, broker_order_id: str, *, absent: Outcome | None = None
) -> Outcome:
    """Read the order at its broker and apply what it says. The network is asked outside of any
    transaction.
    """
    started = timezone.now()
    try:
        adapter = adapter_for(order.connection_id)
        report, fills = _book_of(adapter, order, broker_order_id or order.broker_order_id)
    except SessionExpired:
        # not a fault of the delivery; with the next session all live orders are read
        return Outcome(State.IGNORED, "No broker session is open.")
    except BrokerError as e:
        return _parked(e.message)
    if report is None:
        return absent or _parked("The broker's book does not have the order.")
    with transaction.atomic():
        order_serialise(order.pk)
        applied = report_apply(
            connection_id=order.connection_id,
            broker=order.connection.broker,
            report=report,
            fills=fills,
        )
        if applied is None:  # the delivery had joined one order's id to the tag of another
            return _parked("No order of ours has this id.")
        if event.kind == Kind.POSTBACK and event.subject:
            _others_follow(event, started)
    return APPLIED


def _book_of(
    adapter: BrokerAdapter, order: Order, broker_order_id: str
) -> tuple[OrderReport | None, Sequence[FillReport]]:
    request = stored_request(order)
    if broker_order_id:
        report = adapter.fetch_order(broker_order_id, request)
    else:
        report = adapter.find_order(request)
    if report is None:
        return None, ()
    return report, adapter.fetch_order_fills(report)


def _others_follow(event: InboundEvent, started: datetime) -> None:
    """One read answers every hint of the same order that came before it began."""
    InboundEvent.objects.filter(
        connection_id=event.connection_id,
        subject=event.subject,
        kind=Kind.POSTBACK,
        source=event.source,
        state__in=[State.NEW, State.PARKED],
        received_at__lt=started - CLOCKS_DIFFER,
    ).exclude(pk=event.pk).update(
        state=State.APPLIED,
        settled_at=timezone.now(),
        next_at=None,
        error=f"Answered by the read for {event.pk}.",
    )


# --- Sessions -------------------------------------------------------------------------------------


def _session_take(event: InboundEvent) -> Outcome:
    """Open the session that a broker hands over after its user approved it; then forget it here."""
    if event.connection is None:
        return Outcome(State.DEAD, "It belongs to no connection.")
    try:
        notice_take(connection=event.connection, body=event_body(event))
    except (ValueError, DecryptionError):
        return Outcome(State.DEAD, "It is no notice of a session that can be read.")
    except Refused as e:  # final: the token is not good, or of somebody else
        return Outcome(State.DEAD, e.message)
    except BrokerError as e:
        return _parked(e.message)
    event.body, event.key_id = b"", ""
    return APPLIED


# --- Parts ----------------------------------------------------------------------------------------


def order_serialise(order_id: UUID) -> None:
    """Wait until no other event of this order is being applied; until the transaction ends."""
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [str(order_id)])


def _order_of(connection_id: UUID, broker_order_id: str, tag: str) -> Order | None:
    names = Q()
    if broker_order_id:
        names |= Q(broker_order_id=broker_order_id)
    if tag:
        names |= Q(tag=tag)
    if not names:
        return None
    orders = Order.objects.select_related("connection").filter(connection_id=connection_id)
    return orders.filter(names).first()


_CLAIM = """
UPDATE brokerages_inboundevent
SET attempts = attempts + 1, next_at = %s
WHERE id = %s AND state IN ('NEW', 'PARKED') AND next_at <= %s
"""


def _claim(event_id: int) -> InboundEvent | None:
    """Take the next try of a webhook, or None if it is not due or somebody else has it."""
    now = timezone.now()
    with database.cursor() as cursor:
        cursor.execute(_CLAIM, [now + LEASE, event_id, now + timedelta(milliseconds=250)])
        if not cursor.rowcount:
            return None
    return InboundEvent.objects.select_related("connection").get(pk=event_id)


def _parked(reason: str) -> Outcome:
    return Outcome(State.PARKED, reason)


def _failed(event: InboundEvent) -> Outcome:
    logger.exception("webhook %s of %s could not be applied", event.pk, event.source)
    return _parked("An error of ours: it is tried again.")


def _settle(event: InboundEvent, outcome: Outcome) -> None:
    """Record what came of a try; wake a worker for the next one."""
    now = timezone.now()
    event.state, event.error = outcome.state, outcome.reason[:1000]
    event.next_at, event.settled_at = None, now
    wait: float | None = None
    if event.state == State.PARKED and event.attempts >= MOST_ATTEMPTS:
        event.state = State.DEAD
    elif event.state == State.PARKED:
        wait = RETRY_AFTER[max(event.attempts, 1) - 1]
    elif event.state == State.NEW:
        event.attempts, wait = 0, 0
    if wait is not None:
        event.next_at, event.settled_at = now + timedelta(seconds=wait), None
    if event.state == State.DEAD:
        logger.error(
            "webhook %s of %s was given up after %d tries: %s",
            event.pk, event.source, event.attempts, event.error,
        )  # fmt: skip
    fields = ["state", "error", "next_at", "settled_at", "attempts", "subject", "connection"]
    if event.kind == Kind.APPROVAL:
        fields += ["body", "key_id"]
    event.save(update_fields=fields)
    if wait is not None and wait <= LONGEST_COUNTDOWN:
        transaction.on_commit(lambda: outbox.wake_inbox(event.pk, seconds=wait))
