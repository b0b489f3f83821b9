"""Settling what nobody knows, from what the broker's book says. Reads, then changes that the table
guards.

A PLACE whose answer was lost is looked up by its tag. It counts as not placed only after three
complete reads of the book without it, spread over a minute from the send: a broker has been seen to
accept an order eight seconds after it answered "timed out". A book is of one day: what it does not
have on the next day, it does not have for that reason, and whatever was not known by then stays
marked as unknown for a person to look at.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cached_property
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from brokerages.base import BrokerAdapter, VenueEvent
from brokerages.errors import BrokerError
from brokerages.registry import is_venue, venue_engines
from brokerages.services import adapter_for
from brokerages.types import FillReport, OrderReport, ReportedStatus
from marketdata.quotes import quote_latest, trading_day
from trading.models import Order, OrderCommand
from trading.order_states import OrderTrigger
from trading.services import notifications
from trading.services.books import UNVERIFIED, alone, order_audit, order_flag
from trading.services.edits import OrderEdit, order_lock
from trading.services.execution import (
    STALE_CHANGE_MESSAGE,
    STALE_MESSAGE,
    modified_take,
    stored_change,
    stored_request,
)
from trading.services.outbox import lanes_waiting, wake, wake_reconcile
from trading.services.reports import RECONCILED, RESTING, edit_apply, report_apply

logger = logging.getLogger(__name__)

State, Kind = OrderCommand.State, OrderCommand.Kind

LOOK_UP_AFTER = (2, 5, 10, 20, 40, 60)  # seconds from the claim; every 60 s from then on
MISSES_NEEDED = 3
_UNDECIDED = frozenset(
    {ReportedStatus.PENDING_CANCEL, ReportedStatus.RECEIVED, ReportedStatus.UNKNOWN}
)  # of a cancel: the exchange has not said yet
IN_FLIGHT = timedelta(seconds=20)  # longer than any call to a broker may take
AT_ONCE = 200  # looks in one run


def commands_sweep() -> int:
    """Wake workers for lanes whose wake-up was lost; return how many lanes there were."""
    lanes = lanes_waiting(older_than_seconds=settings.SWEEP_AFTER_SECONDS)
    for lane in lanes:
        wake(lane)
    return len(lanes)


def commands_reconcile(connection_id: UUID | None = None) -> int:
    """Look up every command whose outcome is due for a check, or those of one connection; return
    how many were settled here.

    Of several connections each is left to a worker of its own where workers can be woken: a broker
    that hangs must not hold up the others.
    """
    now = timezone.now()
    unsettled = OrderCommand.objects.filter(state__in=[State.SENDING, State.UNKNOWN]).exclude(
        error_code=UNVERIFIED
    )
    unsettled = unsettled.filter(
        Q(checked_at__isnull=True, claimed_at__lte=now - timedelta(seconds=LOOK_UP_AFTER[0]))
        | Q(checked_at__lte=now - timedelta(seconds=1))
    )
    if connection_id is not None:
        unsettled = unsettled.filter(order__connection_id=connection_id)
    waiting = unsettled.select_related("order__connection").order_by("claimed_at")
    # cut after the choice: many old ones that are not due must not hide the new
    due = [command for command in waiting if _is_due(command, now)]
    by_connection: dict[UUID, list[OrderCommand]] = {}
    for command in due[:AT_ONCE]:
        by_connection.setdefault(command.order.connection_id, []).append(command)
    settled = 0
    for pk, commands in by_connection.items():
        if len(by_connection) > 1 and wake_reconcile(pk, commands=True):
            continue
        with alone("commands", pk) as is_alone:
            settled += _commands_reconcile(pk, commands) if is_alone else 0
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


def _commands_reconcile(connection_id: UUID, commands: Sequence[OrderCommand]) -> int:
    """Look up the commands of one connection; return how many were settled."""
    settled = 0
    try:
        books = Books(adapter_for(connection_id), several=len(commands) > 1)
    except BrokerError as e:
        _could_not_look(commands, e)
        return 0
    for command in commands:
        try:
            report = books.report_of(command)
            if report is None:
                settled += _missed(command)
            else:
                settled += _found(command, report, books.fills_of(report))
        except BrokerError as e:
            _could_not_look([command], e)
        except Exception:  # a bug met by one order must not leave all others unknown
            logger.exception("could not reconcile order %s", command.order_id)
            OrderCommand.objects.filter(pk=command.pk).update(checked_at=timezone.now())
    return settled


def _could_not_look(commands: Sequence[OrderCommand], error: BrokerError) -> None:
    """A failed read proves nothing and does not count as a look."""
    for command in commands:
        logger.warning(
            "could not look up order %s at %s: %s",
            command.order_id,
            command.order.connection.broker,
            error,
        )
    OrderCommand.objects.filter(pk__in=[command.pk for command in commands]).update(
        checked_at=timezone.now()
    )


class Books:
    """The books of one connection, each read once and only if it is needed.

    With ``several`` orders to look up, the order book answers for all that it has. What it does not
    have is asked for by name where the broker can be asked so.
    """

    def __init__(self, adapter: BrokerAdapter, *, several: bool) -> None:
        self._adapter, self._several = adapter, several

    def report_of(self, command: OrderCommand) -> OrderReport | None:
        """Return what the broker says of the command's order; None when a complete read does not
        have it.

        Raises:
            BrokerError: a book could not be read.
        """
        order = command.order
        by_tag = command.kind == Kind.PLACE or not order.broker_order_id
        if self._several:
            for report in self._orders:
                same_tag = report.client_order_id == order.tag
                if same_tag if by_tag else report.broker_order_id == order.broker_order_id:
                    return report
            if not self._adapter.capabilities.find_by_client_order_id:
                return None
        if by_tag:
            return self._adapter.find_order(stored_request(order))
        return self._adapter.fetch_order(order.broker_order_id, stored_request(order))

    def fills_of(self, report: OrderReport) -> list[FillReport]:
        if not self._several:
            return self._adapter.fetch_order_fills(report)
        return [fill for fill in self._fills if fill.broker_order_id == report.broker_order_id]

    @cached_property
    def _orders(self) -> list[OrderReport]:
        return self._adapter.fetch_orders()

    @cached_property
    def _fills(self) -> list[FillReport]:
        return self._adapter.fetch_fills()


def _found(command: OrderCommand, report: OrderReport, fills: list[FillReport]) -> bool:
    if command.kind == Kind.CANCEL and report.status in _UNDECIDED:
        OrderCommand.objects.filter(pk=command.pk).update(checked_at=timezone.now())
        return False
    with transaction.atomic():
        code = RECONCILED if command.kind == Kind.MODIFY else ""
        if not _settle(command, State.DONE, code=code):
            return False
        edit = OrderEdit(order_lock(command.order_id), broker=command.order.connection.broker)
        edit.note(
            "RECONCILED", message="The broker's book has the order.", data={"command": command.kind}
        )
        order_audit(edit, "order.reconciled")
        if command.kind == Kind.CANCEL and report.status in RESTING:
            edit.trigger(
                OrderTrigger.CANCEL_REFUSED,
                "CANCEL_UNSENT",
                message="The cancel did not reach the broker.",
            )
        if command.kind == Kind.MODIFY and _shows_change(edit.order, command, report):
            modified_take(edit, command.terms or {})
        edit_apply(edit, report, fills, settles=True)
    return True


def _shows_change(order: Order, command: OrderCommand, report: OrderReport) -> bool:
    """Whether the broker states the command's terms, and did not before: then they were taken."""
    if command.terms is None:
        return False
    change = stored_change(command.terms)
    new = (change.quantity, change.price, change.trigger_price)
    if (report.quantity, report.price, report.trigger_price) != new:
        return False
    return (order.quantity, order.price, order.trigger_price) != new


