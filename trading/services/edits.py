"""One change of one locked order: status by the table, timeline, push after the commit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db import connection as database
from django.utils import timezone

from brokerages.types import OrderType
from trading import push
from trading.errors import NotFound
from trading.models import Order, OrderEvent
from trading.order_states import CLOSED, OrderStatus, OrderTrigger, next_status, resting_status
from trading.outputs import ORDER_FIELDS, order_event_output, order_output

# Plain SQL: every answer and every fill comes through here, and making the same query with the ORM
# each time costs more than running it.
_FIELDS = [field.attname for field in Order._meta.concrete_fields]
ORDER_COLUMNS = ", ".join(f"o.{field.column}" for field in Order._meta.concrete_fields)
"""What `order_from_row` needs, for a statement that calls the table ``o``."""

_LOCK = f"SELECT {ORDER_COLUMNS} FROM trading_order o WHERE o.id = %s FOR NO KEY UPDATE"  # noqa: S608


def order_from_row(row: Sequence[Any]) -> Order:
    """Return the order of a row selected with ``ORDER_COLUMNS``."""
    return Order.from_db(database.alias, _FIELDS, row)


def order_lock(order_id: UUID, *, user_id: UUID | None = None) -> Order:
    """Return the order, locked for this transaction. Lock commands before orders, positions after.

    Raises:
        NotFound: no such order, or not this user's.
    """
    with database.cursor() as cursor:
        cursor.execute(_LOCK, [order_id])
        row = cursor.fetchone()
    order = None if row is None else order_from_row(row)
    if order is None or user_id not in (None, order.user_id):
        raise NotFound("no such order")
    return order


class OrderEdit:
    """Collects what happens to a locked order and writes it in one go.

    Every accepted trigger and every note becomes one line of the timeline; `save` bumps the version
    that clients use to drop older copies.
    """

    def __init__(self, order: Order, *, broker: str) -> None:
        self.order, self.broker = order, broker
        self.events: list[OrderEvent] = []

    def trigger(
        self,
        trigger: OrderTrigger,
        kind: str,
        *,
        message: str = "",
        code: str = "",
        data: dict[str, Any] | None = None,
    ) -> bool:
        """Move the order by the table and note it; return False when the pair changes nothing."""
        order = self.order
        after = next_status(OrderStatus(order.status), trigger)
        if after is None:
            return False
        if trigger is OrderTrigger.CANCEL_REFUSED:
            after = resting_status(
                filled=order.filled_quantity, waits_for_trigger=self._waits_for_trigger()
            )
        order.status = after.value
        if message or code:
            order.status_message, order.status_code = message, code
        order.closed_at = timezone.now() if after in CLOSED else None
        self.note(kind, message=message, data=data)
        return True

    def note(self, kind: str, *, message: str = "", data: dict[str, Any] | None = None) -> None:
        order = self.order
        self.events.append(
            OrderEvent(
                order_id=order.pk,
                user_id=order.user_id,
                kind=kind,
                status=order.status,
                message=message,
                data=data or {},
                at=timezone.now(),
            )
        )

    def save(self, extra: Iterable[tuple[str, dict[str, Any]]] = ()) -> None:
        """Write the order and its timeline; push them, and ``extra`` (channel, payload) pairs,
        after the commit.
        """
        order = self.order
        order.version += 1
        order.updated_at = timezone.now()
        order_write(order)
        sequence = events_write(self.events)
        shape = order_output(order_values(order, self.broker))
        messages = [
            (order.user_id, "orders", event.pk, {"order": shape, "event": event_shape(event)})
            for event in self.events
        ]
        messages += [(order.user_id, channel, sequence, payload) for channel, payload in extra]
        push.publish_on_commit(messages)

    def _waits_for_trigger(self) -> bool:
        triggered = self.order.events.filter(kind="TRIGGERED").exists()
        return OrderType(self.order.order_type).has_trigger and not triggered


def order_values(order: Order, broker: str) -> dict[str, Any]:
    """Return what `order_output` needs from an instance whose connection is not loaded."""
    return {
        name: broker if name == "connection__broker" else getattr(order, name)
        for name in ORDER_FIELDS
    }


def event_shape(event: OrderEvent) -> dict[str, Any]:
    return order_event_output(
        {name: getattr(event, name) for name in ("id", "kind", "status", "message", "data", "at")}
    )


_UPDATE = """
UPDATE trading_order SET quantity = %s, price = %s, trigger_price = %s, order_type = %s,
validity = %s, status = %s,
    status_message = %s, status_code = %s, filled_quantity = %s, fill_value = %s,
    broker_order_id = %s,
    exchange_order_id = %s, version = %s, updated_at = %s, closed_at = %s
WHERE id = %s
"""


def order_write(order: Order) -> None:
    """Write the columns that may change; plain SQL, since every fill and every answer comes through
    here.
    """
    with database.cursor() as cursor:
        cursor.execute(
            _UPDATE,
            [
                order.quantity, order.price, order.trigger_price, order.order_type,
                order.validity, order.status,
                order.status_message, order.status_code, order.filled_quantity, order.fill_value,
                order.broker_order_id,
                order.exchange_order_id, order.version, order.updated_at, order.closed_at, order.pk,
            ],
        )  # fmt: skip


_EVENT_COLUMNS = "order_id, user_id, kind, status, message, data, at"


def events_write(events: list[OrderEvent]) -> int:
    """Insert the lines in one statement; return the last sequence number, 0 for none."""
    if not events:
        return 0
    rows = ", ".join(["(%s, %s, %s, %s, %s, %s::jsonb, %s)"] * len(events))
    values: list[Any] = []
    for event in events:
        values += [
            event.order_id, event.user_id, event.kind, event.status, event.message,
            json.dumps(event.data), event.at,
        ]  # fmt: skip
    with database.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO trading_orderevent ({_EVENT_COLUMNS}) VALUES {rows} RETURNING id",  # noqa: S608
            values,
        )
        for event, (pk,) in zip(events, cursor.fetchall(), strict=True):
            event.pk = pk
    return events[-1].pk
