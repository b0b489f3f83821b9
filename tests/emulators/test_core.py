"""The core of the emulators: right itself, or what is proven on it is worth nothing."""

from __future__ import annotations

import random
import socket as sockets
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.emulators.core.accounts import Account, Holding
from tests.emulators.core.clock import IST, Clock
from tests.emulators.core.dialect import Call, Dialect, route
from tests.emulators.core.exchange import Event, Exchange, Latency, OrderEvent, stages
from tests.emulators.core.limits import Limiter, limit
from tests.emulators.core.market import candles
from tests.emulators.core.messages import Request, Response
from tests.emulators.core.orders import Reason, Refusal, Stage, Ticket
from tests.emulators.core.server import EmulatorServer
from tests.emulators.core.sockets import Socket

KEY = "NSE:RELIANCE"
S = Stage


# --- The exchange ---------------------------------------------------------------------------------


@pytest.fixture
def account() -> Account:
    return Account("A1")


@pytest.fixture
def stopped() -> Exchange:
    """An exchange whose clock moves by hand only."""
    return Exchange(clock=Clock(datetime(2026, 11, 23, 10, 30, tzinfo=IST), running=False))


def ticket(exchange: Exchange, side: str = "BUY", quantity: int = 10, **more: Any) -> Ticket:
    if "price" in more:
        more.setdefault("type", "LIMIT")
        more["price"] = Decimal(str(more["price"]))
    if "trigger" in more:
        more["trigger"] = Decimal(str(more["trigger"]))
    return Ticket(exchange.find(more.pop("key", KEY)), side, quantity, **more)


def refusal(call: Any) -> Refusal:
    with pytest.raises(Refusal) as raised:
        call()
    return raised.value


def test_walks_the_book_at_its_prices(exchange, account):
    exchange.show(KEY, 100, asks=[(100, 4), ("100.05", 3), ("100.10", 50)])
    order = exchange.place(account, ticket(exchange), "1")
    assert [(f.quantity, f.price) for f in order.fills] == [
        (4, Decimal(100)),
        (3, Decimal("100.05")),
        (3, Decimal("100.10")),
    ]
    assert order.stage is S.COMPLETE
    assert exchange.book(order.instrument).asks[0].quantity == 47


def test_price_then_time(exchange, account):
    exchange.show(KEY, 100, bids=[], asks=[])
    first = exchange.place(account, ticket(exchange, price=99), "first")
    better = exchange.place(account, ticket(exchange, price="99.5"), "better")
    second = exchange.place(account, ticket(exchange, price=99), "second")
    exchange.show(KEY, 99, asks=[(99, 15)])
    assert (better.filled, first.filled, second.filled) == (10, 5, 0)


def test_a_change_of_price_costs_the_place_in_the_queue(exchange, account):
    exchange.show(KEY, 100, bids=[], asks=[])
    first = exchange.place(account, ticket(exchange, price=98), "1")
    second = exchange.place(account, ticket(exchange, price=99), "2")
    exchange.modify(account, "1", ticket(exchange, price=99))
    exchange.show(KEY, 99, asks=[(99, 10)])
    assert (first.filled, second.filled) == (0, 10)


def test_liquidity_is_used_once(exchange, account):
    exchange.show(KEY, 100, asks=[(100, 12)])
    one = exchange.place(account, ticket(exchange, price=100), "1")
    two = exchange.place(account, ticket(exchange, price=100), "2")
    exchange.advance()
    assert (one.filled, two.filled) == (10, 2)


def test_stages_follow_the_clock(stopped, account):
    stopped.latency = Latency(received=1, validating=2, sending=3, modify=2, cancel=1)
    order = stopped.place(account, ticket(stopped, price=95), "1")
    seen = [order.stage]
    for _ in range(6):
        stopped.pass_time(1)
        seen.append(order.stage)
    assert seen == [S.RECEIVED, *[S.VALIDATING] * 2, *[S.SENDING] * 3, S.OPEN]
    stopped.cancel(account, "1")
    assert order.stage is S.CANCELLING
    stopped.pass_time(1)
    assert order.stage is S.CANCELLED


