"""Leaving positions: market orders that only reduce."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import F, Sum

from brokerages.problems import BrokerageError
from brokerages.selectors import connection_brief
from brokerages.types import OrderType, Product, Side
from marketdata.selectors import ref_by_id
from trading.errors import NotFound, OrderDenied, OrderStateConflict, TradingError
from trading.models import Order, Position
from trading.order_states import CLOSED
from trading.outputs import ORDER_FIELDS, order_output
from trading.risk import OrderTerms
from trading.services.orders import Placed, order_place


def position_exit(
    *,
    user_id: UUID,
    position_id: UUID,
    quantity: int | None = None,
    idempotency_key: str | None = None,
) -> Placed:
    """Close a position, or ``quantity`` units of it, at the market.

    Reduce-only: what live orders of the other side already close is not closed again, so pressing
    twice makes one order. A repeated ``idempotency_key`` returns the first exit.

    Raises:
        NotFound: no such position of this user.
        OrderStateConflict: it is flat, or exits on their way close it already.
        OrderDenied: more than is open, or a rule of the instrument.
    """
    with transaction.atomic():
        # the lock makes a second press wait and then see the order of the first
        position = (
            Position.objects.select_for_update(of=("self",), no_key=True)
            .filter(pk=position_id, user_id=user_id)
            .first()
        )
        if position is None:
            raise NotFound("no such position")
        if idempotency_key and (first := _first_exit(position, quantity, idempotency_key)):
            return first
        side = Side.SELL if position.quantity > 0 else Side.BUY
        held = abs(position.quantity)
        left = held - _closing(position, side)
        if not held:
            raise OrderStateConflict("The position is closed already.")
        if left <= 0:
            raise OrderStateConflict("Orders that are on their way close this position already.")
        if quantity is not None and quantity > left:
            raise OrderDenied(
                f"Only {left} can be closed.", code="exceeds_position", detail={"quantity": left}
            )
        terms = OrderTerms(
            instrument=ref_by_id(position.instrument_id),
            side=side,
            quantity=left if quantity is None else quantity,
            order_type=OrderType.MARKET,
            product=Product(position.product),
        )
        return order_place(
            user_id=user_id,
            connection=connection_brief(user_id=user_id, connection_id=position.connection_id),
            terms=terms,
            idempotency_key=idempotency_key or uuid4().hex,
        )


def _first_exit(position: Position, quantity: int | None, key: str) -> Placed | None:
    """Return the exit that was made with ``key``: what it closes is not open a second time, so its
    terms cannot be worked out again.
    """
    row = (
        Order.objects.filter(
            user_id=position.user_id,
            idempotency_key=key,
            connection_id=position.connection_id,
            instrument_id=position.instrument_id,
            product=position.product,
            order_type=OrderType.MARKET.value,
        )
        .values(*ORDER_FIELDS)
        .first()
    )
    if row is None or quantity not in (None, row["quantity"]):
        return None
    return Placed(order_output(row), replayed=True)


def _closing(position: Position, side: Side) -> int:
    """Return how many units live orders will close."""
    return (
        Order.objects.filter(
            user_id=position.user_id,
            connection_id=position.connection_id,
            instrument_id=position.instrument_id,
            product=position.product,
            side=side.value,
        )
        .exclude(status__in=[status.value for status in CLOSED])
        .aggregate(units=Sum(F("quantity") - F("filled_quantity")))["units"]
        or 0
    )


def positions_exit_all(*, user_id: UUID, connection_id: UUID | None = None) -> dict[str, Any]:
    """Close every open position; return the orders, and what could not be closed, each with its
    reason.
    """
    positions = Position.objects.filter(user_id=user_id).exclude(quantity=0)
    if connection_id is not None:
        positions = positions.filter(connection_id=connection_id)
    orders, failed = [], []
    for position_id in positions.order_by("id").values_list("pk", flat=True):
        try:
            orders.append(position_exit(user_id=user_id, position_id=position_id).order)
        except (TradingError, BrokerageError) as e:  # its connection may be disabled
            failed.append({"position_id": position_id, "code": e.code, "message": e.message})
    return {"orders": orders, "failed": failed}
