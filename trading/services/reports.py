"""Everything a broker says comes in here, whatever road it took: `report_apply` and `fill_apply`.

Both are safe to repeat and safe in any order. Fills are the truth; a status word never moves a
quantity. Within one call what opens an order is applied first, then fills, then what ends it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Max, Q
from django.utils import timezone

from brokerages.types import FillReport, OrderReport, ReportedStatus
from marketdata.selectors import ref_by_id
from trading.models import Fill, Order, OrderCommand
from trading.order_states import CLOSED, REPORTED, REVIVED, OrderStatus, OrderTrigger
from trading.services import notifications
from trading.services.edits import OrderEdit, Write, order_lock, write_together
from trading.services.positions import (
    LockedPosition,
    position_apply,
    position_lock,
    position_shape,
    position_write,
)

logger = logging.getLogger(__name__)

IST = ZoneInfo("Asia/Kolkata")

RESTING = frozenset(
    {ReportedStatus.OPEN, ReportedStatus.TRIGGER_PENDING, ReportedStatus.PARTIALLY_FILLED}
)
RECONCILED = "reconciled"  # of a MODIFY whose outcome was read from the broker's book
CANCEL_SETTLES = timedelta(seconds=5)  # until a book read meanwhile has certainly come in here

_OPENING = frozenset({OrderTrigger.ACCEPT, OrderTrigger.AWAIT_TRIGGER})

_KINDS = {
    OrderTrigger.ACCEPT: "ACCEPTED",
    OrderTrigger.AWAIT_TRIGGER: "TRIGGER_PENDING",
    OrderTrigger.CANCEL: "CANCELLED",
    OrderTrigger.REJECT: "REJECTED",
    OrderTrigger.EXPIRE: "EXPIRED",
}


def report_apply(
    *, connection_id: UUID, broker: str, report: OrderReport, fills: Sequence[FillReport] = ()
) -> Order | None:
    """Bring our order to what its broker says, with the fills it names; return it, or None if we do
    not know it.
    """
    with transaction.atomic():
        order_id = _find(connection_id, report.broker_order_id, report.client_order_id)
        if order_id is None:
            logger.warning(
                "a report of an order that we do not know: %s %s", broker, report.broker_order_id
            )
            return None
        edit = OrderEdit(order_lock(order_id), broker=broker)
        edit_apply(edit, report, fills)
    return edit.order


def fill_apply(*, connection_id: UUID, broker: str, fill: FillReport) -> Order | None:
    """Count one fill once; return its order, or None if we do not know it."""
    with transaction.atomic():
        order_id = _find(connection_id, fill.broker_order_id, fill.client_order_id)
        if order_id is None:
            logger.warning(
                "a fill of an order that we do not know: %s %s", broker, fill.broker_order_id
            )
            return None
        edit = OrderEdit(order_lock(order_id), broker=broker)
        edit_apply(edit, None, [fill])
    return edit.order


def edit_apply(
    edit: OrderEdit,
    report: OrderReport | None,
    fills: Sequence[FillReport],
    *,
    settles: bool = False,
) -> None:
    """Apply a report and fills to a locked order and save it if anything changed (or ``settles``
    says it did).
    """
    order = edit.order
    learnt = settles
    trigger = REPORTED[report.status] if report else None
    if report is not None:
        learnt |= _take_ids(order, report)
        learnt |= _take_terms(edit, report)
    if report is not None and trigger in _OPENING:
        _open(edit, trigger, report)
    extra = _count(edit, fills)
    if report is not None and trigger is not None and trigger not in _OPENING:
        if report.filled_quantity > order.filled_quantity:
            # nobody reads the fills of an order at its end: it ends when they are here
            _open(edit, OrderTrigger.ACCEPT, report)
        else:
            _end(edit, trigger, report)
    if report is not None:
        _fill_by_modify(edit)
        _cancel_failed(edit, report)
    if edit.events or learnt:
        edit.save(extra)


def _open(edit: OrderEdit, trigger: OrderTrigger, report: OrderReport) -> None:
    was = edit.order.status
    if (
        trigger is OrderTrigger.ACCEPT
        and was == OrderStatus.TRIGGER_PENDING
        and report.status != ReportedStatus.RECEIVED
    ):
        edit.trigger(trigger, "TRIGGERED", message="The trigger price was reached.")
    elif trigger is OrderTrigger.AWAIT_TRIGGER and edit.order.filled_quantity:
        return  # an older report: it has filled since
    elif (
        edit.trigger(trigger, _KINDS[trigger], message=report.message)
        and was == OrderStatus.NOT_PLACED
    ):
        edit.audit("order.revived", {"status": edit.order.status})
        notifications.order_notify(
            edit, "order_revived", "The broker has the order after all: it was placed late."
        )


def _end(edit: OrderEdit, trigger: OrderTrigger, report: OrderReport) -> None:
    order = edit.order
    if not edit.trigger(
        trigger, _KINDS[trigger], message=report.message, code="broker" if report.message else ""
    ):
        return
    edit.audit(
        f"order.{_KINDS[trigger].lower()}",
        {
            "status": order.status,
            "message": report.message,
            "filled_quantity": order.filled_quantity,
        },
    )
    if trigger is OrderTrigger.REJECT:
        notifications.order_notify(edit, "order_rejected", report.message)


def _fill_by_modify(edit: OrderEdit) -> None:
    """Call an order filled whose new quantity is filled already: no further fill will."""
    order = edit.order
    if 0 < order.quantity <= order.filled_quantity and OrderStatus(order.status) not in CLOSED:
        edit.trigger(OrderTrigger.FILL_ALL, "FILLED_BY_MODIFY")


def _cancel_failed(edit: OrderEdit, report: OrderReport) -> None:
    """Let an order rest again whose cancel the broker took and the exchange then refused: no answer
    says so, only that the order still rests a while later.
    """
    order = edit.order
    if order.status != OrderStatus.PENDING_CANCEL or report.status not in RESTING:
        return
    cancels = order.commands.filter(kind=OrderCommand.Kind.CANCEL)
    ended = [OrderCommand.State.DONE, OrderCommand.State.DROPPED]
    if cancels.exclude(state__in=ended).exists():
        return
    settled_at = cancels.aggregate(last=Max("settled_at"))["last"]
    if settled_at is None or timezone.now() < settled_at + CANCEL_SETTLES:
        return  # it may have been read before the cancel
    message = "The cancel was not carried out: the order still rests at the broker."
    edit.trigger(OrderTrigger.CANCEL_REFUSED, "CANCEL_REFUSED", message=message)


def _take_ids(order: Order, report: OrderReport) -> bool:
    learnt = False
    for name, value in (
        ("broker_order_id", report.broker_order_id),
        ("exchange_order_id", report.exchange_order_id),
    ):
        if value and getattr(order, name) != value:
            setattr(order, name, value)
            learnt = True
    return learnt


def _take_terms(edit: OrderEdit, report: OrderReport) -> bool:
    """Take the terms that the broker states for a resting order: a modify of ours or one made
    elsewhere.
    """
    order = edit.order
    changed: dict[str, Any] = {}
    for name, value in (
        ("quantity", report.quantity),
        ("price", report.price),
        ("trigger_price", report.trigger_price),
    ):
        if value is not None and getattr(order, name) is not None and getattr(order, name) != value:
            changed[name] = value
    if not changed or _precedes_a_modify(order, report):
        return False
    data = {name: [str(getattr(order, name)), str(value)] for name, value in changed.items()}
    for name, value in changed.items():
        setattr(order, name, value)
    edit.note("MODIFIED", data=data)
    return True


def _precedes_a_modify(order: Order, report: OrderReport) -> bool:
    """Whether the report is older than a modify that was taken: its terms are the ones before.

    A modify that was settled from a book (``RECONCILED``) does not count: the book had the last
    word on the terms.
    """
    since = report.reported_at
    if not since.microsecond:  # of a clock of whole seconds: it may have been any time in that one
        since += timedelta(seconds=1)
    return order.commands.filter(
        kind=OrderCommand.Kind.MODIFY,
        state=OrderCommand.State.DONE,
        error_code="",
        claimed_at__gte=since,
    ).exists()


_COUNT = """
INSERT INTO trading_fill (
    order_id, user_id, connection_id, instrument_id, exchange, trade_date, fill_id, side, product,
    quantity, price, filled_at, received_at
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now())
ON CONFLICT (connection_id, exchange, trade_date, fill_id, side) DO NOTHING
RETURNING user_id, connection_id, instrument_id, product, filled_at
"""


def _count(edit: OrderEdit, fills: Sequence[FillReport]) -> list[tuple[str, dict[str, Any]]]:
    """Count each fill that was not counted before; return the position's push."""
    order = edit.order
    position: LockedPosition | None = None
    trips: list[Write] = []
    for fill in fills:
        if not _is_ours(edit, fill):
            continue
        counted = _COUNT, _counted(order, fill)
        if position is None:
            is_new = (position := position_lock(counted)) is not None
        else:
            is_new = bool(write_together([counted]))
        if position is None or not is_new:
            _compare(edit, fill)
            continue
        trips += position_apply(position, order, fill)
        _fill_order(edit, fill)
    if position is None:
        return []
    edit.also(*position_write(position))
    if len(trips) == 1:
        edit.also(*trips[0])
    else:  # they write the same row one after the other
        for trip in trips:
            write_together([trip])
    extra = [("positions", {"position": position_shape(position, order, edit.broker)})]
    if order.status == OrderStatus.FILLED:
        notifications.order_filled(edit)
    return extra


