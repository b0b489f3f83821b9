"""The adapter at the emulated Groww, and payload files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from brokerages.adapters.groww import answers
from brokerages.adapters.groww.adapter import GrowwAdapter
from brokerages.base import AdapterContext, Pace
from brokerages.types import (
    Exchange,
    InstrumentKind,
    InstrumentRef,
    OrderRequest,
    OrderType,
    Product,
    Segment,
    SessionToken,
    Side,
)
from tests.emulators.core.clock import IST, Clock
from tests.emulators.core.exchange import Exchange as Venue
from tests.emulators.core.server import EmulatorServer
from tests.emulators.groww import Groww

MONDAY = datetime(2026, 11, 23, 10, 30, tzinfo=IST)
PAYLOADS = Path(__file__).resolve().parents[1] / "payloads" / "groww"
TAG = "ABCDEFGHJK0123456789"

SHARE = InstrumentRef(
    id=1,
    exchange=Exchange.NSE,
    segment=Segment.EQUITY,
    symbol="RELIANCE",
    kind=InstrumentKind.EQ,
    isin="INE002A01018",
    broker_symbol="RELIANCE",
    broker_token="2885/NSE-RELIANCE",
)
INDEX = InstrumentRef(
    id=2,
    exchange=Exchange.NSE,
    segment=Segment.INDEX,
    symbol="NIFTY 50",
    kind=InstrumentKind.INDEX,
    broker_symbol="NIFTY",
    broker_token="NIFTY/NSE-NIFTY",
)


def payload(name: str) -> Any:
    """Return a payload file as the adapter reads an answer: numbers are decimals."""
    return answers.read((PAYLOADS / f"{name}.json").read_bytes())


def order(**terms: Any) -> OrderRequest:
    return OrderRequest(
        **{
            "client_order_id": TAG,
            "instrument": SHARE,
            "side": Side.BUY,
            "quantity": 10,
            "order_type": OrderType.MARKET,
            "product": Product.CNC,
            **terms,
        }
    )


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    with EmulatorServer(Groww(Venue(clock=Clock(MONDAY)))) as server:
        server.dialect.limiter.on = False
        yield server


@pytest.fixture
def paced() -> list[Pace]:
    """What the adapter asked permits for, in order."""
    return []


@pytest.fixture
def context(emulator: EmulatorServer, paced: list[Pace]) -> AdapterContext:
    return AdapterContext(
        "c0ffee",
        quote=lambda instrument: None,
        now=emulator.exchange.clock.now,
        endpoints={"api": emulator.url, "assets": emulator.url, "stream": emulator.ws_url},
        pace=paced.append,
    )


@pytest.fixture
def make_adapter(emulator: EmulatorServer, context: AdapterContext) -> Callable[..., GrowwAdapter]:
    def make(user_id: str = "GR1", **fields: Any) -> GrowwAdapter:
        emulator.dialect.account(user_id, **fields)
        token = emulator.dialect.open_session(user_id)
        return GrowwAdapter(context, {}, SessionToken({"access_token": token}))

    return make


@pytest.fixture
def adapter(make_adapter: Callable[..., GrowwAdapter]) -> GrowwAdapter:
    return make_adapter()


@pytest.fixture
def future(emulator: EmulatorServer) -> InstrumentRef:
    listed = next(i for i in emulator.exchange.instruments.values() if i.kind == "FUT")
    return InstrumentRef(
        id=3,
        exchange=Exchange.NFO,
        segment=Segment.EQUITY_DERIVATIVES,
        symbol=listed.symbol,
        kind=InstrumentKind.FUT,
        lot_size=65,
        broker_symbol=listed.symbol,
        broker_token=f"{listed.token}/NSE-NIFTY-{listed.expiry:%d%b%y}-FUT",
    )
