"""The money of a paper account: what a fill does to cash, position and the order's block. Pure
Python, exact.

An account starts with an amount of cash. An order that opens units blocks ``unit`` rupees for
each of them when it is accepted; an order (or the part of one) that closes units of a position
blocks nothing. What an order blocks is its own: no other order's fill changes it. Whatever is not
filled comes back when the order ends.

A fill first closes opposite units, then opens new ones. Closing returns the margin of these units
and settles their profit or loss into the cash; opening moves cash into the margin of the
position, at the price of the fill. Delivery shares and bought options are margined with all of
their price: that is paying for them. Charges are not taken here: the platform computes them from
its own rates.

A loss may be larger than the cash (a short position after a jump). Then the cash is zero and the
rest is ``debt``, paid by the next money that comes in. At every moment, and tested with random
sequences:

    cash − debt + Σ block of open orders + Σ margin of positions  =  starting cash + realised profit

with cash and debt never negative.

Left out: margin calls while a position loses, interest on borrowed shares, and the settlement of
contracts at their expiry. Positions end by orders, the platform's own square-off included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from brokerages.adapters.paper.margins import FOUR, Trade
from brokerages.types import ZERO, Side


@dataclass(frozen=True, slots=True)
class Money:
    """Rupees of one account: free cash, losses owed, profit since the start."""

    cash: Decimal
    debt: Decimal = ZERO
    realised: Decimal = ZERO

    def with_cash(self, amount: Decimal) -> Money:
        """Return the money after ``amount`` came in (or went out, if negative); debt is paid
        first, shortfall becomes debt.
        """
        net = self.cash - self.debt + amount
        return Money(max(net, ZERO), max(-net, ZERO), self.realised)


@dataclass(frozen=True, slots=True)
class Position:
    """Open units of one instrument and product: ``quantity`` is signed, ``cost`` and ``margin``
    are rupees for all of it.

    ``realised`` and ``bought`` (units) are of the trading day ``day``.
    """

    day: date
    quantity: int = 0
    cost: Decimal = ZERO
    margin: Decimal = ZERO
    realised: Decimal = ZERO
    bought: int = 0

    def on(self, day: date) -> Position:
        """Return the position with the sums of ``day``: zero if they were of an earlier one."""
        return self if self.day == day else replace(self, day=day, realised=ZERO, bought=0)

    def closable(self, side: Side) -> int:
        """Return how many units an order of ``side`` could close."""
        return max(0, -self.quantity * side.sign)


@dataclass(frozen=True, slots=True)
class Hold:
    """What an open order blocks: ``unit`` rupees for each remaining unit beyond the ``closing``
    ones.
    """

    remaining: int
    closing: int = 0
    unit: Decimal = ZERO

    @property
    def block(self) -> Decimal:
        return self.unit * (self.remaining - self.closing)

    def after(self, filled: int, closed: int) -> Hold:
        """Return the hold after a fill of which ``closed`` units closed a position. The block
        never grows.
        """
        remaining = self.remaining - filled
        return Hold(remaining, min(max(self.closing - closed, 0), remaining), self.unit)


@dataclass(frozen=True, slots=True)
class Standing:
    """Account, position and order as one fill finds and leaves them."""

    money: Money
    position: Position
    hold: Hold


def after_fill(standing: Standing, trade: Trade, quantity: int, price: Decimal) -> Standing | None:
    """Return the standing after a fill of ``quantity`` units at ``price``, or None if the account
    cannot pay for it.
    """
    money, position, hold = standing.money, standing.position, standing.hold
    side = trade.side
    closed = min(quantity, position.closable(side))
    opened = quantity - closed
    hold_after = hold.after(quantity, closed)
    cash = money.cash + hold.block - hold_after.block
    realised = ZERO
    cost, margin = position.cost, position.margin
    if closed:
        held = abs(position.quantity)
        cost_out, margin_out = _share(cost, closed, held), _share(margin, closed, held)
        cost, margin = cost - cost_out, margin - margin_out
        realised = (cost_out - price * closed) * side.sign
        cash += margin_out + realised
    if opened:
        needed = trade.unit_margin(price) * opened
        if needed > cash:
            return None
        cash -= needed
        cost, margin = cost + price * opened, margin + needed
    return Standing(
        Money(ZERO, money.debt, money.realised + realised).with_cash(cash),
        Position(
            position.day,
            position.quantity + side.sign * quantity,
            cost,
            margin,
            position.realised + realised,
            position.bought + (quantity if side is Side.BUY else 0),
        ),
        hold_after,
    )


def affordable(standing: Standing, trade: Trade, quantity: int, price: Decimal) -> int:
    """Return the largest part of ``quantity``, in whole lots, that the account can pay for at
    ``price``.
    """
    lot_size = trade.instrument.lot_size
    low, high = 0, quantity // lot_size
    while low < high:
        middle = (low + high + 1) // 2
        units = middle * lot_size
        if after_fill(standing, trade, units, price) is None:
            high = middle - 1
        else:
            low = middle
    return low * lot_size


def _share(amount: Decimal, part: int, whole: int) -> Decimal:
    """Return the part of ``amount`` that belongs to ``part`` of ``whole`` units; all of it for
    all of them.
    """
    return amount if part == whole else (amount * part / whole).quantize(FOUR)