def _missed(command: OrderCommand) -> bool:
    now = timezone.now()
    sent_for = (now - command.claimed_at).total_seconds() if command.claimed_at else 0
    if _book_is_closed(command, now):
        return _stays_unknown(command, now)
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
            order_audit(edit, "order.not_placed")
            notifications.order_notify(edit, "order_not_placed", message)
        edit.save()
    return True


def _book_is_closed(command: OrderCommand, now: datetime) -> bool:
    """Whether the book that would have the order was cleared meanwhile."""
    if command.claimed_at is None or is_venue(command.order.connection.broker):
        return False
    return trading_day(now) != trading_day(command.claimed_at)


def _stays_unknown(command: OrderCommand, now: datetime) -> bool:
    with transaction.atomic():
        flagged = OrderCommand.objects.filter(
            pk=command.pk, state__in=[State.SENDING, State.UNKNOWN]
        ).update(state=State.UNKNOWN, checked_at=now, error_code=UNVERIFIED)
        if flagged:
            edit = OrderEdit(order_lock(command.order_id), broker=command.order.connection.broker)
            order_flag(edit, "The broker's book of that day is closed without an answer.")
    return False


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
        order_audit(edit, "order.outcome_unknown")
        edit.save()
    return True


def _settle(command: OrderCommand, state: str, *, code: str = "") -> bool:
    return bool(
        OrderCommand.objects.filter(pk=command.pk, state__in=[State.SENDING, State.UNKNOWN]).update(
            state=state, settled_at=timezone.now(), checked_at=timezone.now(), error_code=code
        )
    )


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
    """End orders that waited too long to be sent, e.g. while no worker ran, and refuse changes that
    did; return how many.
    """
    limit = timezone.now() - timedelta(seconds=settings.STALE_COMMAND_SECONDS)
    stale = OrderCommand.objects.filter(
        kind__in=[Kind.PLACE, Kind.MODIFY], state=State.WAITING, created_at__lt=limit
    )
    ended = 0
    for command in stale.select_related("order__connection").order_by("id")[:500]:
        is_place = command.kind == Kind.PLACE
        message = STALE_MESSAGE if is_place else STALE_CHANGE_MESSAGE
        with transaction.atomic():
            dropped = OrderCommand.objects.filter(pk=command.pk, state=State.WAITING).update(
                state=State.DROPPED,
                settled_at=timezone.now(),
                error_code="stale",
                error_message=message,
            )
            if not dropped:
                continue
            edit = OrderEdit(order_lock(command.order_id), broker=command.order.connection.broker)
            if is_place:
                edit.trigger(OrderTrigger.DENY, "DENIED", message=message, code="stale")
                order_audit(edit, "order.denied")
                notifications.order_notify(edit, "order_denied", message)
            else:
                edit.note("MODIFY_REFUSED", message=message)
            edit.save()
            ended += 1
    return ended
