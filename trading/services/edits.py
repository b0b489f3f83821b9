"""One change of one locked order: status by the table, timeline, push after the commit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any
from uuid import UUID

from django.db import connection as database
from django.utils import timezone
from psycopg import RawCursor

from audit.services import COLUMNS, ENTRY_INSERT, entry_params
from brokerages.types import OrderType
from trading import push
from trading.errors import NotFound
from trading.models import Order, OrderEvent
from trading.order_states import CLOSED, OrderStatus, OrderTrigger, next_status, resting_status
from trading.outputs import ORDER_FIELDS, order_event_output, order_output

Write = tuple[str, Sequence[Any]]
"""A statement and its values."""

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
        self._also: list[Write] = []

    def trigger(
        self,
        trigger: OrderTrigger,
        kind: str,
        *,
        message: str = "",
        code: str = "",
        advice: str = "",
        data: dict[str, Any] | None = None,
    ) -> bool:
        """Move the order by the table and note it; return False when the pair changes nothing.

        ``message`` is the reason in the broker's words or ours, ``advice`` what the user can do.
        """
        order = self.order
        after = next_status(OrderStatus(order.status), trigger)
        if after is None:
            return False
        if trigger is OrderTrigger.CANCEL_REFUSED and not order.broker_order_id:
            after = OrderStatus.SUBMITTED  # nobody said that it rests anywhere
        elif trigger is OrderTrigger.CANCEL_REFUSED:
            after = resting_status(
                filled=order.filled_quantity, waits_for_trigger=self._waits_for_trigger()
            )
        order.status = after.value
        if message or code:
            order.status_message, order.status_code, order.status_advice = message, code, advice
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

    def also(self, statement: str, values: Sequence[Any]) -> None:
        """Have a further statement written with the order, which saves a round trip. None of them
        sees what the others write, and no two may write the same row.
        """
        self._also.append((statement, values))

    def audit(self, action: str, changes: Mapping[str, Any]) -> None:
        """Have an entry of the audit log written with the order."""
        entry = entry_params(
            action,
            object_type="order",
            object_id=self.order.pk,
            user_id=self.order.user_id,
            changes=changes,
        )
        self.also(_ENTRY, [entry[name] for name in _ENTRY_NAMES])

    def save(self, extra: Iterable[tuple[str, dict[str, Any]]] = ()) -> None:
        """Write the order and its timeline; push them, and ``extra`` (channel, payload) pairs,
        after the commit.
        """
        order = self.order
        order.version += 1
        order.updated_at = timezone.now()
        writes = [order_write(order), *self._also]
        self._also = []
        if self.events:
            writes.append(events_write(self.events))
        numbers = write_together(writes)
        for event, (pk,) in zip(self.events, numbers, strict=True):
            event.pk = pk
        shape = order_output(order_values(order, self.broker))
        messages = [
            (order.user_id, "orders", event.pk, {"order": shape, "event": event_shape(event)})
            for event in self.events
        ]
        sequence = self.events[-1].pk if self.events else 0
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


_ENTRY_NAMES = [f"audit_{column}" for column in COLUMNS]
_ENTRY = ENTRY_INSERT % dict.fromkeys(_ENTRY_NAMES, "%s")

_UPDATE = """
UPDATE trading_order SET quantity = %s, price = %s, trigger_price = %s, order_type = %s,
    validity = %s, disclosed_quantity = %s, status = %s, status_message = %s, status_code = %s,
    status_advice = %s, filled_quantity = %s, fill_value = %s, broker_order_id = %s,
    exchange_order_id = %s, version = %s, updated_at = %s, closed_at = %s
WHERE id = %s
"""


def order_write(order: Order) -> Write:
    """Return the statement that writes the columns that may change."""
    return _UPDATE, [
        order.quantity, order.price, order.trigger_price, order.order_type,
        order.validity, order.disclosed_quantity, order.status, order.status_message,
        order.status_code, order.status_advice, order.filled_quantity, order.fill_value,
        order.broker_order_id, order.exchange_order_id, order.version, order.updated_at,
        order.closed_at, order.pk,
    ]  # fmt: skip


@cache
def _events_insert(count: int) -> str:
    rows = ", ".join(["(%s, %s, %s, %s, %s, %s::jsonb, %s)"] * count)
    return (
        "INSERT INTO trading_orderevent (order_id, user_id, kind, status, message, data, at)"  # noqa: S608
        f" VALUES {rows} RETURNING id"
    )


def events_write(events: Sequence[OrderEvent]) -> Write:
    """Return the statement that inserts the lines and gives their numbers."""
    values: list[Any] = []
    for event in events:
        values += [
            event.order_id, event.user_id, event.kind, event.status, event.message,
            json.dumps(event.data), event.at,
        ]  # fmt: skip
    return _events_insert(len(events)), values


def write_together(writes: Sequence[Write]) -> list[tuple[Any, ...]]:
    """Run all statements as one, in the caller's transaction; return the rows of the last one."""
    statement = _together(tuple(text for text, _ in writes))
    values = [value for _, values in writes for value in values]
    with database.wrap_database_errors, RawCursor(database.connection) as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


@lru_cache(maxsize=256)
def _together(statements: tuple[str, ...]) -> str:
    """Return one statement with numbered parameters: psycopg need not take it apart each time."""
    *before, last = statements
    parts = ", ".join(f"part{n} AS ({text})" for n, text in enumerate(before))
    first, *rest = (f"WITH {parts} {last}" if before else last).split("%s")
    return first + "".join(f"${n}{text}" for n, text in enumerate(rest, 1))
