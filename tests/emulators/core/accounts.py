"""One account at an emulated broker: cash, holdings, positions, and what they block. Pure Python.

Delivery and options settle in cash at the fill; futures and intraday shares block a margin and
settle only their profit or loss. Amounts are rupees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

from tests.emulators.core.instruments import Instrument

if TYPE_CHECKING:
    from tests.emulators.core.orders import Order, Refusal

ZERO = Decimal(0)
PAISA = Decimal("0.01")
INTRADAY_MARGIN = Decimal("0.20")
MTF_MARGIN = Decimal("0.25")
FUTURE_MARGIN = Decimal("0.12")  # span and exposure, of the contract's value
SHORT_OPTION_MARGIN = Decimal("0.12")  # of the strike's value


def paise(amount: Decimal) -> Decimal:
    return amount.quantize(PAISA, ROUND_HALF_UP)


def settles_in_cash(instrument: Instrument, product: str) -> bool:
    return product == "CNC" or instrument.is_option


def margin_rate(instrument: Instrument, product: str) -> Decimal:
    """Return the share of the value that an open position or order blocks, where it does not settle
    in cash.
    """
    if instrument.is_derivative:
        return FUTURE_MARGIN
    return MTF_MARGIN if product == "MTF" else INTRADAY_MARGIN


def order_margin(
    instrument: Instrument, side: str, product: str, quantity: int, price: Decimal
) -> Decimal:
    """Return what an order that opens ``quantity`` units at ``price`` blocks."""
    if instrument.is_option and side == "SELL":
        return paise(quantity * (instrument.strike or price) * SHORT_OPTION_MARGIN)
    if settles_in_cash(instrument, product):
        return paise(quantity * price) if side == "BUY" else ZERO
    return paise(quantity * price * margin_rate(instrument, product))


@dataclass(frozen=True, slots=True)
class Charges:
    """What one execution costs. Rates are those in force for most of 2026, simplified: the
    platform's own figures do not come from here.
    """

    brokerage: Decimal
    stt: Decimal
    exchange: Decimal
    sebi: Decimal
    stamp: Decimal
    gst: Decimal

    @property
    def total(self) -> Decimal:
        return self.brokerage + self.stt + self.exchange + self.sebi + self.stamp + self.gst


def charges(
    instrument: Instrument, side: str, product: str, quantity: int, price: Decimal
) -> Charges:
    value = quantity * price
    delivery = product in ("CNC", "MTF")
    brokerage = ZERO if product == "CNC" else min(Decimal(20), value * Decimal("0.0003"))
    if instrument.is_option:
        stt = value * Decimal("0.001") if side == "SELL" else ZERO
        fee, stamp = Decimal("0.00035"), Decimal("0.00003")
    elif instrument.is_derivative:
        stt = value * Decimal("0.0002") if side == "SELL" else ZERO
        fee, stamp = Decimal("0.0000173"), Decimal("0.00002")
    else:
        rate = Decimal("0.001") if delivery else Decimal("0.00025")
        stt = value * rate if delivery or side == "SELL" else ZERO
        fee = Decimal("0.0000297")
        stamp = Decimal("0.00015") if delivery else Decimal("0.00003")
    exchange, sebi = value * fee, value * Decimal("0.000001")
    gst = (brokerage + exchange + sebi) * Decimal("0.18")
    stamp = value * stamp if side == "BUY" else ZERO
    return Charges(*(paise(part) for part in (brokerage, stt, exchange, sebi, stamp, gst)))


@dataclass(slots=True)
class Holding:
    """Shares held for delivery. ``quantity`` can be sold, ``t1`` arrived today and settles next
    day, ``used`` was sold today. ``authorised`` False: their sale needs the depository's consent.
    """

    instrument: Instrument
    quantity: int
    average: Decimal
    t1: int = 0
    used: int = 0
    mtf: int = 0
    authorised: bool = True

    @property
    def free(self) -> int:
        return self.quantity + self.t1 - self.used


@dataclass(slots=True)
class Position:
    """The day's and carried units of one instrument and product. Flat positions stay until the day
    ends.
    """

    instrument: Instrument
    product: str
    overnight: int = 0  # signed
    overnight_price: Decimal = ZERO
    buy_quantity: int = 0
    buy_value: Decimal = ZERO
    sell_quantity: int = 0
    sell_value: Decimal = ZERO
    cost: Decimal = ZERO  # signed, of the open units
    realised: Decimal = ZERO

    @property
    def quantity(self) -> int:
        return self.overnight + self.buy_quantity - self.sell_quantity

    @property
    def average(self) -> Decimal:
        return self.cost / self.quantity if self.quantity else ZERO

    def margin(self) -> Decimal:
        """Return what the open units block."""
        if not self.quantity:
            return ZERO
        side = "BUY" if self.quantity > 0 else "SELL"
        if settles_in_cash(self.instrument, self.product) and side == "BUY":
            return ZERO
        if self.product == "CNC":
            return ZERO  # shares of holdings that were sold today
        return order_margin(
            self.instrument, side, self.product, abs(self.quantity), abs(self.average)
        )

    def take(self, side: str, quantity: int, price: Decimal) -> Decimal:
        """Book an execution; return the profit (loss: negative) that it realised."""
        sign = 1 if side == "BUY" else -1
        before = self.quantity
        closing = min(quantity, abs(before)) if before * sign < 0 else 0
        realised = ZERO
        if closing:
            average = self.average
            realised = closing * (price - average) * (1 if before > 0 else -1)
            self.cost -= average * closing * (1 if before > 0 else -1)
        self.cost += sign * (quantity - closing) * price
        self.realised += realised
        if side == "BUY":
            self.buy_quantity += quantity
            self.buy_value += quantity * price
        else:
            self.sell_quantity += quantity
            self.sell_value += quantity * price
        return realised


@dataclass(slots=True)
class Account:
    """A client of an emulated broker. ``cash`` is the ledger's; what may back a new order is
    `available`.
    """

    user_id: str
    name: str = "Asha Rao"
    email: str = "asha@example.org"
    cash: Decimal = Decimal(100_000)
    opening_cash: Decimal = Decimal(100_000)
    holdings: dict[str, Holding] = field(default_factory=dict)  # by instrument key
    positions: dict[tuple[str, str], Position] = field(default_factory=dict)  # key, product
    orders: dict[str, Order] = field(default_factory=dict)  # today's, by the broker's number
    charges_due: Decimal = ZERO  # taken when the day ends
    say: Callable[[Refusal], str] = str  # the broker's words for a rejection that comes late

    @property
    def blocked(self) -> Decimal:
        return sum((order.blocked for order in self.orders.values()), ZERO)

    @property
    def margin(self) -> Decimal:
        return sum((position.margin() for position in self.positions.values()), ZERO)

    @property
    def used(self) -> Decimal:
        return self.blocked + self.margin

    @property
    def available(self) -> Decimal:
        return self.cash - self.used

    def position(self, instrument: Instrument, product: str) -> Position:
        key = (instrument.key, product)
        if key not in self.positions:
            self.positions[key] = Position(instrument, product)
        return self.positions[key]

    def open_quantity(self, instrument: Instrument, product: str) -> int:
        position = self.positions.get((instrument.key, product))
        return position.quantity if position else 0

    def sellable(self, instrument: Instrument) -> int:
        """Return units that a delivery sale may still take: holdings and today's purchases, less
        what open sales have claimed.
        """
        holding = self.holdings.get(instrument.key)
        held = holding.quantity + holding.t1 if holding else 0
        held += self.open_quantity(instrument, "CNC")
        return held - sum(
            order.remaining
            for order in self.orders.values()
            if order.alive and order.side == "SELL" and order.product == "CNC"
            and order.instrument.key == instrument.key
        )  # fmt: skip

    def opening_quantity(
        self, instrument: Instrument, side: str, product: str, quantity: int
    ) -> int:
        """Return how many of ``quantity`` units would open or enlarge a position (the rest closes
        one and blocks nothing).
        """
        open_units = self.open_quantity(instrument, product)
        closes = -open_units if side == "BUY" else open_units
        claimed = sum(
            order.remaining - order.opening
            for order in self.orders.values()
            if order.alive and order.side == side and order.product == product
            and order.instrument.key == instrument.key
        )  # fmt: skip
        return quantity - min(quantity, max(closes - claimed, 0))

    def settle(self, order: Order, quantity: int, price: Decimal) -> None:
        """Book one execution of ``order``: position, holding and cash."""
        position = self.position(order.instrument, order.product)
        realised = position.take(order.side, quantity, price)
        if settles_in_cash(order.instrument, order.product):
            self.cash += quantity * price * (-1 if order.side == "BUY" else 1)
        else:
            self.cash += realised
        self.charges_due += charges(
            order.instrument, order.side, order.product, quantity, price
        ).total
        holding = self.holdings.get(order.instrument.key)
        if order.product == "CNC" and holding:
            net = position.quantity - position.overnight
            holding.used = min(max(-net, 0), holding.quantity + holding.t1)

    def end_day(self) -> None:
        """Turn the day's deliveries into holdings, carry what is carried, take the charges."""
        for holding in self.holdings.values():
            holding.quantity += holding.t1 - holding.used
            holding.t1 = holding.used = 0
        for (key, product), position in list(self.positions.items()):
            units = position.quantity
            if product == "CNC" and units > 0:
                holding = self.holdings.setdefault(
                    key, Holding(position.instrument, 0, position.average)
                )
                before = holding.quantity
                holding.average = (holding.average * before + position.cost) / (before + units)
                holding.t1 = units
            if product == "CNC" or not units:
                del self.positions[(key, product)]
            else:
                self.positions[(key, product)] = Position(
                    position.instrument, product, overnight=units,
                    overnight_price=position.average, cost=position.cost,
                )  # fmt: skip
        self.holdings = {k: h for k, h in self.holdings.items() if h.quantity or h.t1 or h.mtf}
        self.cash -= self.charges_due
        self.charges_due = ZERO
        self.opening_cash = self.cash
