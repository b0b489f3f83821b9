"""A broker with names of its own for instruments, in the process of the test: what the platform
does with any real broker, without a wire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from brokerages.base import BrokerAdapter, Capabilities, CredentialField, SessionRenewal
from brokerages.types import (
    Candle,
    CandleInterval,
    Exchange,
    FillReport,
    Funds,
    HoldingReport,
    InstrumentKind,
    InstrumentRecord,
    InstrumentRef,
    Margin,
    OrderAck,
    OrderChange,
    OrderReport,
    OrderRequest,
    OrderType,
    PositionConversion,
    PositionReport,
    Product,
    Profile,
    Quote,
    QuoteDepth,
    Segment,
    SessionToken,
    Validity,
)

NAME = "fake"
T0 = datetime(2026, 1, 5, 3, 45, tzinfo=UTC)


@dataclass
class World:
    """What the broker has and was asked for; a test changes it."""

    records: list[InstrumentRecord] = field(default_factory=list)
    prices: dict[str, Decimal] = field(default_factory=dict)  # by broker_symbol
    bands: dict[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    quoted_ago: timedelta = timedelta(0)
    bad_symbols: set[str] = field(default_factory=set)  # a batch with one of them is refused
    candles: list[Candle] = field(default_factory=list)
    margin: Margin = field(default_factory=lambda: Margin(Decimal("1234.50"), Decimal("12.10")))
    fail: dict[str, Exception] = field(default_factory=dict)  # by method
    calls: list[tuple[str, Any]] = field(default_factory=list)
    stop_after: int | None = None  # rows of the list, then its download fails

    def note(self, method: str, what: Any = None) -> None:
        self.calls.append((method, what))
        if (error := self.fail.get(method)) is not None:
            raise error

    def asked(self, method: str) -> list[Any]:
        return [what for name, what in self.calls if name == method]


world = World()


class FakeAdapter(BrokerAdapter):
    """See the module."""

    name, label = NAME, "Fake Broker"
    capabilities = Capabilities(
        order_types=frozenset(OrderType),
        products=frozenset(Product),
        validities=frozenset(Validity),
        exchanges=frozenset(Exchange),
        session_renewal=SessionRenewal.INTERACTIVE,
        find_by_client_order_id=True,
        quotes=frozenset({QuoteDepth.LTP, QuoteDepth.OHLC, QuoteDepth.FULL}),
        candle_intervals=frozenset(
            {CandleInterval.MINUTE, CandleInterval.MINUTES_5, CandleInterval.DAY}
        ),
        lists_instruments=True,
        estimates_margin=True,
        after_market_orders=True,
        iceberg_orders=True,
        market_protection=True,
        can_convert_position=True,
    )
    credential_fields = (CredentialField("api_key", "API key"),)

    def login_url(self, state: str) -> str:
        return f"http://127.0.0.1:9/login?state={state}"

    def open_session(self, grant: str | None) -> SessionToken:
        return SessionToken({"access_token": "t"}, datetime.now(UTC) + timedelta(hours=8), "FB1")

    def check_session(self) -> None:
        world.note("check_session")

    def close_session(self) -> None:
        world.note("close_session")

    def place_order(self, request: OrderRequest) -> OrderAck:
        world.note("place_order", request)
        return OrderAck(f"FB-{len(world.calls)}")

    def modify_order(
        self, broker_order_id: str, change: OrderChange, request: OrderRequest
    ) -> OrderAck:
        world.note("modify_order", (change, request))
        return OrderAck(broker_order_id)

    def cancel_order(self, broker_order_id: str, request: OrderRequest) -> OrderAck | None:
        world.note("cancel_order", request)
        return None

    def convert_position(self, conversion: PositionConversion) -> None:
        world.note("convert_position", conversion)

    def find_order(self, request: OrderRequest) -> OrderReport | None:
        world.note("find_order", request)
        return None

    def fetch_orders(self) -> list[OrderReport]:
        return []

    def fetch_fills(self) -> list[FillReport]:
        return []

    def fetch_positions(self) -> list[PositionReport]:
        return []

    def fetch_holdings(self) -> list[HoldingReport]:
        return []

    def fetch_funds(self) -> Funds:
        world.note("fetch_funds")
        return Funds(Decimal(1000), Decimal(0), Decimal(1000))

    def fetch_profile(self) -> Profile:
        return Profile("FB1", "Fake")

    def fetch_quotes(self, instruments: Sequence[InstrumentRef], depth: QuoteDepth) -> list[Quote]:
        symbols = [ref.broker_symbol for ref in instruments]
        world.note("fetch_quotes", (symbols, depth))
        if world.bad_symbols & set(symbols):
            from brokerages.errors import InvalidOrder

            raise InvalidOrder("Invalid instrument key.", broker=NAME, code="bad_key")
        return [
            self._quote(ref, price)
            for ref in instruments
            if (price := world.prices.get(ref.broker_symbol)) is not None
        ]

    def _quote(self, ref: InstrumentRef, price: Decimal) -> Quote:
        low, high = world.bands.get(ref.broker_symbol, (None, None))
        return Quote(
            instrument_id=ref.id,
            last_price=price,
            at=datetime.now(UTC) - world.quoted_ago,
            source=NAME,
            open=price - 1,
            volume=1000,
            lower_circuit=low,
            upper_circuit=high,
        )

    def fetch_candles(
        self, instrument: InstrumentRef, interval: CandleInterval, start: datetime, end: datetime
    ) -> list[Candle]:
        world.note("fetch_candles", (instrument.broker_token, interval, start, end))
        return [candle for candle in world.candles if start <= candle.start < end]

    def fetch_instruments(self) -> Iterator[InstrumentRecord]:
        world.note("fetch_instruments")
        for number, record in enumerate(world.records):
            if number == world.stop_after:
                from brokerages.errors import OutcomeUnknown

                raise OutcomeUnknown("The download broke off.", broker=NAME)
            yield record

    def estimate_margin(self, requests: Sequence[OrderRequest]) -> Margin:
        world.note("estimate_margin", list(requests))
        return world.margin


def share(symbol: str, token: str, isin: str = "", **more: Any) -> InstrumentRecord:
    record = InstrumentRecord(
        exchange=Exchange.NSE,
        segment=Segment.EQUITY,
        kind=InstrumentKind.EQ,
        symbol=symbol,
        broker_symbol=f"{symbol}-EQ",
        broker_token=f"t{token}",
        exchange_token=token,
        isin=isin,
        name=f"{symbol} LIMITED",
    )
    return replace(record, **more)


def contract(underlying: str, kind: str, expiry: Any, strike: Any = None, **more: Any) -> Any:
    record = InstrumentRecord(
        exchange=Exchange.NFO,
        segment=Segment.EQUITY_DERIVATIVES,
        kind=InstrumentKind(kind),
        symbol=f"{underlying}{expiry:%y%b}{strike or ''}{kind}".upper(),
        broker_symbol=f"{underlying} {strike or 'FUT'} {kind} {expiry:%d %b %y}",
        broker_token=f"NSE_FO|{underlying}{expiry:%y%m%d}{strike or 0}{kind}",
        exchange_token="",
        lot_size=65,
        freeze_quantity=1800,
        expiry=expiry,
        strike=None if strike is None else Decimal(str(strike)),
        underlying=underlying,
    )
    return replace(record, **more)


def registered(monkeypatch: Any) -> Callable[[], World]:
    """Register the broker for one test, with an empty world."""
    from brokerages import registry
    from brokerages.services import connections
    from marketdata import inputs, instrument_sync

    names = (*registry.BROKER_NAMES, NAME)
    monkeypatch.setitem(registry._ADAPTERS, NAME, "tests.marketdata.fake_broker:FakeAdapter")
    for module in (registry, connections, inputs, instrument_sync):
        monkeypatch.setattr(module, "BROKER_NAMES", names)
    world.__init__()  # type: ignore[misc]
    return lambda: world