def _is_ours(edit: OrderEdit, fill: FillReport) -> bool:
    if fill.side == edit.order.side:
        return True
    _conflict(edit, fill, "The broker reports a fill of the other side; not counted.")
    return False


def _counted(order: Order, fill: FillReport) -> list[Any]:
    return [
        order.pk, order.user_id, order.connection_id, order.instrument_id, fill.exchange.value,
        _trade_date(fill), fill.fill_id, fill.side.value, order.product, fill.quantity, fill.price,
        fill.filled_at,
    ]  # fmt: skip


def _trade_date(fill: FillReport) -> date:
    return fill.filled_at.astimezone(IST).date()


def _compare(edit: OrderEdit, fill: FillReport) -> None:
    """Note it when a fill that was counted before comes with other numbers."""
    order = edit.order
    known = Fill.objects.get(
        connection_id=order.connection_id,
        exchange=fill.exchange,
        trade_date=_trade_date(fill),
        fill_id=fill.fill_id,
        side=fill.side,
    )
    if (known.order_id, known.quantity, known.price) != (order.pk, fill.quantity, fill.price):
        # the first is kept: whichever is wrong, a person has to look at it
        _conflict(
            edit, fill, "The broker reports a known fill with other numbers; the first is kept."
        )


def _conflict(edit: OrderEdit, fill: FillReport, message: str) -> None:
    """Note a contradiction once, however often the broker repeats it."""
    data = {"fill_id": fill.fill_id, "quantity": fill.quantity, "price": str(fill.price)}
    if not edit.order.events.filter(kind="FILL_CONFLICT", data=data).exists():
        edit.note("FILL_CONFLICT", message=message, data=data)
        notifications.order_notify(edit, "fill_conflict", message)