def test_fill_wins_against_a_cancel(stopped, account):
    order = stopped.place(account, ticket(stopped, price=95), "1")
    stopped.latency = Latency(cancel=5)
    stopped.cancel(account, "1")
    stopped.show(KEY, 94)
    stopped.pass_time(10)
    assert stages(order)[-2:] == [S.CANCELLING, S.COMPLETE]


def test_fill_wins_against_a_modification(stopped, account):
    order = stopped.place(account, ticket(stopped, price=95), "1")
    stopped.latency = Latency(modify=4)
    stopped.modify(account, "1", ticket(stopped, quantity=20, price=96))
    stopped.show(KEY, 95, asks=[(95, 10)])
    stopped.pass_time(10)
    assert (order.quantity, order.filled, order.stage) == (10, 10, S.COMPLETE)


def test_exchange_may_refuse_cancels_and_changes(exchange, account):
    order = exchange.place(account, ticket(exchange, price=95), "1")
    exchange.lost_cancels = exchange.lost_changes = 1
    exchange.cancel(account, "1")
    exchange.modify(account, "1", ticket(exchange, quantity=20, price=95))
    assert stages(order)[-7:] == [
        S.CANCELLING, S.NOT_CANCELLED, S.OPEN,
        S.MODIFY_VALIDATING, S.MODIFYING, S.NOT_MODIFIED, S.OPEN,
    ]  # fmt: skip
    assert order.quantity == 10
    exchange.cancel(account, "1")
    assert order.stage is S.CANCELLED


def test_order_cannot_change_before_it_arrived_or_after_its_end(stopped, account):
    stopped.latency = Latency(validating=5)
    stopped.place(account, ticket(stopped, price=95), "1")
    assert refusal(lambda: stopped.cancel(account, "1")).reason is Reason.BUSY
    stopped.pass_time(5)
    stopped.cancel(account, "1")
    assert refusal(lambda: stopped.cancel(account, "1")).reason is Reason.FINAL
    assert refusal(lambda: stopped.cancel(account, "2")).reason is Reason.UNKNOWN_ORDER


def test_stop_waits_and_then_trades(exchange, account):
    stop = exchange.place(account, ticket(exchange, type="SL-M", trigger=105), "1")
    bounded = exchange.place(
        account, replace(ticket(exchange, price=106, trigger=105), type="SL"), "2"
    )
    assert {stop.stage, bounded.stage} == {S.TRIGGER_PENDING}
    exchange.show(KEY, "104.95")
    assert stop.stage is S.TRIGGER_PENDING
    exchange.show(KEY, 105)
    assert (stop.stage, bounded.stage) == (S.COMPLETE, S.COMPLETE)


def test_ioc_rest_is_cancelled(exchange, account):
    exchange.show(KEY, 100, asks=[(100, 4)])
    order = exchange.place(account, ticket(exchange, price=100, validity="IOC"), "1")
    assert (order.filled, order.stage) == (4, S.CANCELLED)


def test_market_protection_bounds_a_market_order(exchange, account):
    exchange.show(KEY, 100, asks=[(100, 4), (103, 50)])
    order = exchange.place(account, ticket(exchange, protection=Decimal(2)), "1")
    assert (order.filled, order.stage, order.limit) == (4, S.OPEN, Decimal(102))


def test_after_market_order_waits_for_the_open(exchange, account):
    exchange.close_market()
    assert refusal(lambda: exchange.place(account, ticket(exchange), "0")).reason is Reason.CLOSED
    order = exchange.place(account, ticket(exchange, after_market=True), "1")
    assert order.stage is S.PARKED
    exchange.open_market()
    assert order.stage is S.COMPLETE


