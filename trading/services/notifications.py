"""Telling the user: a row that stays until it is read, and a push."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.utils import timezone

from audit.ids import uuid7
from marketdata.selectors import ref_by_id
from trading import push
from trading.models import Notification
from trading.outputs import rupees
from trading.pnl import average
from trading.services.edits import OrderEdit

_TITLES = {
    "order_filled": "Order filled",
    "order_rejected": "Order rejected",
    "order_denied": "Order not sent",
    "order_unknown": "Waiting for the broker's answer",
    "order_not_placed": "Order did not reach the broker",
    "order_revived": "Order found at the broker",
    "order_unverified": "Order to be checked at the broker",
    "fill_conflict": "Fills that contradict each other",
    "overfill": "More filled than ordered",
}


_INSERT = """
INSERT INTO trading_notification (id, user_id, kind, title, body, data, created_at)
SELECT %s::uuid, %s::uuid, %s, %s, %s, %s::jsonb, %s::timestamptz
"""


def order_notify(edit: OrderEdit, kind: str, body: str) -> None:
    """Add a notification about the edited order; it is written with it and pushed on commit."""
    order = edit.order
    symbol = ref_by_id(order.instrument_id).symbol
    notification: dict[str, Any] = {
        "id": uuid7(),
        "kind": kind,
        "title": f"{_TITLES[kind]}: {order.side} {order.quantity} {symbol}",
        "body": body,
        "data": {"order_id": str(order.pk)},
        "created_at": timezone.now(),
        "read_at": None,
    }
    edit.also(
        _INSERT,
        [
            notification["id"], order.user_id, kind, notification["title"], body,
            json.dumps(notification["data"]), notification["created_at"],
        ],
    )  # fmt: skip
    shape = notification_output(notification)
    push.publish_on_commit([(order.user_id, "notifications", 0, {"notification": shape})])


def user_notify(user_id: UUID, kind: str, title: str, body: str, data: dict[str, Any]) -> None:
    """Add a notification about something else than an order; pushed on commit."""
    row = Notification.objects.create(
        user_id=user_id, kind=kind[:32], title=title[:200], body=body, data=data
    )
    shape = notification_output(vars(row))
    push.publish_on_commit([(user_id, "notifications", 0, {"notification": shape})])


def order_filled(edit: OrderEdit) -> None:
    order = edit.order
    price = rupees(average(order.fill_value, order.filled_quantity))
    order_notify(edit, "order_filled", f"{order.filled_quantity} at an average of ₹{price}.")


def notifications_mark_read(*, user_id: UUID, notification_id: UUID | None = None) -> int:
    """Mark one of the user's notifications read, or all; return how many were unread."""
    unread = Notification.objects.filter(user_id=user_id, read_at__isnull=True)
    if notification_id is not None:
        unread = unread.filter(pk=notification_id)
    return unread.update(read_at=timezone.now())


def notification_output(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: row[name] for name in ("id", "kind", "title", "body", "data", "created_at", "read_at")
    }