def _fill_order(edit: OrderEdit, fill: FillReport) -> None:
    order = edit.order
    revived = OrderStatus(order.status) in REVIVED
    order.filled_quantity += fill.quantity
    order.fill_value += fill.quantity * fill.price
    done = order.filled_quantity >= order.quantity
    data = {"fill_id": fill.fill_id, "quantity": fill.quantity, "price": str(fill.price)}
    trigger = OrderTrigger.FILL_ALL if done else OrderTrigger.FILL_PART
    if not edit.trigger(trigger, "FILL", data=data):
        edit.note("FILL", data=data)
    if order.filled_quantity > order.quantity:
        edit.note("OVERFILL", data={"excess": order.filled_quantity - order.quantity})
        notifications.order_notify(
            edit, "overfill", f"Filled {order.filled_quantity} of {order.quantity}."
        )
    if revived:
        notifications.order_notify(
            edit, "order_revived", "A fill arrived for an order that was believed not to exist."
        )
    edit.audit(
        "order.filled",
        data
        | {
            "symbol": ref_by_id(order.instrument_id).key,
            "side": order.side,
            "filled": order.filled_quantity,
        },
    )


def _find(connection_id: UUID, broker_order_id: str, tag: str) -> UUID | None:
    """Return our order by the broker's id or by our tag; the tag finds it also before the ack was
    recorded.
    """
    names = Q()
    if broker_order_id:
        names |= Q(broker_order_id=broker_order_id)
    if tag:
        names |= Q(tag=tag)
    if not names:
        return None
    return (
        Order.objects.filter(names, connection_id=connection_id)
        .values_list("pk", flat=True)
        .first()
    )
