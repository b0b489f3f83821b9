"""Average-cost position arithmetic. Pure Python, exact: sums are kept, averages are only shown.

Rupees and rupees per unit are ``Decimal``; quantities are signed integers (short is negative).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from brokerages.types import ZERO, Side

UNIT = Decimal("0.0001")  # the finest amount that is stored


@dataclass(frozen=True, slots=True)
class OpenQuantity:
    """A net quantity and its signed cost in rupees: negative quantity and cost for a short."""

    quantity: int = 0
    cost: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class FillEffect:
    """What one fill does: the units that closed earlier ones, those that opened new ones, and what
    was realised.

    ``realised`` is gross of charges. A fill that flips a position does both, split at zero.
    """

    after: OpenQuantity
    closed_quantity: int
    opened_quantity: int
    realised: Decimal


def apply_fill(before: OpenQuantity, side: Side, quantity: int, price: Decimal) -> FillEffect:
    """Return what a fill of ``quantity`` > 0 units at ``price`` does to ``before``.

    The cost of the closed part is a share of the open cost rounded to a hundredth of a paisa; the
    rest keeps what is left, so that realised + open cost is always exactly the cash that flowed.
    """
    signed = side.sign * quantity
    if before.quantity * signed >= 0:
        after = OpenQuantity(before.quantity + signed, before.cost + signed * price)
        return FillEffect(after, 0, quantity, ZERO)
    closed = min(quantity, abs(before.quantity))
    opened = quantity - closed
    if closed == abs(before.quantity):
        released = before.cost
    else:
        released = (before.cost * closed / abs(before.quantity)).quantize(
            UNIT, rounding=ROUND_HALF_EVEN
        )
    # selling a long: proceeds - cost; buying back a short: proceeds received (-cost) - what is paid
    # now
    realised = -side.sign * closed * price - released
    after = OpenQuantity(
        before.quantity + signed, before.cost - released + side.sign * opened * price
    )
    return FillEffect(after, closed, opened, realised)


def unrealised(held: OpenQuantity, last_price: Decimal) -> Decimal:
    """Return what closing all of ``held`` at ``last_price`` would realise, gross, in rupees."""
    return held.quantity * last_price - held.cost


def average(value: Decimal, quantity: int) -> Decimal | None:
    """Return ``value / quantity`` to four decimals for showing, None without a quantity."""
    if not quantity:
        return None
    return (value / quantity).quantize(UNIT, rounding=ROUND_HALF_EVEN)
