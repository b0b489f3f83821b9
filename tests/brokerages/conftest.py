"""A paper broker with a market that the test moves by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model

from brokerages import ports
from brokerages.adapters.paper.engine import PaperEngine
from brokerages.base import AdapterContext, BrokerAdapter, VenueEvent
from brokerages.models import BrokerConnection
from brokerages.registry import adapter_class
from brokerages.services import connection_create
from brokerages.types import (
    BookLevel,
    Exchange,
    InstrumentKind,
    InstrumentRef,
    OrderRequest,
    OrderType,
    Product,
    Quote,
    Segment,
    Side,
    Validity,
)

SHARE = InstrumentRef(
    id=1,
    exchange=Exchange.NSE,
    segment=Segment.EQUITY,
    symbol="RELIANCE",
    kind=InstrumentKind.EQ,
    isin="INE002A01018",
    tick_size=Decimal("0.05"),
)
FUTURE = InstrumentRef(
    id=2,
    exchange=Exchange.NFO,
    segment=Segment.EQUITY_DERIVATIVES,
    symbol="NIFTY26NOVFUT",
    kind=InstrumentKind.FUT,
    lot_size=65,
    freeze_quantity=1800,
)
CALL = InstrumentRef(
    id=3,
    exchange=Exchange.NFO,
    segment=Segment.EQUITY_DERIVATIVES,
    symbol="NIFTY26NOV26000CE",
    kind=InstrumentKind.CE,
    lot_size=65,
    freeze_quantity=1800,
    strike=Decimal(26000),
)
INDEX = replace(SHARE, id=4, symbol="NIFTY 50", kind=InstrumentKind.INDEX, segment=Segment.INDEX)

START = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)  # 10:30 in India, a Monday


def levels(*pairs: tuple[Any, int]) -> tuple[BookLevel, ...]:
    return tuple(BookLevel(Decimal(str(price)), quantity) for price, quantity in pairs)


def tagged(tag: str) -> OrderRequest:
    """Return a request with our tag, for calls that look at nothing else of it."""
    return OrderRequest(tag, SHARE, Side.BUY, 1, OrderType.MARKET, Product.CNC)


REQUEST = tagged("ABCDEFGHJK0123456789")


@dataclass
class Market:
    """The latest quotes, the clock and the hours, as the paper broker sees them."""

    quotes: dict[int, Quote] = field(default_factory=dict)
    now: datetime = START
    open: bool = True

    def show(
        self,
        instrument: InstrumentRef = SHARE,
        last: Any = 100,
        *,
        bids: tuple[BookLevel, ...] | None = None,
        asks: tuple[BookLevel, ...] | None = None,
        **more: Any,
    ) -> Quote:
        """Display a new book: by default deep, half a rupee to each side of ``last``."""
        price = Decimal(str(last))
        before = self.quotes.get(instrument.id)
        self.now += timedelta(milliseconds=1)
        quote = Quote(
            instrument_id=instrument.id,
            last_price=price,
            at=self.now,
            source="test",
            bids=levels((price - Decimal("0.5"), 10_000)) if bids is None else bids,
            asks=levels((price + Decimal("0.5"), 10_000)) if asks is None else asks,
            sequence=before.sequence + 1 if before else 1,
            **more,
        )
        self.quotes[instrument.id] = quote
        return quote

    def read(self, instrument: InstrumentRef) -> Quote | None:
        return self.quotes.get(instrument.id)

    def clock(self) -> datetime:
        return self.now

    def is_open(self, instrument: InstrumentRef, at: datetime) -> bool:
        return self.open

    def day_end(self, instrument: InstrumentRef, at: datetime) -> datetime:
        end = at.replace(hour=10, minute=0, second=0, microsecond=0)
        return end if end > at else end + timedelta(days=1)


@dataclass
class Paper:
    """One account at the paper broker, with short words for what tests do."""

    adapter: BrokerAdapter
    market: Market
    count: int = 0

    def request(self, side: Side, quantity: int, price: Any = None, **more: Any) -> OrderRequest:
        self.count += 1
        decimal = None if price is None else Decimal(str(price))
        trigger = more.pop("trigger", None)
        order_type = OrderType.MARKET if price is None else OrderType.LIMIT
        if trigger is not None:
            order_type = OrderType.SL_M if price is None else OrderType.SL
        return OrderRequest(
            client_order_id=more.pop("tag", f"T{id(self)}{self.count:06d}"),
            instrument=more.pop("instrument", SHARE),
            side=side,
            quantity=quantity,
            order_type=more.pop("order_type", order_type),
            product=more.pop("product", Product.CNC),
            validity=more.pop("validity", Validity.DAY),
            price=decimal,
            trigger_price=None if trigger is None else Decimal(str(trigger)),
            **more,
        )

    def buy(self, quantity: int, price: Any = None, **more: Any) -> Any:
        return self.adapter.place_order(self.request(Side.BUY, quantity, price, **more))

    def sell(self, quantity: int, price: Any = None, **more: Any) -> Any:
        return self.adapter.place_order(self.request(Side.SELL, quantity, price, **more))

    def advance(self) -> list[VenueEvent]:
        """Move the venue on and return what it told, confirmed."""
        engine = PaperEngine()
        engine.advance(self.market.read, self.market.now)
        events = engine.pending_events()
        engine.confirm_events([event.id for event in events])
        return events

    @property
    def id(self) -> UUID:
        return UUID(self.adapter.context.connection_id)

    @property
    def available(self) -> Decimal:
        return self.adapter.fetch_funds().available

    @property
    def used(self) -> Decimal:
        return self.adapter.fetch_funds().used

    @property
    def holding(self) -> int:
        return sum(h.quantity for h in self.adapter.fetch_holdings())

    def position(self, product: Product = Product.MIS) -> int:
        return sum(p.quantity for p in self.adapter.fetch_positions() if p.product is product)


@pytest.fixture
def market(settings: Any) -> Iterator[Market]:
    """The market of this test, also for adapters that services build."""
    settings.SIMULATED_SESSION = "exchange"
    settings.PAPER_STARTING_CASH = "100000"
    before = (ports._quotes, ports._sessions)
    market = Market()
    ports.provide_quotes(market.read)
    ports.provide_sessions(market)
    yield market
    ports.provide_quotes(before[0])
    ports.provide_sessions(before[1])


@pytest.fixture
def make_user() -> Callable[[], Any]:
    count = iter(range(1, 1000))
    return lambda: get_user_model().objects.create(email=f"user{next(count)}@example.org")


@pytest.fixture
def make_connection(make_user: Callable[[], Any]) -> Callable[..., BrokerConnection]:
    def make(user: Any = None, **fields: Any) -> BrokerConnection:
        user = user or make_user()
        return connection_create(user_id=user.pk, **{"broker": "paper", **fields})

    return make


@pytest.fixture
def make_paper(
    market: Market, make_connection: Callable[..., BrokerConnection]
) -> Callable[[], Paper]:
    def make() -> Paper:
        context = AdapterContext(
            str(make_connection().pk), market.read, market.clock, market.is_open, market.day_end
        )
        return Paper(adapter_class("paper")(context, {}), market)

    return make


@pytest.fixture
def paper(make_paper: Callable[[], Paper]) -> Paper:
    return make_paper()
