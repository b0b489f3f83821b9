"""Users with tokens, orders with events, ticks, and servers to connect to."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import connection, transaction
from django.test import Client as Browser

from accounts.clients import Client as Device
from accounts.models import LoginSession, User
from accounts.services.sessions import session_open
from brokerages.models import BrokerConnection
from config.sockets import Limits
from config.stream import Application, Questions
from marketdata import selectors
from marketdata.models import Instrument
from tests.stream.server import Client, Server, client
from trading import push
from trading.models import Order
from trading.services.edits import OrderEdit, order_lock


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    selectors.clear_tables()
    push._forget()
    yield
    selectors.clear_tables()
    push._forget()


@pytest.fixture
def stream() -> Iterator[Callable[..., Server]]:
    """Start servers; each has its own hubs."""
    running = []

    def start(questions: Questions | None = None, **limits: Any) -> Server:
        server = Server(Application(questions, Limits(**limits)))
        running.append(server)
        server.start()
        return server

    yield start
    for server in running:
        server.stop()


class Trader:
    """A user with a token, a browser and an order."""

    def __init__(self, email: str) -> None:
        self.user = User.objects.create_user(email, None)
        self.id = self.user.pk
        self.order = self._order()

    def token(self) -> str:
        device = Device("127.0.0.1", "tests")
        return session_open(
            user=self.user, method=LoginSession.Method.PASSWORD, client=device
        ).access_token

    def cookie(self) -> str:
        browser = Browser()
        browser.force_login(self.user)
        name = settings.SESSION_COOKIE_NAME
        return f"other=1; {name}={browser.cookies[name].value}"

    def _order(self) -> Order:
        at_broker = BrokerConnection.objects.create(
            user=self.user, broker="paper", label="Paper", data_source="simulated"
        )
        return Order.objects.create(
            user=self.user,
            connection=at_broker,
            instrument=Instrument.objects.get(symbol="RELIANCE"),
            idempotency_key="k",
            fingerprint=b"",
            tag="t",
            side="BUY",
            order_type="MARKET",
            product="CNC",
            validity="DAY",
            quantity=10,
        )

    def happen(self, *kinds: str) -> list[int]:
        """Note events on the order in one transaction, as services do; return their numbers."""
        with transaction.atomic():
            edit = OrderEdit(order_lock(self.order.pk), broker="paper")
            for kind in kinds or ("NOTE",):
                edit.note(kind)
            edit.save()
        return [event.pk for event in edit.events]

    def happen_unheard(self, *kinds: str) -> list[int]:
        """The same, with the push lost."""
        with lost_pushes():
            return self.happen(*kinds)

    @contextlib.contextmanager
    def connected(self, server: Server, **options: Any) -> Iterator[Client]:
        with client(server.url, **options) as found:
            assert found.ask(type="auth", token=self.token()) == {"type": "ready"}
            yield found


@contextlib.contextmanager
def lost_pushes() -> Iterator[None]:
    real, push.publish = push.publish, lambda messages: None
    try:
        yield
    finally:
        push.publish = real


@pytest.fixture
def market(transactional_db: None) -> None:
    for symbol in ("RELIANCE", "INFY", "TCS"):
        Instrument.objects.create(
            exchange="NSE",
            segment="EQUITY",
            symbol=symbol,
            name=symbol,
            kind="EQ",
            tick_size="0.05",
            reference_price="1000",
        )


@pytest.fixture
def asha(market: None) -> Trader:
    return Trader("asha@example.com")


@pytest.fixture
def bina(market: None) -> Trader:
    return Trader("bina@example.com")


@pytest.fixture
def valkey() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.REDIS_URL) as found:
        yield found


@pytest.fixture
def tick(valkey: redis.Redis) -> Callable[..., None]:
    """Publish one batch, as the feed does: ``tick(RELIANCE="1450.05")``."""

    def publish(**prices: str) -> None:
        batch = [
            [f"NSE:{symbol}", {"symbol": f"NSE:{symbol}", "last_price": price}]
            for symbol, price in prices.items()
        ]
        valkey.publish("sauda:ticks", json.dumps(batch))

    return publish


@pytest.fixture
def in_thread() -> Iterator[Callable[..., threading.Thread]]:
    """Run a function in a thread whose database connection is closed at its end."""
    started = []

    def start(function: Callable[..., Any], *arguments: Any) -> threading.Thread:
        def work() -> None:
            try:
                function(*arguments)
            finally:
                connection.close()

        thread = threading.Thread(target=work)
        started.append(thread)
        thread.start()
        return thread

    yield start
    for thread in started:
        thread.join(30)
