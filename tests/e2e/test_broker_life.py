"""The life of an account at each real broker, over HTTP, against its emulator.

Connect, see instruments and prices, every order type, fills by every road, positions, the end of
the session and the next. The platform answers on a socket of its own; what workers do is done by
hand, so that each step is seen alone. The SDKs are the brokers' own, over loopback.
"""

from __future__ import annotations

import html
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection as database

from brokerages.base import SessionRenewal
from brokerages.models import BrokerSession, InboundEvent
from brokerages.registry import adapter_class
from brokerages.services import adapters
from marketdata import broker_prices, selectors
from marketdata.services import instruments_load
from tests.brokerages.contract import benches
from tests.brokerages.test_webhooks import run_due
from tests.emulators.core.clock import IST
from tests.trading.conftest import work
from trading.models import Fill, Order, OrderCommand
from trading.services.books import connections_reconcile
from trading.services.order_streams import OrderStreams

BROKERS = ("zerodha", "upstox", "groww")
KEY = "NSE:RELIANCE"
ITEM = {"exchange_token": "2885", "exchange": "NSE", "instrument_type": "EQ"}
ENDS = ("LOGIN_NEEDED", "EXPIRED")


@dataclass
class Life:
    """One user of the platform, with an account at the emulated broker."""

    bench: Any
    url: str
    account: str = "LIFE01"
    connection_id: str = ""
    http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=30))

    @property
    def name(self) -> str:
        return str(self.bench.name)

    @property
    def offers(self) -> Any:
        return adapter_class(self.name).capabilities

    # --- HTTP -------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return self.http.request(method, f"{self.url}/api/v1{path}", json=body, headers=headers)

    def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self.call(method, path, body)
        assert answer.status_code == status, (method, path, answer.text)
        return answer.json() if answer.content else None

    def get(self, path: str) -> Any:
        return self.ask("GET", path)

    # --- Sessions ---------------------------------------------------------------------------------

    def sign_up(self) -> None:
        body = {"email": f"{uuid4().hex}@example.com", "password": "correct horse battery"}
        tokens = self.ask("POST", "/auth/signup", body, 201)
        self.http.headers["Authorization"] = f"Bearer {tokens['access_token']}"

    def connect(self) -> None:
        given = self.bench.enroll(self.account)
        body = {"broker": self.name, "credentials": given}
        made = self.ask("POST", "/connections", body, 201)
        assert not [secret for secret in given.values() if secret in str(made)]
        self.connection_id = made["id"]
        self.log_in()

    def log_in(self) -> None:
        """Open a session by the broker's own way: its login page and redirect, or codes."""
        path = f"/connections/{self.connection_id}"
        if self.offers.session_renewal is SessionRenewal.INTERACTIVE:
            self._by_its_page(self.get(f"{path}/login-url")["url"])
        else:
            self.ask("POST", f"{path}/session", {})

    def _by_its_page(self, url: str) -> None:
        with httpx.Client(trust_env=False, timeout=15, follow_redirects=False) as browser:
            page = browser.get(url)
            assert page.status_code == 200, page.text
            fields = {
                name: html.unescape(value)
                for name, value in re.findall(r'name="(\w+)"[^>]*?value="([^"]*)"', page.text)
            }
            fields |= self.bench.fill_login_form(self.account)
            action = re.search(r'<form[^>]*action="([^"]*)"', page.text)
            assert action
            back = browser.post(urljoin(url, html.unescape(action[1])), data=fields)
            while back.is_redirect:
                address = urljoin(str(back.url), back.headers["location"])
                back = browser.get(address, headers={"Accept": "application/json"})
                if urlsplit(address).netloc == urlsplit(self.url).netloc:
                    assert parse_qs(urlsplit(address).query)["state"]
                    assert back.status_code < 400, back.text
                    return
        raise AssertionError(f"the login page did not lead back: {back.text}")

    def session(self) -> str:
        return str(self.get(f"/connections/{self.connection_id}/session")["state"])

    def end_session_at_the_broker(self) -> None:
        self.bench.end_session(adapters.adapter_for(UUID(self.connection_id)))

    # --- Orders -----------------------------------------------------------------------------------

    def place(self, status: int = 201, **terms: Any) -> Any:
        body = {"symbol": KEY, "side": "BUY", "quantity": 10, "product": "MIS"} | terms
        answer = self.call("POST", "/orders", body, **{"Idempotency-Key": uuid4().hex})
        assert answer.status_code == status, answer.text
        if status == 201:
            work()
            return self.order(answer.json()["id"])
        return answer.json()["error"]

    def order(self, order_id: str) -> Any:
        return self.get(f"/orders/{order_id}")

    def polled(self, order: Any, *statuses: str) -> Any:
        """Read the broker's books until the order is in one of these."""

        def look() -> Any:
            connections_reconcile()
            found = self.order(order["id"])
            return found if found["status"] in statuses else None

        return until(look, lambda: self.order(order["id"]))

    def resting(self, **terms: Any) -> Any:
        order = self.place(**{"order_type": "LIMIT", "price": "95.00"} | terms)
        return self.polled(order, "OPEN", "TRIGGER_PENDING")

    def at_the_venue(self, order: Any) -> Any:
        """Return the order as the emulated exchange has it."""
        theirs = Order.objects.get(pk=order["id"]).broker_order_id
        return self.bench.dialect.accounts[self.account].orders[theirs]

    def fill(self, order: Any, quantity: int, price: str = "95.00") -> None:
        theirs = Order.objects.get(pk=order["id"]).broker_order_id
        account = self.bench.dialect.accounts[self.account]
        self.bench.venue.fill(account, theirs, quantity, price)


