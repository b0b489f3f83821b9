"""Positions and round trips follow fills; nothing else moves them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from audit.ids import uuid7
from audit.sql import Statement
from brokerages.types import FillReport, Product, Side
from marketdata.quotes import quote_at_hand
from marketdata.selectors import ref_by_id
from trading.models import Order
from trading.outputs import position_output
from trading.pnl import OpenQuantity, apply_fill
from trading.services.edits import Write

_LOCK = """
INSERT INTO trading_position (
    id, user_id, connection_id, instrument_id, product, quantity, open_cost, realised_pnl,
    buy_quantity, buy_value, sell_quantity, sell_value, last_fill_at, created_at, version
) SELECT %s::uuid, f.user_id, f.connection_id, f.instrument_id, f.product, 0, 0, 0,
    0, 0, 0, 0, f.filled_at, now(), 0
FROM counted f
ON CONFLICT (connection_id, instrument_id, product) DO UPDATE
SET version = trading_position.version + 1
RETURNING id, quantity, open_cost, realised_pnl, buy_quantity, buy_value, sell_quantity,
    sell_value, last_fill_at, version
"""

_SAVE = """
UPDATE trading_position SET quantity = %s, open_cost = %s, realised_pnl = %s, buy_quantity = %s,
buy_value = %s,
    sell_quantity = %s, sell_value = %s, last_fill_at = %s
WHERE id = %s
"""

_CLOSE_PART = """
UPDATE trading_trade SET exit_quantity = exit_quantity + %s, exit_value = exit_value + %s,
    status = CASE WHEN exit_quantity + %s = entry_quantity THEN 'closed' ELSE 'open' END,
    closed_at = CASE WHEN exit_quantity + %s = entry_quantity THEN %s::timestamptz END
WHERE position_id = %s AND status = 'open'
"""

_OPEN_MORE = """
INSERT INTO trading_trade (
    id, user_id, origin, status, type, stock_ticker, position_id, order_ref, side, entry_quantity,
    entry_value,
    exit_quantity, exit_value, brokerage_charge, mtf_charge, opened_at
) VALUES (%s, %s, 'BROKER', 'open', %s, %s, %s, %s, %s, %s, %s, 0, 0, 0, 0, %s)
ON CONFLICT (position_id) WHERE status = 'open' DO UPDATE
SET entry_quantity = trading_trade.entry_quantity + EXCLUDED.entry_quantity,
    entry_value = trading_trade.entry_value + EXCLUDED.entry_value
"""


@dataclass(slots=True)
class LockedPosition:
    """A position held by this transaction while fills are applied to it."""

    id: UUID
    quantity: int
    open_cost: Decimal
    realised_pnl: Decimal
    buy_quantity: int
    buy_value: Decimal
    sell_quantity: int
    sell_value: Decimal
    last_fill_at: datetime
    version: int


@cache
def _counting(insert: str) -> Statement:
    return Statement(f"WITH counted AS ({insert}) {_LOCK}")


def position_lock(counted: Write) -> LockedPosition | None:
    """Return the position that a fill belongs to, made if need be, locked for this transaction.

    ``counted`` inserts the fill and returns its row, in the same round trip. None if it does not:
    the fill was counted before.
    """
    insert, values = counted
    row = _counting(insert).row([*values, uuid7()])
    return None if row is None else LockedPosition(*row)


def position_apply(position: LockedPosition, order: Order, fill: FillReport) -> list[Write]:
    """Move the position by one fill that was counted for the first time; return the statements that
    move its round trip, in their order.
    """
    side, value = fill.side, fill.quantity * fill.price
    effect = apply_fill(
        OpenQuantity(position.quantity, position.open_cost), side, fill.quantity, fill.price
    )
    position.quantity, position.open_cost = effect.after.quantity, effect.after.cost
    position.realised_pnl += effect.realised
    position.last_fill_at = max(position.last_fill_at, fill.filled_at)
    if side is Side.BUY:
        position.buy_quantity += fill.quantity
        position.buy_value += value
    else:
        position.sell_quantity += fill.quantity
        position.sell_value += value
    writes: list[Write] = []
    if closed := effect.closed_quantity:
        writes.append(
            (
                _CLOSE_PART,
                [closed, closed * fill.price, closed, closed, fill.filled_at, position.id],
            )
        )
    if opened := effect.opened_quantity:
        kind = "mtf" if order.product == Product.MTF else "eq"
        ticker = ref_by_id(order.instrument_id).symbol
        writes.append(
            (
                _OPEN_MORE,
                [
                    uuid7(), order.user_id, kind, ticker, position.id, str(order.pk), side.value,
                    opened, opened * fill.price, fill.filled_at,
                ],
            )
        )  # fmt: skip
    return writes


def position_write(position: LockedPosition) -> Write:
    """Return the statement that saves the position."""
    return _SAVE, [
        position.quantity, position.open_cost, position.realised_pnl, position.buy_quantity,
        position.buy_value, position.sell_quantity, position.sell_value, position.last_fill_at,
        position.id,
    ]  # fmt: skip


def position_shape(position: LockedPosition, order: Order, broker: str) -> dict[str, Any]:
    """Return the outside shape of a locked position, priced at the latest quote."""
    row = {name: getattr(position, name) for name in LockedPosition.__slots__}
    row |= {
        "connection_id": order.connection_id,
        "connection__broker": broker,
        "instrument_id": order.instrument_id,
        "product": order.product,
    }
    return position_output(row, quote_at_hand(broker, ref_by_id(order.instrument_id)))


def close_part(position_id: UUID, units: int, value: Decimal, at: datetime) -> None:
    """Let ``units`` leave the open round trip of a position, for ``value`` rupees."""
    Statement(_CLOSE_PART).rows([units, value, units, units, at, position_id])


def open_more(
    position_id: UUID,
    *,
    user_id: UUID,
    product: Product,
    ticker: str,
    side: Side,
    units: int,
    value: Decimal,
    at: datetime,
) -> None:
    """Let ``units`` join the open round trip of a position, or begin one, for ``value`` rupees."""
    kind = "mtf" if product is Product.MTF else "eq"
    Statement(_OPEN_MORE).rows(
        [uuid7(), user_id, kind, ticker, position_id, "", side.value, units, value, at]
    )
