"""Telling the user: a row that stays until it is read, and a push."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils import timezone

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
    "overfill": "More filled than ordered",
}


def order_notify(edit: OrderEdit, kind: str, body: str) -> None:
    """Add a notification about the edited order in the caller's transaction; pushed on commit."""
    order = edit.order
    symbol = ref_by_id(order.instrument_id).symbol
    _notify(
        user_id=order.user_id,
        kind=kind,
        title=f"{_TITLES[kind]}: {order.side} {order.quantity} {symbol}",
        body=body,
        data={"order_id": str(order.pk)},
    )


def order_filled(edit: OrderEdit) -> None:
    order = edit.order
    price = rupees(average(order.fill_value, order.filled_quantity))
    order_notify(edit, "order_filled", f"{order.filled_quantity} at an average of ₹{price}.")


def _notify(*, user_id: UUID, kind: str, title: str, body: str, data: dict[str, Any]) -> None:
    notification = Notification.objects.create(
        user_id=user_id, kind=kind, title=title, body=body, data=data
    )
    shape = notification_output(
        {
            name: getattr(notification, name)
            for name in ("id", "kind", "title", "body", "data", "created_at", "read_at")
        }
    )
    push.publish_on_commit([(user_id, "notifications", 0, {"notification": shape})])


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
