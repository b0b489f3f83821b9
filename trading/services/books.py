"""What brokers' books say of the orders of a connection: read whole, applied where it is new.

Books are of one day. An order that shows up late is adopted; an order whose day is over ends as far
as a book has said so, and is marked for a person to look at where none did.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from uuid import UUID

from django.db import connection as database
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

import audit.services
from audit.ids import uuid7_at
from brokerages.errors import BrokerError
from brokerages.registry import is_venue
from brokerages.services import adapter_for
from brokerages.types import FillReport, OrderReport, ReportedStatus
from marketdata.quotes import session_end, trading_day
from marketdata.selectors import ref_by_id
from trading.models import Order
from trading.order_states import AT_BROKER, CLOSED, OrderStatus, OrderTrigger
from trading.services import notifications
from trading.services.edits import OrderEdit, order_lock
from trading.services.outbox import wake_reconcile
from trading.services.reports import report_apply

logger = logging.getLogger(__name__)

UNVERIFIED = "unverified"  # of an order or command that no broker can tell us of any more
BOOK_SETTLES = timedelta(minutes=5)  # after the close, until a book shows what the close did


def connections_reconcile() -> int:
    """Compare the orders of every connection with its broker; return how many orders were brought
    up to date here. Of several connections each is left to a worker of its own, if one can be
    woken: a broker that hangs must not hold up the others.
    """
    changed = 0
    connections = {
        connection_id
        for orders in _expected()
        for connection_id in orders.values_list("connection_id", flat=True).distinct()
    }
    for connection_id in sorted(connections):
        if len(connections) > 1 and wake_reconcile(connection_id, commands=False):
            continue
        changed += connection_poll(connection_id)
    return changed


def connection_poll(connection_id: UUID) -> int:
    """Compare the orders of one connection with its broker, unless that is being done; return how
    many orders were brought up to date.
    """
    try:
        with alone("books", connection_id) as is_alone:
            return connection_reconcile(connection_id) if is_alone else 0
    except BrokerError as e:
        logger.warning("could not read the books of connection %s: %s", connection_id, e)
    except Exception:  # a bug met by one connection must not hold up all others
        logger.exception("could not reconcile connection %s", connection_id)
    return 0


def connection_reconcile(connection_id: UUID) -> int:
    """Apply the broker's books to one connection, if they may say anything new; return how many
    orders it moved.
    """
    if not any(orders.filter(connection_id=connection_id).exists() for orders in _expected()):
        return 0
    return books_apply(connection_id)


def _expected() -> tuple[QuerySet[Order], QuerySet[Order]]:
    """Return the orders that a book may say something new of: those that are live at a broker, and
    those of the last day that were given up.
    """
    live = (
        Order.objects.exclude(status__in=[s.value for s in CLOSED])
        .exclude(broker_order_id="")
        .exclude(status_code=UNVERIFIED)
    )
    lately = uuid7_at(timezone.now() - timedelta(days=1))  # their ids are in the order of time
    return live, Order.objects.filter(pk__gte=lately, status=OrderStatus.NOT_PLACED)


def books_apply(connection_id: UUID) -> int:
    """Read the broker's books and apply what is new in them; return how many orders it moved.

    Raises:
        BrokerError: a book could not be read. Nothing was applied.
    """
    adapter = adapter_for(connection_id)
    reports = adapter.fetch_orders()
    news = _news(connection_id, reports)
    lacking = [report for report, order in news if _lacks_fills(order, report)]
    fills: list[FillReport] = []
    if lacking:  # the book of orders says that there are some that we do not have
        fills = (
            adapter.fetch_order_fills(lacking[0]) if len(lacking) == 1 else adapter.fetch_fills()
        )
    changed = 0
    for report, order in news:
        own = [fill for fill in fills if fill.broker_order_id == report.broker_order_id]
        try:
            after = report_apply(
                connection_id=connection_id, broker=adapter.name, report=report, fills=own
            )
        except Exception:  # whatever it is, the other orders must not wait for it
            logger.exception("could not apply the book to order %s", order.pk)
            continue
        changed += after is not None and after.version != order.version
    if not is_venue(adapter.name):
        changed += _days_end(connection_id, adapter.name, reports)
    return changed


def _news(connection_id: UUID, reports: Iterable[OrderReport]) -> list[tuple[OrderReport, Order]]:
    """Return the reports that may say something new of an order of ours, each with the order: found
    by the broker's id, or by our tag where the id is not known yet.
    """
    ids = {report.broker_order_id for report in reports if report.broker_order_id}
    tags = {report.client_order_id for report in reports if report.client_order_id}
    by_id, by_tag = {}, {}
    for order in Order.objects.filter(
        Q(broker_order_id__in=ids) | Q(broker_order_id="", tag__in=tags),
        connection_id=connection_id,
    ):
        if order.broker_order_id:
            by_id[order.broker_order_id] = order
        else:
            by_tag[order.tag] = order
    found = (
        (report, by_id.get(report.broker_order_id) or by_tag.get(report.client_order_id))
        for report in reports
    )
    return [(r, order) for r, order in found if order is not None and _has_news(order, r)]


def _has_news(order: Order, report: OrderReport) -> bool:
    if OrderStatus(order.status) not in CLOSED or order.status == OrderStatus.NOT_PLACED:
        return True
    return _lacks_fills(order, report)


def _lacks_fills(order: Order, report: OrderReport) -> bool:
    if report.status is ReportedStatus.FILLED and order.status != OrderStatus.FILLED:
        return True
    return report.filled_quantity > order.filled_quantity


def _days_end(connection_id: UUID, broker: str, reports: Sequence[OrderReport]) -> int:
    """End orders whose day is over as far as it can be known; return how many ended.

    A book that shows an order after the close, with no more fills than we counted, has said all
    there will be: when it is cleared, the order has expired. An order that was last seen before the
    close, and then no more, may have been filled in between: it is marked, and stays as it was.
    """
    now = timezone.now()
    reported = {report.broker_order_id: report for report in reports}
    live = (
        Order.objects.filter(connection_id=connection_id, status__in=list(AT_BROKER))
        .exclude(broker_order_id="")
        .exclude(status_code=UNVERIFIED)
    )
    ended = 0
    for order in live:
        end = session_end(ref_by_id(order.instrument_id), order.created_at)
        if now < end + BOOK_SETTLES:
            continue
        report = reported.get(order.broker_order_id)
        if report is None and trading_day(now) == trading_day(end - timedelta(seconds=1)):
            continue  # it may not be the whole book; tomorrow's has nothing of today
        with transaction.atomic():
            edit = OrderEdit(order_lock(order.pk), broker=broker)
            if OrderStatus(edit.order.status) in AT_BROKER:
                ended += _day_end(edit, report)
    return ended


def _day_end(edit: OrderEdit, report: OrderReport | None) -> bool:
    order = edit.order
    seen = order.events.filter(kind="DAY_OVER", data={"filled": order.filled_quantity}).exists()
    if report is not None:
        if report.filled_quantity == order.filled_quantity and not seen:
            edit.note(
                "DAY_OVER",
                message="The day is over; the broker's book still has the order.",
                data={"filled": order.filled_quantity},
            )
            edit.save()
        return False
    if not seen:
        order_flag(edit, "The broker's book was cleared before it told of the close.")
        return False
    message = "The day is over: what was not filled has expired."
    edit.trigger(OrderTrigger.EXPIRE, "EXPIRED", message=message, code="day_over")
    order_audit(edit, "order.expired")
    edit.save()
    return True


@contextlib.contextmanager
def alone(what: str, connection_id: UUID) -> Iterator[bool]:
    """Whether nobody else does ``what`` for the connection now; if so, nobody begins to meanwhile.

    A lock of this database connection, not of a transaction: brokers are asked outside of any.
    """
    with database.cursor() as cursor:
        key = f"{what} {connection_id}"
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [key])
        is_alone = bool(cursor.fetchone()[0])
    try:
        yield is_alone
    finally:
        if is_alone and not database.needs_rollback:
            with database.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [key])


def order_flag(edit: OrderEdit, reason: str) -> None:
    """Mark an order whose end cannot be read any more, once, and tell its user."""
    message = f"{reason} Look at the broker's statement of that day: it is not guessed at here."
    edit.order.status_code, edit.order.status_message = UNVERIFIED, message
    edit.note("UNVERIFIED", message=message)
    order_audit(edit, "order.unverified")
    notifications.order_notify(edit, "order_unverified", message)
    edit.save()


def order_audit(edit: OrderEdit, action: str) -> None:
    """Record ``action`` on the edited order in the audit log."""
    order = edit.order
    audit.services.record(
        action,
        object_type="order",
        object_id=order.pk,
        user_id=order.user_id,
        changes={"status": order.status},
    )
