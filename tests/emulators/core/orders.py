"""Orders of the emulated exchange and the reasons for which they are refused. Pure Python.

A `Stage` is a neutral word; each dialect has its broker's word for it. Every change of an order
leaves a `Row`, so that a dialect can tell its history, or what it looked like a while ago.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from tests.emulators.core.accounts import Account, order_margin
from tests.emulators.core.instruments import Instrument

ZERO = Decimal(0)


class Stage(StrEnum):
    RECEIVED = "RECEIVED"  # the broker has it
    VALIDATING = "VALIDATING"  # the risk system looks at it
    SENDING = "SENDING"  # on its way to the exchange
    PARKED = "PARKED"  # after-market: waits for the open
    TRIGGER_PENDING = "TRIGGER_PENDING"
    OPEN = "OPEN"
    MODIFY_VALIDATING = "MODIFY_VALIDATING"
    MODIFYING = "MODIFYING"
    MODIFIED = "MODIFIED"
    NOT_MODIFIED = "NOT_MODIFIED"
    CANCELLING = "CANCELLING"
    NOT_CANCELLED = "NOT_CANCELLED"
    COMPLETE = "COMPLETE"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"


FINAL = frozenset({Stage.COMPLETE, Stage.CANCELLED, Stage.REJECTED})
CHANGEABLE = frozenset({Stage.OPEN, Stage.TRIGGER_PENDING, Stage.PARKED})


class Reason(StrEnum):
    """Why a call is refused."""

    INSTRUMENT = "INSTRUMENT"  # not listed, or an index
    TERMS = "TERMS"  # missing or contradictory: price, trigger, validity, quantity
    PRODUCT = "PRODUCT"
    TICK = "TICK"
    LOT = "LOT"
    FREEZE = "FREEZE"
    BAND = "BAND"  # outside the circuit limits
    PROTECTION = "PROTECTION"  # a market order without market protection
    FUNDS = "FUNDS"
    HOLDINGS = "HOLDINGS"
    AUTHORISATION = "AUTHORISATION"  # holdings that the depository does not release
    CLOSED = "CLOSED"
    UNKNOWN_ORDER = "UNKNOWN_ORDER"
    FINAL = "FINAL"  # the order is at its end
    BUSY = "BUSY"  # the order has not reached the exchange yet, or a change is under way
    TOO_MANY_CHANGES = "TOO_MANY_CHANGES"
    DUPLICATE = "DUPLICATE"  # a reference that was used before
    POSITION = "POSITION"  # not that many open units to convert


class Refusal(Exception):
    """The exchange or the broker says no; nothing was done. ``facts`` feed the broker's sentence,
    e.g. ``required`` and ``available`` for FUNDS, ``tick`` for TICK.
    """

    def __init__(self, reason: Reason, message: str = "", **facts: Any) -> None:
        super().__init__(message or str(reason))
        self.reason, self.message, self.facts = reason, message or str(reason), facts


@dataclass(frozen=True, slots=True)
class Ticket:
    """An order as asked for. ``protection`` is the percentage around the last price that a market
    order may move (None: no protection). ``extra`` is the dialect's own, e.g. a variety.
    """

    instrument: Instrument
    side: str  # BUY SELL
    quantity: int
    type: str = "MARKET"  # MARKET LIMIT SL SL-M
    product: str = "CNC"  # CNC MIS NRML MTF
    validity: str = "DAY"  # DAY IOC
    price: Decimal | None = None
    trigger: Decimal | None = None
    disclosed: int = 0
    protection: Decimal | None = None
    tag: str = ""
    after_market: bool = False
    ends_at: datetime | None = None  # when the broker cancels what is left of it
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def has_price(self) -> bool:
        return self.type in ("LIMIT", "SL")

    @property
    def has_trigger(self) -> bool:
        return self.type in ("SL", "SL-M")


@dataclass(frozen=True, slots=True)
class Row:
    """An order at one moment."""

    at: datetime
    stage: Stage
    quantity: int
    filled: int
    average: Decimal
    type: str
    price: Decimal | None
    trigger: Decimal | None
    validity: str
    disclosed: int
    message: str
    exchange_id: str
    reached_at: datetime | None  # when the exchange registered it
    changes: int  # modifications so far

    @property
    def remaining(self) -> int:
        return self.quantity - self.filled


@dataclass(frozen=True, slots=True)
class Fill:
    id: str
    order: Order
    quantity: int
    price: Decimal
    at: datetime


@dataclass(slots=True, eq=False)
class Order:
    """``stage`` is what the broker shows; ``alive`` tells whether it may still trade. ``limit`` is
    the price that it trades at or better (None: any).
    """

    id: str
    account: Account
    ticket: Ticket
    number: int  # the exchange's count: priority in time
    placed_at: datetime
    stage: Stage = Stage.RECEIVED
    quantity: int = 0
    type: str = ""
    price: Decimal | None = None
    trigger: Decimal | None = None
    validity: str = "DAY"
    disclosed: int = 0
    limit: Decimal | None = None
    protected: bool = False  # a market order that carries a protective limit
    filled: int = 0
    value: Decimal = ZERO
    message: str = ""
    exchange_id: str = ""
    reached_at: datetime | None = None
    changes: int = 0
    resting: bool = False  # at the exchange
    triggered: bool = False
    opening: int = 0  # remaining units that would open a position
    reference: Decimal = ZERO  # price that the margin of a market order is counted at
    rows: list[Row] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    due: list[Any] = field(default_factory=list)  # the exchange's plan for it

    def __post_init__(self) -> None:
        ticket = self.ticket
        self.quantity, self.type, self.validity = ticket.quantity, ticket.type, ticket.validity
        self.price, self.trigger, self.disclosed = ticket.price, ticket.trigger, ticket.disclosed

    @property
    def instrument(self) -> Instrument:
        return self.ticket.instrument

    @property
    def side(self) -> str:
        return self.ticket.side

    @property
    def product(self) -> str:
        return self.ticket.product

    @property
    def alive(self) -> bool:
        return self.stage not in FINAL

    @property
    def remaining(self) -> int:
        return self.quantity - self.filled if self.alive else 0

    @property
    def average(self) -> Decimal:
        return self.value / self.filled if self.filled else ZERO

    @property
    def blocked(self) -> Decimal:
        """Return what the open rest blocks, in rupees."""
        if not self.alive:
            return ZERO
        price = self.limit or self.price or self.reference
        units = min(self.opening, self.remaining)
        return order_margin(self.instrument, self.side, self.product, units, price)

    def row(self, at: datetime, stage: Stage | None = None) -> Row:
        return Row(
            at, stage or self.stage, self.quantity, self.filled, self.average, self.type,
            self.price, self.trigger, self.validity, self.disclosed, self.message,
            self.exchange_id, self.reached_at, self.changes,
        )  # fmt: skip

    def row_at(self, at: datetime) -> Row | None:
        """Return the order as it was shown at ``at``: None before it was placed."""
        return next((row for row in reversed(self.rows) if row.at <= at), None)