def future(exchange: Exchange) -> str:
    return next(key for key, one in exchange.instruments.items() if one.kind == "FUT")


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"price": "95.03"}, Reason.TICK),
        ({"price": "80"}, Reason.BAND),
        ({"quantity": 2000, "price": 100}, Reason.FUNDS),
        ({"side": "SELL"}, Reason.HOLDINGS),
        ({"product": "NRML"}, Reason.PRODUCT),
        ({"type": "LIMIT"}, Reason.TERMS),
        ({"type": "SL-M"}, Reason.TERMS),
        ({"quantity": 0}, Reason.TERMS),
        ({"key": "NSE:NIFTY 50"}, Reason.INSTRUMENT),
        ({"key": "FUTURE", "quantity": 70, "product": "NRML"}, Reason.LOT),
        ({"key": "FUTURE", "quantity": 65 * 30, "product": "NRML"}, Reason.FREEZE),
    ],
)
def test_refusals(exchange, account, terms, reason):
    terms = dict(terms)
    if terms.get("key") == "FUTURE":
        terms["key"] = future(exchange)
    told = refusal(lambda: exchange.place(account, ticket(exchange, **terms), "1"))
    assert told.reason is reason
    assert account.orders == {}


def test_refusal_may_come_late(exchange, account):
    exchange.reject_late = {Reason.FUNDS}
    order = exchange.place(account, ticket(exchange, quantity=2000, price=100), "1")
    assert stages(order) == [S.RECEIVED, S.VALIDATING, S.REJECTED]
    assert account.available == 100_000


def test_holdings_need_their_authorisation(exchange, account):
    instrument = exchange.find(KEY)
    account.holdings[KEY] = Holding(instrument, 10, Decimal(90), authorised=False)
    told = refusal(lambda: exchange.place(account, ticket(exchange, "SELL"), "1"))
    assert told.reason is Reason.AUTHORISATION
    account.holdings[KEY].authorised = True
    exchange.place(account, ticket(exchange, "SELL"), "1")
    assert account.holdings[KEY].used == 10
    assert refusal(lambda: exchange.place(account, ticket(exchange, "SELL"), "2"))


def test_open_sales_claim_their_shares(exchange, account):
    account.holdings[KEY] = Holding(exchange.find(KEY), 10, Decimal(90))
    exchange.place(account, ticket(exchange, "SELL", 6, price=105), "1")
    told = refusal(lambda: exchange.place(account, ticket(exchange, "SELL", 5), "2"))
    assert (told.reason, told.facts["held"]) == (Reason.HOLDINGS, 4)


def test_money_of_an_intraday_round_trip(exchange, account):
    exchange.show(KEY, 100, bids=[(100, 1000)], asks=[(100, 1000)])
    exchange.place(account, ticket(exchange, product="MIS"), "1")
    assert (account.used, account.available) == (200, 99_800)
    exchange.show(KEY, 110, bids=[(110, 1000)], asks=[(110, 1000)])
    exchange.place(account, ticket(exchange, "SELL", product="MIS"), "2")
    assert (account.used, account.cash) == (0, 100_100)
    assert account.charges_due > 0


def test_open_orders_block_money_until_they_end(exchange, account):
    exchange.place(account, ticket(exchange, price=95), "1")
    assert account.available == 100_000 - 950
    exchange.cancel(account, "1")
    assert account.available == 100_000


def test_day_end(exchange, account):
    exchange.show(KEY, 100, bids=[(100, 1000)], asks=[(100, 1000)])
    exchange.place(account, ticket(exchange), "1")
    exchange.place(account, ticket(exchange, product="MIS"), "2")
    waiting = exchange.place(account, ticket(exchange, price=95), "3")
    due = account.charges_due
    exchange.new_day([account])
    assert waiting.stage is S.CANCELLED
    assert (account.holdings[KEY].t1, account.positions, account.orders) == (10, {}, {})
    assert account.cash == 100_000 - 1000 - due


