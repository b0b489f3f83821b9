"""Values that cross the boundary with brokers. Pure Python: frozen, exact, closed vocabularies.

Prices are rupees per unit as ``Decimal``; quantities are units (never lots) as ``int``; times are
aware UTC. The words are the field's own (CNC/MIS/NRML, SL/SL-M, NSE/NFO/MCX), so an adapter's
mapping reads as a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Any

PAISA = Decimal("0.01")
ZERO = Decimal(0)


class Exchange(StrEnum):
    """Where an instrument is listed, in the words that order tickets use."""

    NSE = "NSE"
    BSE = "BSE"
    NFO = "NFO"
    BFO = "BFO"
    CDS = "CDS"
    MCX = "MCX"


class Segment(StrEnum):
    """What an exchange trades together: sessions, charges and freeze limits differ by segment."""

    EQUITY = "EQUITY"
    EQUITY_DERIVATIVES = "EQUITY_DERIVATIVES"
    CURRENCY = "CURRENCY"
    COMMODITY = "COMMODITY"
    INDEX = "INDEX"


class InstrumentKind(StrEnum):
    EQ = "EQ"
    INDEX = "INDEX"
    FUT = "FUT"
    CE = "CE"
    PE = "PE"


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        """+1 for BUY, -1 for SELL: what a fill does to a position."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    MARKET = "MARKET"
    LIMIT = "LIMIT"
    SL = "SL"  # stop-loss limit: trigger price, then a limit order
    SL_M = "SL-M"  # stop-loss market: trigger price, then a market order

    @property
    def has_price(self) -> bool:
        return self in (OrderType.LIMIT, OrderType.SL)

    @property
    def has_trigger(self) -> bool:
        return self in (OrderType.SL, OrderType.SL_M)


class Product(StrEnum):
    CNC = "CNC"  # delivery equity
    MIS = "MIS"  # intraday, squared off before the close
    NRML = "NRML"  # carried derivatives
    MTF = "MTF"  # delivery with margin trading facility


class Validity(StrEnum):
    DAY = "DAY"
    IOC = "IOC"


class ReportedStatus(StrEnum):
    """What a broker says of an order, in our words. Advisory: fills decide quantities."""

    RECEIVED = "RECEIVED"  # an interim state before the exchange has it
    OPEN = "OPEN"
    TRIGGER_PENDING = "TRIGGER_PENDING"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    PENDING_CANCEL = "PENDING_CANCEL"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"  # a word that we do not know; changes nothing


class CandleInterval(StrEnum):
    MINUTE = "1m"
    MINUTES_3 = "3m"
    MINUTES_5 = "5m"
    MINUTES_15 = "15m"
    MINUTES_30 = "30m"
    HOUR = "60m"
    DAY = "1d"
    WEEK = "1w"
    MONTH = "1mo"


class QuoteDepth(StrEnum):
    LTP = "LTP"
    OHLC = "OHLC"
    FULL = "FULL"


@dataclass(frozen=True, slots=True)
class Money:
    """An amount of Indian rupees, exact to the paisa.

    Raises:
        TypeError: built from a float, which cannot hold most paise amounts exactly.
        ValueError: NaN, infinite, or finer than one paisa.
    """

    amount: Decimal

    def __post_init__(self) -> None:
        if not isinstance(self.amount, Decimal):
            raise TypeError(f"Money needs a Decimal, was {type(self.amount).__name__}")
        if not self.amount.is_finite() or self.amount != self.amount.quantize(PAISA):
            raise ValueError(f"not a whole number of paise: {self.amount}")

    @classmethod
    def rounded(cls, amount: Decimal) -> Money:
        """Return ``amount`` to the nearest paisa, halves away from zero."""
        return cls(amount.quantize(PAISA, rounding=ROUND_HALF_UP))

    def __add__(self, other: Money) -> Money:
        return Money(self.amount + other.amount)

    def __sub__(self, other: Money) -> Money:
        return Money(self.amount - other.amount)


@dataclass(frozen=True, slots=True)
class InstrumentRef:
    """All that an adapter may know of an instrument. Adapters are handed one and never look one up.

    ``broker_symbol`` and ``broker_token`` are the broker's own words for it, empty where the broker
    uses the exchange's. ``tick_size`` is rupees; ``lot_size`` and ``freeze_quantity`` are units of
    this contract.
    """

    id: int
    exchange: Exchange
    segment: Segment
    symbol: str
    kind: InstrumentKind
    exchange_token: str = ""
    isin: str = ""
    name: str = ""
    tick_size: Decimal = Decimal("0.05")
    lot_size: int = 1
    freeze_quantity: int | None = None
    expiry: date | None = None
    strike: Decimal | None = None
    underlying: str = ""
    broker_symbol: str = ""
    broker_token: str = ""

    @property
    def key(self) -> str:
        """The public name, e.g. ``NSE:RELIANCE``."""
        return f"{self.exchange}:{self.symbol}"


@dataclass(frozen=True, slots=True)
class InstrumentRecord:
    """One row of a broker's instrument list, in our words. Rows that the vocabulary cannot name are
    left out by the adapter.

    ``broker_symbol`` and ``broker_token`` are what the broker's own calls and streams take.
    ``symbol`` is the exchange's trading symbol without the broker's decorations; contracts are
    matched by ``underlying``, ``expiry``, ``strike`` and ``kind``. ``tick_size`` is rupees.
    """

    exchange: Exchange
    segment: Segment
    kind: InstrumentKind
    symbol: str
    broker_symbol: str
    broker_token: str
    exchange_token: str = ""
    name: str = ""
    isin: str = ""
    tick_size: Decimal = Decimal("0.05")
    lot_size: int = 1
    freeze_quantity: int | None = None
    expiry: date | None = None
    strike: Decimal | None = None
    underlying: str = ""


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """One order, as sent to a broker. ``client_order_id`` is the 20-character tag that finds it
    again.

    ``after_market`` parks it until the next session. ``iceberg_legs`` asks the broker to show it in
    that many parts (0: as a whole). ``market_protection`` is the percentage that a MARKET or SL-M
    order may move from the last price; None leaves it to the broker's own figure.
    """

    client_order_id: str
    instrument: InstrumentRef
    side: Side
    quantity: int
    order_type: OrderType
    product: Product
    validity: Validity = Validity.DAY
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    disclosed_quantity: int = 0
    after_market: bool = False
    iceberg_legs: int = 0
    market_protection: Decimal | None = None


