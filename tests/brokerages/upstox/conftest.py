"""The adapter at the emulated Upstox, and payload files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brokerages.adapters.upstox.adapter import UpstoxAdapter
from brokerages.adapters.upstox.values import read_json
from brokerages.base import AdapterContext, Pace
from brokerages.types import (
    Exchange,
    InstrumentKind,
    InstrumentRef,
    OrderRequest,
    OrderType,
    Product,
    Segment,
    Side,
)
from tests.emulators.core.clock import IST, Clock
from tests.emulators.core.exchange import Exchange as Venue
from tests.emulators.core.server import EmulatorServer
from tests.emulators.upstox import Upstox
from tests.emulators.upstox.dialect import API_KEY, API_SECRET

MONDAY = datetime(2026, 11, 23, 10, 30, tzinfo=IST)
PAYLOADS = Path(__file__).resolve().parents[1] / "payloads" / "upstox"
TAG = "ABCDEFGHJK0123456789"
REDIRECT = "http://127.0.0.1:9/callback"

SHARE = InstrumentRef(
    id=1,
    exchange=Exchange.NSE,
    segment=Segment.EQUITY,
    symbol="RELIANCE",
    kind=InstrumentKind.EQ,
    isin="INE002A01018",
)
FUTURE = InstrumentRef(
    id=2,
    exchange=Exchange.NFO,
    segment=Segment.EQUITY_DERIVATIVES,
    symbol="NIFTY26NOVFUT",
    kind=InstrumentKind.FUT,
    lot_size=65,
    freeze_quantity=1755,
    broker_token="NSE_FO|53001",
)
INDEX = InstrumentRef(
    id=3,
    exchange=Exchange.NSE,
    segment=Segment.INDEX,
    symbol="NIFTY 50",
    kind=InstrumentKind.INDEX,
)


def payload(name: str) -> Any:
    """Return a payload file as the adapter reads an answer."""
    return read_json((PAYLOADS / f"{name}.json").read_bytes())


def data(name: str) -> Any:
    return payload(name)["data"]


def order(**terms: Any) -> OrderRequest:
    """Return a limit order to buy 10 shares at 95, or what ``terms`` make of it."""
    for name in ("price", "trigger_price", "market_protection"):
        if terms.get(name) is not None:
            terms[name] = Decimal(str(terms[name]))
    given: dict[str, Any] = {
        "client_order_id": TAG,
        "instrument": SHARE,
        "side": Side.BUY,
        "quantity": 10,
        "order_type": OrderType.LIMIT,
        "product": Product.CNC,
        "price": Decimal(95),
    }
    return OrderRequest(**given | terms)


@dataclass
class Desk:
    """An emulator, and adapters of its users."""

    server: EmulatorServer
    users: int = 0
    paced: list[Pace] = field(default_factory=list)

    @property
    def upstox(self) -> Any:
        return self.server.dialect

    @property
    def venue(self) -> Venue:
        return self.server.exchange

    def adapter(self, **context: Any) -> UpstoxAdapter:
        """Return an adapter of a new account with an open session."""
        self.users += 1
        user_id = f"4CAB{self.users:02d}"
        made = UpstoxAdapter(
            AdapterContext(
                "c",
                lambda instrument: None,
                self.venue.clock.now,
                endpoints={
                    "api": self.server.url,
                    "login": self.server.url,
                    "assets": self.server.url,
                    "stream": self.server.ws_url,
                },
                redirect_url=REDIRECT,
                pace=self.paced.append,
                **context,
            ),
            {"api_key": API_KEY, "api_secret": API_SECRET},
        )
        made.token = made.open_session(self.upstox.code(user_id, API_KEY, REDIRECT))
        self.paced.clear()
        self.server.recorder.clear()
        return made

    def account(self, adapter: UpstoxAdapter) -> Any:
        assert adapter.token
        return self.upstox.accounts[adapter.token.broker_user_id]

    def bodies(self, pattern: str) -> list[Any]:
        return [record.request.json for record in self.server.recorder.find(pattern)]


@pytest.fixture
def desk() -> Iterator[Desk]:
    server = EmulatorServer(Upstox(Venue(clock=Clock(MONDAY)), heartbeat=0.1)).start()
    server.dialect.limiter.on = False
    yield Desk(server)
    server.stop()


@pytest.fixture
def adapter(desk: Desk) -> UpstoxAdapter:
    return desk.adapter()


@pytest.fixture
def make_adapter(desk: Desk) -> Callable[..., UpstoxAdapter]:
    return desk.adapter
