"""Moving a position from one product to another, e.g. intraday to delivery.

The broker is asked first; what it took is then done here: the units leave one position at their
cost and join the other at the same cost, so nothing is realised and every rupee stays.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any
from uuid import UUID

from django.db import connection as database
from django.db import transaction
from django.utils import timezone

import audit.services
from audit.ids import uuid7
from brokerages.errors import NotSupported
from brokerages.registry import adapter_class
from brokerages.selectors import ConnectionBrief
from brokerages.services import adapter_for
from brokerages.types import PositionConversion, Product, Segment, Side
from marketdata.broker_refs import ref_at_broker
from marketdata.errors import NotAtBroker
from trading.errors import NotFound, OrderDenied, OrderStateConflict
from trading.models import Position
from trading.pnl import UNIT
from trading.services.positions import close_part, open_more

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What the user asks for. ``side`` is needed only where we do not know the position."""

    instrument_id: int
    quantity: int
    old_product: Product
    new_product: Product
    side: Side | None = None
    overnight: bool = False


def position_convert(*, user_id: UUID, connection: ConnectionBrief, asked: Conversion) -> int:
    """Convert open units at the broker, then here; return how many were moved here.

    A position that was opened elsewhere and that we do not know is converted at the broker alone.

    Raises:
        NotFound: we know no such position, and no side was given.
        OrderDenied: the products do not fit, or fewer units are open.
        OrderStateConflict: the other product holds a position the other way.
        BrokerError: the broker refused, or what it did is not known; then nothing moves here.
    """
    adapter_type = adapter_class(connection.broker)
    if not adapter_type.capabilities.can_convert_position:
        raise NotSupported(
            f"{adapter_type.label} does not offer position conversion.",
            broker=connection.broker,
            code="not_supported",
        )
    try:
        ref = ref_at_broker(connection.broker, asked.instrument_id)
    except NotAtBroker as e:
        raise OrderDenied(e.message, code=e.code) from e
    _require_products(asked, is_equity=ref.segment is Segment.EQUITY)
    side = _side(user_id, connection, asked)
    adapter_for(connection.id).convert_position(
        PositionConversion(
            ref, side, asked.quantity, asked.old_product, asked.new_product, asked.overnight
        )
    )
    return _move(user_id, connection, asked, side, ref.symbol)


def _require_products(asked: Conversion, *, is_equity: bool) -> None:
    fitting = {Product.CNC, Product.MIS, Product.MTF} if is_equity else {Product.NRML, Product.MIS}
    if asked.old_product is asked.new_product or not {asked.old_product, asked.new_product} <= (
        fitting
    ):
        names = ", ".join(sorted(fitting))
        raise OrderDenied(f"Name two different products of {names}.", code="product_not_allowed")


def _side(user_id: UUID, connection: ConnectionBrief, asked: Conversion) -> Side:
    held = {
        row.product: row.quantity
        for row in Position.objects.filter(
            user_id=user_id, connection_id=connection.id, instrument_id=asked.instrument_id
        )
    }
    units = held.get(asked.old_product, 0)
    if not units:
        if asked.side is None:
            raise NotFound("There is no such open position; name its side to convert one that was"
                           " opened elsewhere.")  # fmt: skip
        return asked.side
    side = Side.BUY if units > 0 else Side.SELL
    if asked.side not in (None, side):
        raise OrderDenied(f"The position is {units} units.", code="position_side")
    if asked.quantity > abs(units):
        raise OrderDenied(
            f"Only {abs(units)} are open.", code="exceeds_position", detail={"quantity": abs(units)}
        )
    if held.get(asked.new_product, 0) * units < 0:
        raise OrderStateConflict(
            f"There is a {asked.new_product} position the other way; close it first."
        )
    return side


_OTHER = """
INSERT INTO trading_position (
    id, user_id, connection_id, instrument_id, product, quantity, open_cost, realised_pnl,
    buy_quantity, buy_value, sell_quantity, sell_value, last_fill_at, created_at, version
) VALUES (%s, %s, %s, %s, %s, 0, 0, 0, 0, 0, 0, 0, %s, %s, 1)
ON CONFLICT (connection_id, instrument_id, product) DO NOTHING
"""


def _move(
    user_id: UUID, connection: ConnectionBrief, asked: Conversion, side: Side, ticker: str
) -> int:
    now = timezone.now()
    with transaction.atomic():
        with database.cursor() as cursor:
            cursor.execute(
                _OTHER,
                [
                    uuid7(), user_id, connection.id, asked.instrument_id,
                    asked.new_product.value, now, now,
                ],
            )  # fmt: skip
        rows = {
            row.product: row
            for row in Position.objects.select_for_update(of=("self",), no_key=True)
            .filter(
                user_id=user_id,
                connection_id=connection.id,
                instrument_id=asked.instrument_id,
                product__in=[asked.old_product.value, asked.new_product.value],
            )
            .order_by("id")
        }
        old, new = rows.get(asked.old_product), rows[asked.new_product]
        open_units = 0 if old is None else max(old.quantity * side.sign, 0)
        units = min(asked.quantity, open_units)
        if old is not None and units:
            cost = _share(old, units)
            _change(old, side.opposite, units, cost)
            _change(new, side, units, cost)
            old.save(update_fields=_CHANGED)
            new.save(update_fields=_CHANGED)
            close_part(old.pk, units, abs(cost), now)
            open_more(
                new.pk,
                user_id=user_id,
                product=asked.new_product,
                ticker=ticker,
                side=side,
                units=units,
                value=abs(cost),
                at=now,
            )
        elif new.buy_quantity == new.sell_quantity == 0:
            new.delete()  # made a moment ago, and not needed
        if units < asked.quantity:
            logger.warning(
                "%s of %s converted units of %s are known here", units, asked.quantity, ticker
            )
        audit.services.record(
            "position.converted",
            object_type="position",
            object_id=old.pk if old is not None else asked.instrument_id,
            user_id=user_id,
            changes={
                "symbol": ticker,
                "product": [asked.old_product.value, asked.new_product.value],
                "quantity": asked.quantity,
                "moved": units,
            },
        )
    return units


_CHANGED = [
    "quantity", "open_cost", "buy_quantity", "buy_value", "sell_quantity", "sell_value", "version",
]  # fmt: skip


def _share(position: Position, units: int) -> Decimal:
    """Return the signed cost of ``units`` of the open ones; the last ones take what is left."""
    if units == abs(position.quantity):
        return position.open_cost
    share: Decimal = position.open_cost * units / abs(position.quantity)
    return share.quantize(UNIT, rounding=ROUND_HALF_EVEN)


def _change(position: Position, side: Side, units: int, cost: Decimal) -> None:
    """Count ``units`` in or out at ``cost``, which is signed as the position that they are of."""
    joins = (cost >= 0) == (side is Side.BUY)
    position.quantity += side.sign * units
    position.open_cost += cost if joins else -cost
    if side is Side.BUY:
        position.buy_quantity += units
        position.buy_value += abs(cost)
    else:
        position.sell_quantity += units
        position.sell_value += abs(cost)
    position.version += 1


def conversion_output(asked: Conversion, symbol: str, moved: int) -> dict[str, Any]:
    """Return the outside shape of a conversion that the broker took."""
    return {
        "symbol": symbol,
        "quantity": asked.quantity,
        "old_product": asked.old_product.value,
        "new_product": asked.new_product.value,
        "moved": moved,
    }