def until(
    look: Callable[[], Any], state: Callable[[], Any] = lambda: "", seconds: float = 15
) -> Any:
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"it did not happen: {state()}"
        time.sleep(0.05)
    return found


@pytest.fixture(params=BROKERS)
def life(
    request: pytest.FixtureRequest,
    live_server: Any,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Life]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(benches, "MONDAY", datetime.now(IST))
    settings.BROKER_PACE_SLACK_MS = 0
    settings.PUBLIC_URL = live_server.url
    cache.clear()
    selectors.clear_tables()
    broker_prices.forget()
    instruments_load()
    bench = benches.BENCHES[request.param](request)
    bench.show("100.00")
    found = Life(bench, live_server.url)
    _lead_to(bench, live_server.url, settings, monkeypatch)
    found.sign_up()
    found.connect()
    call_command("sync_instruments", request.param, verbosity=0)
    yield found
    found.http.close()
    selectors.clear_tables()
    for app in getattr(bench.dialect, "apps", {}).values():
        app.postback_url = ""
    assert bench.server.errors == []


def _lead_to(bench: Any, url: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the platform speak to the emulator, and the emulator send users back."""
    endpoints = dict.fromkeys(("api", "login", "assets"), bench.server.url)
    endpoints["stream"] = bench.server.ws_url
    settings.BROKER_ENDPOINTS = {bench.name: endpoints}
    callback = f"{url}/api/v1/connections/callback/{bench.name}"
    monkeypatch.setattr(benches, "REDIRECT", callback)


# --- Connect, and see -----------------------------------------------------------------------------


def test_session_profile_and_money(life: Life):
    session = life.get(f"/connections/{life.connection_id}/session")

    assert session["state"] == "ACTIVE"
    assert datetime.fromisoformat(session["expires_at"]) > datetime.now(IST)
    profile = life.get(f"/connections/{life.connection_id}/profile")
    assert profile["broker_user_id"]
    funds = life.get(f"/connections/{life.connection_id}/funds")
    assert Decimal(funds["available"]) == 100_000


def test_instruments_are_the_brokers_own_and_not_twice(life: Life):
    rows = life.get(f"/master-data?broker_type={life.name}")["data"]

    by_symbol = {row["symbol"]: row for row in rows}
    assert len(by_symbol) == len(rows)
    share = by_symbol[KEY]
    assert (share["exchange_token"], share["isin"]) == ("2885", "INE002A01018")
    assert share["tick_size"] == "0.05"  # there; it is 0.10 in the bundled list
    assert share["broker_symbol"]
    assert "NSE:NIFTY 50" in by_symbol
    futures = [row for row in rows if row["instrument_type"] == "FUT"]
    assert [row["lot_size"] for row in futures] == [65]
    found = life.get("/instruments?q=RELIANCE&exchange=NSE&kind=EQ")["results"]
    assert [row["symbol"] for row in found] == [KEY]


def test_quotes(life: Life):
    life.bench.show("101.50", [("101.45", 7)], [("101.55", 9)])

    for path in ("ltp-quote", "ohlc-quote", "full-mkt-quote"):
        (quote,) = life.ask("POST", f"/{path}", [ITEM])["data"].values()
        assert Decimal(quote["last_price"]) == Decimal("101.50")
        assert (quote["source"], quote["simulated"]) == (life.name, False)
    depth = quote["depth"]
    assert (Decimal(depth["buy"][0]["price"]), depth["buy"][0]["quantity"]) == (
        Decimal("101.45"), 7,
    )  # fmt: skip
    assert Decimal(quote["lower_circuit"]) == 90
    data = life.ask("POST", "/ltp-quote", [{"symbol": KEY}, {"symbol": "NSE:ADANIENT"}])["data"]
    assert Decimal(data[KEY]["last_price"]) == Decimal("101.50")
    assert data["NSE:ADANIENT"]["error"]["code"] == "instrument_not_at_broker"


def test_candles(life: Life):
    today = datetime.now(IST).date()
    body = ITEM | {"interval": "day", "from_date": f"{today.year - 1}-01-01",
                   "to_date": today.isoformat()}  # fmt: skip

    answer = life.call("POST", "/historical-data", body)

    assert answer.status_code == 200, answer.text
    assert (answer.headers["X-Data-Source"], answer.headers["X-Data-Simulated"]) == (
        life.name, "false",
    )  # fmt: skip
    rows = answer.json()
    assert len(rows) > 200
    times = [row["datetime"] for row in rows]
    assert times == sorted(set(times))
    assert all(Decimal(r["low"]) <= Decimal(r["close"]) <= Decimal(r["high"]) for r in rows)


def test_preview_and_margins(life: Life):
    order = {"symbol": KEY, "side": "BUY", "quantity": 10, "product": "CNC",
             "order_type": "LIMIT", "price": "100.00"}  # fmt: skip

    found = life.ask("POST", "/orders/preview", order)

    assert found["denied"] is None
    assert (found["source"], found["simulated"]) == (life.name, False)
    assert Decimal(found["margin_required"]) >= 1000
    margins = life.ask("POST", f"/connections/{life.connection_id}/margins", {"orders": [order]})
    assert Decimal(margins["required"]) == Decimal(found["margin_required"])


# --- Orders ---------------------------------------------------------------------------------------


def test_limit_order_is_placed_changed_and_cancelled(life: Life):
    order = life.resting(quantity=10, price="95.00")
    assert life.at_the_venue(order).ticket.price == 95

    life.ask("PATCH", f"/orders/{order['id']}", {"price": "96.05", "quantity": 12}, 202)
    work()
    until(lambda: (connections_reconcile(), life.order(order["id"])["price"])[1] == "96.05")
    theirs = life.at_the_venue(order)
    assert (theirs.ticket.price, theirs.ticket.quantity) == (Decimal("96.05"), 12)

    life.ask("DELETE", f"/orders/{order['id']}", status=202)
    work()
    life.polled(order, "CANCELLED")
    assert OrderCommand.objects.filter(kind="PLACE", sends=1).count() == 1
    assert life.bench.server.recorder.count(life.bench.wire.place) == 1


def test_market_order(life: Life):
    order = life.place(order_type="MARKET", quantity=10)

    order = life.polled(order, "FILLED")

    assert order["average_price"] == "100.00"
    assert Fill.objects.filter(order_id=order["id"]).count() == 1


@pytest.mark.parametrize("order_type", ["SL", "SL-M"])
def test_stop_order_is_placed_changed_and_cancelled(life: Life, order_type: str):
    terms: dict[str, Any] = {"order_type": order_type, "trigger_price": "105.00", "quantity": 10}
    if order_type == "SL":
        terms["price"] = "106.00"
    elif order_type not in life.offers.order_types:
        assert life.place(422, **terms)["code"] == "order_type_not_supported"
        return

    order = life.polled(life.place(**terms), "TRIGGER_PENDING")

    changes = {"trigger_price": "104.50"}
    life.ask("PATCH", f"/orders/{order['id']}", changes, 202)
    work()
    until(lambda: life.order(order["id"])["trigger_price"] == "104.50")
    assert life.at_the_venue(order).ticket.trigger == Decimal("104.50")
    life.ask("DELETE", f"/orders/{order['id']}", status=202)
    work()
    life.polled(order, "CANCELLED")


def test_triggered_stop_fills(life: Life):
    order = life.place(order_type="SL", trigger_price="105.00", price="106.00", quantity=10)
    life.polled(order, "TRIGGER_PENDING")

    life.bench.show("105.50")

    assert life.polled(order, "FILLED")["average_price"] == "105.50"


def test_immediate_or_cancel(life: Life):
    life.bench.show("100.00", asks=[("100.00", 4)])
    terms = {"order_type": "LIMIT", "price": "100.00", "validity": "IOC", "quantity": 10}
    if "IOC" not in life.offers.validities:
        assert life.place(422, **terms)["code"] == "validity_not_supported"
        return

    order = life.place(**terms)

    order = life.polled(order, "CANCELLED")
    assert order["filled_quantity"] == 4


def test_what_the_broker_offers_beyond_the_plain_order(life: Life):
    cases = {
        "after_market_orders": {"after_market": True},
        "iceberg_orders": {"iceberg_legs": 2},
    }
    for capability, terms in cases.items():
        body = {"order_type": "LIMIT", "price": "95.00", **terms}
        if getattr(life.offers, capability):
            if "after_market" in terms:
                life.bench.close_market()
            order = life.place(**body)
            assert order["status"] not in ("REJECTED", "DENIED"), order["status_message"]
            life.bench.venue.open_market()
        else:
            assert life.place(422, **body)["code"].endswith("_not_supported")


def test_refusal_says_what_to_do(life: Life):
    order = life.place(order_type="LIMIT", price="100.00", product="CNC", quantity=5000)

    order = life.polled(order, "REJECTED")
    assert order["status_message"]
    assert life.place(422, order_type="LIMIT", price="95.01")["code"] == "tick_size"


# --- Fills, positions, money ----------------------------------------------------------------------


def test_partial_fill_by_poll_then_position_and_profit(life: Life):
    life.bench.show("100.00", asks=[("100.00", 4)])
    order = life.place(order_type="LIMIT", price="100.00", quantity=10)

    order = life.polled(order, "PARTIALLY_FILLED")

    assert order["filled_quantity"] == 4
    life.bench.show("100.00")
    order = life.polled(order, "FILLED")
    assert (order["filled_quantity"], order["average_price"]) == (10, "100.00")
    life.bench.show("103.00")
    broker_prices.forget()
    (position,) = life.get("/positions")["results"]
    assert (position["quantity"], position["last_price"]) == (10, "103.00")
    assert (position["unrealised_pnl"], position["simulated"]) == ("30.00", False)
    assert life.get("/pnl")["unrealised_pnl"] == "30.00"
    (theirs,) = life.get(f"/connections/{life.connection_id}/positions")["results"]
    assert theirs["quantity"] == 10

    answer = life.call("POST", f"/positions/{position['id']}/exit", {})
    assert answer.status_code == 201, answer.text
    work()
    life.polled(answer.json(), "FILLED")
    (position,) = life.get("/positions")["results"]
    assert (position["quantity"], position["realised_pnl"]) == (0, "30.00")


def test_partial_fill_by_stream(life: Life):
    order = life.resting(quantity=10)
    stop, streams = threading.Event(), OrderStreams()

    def follow() -> None:
        try:
            streams.run(stop)
        finally:
            database.close()

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        until(lambda: [s for s in streams.streams.values() if s.up], seconds=20)
        life.fill(order, 4)
        until(lambda: life.order(order["id"])["filled_quantity"] == 4)
        assert life.order(order["id"])["status"] == "PARTIALLY_FILLED"
        life.fill(order, 6)
        until(lambda: life.order(order["id"])["status"] == "FILLED")
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
    assert sum(fill.quantity for fill in Fill.objects.all()) == 10


def test_fill_by_postback(life: Life):
    address = life.get(f"/connections/{life.connection_id}/postback")["url"]
    if not life.offers.sends_postbacks:
        assert address is None
        return
    order = life.resting(quantity=10)
    life.bench.postbacks_to(life.url + urlsplit(address).path)

    life.fill(order, 10)

    until(lambda: InboundEvent.objects.exists())
    until(lambda: (run_due(), life.order(order["id"])["status"])[1] == "FILLED")
    assert Fill.objects.get().quantity == 10


def test_position_is_converted(life: Life):
    life.polled(life.place(order_type="MARKET", quantity=10), "FILLED")
    body = {"symbol": KEY, "quantity": 4, "old_product": "MIS", "new_product": "CNC"}
    path = f"/connections/{life.connection_id}/convert-position"
    if not life.offers.can_convert_position:
        assert life.ask("POST", path, body, 422)["error"]["code"] == "not_supported"
        return

    assert life.ask("POST", path, body)["moved"] == 4

    ours = {row["product"]: row["quantity"] for row in life.get("/positions")["results"]}
    assert ours == {"MIS": 6, "CNC": 4}
    rows = life.get(f"/connections/{life.connection_id}/positions")["results"]
    assert {row["product"]: row["quantity"] for row in rows if row["quantity"]} == ours


# --- The end of the session, and the next ---------------------------------------------------------


def test_end_of_the_session_and_the_next(life: Life):
    order = life.resting(quantity=10)
    life.end_session_at_the_broker()

    refused = life.call("GET", f"/connections/{life.connection_id}/funds")

    assert refused.status_code == 409, refused.text
    assert refused.json()["error"]["detail"]["advice"] == "Log in at the broker again."
    assert until(lambda: life.session() in ENDS and life.session())
    before = life.bench.server.recorder.count()
    assert life.call("POST", "/ltp-quote", [ITEM]).status_code == 409
    connections_reconcile()
    assert life.bench.server.recorder.count() == before  # a session that is over is not used
    assert life.order(order["id"])["status"] == "OPEN"

    life.log_in()

    assert life.session() == "ACTIVE"
    assert BrokerSession.objects.count() == 1
    life.fill(order, 10)
    life.polled(order, "FILLED")
