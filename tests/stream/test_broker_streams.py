"""Order and price streams of every broker that has them, through to our orders and the feed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection as database
from django.utils import timezone

from accounts.models import User
from brokerages.models import BrokerConnection
from brokerages.services import adapter_for, connection_create
from brokerages.services.sessions import store_token
from marketdata import broker_refs, selectors
from marketdata.broker_feed import BrokerTicks
from marketdata.channels import broker_symbol
from marketdata.models import BrokerInstrument, Instrument, InstrumentSync
from tests.brokerages.contract import benches
from tests.brokerages.contract.benches import BENCHES, EmulatedBench
from tests.emulators.core.clock import IST
from trading.models import Fill, Order
from trading.services.execution import stored_request
from trading.services.order_streams import OrderStreams


@pytest.fixture(params=["zerodha", "upstox", "groww"])
def bench(
    request: pytest.FixtureRequest, transactional_db: None, settings: Any, monkeypatch: Any
) -> Iterator[EmulatedBench]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(benches, "MONDAY", datetime.now(IST))
    bench: Any = BENCHES[request.param](request)
    at = bench.server
    settings.BROKER_ENDPOINTS = {
        bench.name: {"api": at.url, "login": at.url, "stream": at.ws_url, "assets": at.url}
    }
    selectors.clear_tables()
    broker_refs.clear()
    now = timezone.now()
    InstrumentSync.objects.create(
        broker=bench.name, state=InstrumentSync.State.DONE, started_at=now, lease_until=now
    )
    listed = bench.listed(bench.share)
    instrument = Instrument.objects.create(
        exchange="NSE", segment="EQUITY", symbol=listed.symbol, name=listed.symbol, kind="EQ",
        tick_size="0.05", reference_price="100", isin=listed.isin,
        exchange_token=str(listed.token),
    )  # fmt: skip
    symbol, token = bench.broker_words(listed)
    BrokerInstrument.objects.create(
        broker=bench.name, instrument=instrument, broker_symbol=symbol, broker_token=token,
        seen_at=now,
    )  # fmt: skip
    bench.show(100)
    yield bench
    selectors.clear_tables()
    broker_refs.clear()


@pytest.fixture
def connection(bench: EmulatedBench) -> BrokerConnection:
    """A user's connection with an open session."""
    user_id = bench.new_user()
    closed = bench.closed_adapter(user_id)
    token = closed.open_session(bench.grant(closed, user_id))
    user = User.objects.create_user(f"{uuid4().hex}@example.com", None)
    connection = connection_create(
        user_id=user.pk, broker=bench.name, credentials=dict(closed.credentials)
    )
    store_token(connection, replace(token, expires_at=None))
    return connection


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.03)
    return found


def test_orders_fill_and_end_by_the_stream(bench: EmulatedBench, connection: BrokerConnection):
    stop, streams = threading.Event(), OrderStreams()

    def work() -> None:
        try:
            streams.run(stop)
        finally:
            database.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        until(lambda: connection.pk in streams.streams and streams.streams[connection.pk].up)
        filled, cancelled = (_placed(connection) for _ in range(2))
        account = bench.account(adapter_for(connection.pk))

        bench.venue.fill(account, filled.broker_order_id, 4, "90")
        until(lambda: _status(filled) == ("PARTIALLY_FILLED", 4))
        bench.venue.fill(account, filled.broker_order_id, 6, "90")
        until(lambda: _status(filled) == ("FILLED", 10))
        bench.venue.cancel(account, cancelled.broker_order_id)
        until(lambda: _status(cancelled) == ("CANCELLED", 0))

        assert sorted(Fill.objects.values_list("quantity", flat=True)) == [4, 6]
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def test_prices_come_by_the_stream(bench: EmulatedBench, connection: BrokerConnection):
    ticks, name = BrokerTicks(), broker_symbol(bench.name, bench.share.key)
    try:
        shown = 100

        def quotes() -> list[Any]:
            nonlocal shown
            shown += 1
            bench.show(shown)
            time.sleep(0.1)
            ticks.follow([name])
            return ticks.take()

        broker, key, quote = until(quotes)[0]
        assert (broker, key) == (bench.name, bench.share.key)
        assert 100 < quote.last_price <= shown
        assert not quote.simulated
    finally:
        ticks.close()


def _placed(connection: BrokerConnection) -> Order:
    order = Order.objects.create(
        user_id=connection.user_id,
        connection=connection,
        instrument=Instrument.objects.get(),
        idempotency_key=uuid4().hex,
        fingerprint=b"",
        tag=uuid4().hex[:20].upper(),
        side="BUY",
        order_type="LIMIT",
        product="CNC",
        validity="DAY",
        quantity=10,
        price=Decimal("90.00"),
        status="OPEN",
    )
    order.connection.broker = connection.broker
    ack = adapter_for(connection.pk).place_order(stored_request(order))
    order.broker_order_id = ack.broker_order_id
    order.save(update_fields=["broker_order_id"])
    return order


def _status(order: Order) -> tuple[str, int]:
    order.refresh_from_db()
    return order.status, order.filled_quantity