def test_no_units_are_made_or_lost():
    """Random orders: every fill is inside its order's terms, and money and units add up."""
    exchange, chance = Exchange(), random.Random(7)
    cash = Decimal(10**6)
    accounts = [Account(f"A{n}", cash=cash, opening_cash=cash) for n in range(4)]
    for step in range(600):
        account = chance.choice(accounts)
        price = Decimal(chance.randrange(1960, 2040)) / 20
        made = Ticket(
            exchange.find(KEY), chance.choice(("BUY", "SELL")), chance.randint(1, 50),
            chance.choice(("LIMIT", "MARKET")), "MIS", price=price,
        )  # fmt: skip
        exchange.place(account, made, str(step))
        if chance.random() < 0.5:
            last = Decimal(chance.randrange(1980, 2020)) / 20
            size = chance.randint(1, 60)
            exchange.show(KEY, last, bids=[(last, size)], asks=[(last, size)])
    last = exchange.book(exchange.find(KEY)).last
    for account in accounts:
        fills = [fill for order in account.orders.values() for fill in order.fills]
        for order in account.orders.values():
            assert order.filled == sum(fill.quantity for fill in order.fills) <= order.quantity
            if order.type == "LIMIT":
                sign = 1 if order.side == "BUY" else -1
                assert all(sign * (fill.price - order.price) <= 0 for fill in order.fills)
        units = sum(f.quantity * (1 if f.order.side == "BUY" else -1) for f in fills)
        flow = sum(f.quantity * f.price * (-1 if f.order.side == "BUY" else 1) for f in fills)
        (position,) = account.positions.values()
        assert position.quantity == units
        # Realised and unrealised together are what cash flow and mark say.
        unrealised = units * last - position.cost
        assert abs(position.realised + unrealised - (flow + units * last)) < Decimal("1e-15")
        assert abs(account.cash - 10**6 - position.realised) < Decimal("1e-15")


def test_candles_fit_together():
    exchange = Exchange()
    share = exchange.find(KEY)
    start, end = (datetime(2026, 11, day, tzinfo=IST) for day in (16, 24))
    minutes, hours = (list(candles(share, n, start, end)) for n in (1, 60))
    days = list(candles(share, None, start, end))
    assert [len(minutes), len(hours), len(days)] == [375 * 6, 7 * 6, 7]  # the 24th is its midnight
    assert [one.start.day for one in days] == [16, 17, 18, 19, 20, 23, 24]
    assert hours[0].open == minutes[0].open == days[0].open
    assert hours[0].close == minutes[59].close
    for one in (*minutes, *hours, *days):
        assert one.low <= min(one.open, one.close) <= max(one.open, one.close) <= one.high
    middle = datetime(2026, 11, 19, tzinfo=IST)
    halves = [*candles(share, 1, start, middle), *candles(share, 1, middle, end)]
    assert halves == minutes


def test_walk_stays_inside_the_circuits():
    exchange = Exchange(seed=3)
    for _ in range(500):
        exchange.walk()
    for book in exchange.books.values():
        assert book.instrument.lower_circuit <= book.last <= book.instrument.upper_circuit
        assert book.last % book.instrument.tick == 0
        assert len(book.bids) <= 5
    assert exchange.book(exchange.find(KEY)).last != 100


# --- Limits ---------------------------------------------------------------------------------------


def test_rolling_window():
    now = [100.0]
    limiter = Limiter((limit("order", 2, 1), limit("order read", 3, 10)), lambda: now[0])
    told = []
    for at in (100.0, 100.5, 100.9, 101.0, 101.4, 109.99, 110.5):
        now[0] = at
        told.append(limiter.admits("order", "k"))
    assert told == [True, True, False, True, False, False, True]
    assert limiter.admits("order", "another key")
    assert limiter.admits("free", "k")


