"""Settling what nobody knows, from what the broker's book says. Reads, then changes that the table
guards.

A PLACE whose answer was lost is looked up by its tag. It counts as not placed only after three
complete reads of the book without it, spread over a minute from the send: a broker has been seen to
accept an order eight seconds after it answered "timed out".
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

import audit.services
from brokerages.base import VenueEvent
from brokerages.errors import BrokerError
from brokerages.registry import venue_engines
from brokerages.services import adapter_for
from brokerages.types import FillReport, OrderReport, ReportedStatus
from marketdata.quotes import quote_latest
from trading.models import Order, OrderCommand
from trading.order_states import CLOSED, OrderTrigger
from trading.services import notifications
from trading.services.edits import OrderEdit, order_lock
from trading.services.execution import STALE_MESSAGE, stored_request
from trading.services.outbox import lanes_waiting, wake
from trading.services.reports import edit_apply, report_apply

logger = logging.getLogger(__name__)

State, Kind = OrderCommand.State, OrderCommand.Kind

LOOK_UP_AFTER = (2, 5, 10, 20, 40, 60)  # seconds from the claim; every 60 s from then on
MISSES_NEEDED = 3
_RESTING = frozenset(
    {ReportedStatus.OPEN, ReportedStatus.TRIGGER_PENDING, ReportedStatus.PARTIALLY_FILLED}
)
IN_FLIGHT = timedelta(seconds=20)  # longer than any call to a broker may take
AT_ONCE = 200  # looks in one run


def commands_sweep() -> int:
    """Wake workers for lanes whose wake-up was lost; return how many lanes there were."""
    lanes = lanes_waiting(older_than_seconds=settings.SWEEP_AFTER_SECONDS)
    for lane in lanes:
        wake(lane)
    return len(lanes)


def commands_reconcile() -> int:
    """Look up every command whose outcome is due for a check; return how many were settled."""
    now = timezone.now()
    unsettled = OrderCommand.objects.filter(state__in=[State.SENDING, State.UNKNOWN]).filter(
        Q(checked_at__isnull=True, claimed_at__lte=now - timedelta(seconds=LOOK_UP_AFTER[0]))
        | Q(checked_at__lte=now - timedelta(seconds=1))
    )
    waiting = unsettled.select_related("order__connection").order_by("claimed_at")
    # cut after the choice: many old ones that are not due must not hide the new
    due = [command for command in waiting if _is_due(command, now)]
    settled = 0
    for command in due[:AT_ONCE]:
        try:
            settled += _command_reconcile(command)
        except Exception:  # a bug met by one order must not leave all others unknown
            logger.exception("could not reconcile order %s", command.order_id)
            OrderCommand.objects.filter(pk=command.pk).update(checked_at=timezone.now())
    return settled


def _is_due(command: OrderCommand, now: datetime) -> bool:
    if command.claimed_at is None:
        return True
    if (
        command.kind != Kind.PLACE
        and command.state == State.SENDING
        and now - command.claimed_at < IN_FLIGHT
    ):
        return False  # the book before the change proves nothing while the change is on its way
    if command.checked_at is None:
        return True
    last = (command.checked_at - command.claimed_at).total_seconds()
    step = next((at for at in LOOK_UP_AFTER if at > last), last + 60)
    return (now - command.claimed_at).total_seconds() >= step


def _command_reconcile(command: OrderCommand) -> bool:
    order = command.order
    try:
        adapter = adapter_for(order.connection_id)
        if command.kind == Kind.PLACE or not order.broker_order_id:
            report = adapter.find_order(stored_request(order))
        else:
            report = adapter.fetch_order(order.broker_order_id, stored_request(order))
        fills = [
            f
            for f in adapter.fetch_fills()
            if report and f.broker_order_id == report.broker_order_id
        ]
    except BrokerError as e:
        # a failed read proves nothing and does not count as a look
        logger.warning("could not look up order %s at %s: %s", order.pk, order.connection.broker, e)
        OrderCommand.objects.filter(pk=command.pk).update(checked_at=timezone.now())
        return False
    if report is None:
        return _missed(command)
    return _found(command, report, fills)


def _found(command: OrderCommand, report: OrderReport, fills: list[FillReport]) -> bool:
    with transaction.atomic():
        if not _settle(command, State.DONE):
            return False
        edit = OrderEdit(order_lock(command.order_id), broker=command.order.connection.broker)
        edit.note(
            "RECONCILED", message="The broker's book has the order.", data={"command": command.kind}
        )
        _audit(edit, "order.reconciled")
        if command.kind == Kind.CANCEL and report.status in _RESTING:
            edit.trigger(
                OrderTrigger.CANCEL_REFUSED,
                "CANCEL_UNSENT",
                message="The cancel did not reach the broker.",
            )
        edit_apply(edit, report, fills, settles=True)
    return True


def _missed(command: OrderCommand) -> bool:
    now = timezone.now()
    sent_for = (now - command.claimed_at).total_seconds() if command.claimed_at else 0
    misses = command.checks + 1
    is_place = command.kind == Kind.PLACE
    if misses < MISSES_NEEDED or (is_place and sent_for < settings.SETTLE_SECONDS):
        OrderCommand.objects.filter(pk=command.pk).update(checks=misses, checked_at=now)
        return False
    if not is_place:
        return _change_lost(command)
    with transaction.atomic():
        if not _settle(command, State.DONE, code="not_placed"):
            return False
        edit = OrderEdit(order_lock(command.order_id), broker=command.order.connection.broker)
        message = "The broker's book does not have the order: it was not placed."
        if edit.trigger(OrderTrigger.NOT_FOUND, "NOT_PLACED", message=message, code="not_placed"):
            _audit(edit, "order.not_placed")
            notifications.order_notify(edit, "order_not_placed", message)
        edit.save()
    return True


def _change_lost(command: OrderCommand) -> bool:
    """Settle a modify or cancel of an order that the book does not show: it says nothing of whether
    the order was placed, and the user may ask again.
    """
    with transaction.atomic():
        if not _settle(command, State.DONE, code="order_not_found"):
            return False
        edit = OrderEdit(order_lock(command.order_id), broker=command.order.connection.broker)
        message = "The broker's book does not show the order now. Ask again."
        if command.kind != Kind.CANCEL or not edit.trigger(
            OrderTrigger.CANCEL_REFUSED, "CANCEL_UNSENT", message=message
        ):
            edit.note("OUTCOME_UNKNOWN", message=message, data={"command": command.kind})
        _audit(edit, "order.outcome_unknown")
        edit.save()
    return True


def _settle(command: OrderCommand, state: str, *, code: str = "") -> bool:
    return bool(
        OrderCommand.objects.filter(pk=command.pk, state__in=[State.SENDING, State.UNKNOWN]).update(
            state=state, settled_at=timezone.now(), checked_at=timezone.now(), error_code=code
        )
    )


def _audit(edit: OrderEdit, action: str) -> None:
    order = edit.order
    audit.services.record(
        action,
        object_type="order",
        object_id=order.pk,
        user_id=order.user_id,
        changes={"status": order.status},
    )


def connections_reconcile() -> int:
    """Compare the live orders of every connection with its broker; return how many orders were
    brought up to date.
    """
    live = Order.objects.exclude(status__in=[s.value for s in CLOSED]).exclude(broker_order_id="")
    changed = 0
    for connection_id in live.values_list("connection_id", flat=True).distinct():
        try:
            changed += connection_reconcile(connection_id)
        except BrokerError as e:
            logger.warning("could not read the books of connection %s: %s", connection_id, e)
        except Exception:  # a bug met by one connection must not hold up all others
            logger.exception("could not reconcile connection %s", connection_id)
    return changed


def connection_reconcile(connection_id: UUID) -> int:
    """Apply the broker's books to one connection; return how many orders it moved."""
    ours = {
        order.broker_order_id: order
        for order in Order.objects.filter(connection_id=connection_id)
        .exclude(status__in=[s.value for s in CLOSED])
        .exclude(broker_order_id="")
        .select_related("connection")
    }
    if not ours:
        return 0
    connection = next(iter(ours.values())).connection
    adapter = adapter_for(connection_id)
    reports, fills = adapter.fetch_orders(), adapter.fetch_fills()
    changed = 0
    for report in reports:
        if (order := ours.get(report.broker_order_id)) is None:
            continue
        own = [fill for fill in fills if fill.broker_order_id == report.broker_order_id]
        after = report_apply(
            connection_id=connection_id, broker=connection.broker, report=report, fills=own
        )
        changed += after is not None and after.version != order.version
    return changed