@dataclass(frozen=True, slots=True)
class PositionConversion:
    """``quantity`` open units of a position move from one product to another. ``side`` is that of
    the position: BUY for long.
    """

    instrument: InstrumentRef
    side: Side
    quantity: int
    old_product: Product
    new_product: Product
    overnight: bool = False  # carried from an earlier day, not opened today


@dataclass(frozen=True, slots=True)
class OrderChange:
    """The full new terms of a resting order (brokers replace terms as a whole). ``quantity`` is the
    new total.
    """

    quantity: int
    order_type: OrderType
    validity: Validity
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    disclosed_quantity: int = 0


@dataclass(frozen=True, slots=True)
class FillReport:
    """One execution as a broker states it. ``fill_id`` is unique per (exchange, trade date, side)
    at the broker.
    """

    fill_id: str
    broker_order_id: str
    client_order_id: str
    exchange: Exchange
    side: Side
    quantity: int
    price: Decimal
    filled_at: datetime


@dataclass(frozen=True, slots=True)
class OrderReport:
    """The state of one order as a broker states it, whatever road it took to us."""

    broker_order_id: str
    client_order_id: str
    status: ReportedStatus
    filled_quantity: int
    average_price: Decimal | None
    reported_at: datetime
    message: str = ""  # the broker's own words, e.g. the reason of a rejection
    exchange_order_id: str = ""
    quantity: int | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OrderHint:
    """A postback names an order that changed. Not a fact: the order is fetched before anything is
    believed. ``dedupe_key`` tells one delivery from another.
    """

    broker_order_id: str
    client_order_id: str = ""
    dedupe_key: str = ""


@dataclass(frozen=True, slots=True)
class OrderAck:
    """The broker took the order. Some brokers say at once what became of it; then ``report`` and
    ``fills`` carry it.
    """

    broker_order_id: str
    report: OrderReport | None = None
    fills: tuple[FillReport, ...] = ()


@dataclass(frozen=True, slots=True)
class PositionReport:
    """A broker's own view of a position, for reconciliation and reference; ours is computed from
    fills.
    """

    exchange: Exchange
    symbol: str
    product: Product
    quantity: int  # signed: short is negative
    average_price: Decimal
    last_price: Decimal | None = None
    realised: Decimal | None = None
    unrealised: Decimal | None = None


@dataclass(frozen=True, slots=True)
class HoldingReport:
    exchange: Exchange
    symbol: str
    isin: str
    quantity: int
    average_price: Decimal
    t1_quantity: int = 0
    last_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Funds:
    """Rupees. ``available`` can back a new order; ``used`` is blocked by orders and positions;
    ``total`` is both.
    """

    available: Decimal
    used: Decimal
    total: Decimal


@dataclass(frozen=True, slots=True)
class Profile:
    broker_user_id: str
    name: str
    email: str = ""
    exchanges: frozenset[Exchange] = frozenset()


@dataclass(frozen=True, slots=True)
class Margin:
    """Rupees that the orders would block, and the charges that the broker states, where it does."""

    required: Decimal
    charges: Decimal | None = None


@dataclass(frozen=True, slots=True)
class BookLevel:
    price: Decimal
    quantity: int
    orders: int = 0


@dataclass(frozen=True, slots=True)
class Quote:
    """The latest market of one instrument. ``bids`` and ``asks`` are best first, at most five
    levels.

    ``sequence`` grows with every change of the book of one instrument within a source, so that
    liquidity taken from one book is known to be the same book. ``source`` says where it is from;
    ``simulated`` prices are never shown unmarked.
    """

    instrument_id: int
    last_price: Decimal
    at: datetime
    source: str
    open: Decimal | None = None
    high: Decimal | None = None
    low: Decimal | None = None
    previous_close: Decimal | None = None
    volume: int = 0
    open_interest: int | None = None
    bids: tuple[BookLevel, ...] = ()
    asks: tuple[BookLevel, ...] = ()
    lower_circuit: Decimal | None = None
    upper_circuit: Decimal | None = None
    sequence: int = 0
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """One change of the market of one instrument, as a stream delivers it."""

    instrument_id: int
    last_price: Decimal
    at: datetime
    volume: int
    source: str
    quote: Quote | None = None


@dataclass(frozen=True, slots=True)
class StreamUp:
    """The stream is connected (again): whatever happened before it is only in the books."""


@dataclass(frozen=True, slots=True)
class StreamDown:
    """The stream is lost. ``final``: it will not come back by itself, e.g. the session is over."""

    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Candle:
    """OHLC of one interval; ``start`` is inclusive, aware UTC; ``volume`` is units traded in it."""

    start: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int = 0
    open_interest: int | None = None


@dataclass(frozen=True, slots=True)
class SessionToken:
    """An opened broker session. ``secrets`` is kept encrypted; ``expires_at`` is when the broker
    ends it, if it says.
    """

    secrets: Mapping[str, str]
    expires_at: datetime | None = None
    broker_user_id: str = ""


StreamEvent = Tick | OrderReport | FillReport | OrderHint | StreamUp | StreamDown