def test_calendar_window():
    now = [100.9]
    limiter = Limiter((limit("order", 1, 1, calendar=True),), lambda: now[0])
    assert limiter.admits("order", "k")
    assert not limiter.admits("order", "k")
    now[0] = 101.0
    assert limiter.admits("order", "k")


# --- The server -----------------------------------------------------------------------------------


class Plain(Dialect):
    """A small dialect: orders, a book, an echoing socket that also tells of orders."""

    name = "plain"
    limits = (limit("order", 5, 60),)

    def __init__(self, exchange: Exchange | None = None) -> None:
        super().__init__(exchange)
        self.limiter.on = False
        self.sockets: list[Socket] = []
        self.postback_url = ""

    @route("POST", "/orders/{kind}", group="order", fixed_ip=True)
    def place(self, call: Call) -> Response:
        form = call.request.form
        made = Ticket(
            self.exchange.find(form["key"]), "BUY", int(form["quantity"]), tag=form.get("tag", "")
        )
        return Response.of({"id": self.exchange.place(call.account, made, self._id()).id})

    @route("GET", "/orders")
    def orders(self, call: Call) -> Response:
        return Response.of([order.id for order, _ in call.book()])

    @route("GET", "/trades")
    def list_trades(self, call: Call) -> Response:
        return Response.of([fill.quantity for fill in call.trades()])

    @route("GET", "/broken")
    def broken(self, call: Call) -> Response:
        raise AttributeError("a bug")

    def _id(self) -> str:
        return f"P{self.next_number()}"

    def authenticate(self, call: Call) -> Account | Response:
        if call.request.bearer != "token":
            return Response.of({"error": "session"}, 401)
        return self.account("A1")

    def refused(self, refusal: Refusal) -> Response:
        return Response.of({"error": str(refusal.reason), "message": refusal.message}, 400)

    def over_limit(self, call: Call) -> Response:
        return Response.of({"error": "limit"}, 429)

    def wrong_address(self, call: Call) -> Response:
        return Response.of({"error": "address"}, 403)

    def session_over(self) -> Response:
        return Response.of({"error": "session"}, 401)

    def timed_out(self) -> Response:
        return Response.of({"error": "timed out"}, 400)

    def accept_socket(self, request: Request) -> Response | None:
        return None if request.query.get("token") == "token" else self.session_over()

    async def serve_socket(self, socket: Socket) -> None:
        self.sockets.append(socket)
        while (message := await socket.receive()) is not None:
            socket.send(message)
        self.sockets.remove(socket)

    def on_event(self, event: Event) -> None:
        if isinstance(event, OrderEvent):
            for socket in self.sockets:
                socket.send(f"{event.order.id} {event.row.stage}", "EVENT socket")
            if self.postback_url and event.row.stage is S.COMPLETE:
                self.server.post(self.postback_url, event.order.id.encode(), {"X-Kind": "order"})


@pytest.fixture
def plain() -> Iterator[EmulatorServer]:
    with EmulatorServer(Plain()) as emulator:
        yield emulator


class Client:
    def __init__(self, emulator: EmulatorServer) -> None:
        self.url, self.session = emulator.url, requests.Session()
        self.session.headers["Authorization"] = "Bearer token"
        self.session.trust_env = False

    def place(self, timeout: float = 5, **more: Any) -> requests.Response:
        form = {"key": KEY, "quantity": 1, **more}
        return self.session.post(f"{self.url}/orders/x", data=form, timeout=timeout)

    def get(self, path: str) -> Any:
        return self.session.get(self.url + path, timeout=5).json()


@pytest.fixture
def client(plain: EmulatorServer) -> Client:
    return Client(plain)


def test_starts_and_stops_at_once():
    started = time.monotonic()
    for _ in range(5):
        with EmulatorServer(Plain()) as emulator:
            assert requests.get(f"{emulator.url}/nothing", timeout=5).status_code == 404
    assert time.monotonic() - started < 0.5 * 5
    with pytest.raises(OSError, match="refused"):
        sockets.create_connection(("127.0.0.1", emulator.port), 1)


