"""Prices that an emulated Kite pushes: into the cache and the live stream, under their own name."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.db import connection as database
from django.utils import timezone

from accounts.models import User
from brokerages.adapters.zerodha.adapter import ZerodhaAdapter
from brokerages.models import BrokerConnection, BrokerSession
from brokerages.services import connection_create
from brokerages.services.sessions import store_token
from brokerages.types import SessionToken
from marketdata import broker_refs, selectors
from marketdata.channels import broker_symbol
from marketdata.feed import CHANNEL, WANTED_KEY, Feed
from marketdata.latest import connect
from marketdata.models import BrokerInstrument, Instrument, InstrumentSync
from marketdata.quotes import broker_latest, quote_for_order
from tests.emulators.core.clock import IST, Clock
from tests.emulators.core.exchange import Exchange
from tests.emulators.core.server import EmulatorServer
from tests.emulators.zerodha import Zerodha
from tests.emulators.zerodha.dialect import API_SECRET
from tests.emulators.zerodha.login import App
from tests.emulators.zerodha.words import token_of

SHARES = ("RELIANCE", "INFY")


@pytest.fixture
def kite(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[EmulatorServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    exchange = Exchange(clock=Clock(datetime.now(IST)))
    with EmulatorServer(Zerodha(exchange, heartbeat=0.2)) as emulator:
        emulator.dialect.limiter.on = False
        settings.BROKER_ENDPOINTS = {
            "zerodha": {"api": emulator.url, "login": emulator.url, "stream": emulator.ws_url}
        }
        yield emulator


@pytest.fixture
def listed(transactional_db: None, kite: EmulatorServer) -> Iterator[None]:
    """Two shares that the platform and the broker list."""
    selectors.clear_tables()
    broker_refs.clear()
    now = timezone.now()
    InstrumentSync.objects.create(
        broker="zerodha", state=InstrumentSync.State.DONE, started_at=now, lease_until=now
    )
    for symbol in SHARES:
        instrument = Instrument.objects.create(
            exchange="NSE", segment="EQUITY", symbol=symbol, name=symbol, kind="EQ",
            tick_size="0.05", reference_price="1000",
        )  # fmt: skip
        token = str(token_of(kite.exchange.find(f"NSE:{symbol}")))
        BrokerInstrument.objects.create(
            broker="zerodha", instrument=instrument, broker_symbol=symbol, broker_token=token,
            seen_at=now,
        )  # fmt: skip
    yield
    selectors.clear_tables()
    broker_refs.clear()


@pytest.fixture
def log_in(listed: None, kite: EmulatorServer) -> Callable[..., BrokerConnection]:
    def make(account: str, *, data_source: str = "broker") -> BrokerConnection:
        kite.dialect.account(account)
        key = f"key{account}"
        kite.dialect.apps[key] = App(key, API_SECRET)
        user = User.objects.create_user(f"{uuid4().hex}@example.com", None)
        connection = connection_create(
            user_id=user.pk,
            broker="zerodha",
            credentials={"api_key": key, "api_secret": API_SECRET},
        )
        BrokerConnection.objects.filter(pk=connection.pk).update(data_source=data_source)
        token = kite.dialect.open_session(account, key).access_token
        expires = timezone.now() + timedelta(hours=12)
        store_token(connection, SessionToken({"access_token": token}, expires, account))
        return connection

    return make


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    client = connect()
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


class Running:
    """A feed at work, and what it published of brokers."""

    def __init__(self, client: redis.Redis) -> None:
        self.client, self.feed = client, Feed(interval=0.05)
        self.all: dict[str, list[Any]] = {}
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run),
            threading.Thread(target=self._listen),
        ]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        try:
            self.feed.run(self._stop)
        finally:
            database.close()

    def _listen(self) -> None:
        with self.client.pubsub(ignore_subscribe_messages=True) as subscription:
            subscription.subscribe(CHANNEL)
            while not self._stop.is_set():
                message = subscription.get_message(timeout=0.2)
                for name, tick in json.loads(message["data"]) if message else ():
                    self.all.setdefault(name, []).append(tick)

    def want(self, *symbols: str, broker: str = "zerodha", seconds: float = 60) -> None:
        names = [broker_symbol(broker, f"NSE:{s}") for s in symbols]
        self.client.zadd(WANTED_KEY, dict.fromkeys(names, time.time() + seconds))

    def ticks(self, symbol: str) -> list[Any]:
        return self.all.get(broker_symbol("zerodha", f"NSE:{symbol}"), [])

    @property
    def lines(self) -> Any:
        return self.feed._brokers.lines

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)


@pytest.fixture
def feed(listed: None, client: redis.Redis) -> Iterator[Running]:
    running = Running(client)
    yield running
    running.stop()


def until(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.03)
    return found


def show(kite: EmulatorServer, symbol: str, price: float) -> None:
    kite.exchange.show(f"NSE:{symbol}", price)


def carries(feed: Running, price: str, symbol: str = "RELIANCE") -> bool:
    return any(Decimal(t["last_price"]) == Decimal(price) for t in feed.ticks(symbol))


def test_a_wanted_price_of_a_broker_is_published_under_its_name(log_in, feed, kite):
    log_in("AA0001")
    feed.want("RELIANCE")
    until(lambda: feed.ticks("RELIANCE"))

    show(kite, "RELIANCE", 1234.55)

    until(lambda: carries(feed, "1234.55"))
    tick = feed.ticks("RELIANCE")[-1]
    assert (tick["symbol"], tick["source"], tick["simulated"]) == ("NSE:RELIANCE", "zerodha", False)
    assert tick["bid"] is not None
    # the platform's own prices go on beside it, under their own name
    assert {t["source"] for t in feed.all["NSE:RELIANCE"]} == {"simulated"}


def test_orders_are_checked_against_the_pushed_price_and_the_days_limits(log_in, feed, kite):
    log_in("AA0001")
    ref = selectors.ref_by_key("NSE:RELIANCE")
    feed.want("RELIANCE")
    until(lambda: feed.ticks("RELIANCE"))
    read = broker_latest("zerodha").read([ref.id])[ref.id]
    broker_latest("zerodha").write(
        [replace(read, lower_circuit=Decimal(900), upper_circuit=Decimal(1500))]
    )

    show(kite, "RELIANCE", 1234.55)
    until(lambda: carries(feed, "1234.55"))

    quote = quote_for_order("zerodha", ref)
    assert quote.last_price == Decimal("1234.55")
    assert (quote.lower_circuit, quote.upper_circuit) == (Decimal(900), Decimal(1500))
    assert datetime.now(UTC) - quote.at < timedelta(seconds=10)


def test_nothing_is_opened_for_nobody(log_in, feed, kite):
    log_in("AA0001")
    log_in("AA0002", data_source="simulated")

    time.sleep(1.5)
    assert feed.lines == {}
    feed.want("RELIANCE")
    until(lambda: feed.ticks("RELIANCE"))
    assert len(feed.lines) == 1  # the other user takes no prices from the broker


def test_what_nobody_wants_any_more_is_given_up(log_in, feed, kite):
    log_in("AA0001")
    feed.want("RELIANCE")
    feed.want("INFY", seconds=3)
    until(lambda: feed.ticks("INFY") and feed.ticks("RELIANCE"))

    until(lambda: all(len(line.asked) == 1 for line in feed.lines.values()))
    time.sleep(0.3)
    feed.all.clear()
    show(kite, "INFY", 1777)
    show(kite, "RELIANCE", 1333)
    until(lambda: carries(feed, "1333"))
    assert feed.ticks("INFY") == []


def test_limits_spread_instruments_over_sessions(log_in, feed, kite, monkeypatch):
    monkeypatch.setattr(
        ZerodhaAdapter,
        "capabilities",
        replace(ZerodhaAdapter.capabilities, max_stream_instruments=1),
    )
    log_in("AA0001")
    feed.want(*SHARES)
    until(lambda: feed.feed._brokers.unserved.get("zerodha") == 1)

    log_in("AA0002")

    until(lambda: feed.feed._brokers.unserved["zerodha"] == 0)
    until(lambda: feed.ticks("RELIANCE") and feed.ticks("INFY"))
    assert sorted(len(line.wanted) for line in feed.lines.values()) == [1, 1]


def test_a_refused_stream_stops_and_another_session_takes_over(log_in, feed, kite):
    first = log_in("AA0001")
    feed.want("RELIANCE")
    until(lambda: feed.ticks("RELIANCE"))
    log_in("AA0002")

    kite.dialect.control("end_session", {"user_id": "AA0001"})
    kite.faults.add("cut_frame", "SOCKET*", times=1)
    until(lambda: BrokerSession.objects.get(connection=first).state == "LOGIN_NEEDED", 30)

    show(kite, "RELIANCE", 1444)
    until(lambda: carries(feed, "1444"), 20)
    assert first.pk not in {pk for pk, line in feed.lines.items() if line.stream is not None}


def test_a_lost_socket_comes_back_with_what_was_wanted(log_in, feed, kite):
    log_in("AA0001")
    feed.want("RELIANCE")
    until(lambda: feed.ticks("RELIANCE"))

    kite.faults.add("cut_frame", "SOCKET*", times=1)
    time.sleep(1)
    show(kite, "RELIANCE", 1555)

    until(lambda: carries(feed, "1555"), 20)


def test_a_feed_that_does_not_publish_has_no_streams(log_in, feed, kite, client):
    log_in("AA0001")
    feed.want("RELIANCE")
    until(lambda: feed.ticks("RELIANCE"))

    client.set("sauda:feed:lease", "another", px=60_000)

    until(lambda: not feed.lines)