def venues_advance() -> int:
    """Move the markets inside the platform on and apply what came of it; return how many events
    were applied.
    """
    applied = 0
    for engine in venue_engines():
        engine.advance(quote_latest, timezone.now())
        while events := engine.pending_events():
            done = _events_apply(engine.broker, events)
            engine.confirm_events(done)
            applied += len(done)
            if len(done) < len(events):
                break  # what failed stays, and is tried again the next time
    return applied


def _events_apply(broker: str, events: Sequence[VenueEvent]) -> list[int]:
    """Apply events and return the ids of those that went in; one that fails holds up its order
    alone.
    """
    done, failed = [], set()
    for event in events:
        order = (event.connection_id, event.report.broker_order_id)
        if order in failed:
            continue  # the events of one order go in in their order
        try:
            report_apply(
                connection_id=event.connection_id,
                broker=broker,
                report=event.report,
                fills=event.fills,
            )
        except Exception:  # whatever it is, the fills of everybody else must not wait for it
            logger.exception("could not apply event %s of %s", event.id, broker)
            failed.add(order)
        else:
            done.append(event.id)
    return done


def stale_commands_deny() -> int:
    """End orders that waited too long to be sent, e.g. while no worker ran; return how many."""
    limit = timezone.now() - timedelta(seconds=settings.STALE_COMMAND_SECONDS)
    stale = OrderCommand.objects.filter(kind=Kind.PLACE, state=State.WAITING, created_at__lt=limit)
    ended = 0
    for command in stale.select_related("order__connection").order_by("id")[:500]:
        with transaction.atomic():
            dropped = OrderCommand.objects.filter(pk=command.pk, state=State.WAITING).update(
                state=State.DROPPED,
                settled_at=timezone.now(),
                error_code="stale",
                error_message=STALE_MESSAGE,
            )
            if not dropped:
                continue
            edit = OrderEdit(order_lock(command.order_id), broker=command.order.connection.broker)
            edit.trigger(OrderTrigger.DENY, "DENIED", message=STALE_MESSAGE, code="stale")
            _audit(edit, "order.denied")
            notifications.order_notify(edit, "order_denied", STALE_MESSAGE)
            edit.save()
            ended += 1
    return ended