def test_keeps_connections_and_records_every_request(plain, client):
    assert client.place(tag="T1").json() == {"id": "P1"}
    client.get("/orders")
    first, second = plain.recorder.find()
    assert (first.line, first.request.form["tag"], first.status) == ("POST /orders/x", "T1", 200)
    assert first.request.headers["authorization"] == "Bearer token"
    assert first.at < second.at <= time.monotonic()
    assert (plain.recorder.count("POST *"), plain.recorder.peak(1)) == (1, 2)


def test_a_bug_in_a_dialect_is_not_swallowed():
    emulator = EmulatorServer(Plain()).start()
    with pytest.raises(requests.ConnectionError):
        Client(emulator).get("/broken")
    with pytest.raises(AssertionError, match="plain failed"):
        emulator.stop()


def test_bad_requests_are_the_clients(client):
    assert client.place(quantity="many").status_code == 400
    assert client.place(key="NSE:NOTHING").json()["error"] == "INSTRUMENT"


def test_sessions_addresses_and_limits(plain, client):
    assert requests.get(f"{plain.url}/orders", timeout=5).status_code == 401
    plain.dialect.allowed_ips = {"127.0.0.2"}
    assert client.place().status_code == 403
    assert client.get("/orders") == []
    plain.dialect.allowed_ips = {"127.0.0.1"}
    plain.dialect.limiter.on = True
    assert [client.place().status_code for _ in range(6)] == [200] * 5 + [429]


@pytest.mark.parametrize(
    ("kind", "options", "status", "error"),
    [
        ("refuse", {"reason": Reason.FUNDS, "message": "poor"}, 400, "FUNDS"),
        ("rate_limit", {}, 429, "limit"),
        ("static_ip", {}, 403, "address"),
        ("expired", {}, 401, "session"),
        ("status", {"status": 503}, 503, None),
        ("timed_out", {}, 400, "timed out"),
    ],
)
def test_faults_that_do_not_act(plain, client, kind, *, options, status, error):
    plain.faults.add(kind, "POST /orders/*", **options)
    answer = client.place()
    assert answer.status_code == status
    assert error is None or answer.json()["error"] == error
    assert client.get("/orders") == []
    assert client.place().status_code == 200  # once


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("keep_then_status", {"status": 502}),
        ("garbage", {}),
        ("content_type", {"content_type": "text/html"}),
        ("drip", {"seconds": 0.1}),
        ("delay", {"seconds": 0.1}),
    ],
)
def test_faults_that_act_and_answer_badly(plain, client, kind, options):
    plain.faults.add(kind, "POST /orders/*", **options)
    answer = client.place()
    assert client.get("/orders") == ["P1"]
    if kind == "keep_then_status":
        assert answer.status_code == 502
    if kind == "garbage":
        assert "{" in answer.text
        with pytest.raises(ValueError):
            answer.json()
    if kind == "content_type":
        assert answer.headers["content-type"] == "text/html"
    assert plain.recorder.find("POST *")[0].acted


@pytest.mark.parametrize(
    ("kind", "acts"), [("drop_before", False), ("drop_after", True), ("cut", True)]
)
def test_faults_that_cut_the_connection(plain, client, kind, acts):
    plain.faults.add(kind, "POST /orders/*")
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        client.place()
    assert client.get("/orders") == (["P1"] if acts else [])
    (record,) = plain.recorder.find("POST *")
    assert (record.status, record.acted, record.fault) == (None, acts, kind)


@pytest.mark.parametrize("acts", [False, True])
def test_hanging(plain, client, acts):
    plain.faults.add("hang", "POST /orders/*", acts=acts)
    with pytest.raises(requests.ReadTimeout):
        client.place(timeout=0.2)
    assert client.get("/orders") == (["P1"] if acts else [])


