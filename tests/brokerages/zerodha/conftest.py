"""Zerodha's adapter over the unmodified SDK, at the emulated Kite on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brokerages.adapters.zerodha.adapter import ZerodhaAdapter
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
from tests.emulators.zerodha import Zerodha
from tests.emulators.zerodha.dialect import API_KEY, API_SECRET

PAYLOADS = Path(__file__).parent.parent / "payloads" / "zerodha"
MONDAY = datetime(2026, 11, 23, 10, 30, tzinfo=IST)
CREDENTIALS = {"api_key": API_KEY, "api_secret": API_SECRET}
TAG = "ABCDEFGHJK0123456789"

SHARE = InstrumentRef(
    id=1,
    exchange=Exchange.NSE,
    segment=Segment.EQUITY,
    symbol="RELIANCE",
    kind=InstrumentKind.EQ,
    exchange_token="2885",
    broker_token="738561",
)
AMPERSAND = InstrumentRef(
    id=2,
    exchange=Exchange.NSE,
    segment=Segment.EQUITY,
    symbol="M&M",
    kind=InstrumentKind.EQ,
    exchange_token="2031",
)
FUTURE = InstrumentRef(
    id=3,
    exchange=Exchange.NFO,
    segment=Segment.EQUITY_DERIVATIVES,
    symbol="NIFTY26NOVFUT",
    kind=InstrumentKind.FUT,
    exchange_token="53001",
    tick_size=Decimal("0.05"),
    lot_size=65,
    freeze_quantity=1800,
)
INDEX = InstrumentRef(
    id=4,
    exchange=Exchange.NSE,
    segment=Segment.INDEX,
    symbol="NIFTY 50",
    kind=InstrumentKind.INDEX,
    exchange_token="26000",
    broker_token="256265",
)


def payload(name: str) -> Any:
    """Return ``data`` of an answer of Kite, its numbers as our session reads them."""
    text = (PAYLOADS / name).read_text(encoding="utf-8")
    return json.loads(text, parse_float=Decimal)["data"]


def order(tag: str = TAG, **terms: Any) -> OrderRequest:
    """Return an order to buy ten shares at the market, unless ``terms`` say otherwise."""
    return OrderRequest(
        **{
            "client_order_id": tag,
            "instrument": SHARE,
            "side": Side.BUY,
            "quantity": 10,
            "order_type": OrderType.MARKET,
            "product": Product.CNC,
            **terms,
        }
    )


def limit(price: str, tag: str = TAG, **terms: Any) -> OrderRequest:
    return order(tag, order_type=OrderType.LIMIT, price=Decimal(price), **terms)


@pytest.fixture
def kite() -> Iterator[EmulatorServer]:
    exchange = Venue(clock=Clock(MONDAY))
    with EmulatorServer(Zerodha(exchange, heartbeat=0.2)) as emulator:
        emulator.dialect.limiter.on = False
        yield emulator


@pytest.fixture
def paces() -> list[Pace]:
    """What permits were asked for, in order."""
    return []


@pytest.fixture
def context(kite: EmulatorServer, paces: list[Pace]) -> AdapterContext:
    return AdapterContext(
        connection_id="connection",
        quote=lambda instrument: None,
        now=kite.dialect.clock.now,
        endpoints={"api": kite.url, "login": kite.url, "stream": kite.ws_url},
        pace=paces.append,
    )


@pytest.fixture
def session(kite: EmulatorServer) -> Callable[[], SessionToken]:
    def open_one() -> SessionToken:
        token = kite.dialect.open_session("AB1234", API_KEY).access_token
        return SessionToken({"access_token": token}, broker_user_id="AB1234")

    return open_one


@pytest.fixture
def adapter(context: AdapterContext, session: Callable[[], SessionToken]) -> ZerodhaAdapter:
    return ZerodhaAdapter(context, CREDENTIALS, session())
