"""Order streams: what an emulated Kite pushes over its socket comes to rest in our orders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings as django_settings
from django.db import connection as database
from django.utils import timezone

from accounts.models import User
from brokerages.models import BrokerConnection, BrokerSession
from brokerages.services import adapter_for, connection_create
from brokerages.services.sessions import store_token
from brokerages.types import SessionToken
from marketdata.models import Instrument
from tests.emulators.core.clock import IST, Clock
from tests.emulators.core.exchange import Exchange
from tests.emulators.core.server import EmulatorServer
from tests.emulators.zerodha import Zerodha
from tests.emulators.zerodha.dialect import API_KEY, API_SECRET
from tests.emulators.zerodha.login import App
from trading.models import Fill, Order, Position
from trading.services import stream_shards
from trading.services.execution import stored_request
from trading.services.order_streams import OrderStreams
from trading.services.stream_shards import SHARDS, Shards

BOOK = "GET /orders"


@pytest.fixture(autouse=True)
def _quick(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.BROKER_PACE_SLACK_MS = 0
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def kite() -> Iterator[EmulatorServer]:
    exchange = Exchange(clock=Clock(datetime.now(IST)))
    with EmulatorServer(Zerodha(exchange, heartbeat=0.2)) as emulator:
        emulator.dialect.limiter.on = False
        yield emulator


class Trader:
    """A user with a session at the emulated broker."""

    def __init__(self, kite: EmulatorServer, account: str = "AB1234") -> None:
        self.kite, self.account = kite, account
        self.api_key = API_KEY
        if account not in kite.dialect.accounts:  # with an app of their own
            kite.dialect.account(account)
            self.api_key = f"key{account}"
            kite.dialect.apps[self.api_key] = App(self.api_key, API_SECRET)
        self.user = User.objects.create_user(f"{uuid4().hex}@example.com", None)
        self.connection = connection_create(
            user_id=self.user.pk,
            broker="zerodha",
            credentials={"api_key": self.api_key, "api_secret": API_SECRET},
        )
        self.log_in()

    def log_in(self) -> None:
        token = self.kite.dialect.open_session(self.account, self.api_key).access_token
        expires = timezone.now() + timedelta(hours=12)
        store_token(self.connection, SessionToken({"access_token": token}, expires, self.account))

    def place(self, quantity: int = 10, price: str = "90.00") -> Order:
        """Place an order that rests at the broker."""
        order = Order.objects.create(
            user=self.user,
            connection=self.connection,
            instrument=Instrument.objects.get(symbol="RELIANCE"),
            idempotency_key=uuid4().hex,
            fingerprint=b"",
            tag=uuid4().hex[:20].upper(),
            side="BUY",
            order_type="LIMIT",
            product="CNC",
            validity="DAY",
            quantity=quantity,
            price=Decimal(price),
            status="OPEN",
        )
        ack = adapter_for(self.connection.pk).place_order(stored_request(order))
        order.broker_order_id = ack.broker_order_id
        order.save(update_fields=["broker_order_id"])
        return order

    def fill(self, order: Order, quantity: int, price: str = "90.00") -> None:
        venue = self.kite.exchange
        account = self.kite.dialect.accounts[self.account]
        venue.fill(account, order.broker_order_id, quantity, price)

    def cancel(self, order: Order) -> None:
        self.kite.exchange.cancel(self.kite.dialect.accounts[self.account], order.broker_order_id)

    def session(self) -> str:
        return BrokerSession.objects.get(connection=self.connection).state


@pytest.fixture
def market(transactional_db: None, kite: EmulatorServer, settings: Any) -> None:
    Instrument.objects.create(
        exchange="NSE", segment="EQUITY", symbol="RELIANCE", name="RELIANCE", kind="EQ",
        tick_size="0.05", reference_price="100", exchange_token="2885",
    )  # fmt: skip
    kite.exchange.show("NSE:RELIANCE", 100)
    settings.BROKER_ENDPOINTS = {
        "zerodha": {"api": kite.url, "login": kite.url, "stream": kite.ws_url}
    }


@pytest.fixture
def trader(market: None, kite: EmulatorServer) -> Trader:
    return Trader(kite)


@pytest.fixture
def streams(market: None) -> Iterator[Callable[[], OrderStreams]]:
    """Run order streams in a thread each, until the end of the test."""
    running: list[tuple[threading.Event, threading.Thread]] = []

    def start() -> OrderStreams:
        stop, found = threading.Event(), OrderStreams()

        def work() -> None:
            try:
                found.run(stop)
            finally:
                database.close()

        thread = threading.Thread(target=work)
        thread.start()
        running.append((stop, thread))
        found.stop = lambda: (stop.set(), thread.join(20))  # type: ignore[attr-defined]
        return found

    yield start
    for stop, _ in running:
        stop.set()
    for _, thread in running:
        thread.join(20)
        assert not thread.is_alive()


def until(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.03)
    return found


def is_up(found: OrderStreams, trader: Trader) -> bool:
    one = found.streams.get(trader.connection.pk)
    return one is not None and one.up


def status(order: Order) -> tuple[str, int]:
    order.refresh_from_db()
    return order.status, order.filled_quantity


def test_fills_and_ends_come_by_the_stream(trader: Trader, streams: Any):
    running = streams()
    until(lambda: is_up(running, trader))
    first, second = trader.place(), trader.place(5)

    trader.fill(first, 4)
    until(lambda: status(first) == ("PARTIALLY_FILLED", 4))
    trader.fill(first, 6)
    until(lambda: status(first) == ("FILLED", 10))
    trader.cancel(second)
    until(lambda: status(second) == ("CANCELLED", 0))

    assert Fill.objects.count() == 2
    assert Position.objects.get().quantity == 10


def test_what_happened_before_is_read_from_the_book(trader: Trader, streams: Any):
    order = trader.place()
    trader.fill(order, 3)

    streams()

    until(lambda: status(order) == ("PARTIALLY_FILLED", 3))


def test_a_gap_is_closed_by_the_book_after_the_reconnect(
    trader: Trader, streams: Any, kite: EmulatorServer
):
    running = streams()
    until(lambda: is_up(running, trader))
    order = trader.place()
    until(lambda: status(order)[0] == "OPEN")

    kite.faults.add("lose", "EVENT socket", times=None)
    trader.fill(order, 10)
    time.sleep(0.5)
    assert status(order) == ("OPEN", 0)  # the push was lost
    kite.faults.clear()
    kite.faults.add("cut_frame", "SOCKET*", times=1)

    until(lambda: status(order) == ("FILLED", 10), 30)
    assert Fill.objects.count() == 1


def test_duplicates_and_disorder_change_nothing(trader: Trader, streams: Any, kite: EmulatorServer):
    running = streams()
    until(lambda: is_up(running, trader))
    kite.faults.add("duplicate", "EVENT socket", times=None)
    orders = [trader.place() for _ in range(4)]
    kite.faults.add("reorder", "EVENT socket", times=3)

    for order in orders:
        trader.fill(order, 5)
        trader.fill(order, 5)

    for order in orders:
        until(lambda order=order: status(order) == ("FILLED", 10))
    assert Fill.objects.count() == 8
    assert Position.objects.get().quantity == 40


def test_a_burst_of_fills_is_read_in_few_reads(trader: Trader, streams: Any, kite: EmulatorServer):
    running = streams()
    until(lambda: is_up(running, trader))
    order = trader.place(30)
    kite.recorder.clear()

    for _ in range(30):
        trader.fill(order, 1)
    until(lambda: status(order) == ("FILLED", 30))

    assert 1 <= kite.recorder.count(BOOK) <= 12


def test_the_end_of_the_session_ends_the_stream_and_marks_it(
    trader: Trader, streams: Any, kite: EmulatorServer
):
    running = streams()
    until(lambda: is_up(running, trader))
    handshakes = len(_handshakes(kite))

    kite.dialect.sessions.clear()
    _cut(kite)

    until(lambda: trader.session() == "LOGIN_NEEDED", 30)
    until(lambda: trader.connection.pk not in running.streams)
    tried = len(_handshakes(kite))
    time.sleep(3)
    assert len(_handshakes(kite)) == tried <= handshakes + 2  # it never loops

    trader.log_in()
    until(lambda: is_up(running, trader))


def test_a_new_session_is_followed_with_its_own_token(trader: Trader, streams: Any):
    running = streams()
    until(lambda: is_up(running, trader))
    before = running.streams[trader.connection.pk].stream

    trader.log_in()

    until(
        lambda: (
            is_up(running, trader) and running.streams[trader.connection.pk].stream is not before
        )
    )
    order = trader.place()
    trader.fill(order, 10)
    until(lambda: status(order) == ("FILLED", 10))


def test_disabled_connections_are_left(trader: Trader, streams: Any):
    running = streams()
    until(lambda: is_up(running, trader))

    BrokerConnection.objects.update(disabled_at=timezone.now())

    until(lambda: not running.streams)


def test_many_users_in_one_process(market: None, kite: EmulatorServer, streams: Any):
    traders = [Trader(kite, f"ZZ000{n}") for n in range(6)]
    running = streams()
    until(lambda: all(is_up(running, trader) for trader in traders))

    order = traders[3].place()
    traders[3].fill(order, 10)

    until(lambda: status(order) == ("FILLED", 10))
    assert set(Fill.objects.values_list("user_id", flat=True)) == {traders[3].user.pk}


# --- Several processes ---------------------------------------------------------------------------


def test_two_share_the_connections_and_one_takes_over(trader: Trader, streams: Any):
    one = streams()
    until(lambda: is_up(one, trader))
    assert len(one._shards.held) == SHARDS

    two = streams()
    until(lambda: len(two._shards.held) == SHARDS / 2)
    until(lambda: len(one._shards.held) == SHARDS / 2)
    assert not one._shards.held & two._shards.held
    until(lambda: is_up(one, trader) != is_up(two, trader))

    holder, other = (one, two) if is_up(one, trader) else (two, one)
    holder.stop()
    until(lambda: is_up(other, trader), 5)

    order = trader.place()
    trader.fill(order, 10)
    until(lambda: status(order) == ("FILLED", 10))


def test_the_command_ends_when_told_and_loads_no_sdk_before_it_needs_one(market: None):
    """No broker session is open: nothing of any broker's SDK is loaded."""
    name = database.settings_dict["NAME"]
    script = (
        "import sys, django; django.setup()\n"
        "from django.core.management import call_command\n"
        "from django.db import connection\n"
        f"connection.settings_dict['NAME'] = {name!r}\n"
        "call_command('run_order_stream')\n"
        "sdks = {'kiteconnect', 'upstox_client', 'growwapi', 'nats', 'twisted'}\n"
        "print(sorted(sdks & sys.modules.keys()))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=django_settings.BASE_DIR,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings.test"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout.readline().strip() == "Order streams: following."
        until(lambda: _lock_holders() == 1)
        child.send_signal(signal.SIGTERM)
        output, _ = child.communicate(timeout=20)
        assert output.splitlines() == ["Order streams: stopped.", "[]"]
        assert child.returncode == 0
        assert _lock_holders() == 0
    finally:
        child.kill()
        child.wait()


def _lock_holders() -> int:
    with database.cursor() as cursor:
        cursor.execute(stream_shards._COUNT, [stream_shards._CLASS, stream_shards._PRESENT])
        return cursor.fetchone()[0]


def test_a_process_that_is_killed_frees_its_shards(market: None):
    """The locks of a process end with it, however it ends."""
    name = database.settings_dict["NAME"]
    script = (
        "import django, time; django.setup()\n"
        "from django.db import connection\n"
        f"connection.settings_dict['NAME'] = {name!r}\n"
        "from trading.services.stream_shards import Shards\n"
        "print(len(Shards().balance()), flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=django_settings.BASE_DIR,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings.test"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout.readline().strip() == str(SHARDS)
        ours = Shards()
        assert ours.balance() == set()
        child.send_signal(signal.SIGKILL)
        child.wait()
        until(lambda: len(ours.balance()) == SHARDS, 5)
        ours.release()
    finally:
        child.kill()
        child.wait()


def test_a_lost_database_connection_gives_up_what_others_took(market: None):
    ours = Shards()
    assert len(ours.balance()) == SHARDS
    database.close()  # and the locks with it

    taken: list[int] = []

    def other() -> None:
        with database.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s, 7)", [stream_shards._CLASS])
            taken.append(cursor.fetchone()[0])
            done.wait(10)
        database.close()

    done = threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    until(lambda: taken)
    try:
        assert ours.balance() == set(range(SHARDS)) - {7}
    finally:
        done.set()
        thread.join()
    until(lambda: len(ours.balance()) == SHARDS, 5)
    ours.release()


def _handshakes(kite: EmulatorServer) -> list[Any]:
    return [r for r in kite.recorder.find("GET *") if "upgrade" in dict(r.request.headers)]


def _cut(kite: EmulatorServer) -> None:
    kite.faults.add("cut_frame", "SOCKET*", times=1)


def test_shards_cover_every_connection():
    assert {stream_shards.shard_of(UUID(int=n)) for n in range(1000)} == set(range(SHARDS))