def test_timed_out_and_accepted_later(plain, client):
    plain.faults.add("timed_out", "POST /orders/*", delay=0.2)
    assert client.place().status_code == 400
    assert client.get("/orders") == []
    time.sleep(0.4)
    assert client.get("/orders") == ["P1"]


def test_partial_and_stale_books(plain, client):
    for _ in range(3):
        client.place()
    plain.faults.add("partial_book", "GET /orders", missing=2)
    assert client.get("/orders") == ["P1"]
    assert client.get("/orders") == ["P1", "P2", "P3"]
    plain.exchange.clock.advance(60)
    client.place()
    plain.faults.add("stale_book", "GET *", times=2, seconds=30)
    assert (len(client.get("/orders")), len(client.get("/trades"))) == (3, 3)
    assert len(client.get("/orders")) == 4


def test_faults_may_spare_the_first(plain, client):
    plain.faults.add("status", "POST *", after=2, times=1)
    assert [client.place().status_code for _ in range(4)] == [200, 200, 503, 200]
    with pytest.raises(ValueError, match="no such fault"):
        plain.faults.add("nonsense")


def test_socket_echoes_and_fragments(plain):
    with connect(f"{plain.ws_url}/?token=token", proxy=None) as socket:
        socket.send("text")
        assert socket.recv(5) == "text"
        socket.send([b"in ", b"parts"])
        assert socket.recv(5) == b"in parts"


def test_socket_is_refused(plain):
    with pytest.raises(InvalidStatus) as raised:
        connect(f"{plain.ws_url}/", proxy=None)
    assert raised.value.response.status_code == 401
    plain.faults.add("refuse_socket", "SOCKET *", status=503)
    with pytest.raises(InvalidStatus) as raised:
        connect(f"{plain.ws_url}/?token=token", proxy=None)
    assert raised.value.response.status_code == 503


def test_frame_is_cut_in_the_middle(plain):
    with connect(f"{plain.ws_url}/?token=token", proxy=None) as socket:
        plain.faults.add("cut_frame", "SOCKET *")
        socket.send("x" * 100)
        with pytest.raises(ConnectionClosed):
            socket.recv(5)


def test_silence(plain):
    with connect(f"{plain.ws_url}/?token=token", proxy=None) as socket:
        plain.faults.add("silence", "SOCKET *", times=None)
        socket.send("a")
        with pytest.raises(TimeoutError):
            socket.recv(0.2)
        plain.faults.clear()
        socket.send("b")
        assert socket.recv(5) == "b"


@pytest.mark.parametrize(
    ("kind", "after", "heard"),
    [
        ("duplicate", 3, "VALIDATING SENDING OPEN OPEN COMPLETE"),
        ("reorder", 3, "VALIDATING SENDING COMPLETE OPEN"),
        ("lose", 3, "VALIDATING SENDING COMPLETE"),
    ],
)
def test_events_twice_late_or_never(plain, client, kind, after, heard):
    with connect(f"{plain.ws_url}/?token=token", proxy=None) as socket:
        socket.send("ready")
        socket.recv(5)
        plain.faults.add(kind, "EVENT socket", after=after)
        client.place()
        told = [socket.recv(5) for _ in range(len(heard.split()) + 1)]
    assert told == [f"P1 {stage}" for stage in ("RECEIVED", *heard.split())]


class Inbox(BaseHTTPRequestHandler):
    got: list[bytes] = []

    def do_POST(self) -> None:
        self.got.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("kind", "heard"),
    [("", "P1 P2"), ("duplicate", "P1 P1 P2"), ("reorder", "P2 P1"), ("lose", "P2")],
)
def test_postbacks(plain, client, kind, heard):
    Inbox.got = []
    inbox = HTTPServer(("127.0.0.1", 0), Inbox)
    threading.Thread(target=inbox.serve_forever, daemon=True).start()
    try:
        plain.dialect.postback_url = f"http://127.0.0.1:{inbox.server_port}/back?x=1"
        if kind:
            plain.faults.add(kind, "EVENT postback")
        client.place()
        client.place()
        end = time.monotonic() + 5
        while len(plain.dialect.postbacks) < len(heard.split()) and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        inbox.shutdown()
        inbox.server_close()
    assert Inbox.got == [one.encode() for one in heard.split()]
    assert {status for *_, status in plain.dialect.postbacks} == {200}


def test_postbacks_stay_on_this_machine(plain):
    with pytest.raises(ValueError, match="loopback"):
        plain.post("http://example.org/", b"", {})


# --- Levers ---------------------------------------------------------------------------------------


def test_levers(plain, client):
    def pull(name: str, body: Any = None, method: str = "POST") -> Any:
        answer = requests.request(method, f"{plain.url}/__emulator__/{name}", json=body, timeout=5)
        assert answer.status_code == 200, answer.text
        return answer.json()

    pull("accounts", {"user_id": "A1", "cash": 5000,
                      "holdings": [{"key": KEY, "quantity": 5, "average": 90}]})  # fmt: skip
    pull("show", {"key": KEY, "last": 50 + 50, "asks": [[100, 3]]})
    client.place(quantity=10)
    (account,) = pull("accounts", method="GET")
    (order,) = account["orders"]
    assert (order["filled"], order["stage"]) == (3, "OPEN")
    pull("order", {"user_id": "A1", "id": "P1", "do": "fill", "quantity": 2, "price": "99.5"})
    assert plain.dialect.accounts["A1"].orders["P1"].filled == 5
    pull("order", {"user_id": "A1", "id": "P1", "do": "reject", "message": "no"})
    assert plain.dialect.accounts["A1"].orders["P1"].stage is S.REJECTED

    pull("faults", {"kind": "status", "pattern": "POST *", "times": 2, "status": 500})
    assert client.place().status_code == 500
    assert pull("faults", method="GET")[0]["times"] == 1
    assert pull("faults", method="DELETE") == []
    records = pull("record?pattern=POST%20/orders/*", method="GET")
    assert [record["status"] for record in records] == [200, 500]
    assert pull("peak?seconds=10&pattern=POST%20*", method="GET")["peak"] == 2

    before = datetime.fromisoformat(pull("clock", method="GET")["now"])
    later = datetime.fromisoformat(pull("clock", {"advance": 3600})["now"])
    assert timedelta(hours=1) <= later - before < timedelta(hours=1, seconds=30)
    assert pull("clock", {"set": "2027-01-01T00:00:00+00:00", "stop": True})["now"].startswith(
        "2027-01-01T00:00:00"
    )
    assert plain.exchange.clock.now() <= datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC)

    pull("market", {"do": "close"})
    assert client.place().json()["error"] == "CLOSED"
    pull("market", {"do": "new_day"})
    pull("latency", {"validating": 60})
    client.place(quantity=1)
    assert plain.dialect.accounts["A1"].orders["P3"].stage is S.VALIDATING
    pull("settings", {"allowed_ips": ["10.0.0.1"], "limits": True, "reject_late": ["FUNDS"]})
    assert client.place().status_code == 403
    assert pull("", method="GET")["broker"] == "plain"
    pull("reset", {})
    assert pull("accounts", method="GET") == []
    assert pull("record", method="GET") == []


@pytest.mark.parametrize(
    ("method", "name", "body", "status"),
    [
        ("POST", "nothing", {}, 404),
        ("POST", "show", {"key": "NSE:NOTHING", "last": 1}, 400),
        ("POST", "faults", {"kind": "nonsense"}, 400),
        ("POST", "show", [1], 400),
        ("POST", "do/nothing", {}, 400),
        ("POST", "clock", {"set": "yesterday"}, 400),
    ],
)
def test_levers_that_do_not_exist(plain, method, name, body, status):
    url = f"{plain.url}/__emulator__/{name}"
    assert requests.request(method, url, json=body, timeout=5).status_code == status
