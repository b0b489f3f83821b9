"""The unmodified `kiteconnect` SDK, used as its documentation shows, against the emulated Kite.

No code of the platform takes part: what holds here holds for any user of the SDK.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from kiteconnect import KiteConnect, KiteTicker
from kiteconnect import exceptions as ex

from tests.emulators.core.server import EmulatorServer
from tests.emulators.zerodha.dialect import API_KEY, API_SECRET

REDIRECT = "http://127.0.0.1:9/back?mine=1"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def kite(zerodha: EmulatorServer) -> KiteConnect:
    """A client after the login that the documentation describes: page, redirect, exchange."""
    zerodha.dialect.apps[API_KEY].redirect_url = REDIRECT
    client = KiteConnect(api_key=API_KEY, root=zerodha.url)
    client._default_login_uri = f"{zerodha.url}/connect/login"
    request_token = log_in(client)["request_token"]
    data = client.generate_session(request_token, api_secret=API_SECRET)
    client.set_access_token(data["access_token"])
    return client


def log_in(client: KiteConnect, **more: str) -> dict[str, str]:
    """Fill in the page at the client's login address; return the query of the redirect."""
    page = requests.get(client.login_url(), params=more, timeout=5)
    assert page.status_code == 200
    assert "<form" in page.text
    form = {
        "api_key": client.api_key,
        "user_id": "AB1234",
        "password": "secret",
        "twofa_value": "123456",
        "decision": "login",
        **more,
    }
    answer = requests.post(
        urlsplit(client.login_url())._replace(query="").geturl(),
        data=form,
        timeout=5,
        allow_redirects=False,
    )
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(REDIRECT)
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    return {name: values[0] for name, values in query.items()}


def buy(kite: KiteConnect, **terms: Any) -> str:
    order: dict[str, Any] = {
        "variety": kite.VARIETY_REGULAR,
        "exchange": kite.EXCHANGE_NSE,
        "tradingsymbol": "RELIANCE",
        "transaction_type": kite.TRANSACTION_TYPE_BUY,
        "quantity": 10,
        "product": kite.PRODUCT_CNC,
        "order_type": kite.ORDER_TYPE_LIMIT,
        "price": 95,
        "tag": "ABCDEFGHJK0123456789",
        **terms,
    }
    return str(kite.place_order(**order))


def statuses(kite: KiteConnect, order_id: str) -> list[str]:
    return [row["status"] for row in kite.order_history(order_id)]


def until(holds: Callable[[], Any], seconds: float = 8) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come")


# --- Login ----------------------------------------------------------------------------------------


def test_login_url_names_the_app():
    url = KiteConnect(api_key="key").login_url()
    assert url == "https://kite.zerodha.com/connect/login?api_key=key&v=3"


def test_redirect_brings_back_what_was_sent_along(kite):
    query = log_in(kite, redirect_params="state=xyz%20z&more=1")
    assert query["state"] == "xyz z"
    assert (query["more"], query["mine"]) == ("1", "1")
    assert (query["status"], query["action"]) == ("success", "login")


def test_cancelled_login_brings_no_token(kite):
    assert "request_token" not in log_in(kite, decision="cancel")


def test_session(kite):
    profile = kite.profile()
    assert (profile["user_id"], profile["broker"]) == ("AB1234", "ZERODHA")


def test_request_token_is_good_once(zerodha, kite):
    token = zerodha.dialect.request_token("AB1234", API_KEY)
    kite.generate_session(token, API_SECRET)
    with pytest.raises(ex.TokenException):
        kite.generate_session(token, API_SECRET)


def test_wrong_secret(zerodha, kite):
    token = zerodha.dialect.request_token("AB1234", API_KEY)
    with pytest.raises(ex.TokenException, match="checksum"):
        kite.generate_session(token, "another secret")


def test_request_token_lives_a_few_minutes(zerodha, kite):
    token = zerodha.dialect.request_token("AB1234", API_KEY)
    zerodha.exchange.clock.advance(301)
    with pytest.raises(ex.TokenException, match="expired"):
        kite.generate_session(token, API_SECRET)


def test_session_ends_at_six_in_the_morning(zerodha, kite):
    heard = []
    kite.set_session_expiry_hook(lambda: heard.append(1))
    zerodha.exchange.clock.advance(19.4 * 3600)  # 05:54
    kite.profile()
    zerodha.exchange.clock.advance(0.2 * 3600)
    with pytest.raises(ex.TokenException):
        kite.profile()
    assert heard == [1]


def test_later_login_ends_the_earlier_one(zerodha, kite):
    zerodha.dialect.open_session("AB1234", API_KEY)
    with pytest.raises(ex.TokenException):
        kite.profile()


def test_logout(kite):
    assert kite.invalidate_access_token() is True
    with pytest.raises(ex.TokenException) as raised:
        kite.orders()
    assert raised.value.code == 403


def test_renewal_is_for_approved_apps(zerodha, kite):
    zerodha.dialect.apps[API_KEY].renews = True
    session = kite.generate_session(zerodha.dialect.request_token("AB1234", API_KEY), API_SECRET)
    assert session["refresh_token"]
    renewed = kite.renew_access_token(session["refresh_token"], API_SECRET)
    assert renewed["access_token"] != session["access_token"]
    assert kite.profile()["user_id"] == "AB1234"


# --- Orders ---------------------------------------------------------------------------------------


def test_place_modify_cancel(kite):
    order_id = buy(kite)
    assert len(order_id) == 19
    (row,) = kite.orders()
    assert (row["order_id"], row["status"], row["tag"]) == (
        order_id,
        "OPEN",
        "ABCDEFGHJK0123456789",
    )
    assert row["pending_quantity"] == 10

    kite.modify_order(kite.VARIETY_REGULAR, order_id, quantity=20, price=96)
    assert statuses(kite, order_id) == [
        "PUT ORDER REQ RECEIVED",
        "VALIDATION PENDING",
        "OPEN PENDING",
        "OPEN",
        "MODIFY VALIDATION PENDING",
        "MODIFY PENDING",
        "MODIFIED",
        "OPEN",
    ]
    assert (kite.orders()[0]["quantity"], kite.orders()[0]["price"]) == (20, 96)

    kite.cancel_order(kite.VARIETY_REGULAR, order_id)
    (row,) = kite.orders()
    assert (row["status"], row["filled_quantity"], row["status_message"]) == ("CANCELLED", 0, None)


def test_market_order_with_protection_is_shown_as_limit(kite):
    order_id = buy(kite, order_type="MARKET", price=None, market_protection=-1)
    row = kite.order_history(order_id)[-1]
    assert (row["status"], row["order_type"], row["price"]) == ("COMPLETE", "LIMIT", 102)
    assert row["tags"] == ["ABCDEFGHJK0123456789", "mktp", "mktp:2.00"]


def test_market_order_without_protection_is_refused(kite):
    with pytest.raises(ex.InputException):
        buy(kite, order_type="MARKET", price=None)
    assert kite.orders() == []


def test_partial_fill_stays_open(zerodha, kite):
    zerodha.exchange.show("NSE:RELIANCE", 100, asks=[(100, 4)])
    order_id = buy(kite, price=100)
    row = kite.order_history(order_id)[-1]
    assert (row["status"], row["filled_quantity"], row["average_price"]) == ("OPEN", 4, 100)

    zerodha.exchange.show("NSE:RELIANCE", 99, asks=[(99, 100)])
    assert kite.orders()[0]["average_price"] == 99.4
    trades = kite.order_trades(order_id)
    assert [(t["quantity"], t["average_price"]) for t in trades] == [(4, 100), (6, 99)]
    assert kite.trades() == trades
    assert isinstance(trades[0]["fill_timestamp"], datetime)


def test_stop_waits_for_its_trigger(zerodha, kite):
    order_id = buy(kite, order_type="SL", price=106, trigger_price=105)
    assert statuses(kite, order_id)[-1] == "TRIGGER PENDING"
    zerodha.exchange.show("NSE:RELIANCE", 105)
    assert statuses(kite, order_id)[-2:] == ["OPEN", "COMPLETE"]


def test_ioc_does_not_rest(kite):
    order_id = buy(kite, validity="IOC")
    assert statuses(kite, order_id)[-1] == "CANCELLED"


def test_order_with_a_time_to_live(zerodha, kite):
    order_id = buy(kite, validity="TTL", validity_ttl=5)
    assert kite.orders()[0]["validity_ttl"] == 5
    zerodha.exchange.pass_time(301)
    assert statuses(kite, order_id)[-1] == "CANCELLED"


def test_after_market_order(zerodha, kite):
    zerodha.exchange.close_market()
    with pytest.raises(ex.OrderException, match="closed"):
        buy(kite)
    order_id = buy(kite, variety=kite.VARIETY_AMO)
    other = buy(kite, variety=kite.VARIETY_AMO)
    kite.modify_order("amo", order_id, price=100.05)
    assert statuses(kite, order_id) == ["AMO REQ RECEIVED", "MODIFY AMO REQ RECEIVED"]
    kite.cancel_order("amo", other)
    assert statuses(kite, other)[-1] == "CANCELLED AMO"

    zerodha.exchange.open_market()
    assert statuses(kite, order_id)[-1] == "COMPLETE"


def test_iceberg_shows_one_leg_after_the_other(zerodha, kite):
    buy(kite, variety="iceberg", quantity=25, price=100.05, iceberg_legs=3, iceberg_quantity=10)
    rows = until(lambda: len(kite.orders()) == 3 and kite.orders())
    assert [row["quantity"] for row in rows] == [10, 10, 5]
    assert [row["meta"]["iceberg"]["leg"] for row in rows] == [1, 2, 3]
    assert all(row["status"] == "COMPLETE" for row in rows)


def test_cover_order_brings_its_stop(zerodha, kite):
    order_id = buy(
        kite, variety="co", product="MIS", order_type="MARKET", price=None, trigger_price=95,
        market_protection=-1,
    )  # fmt: skip
    rows = until(lambda: len(kite.orders()) == 2 and kite.orders())
    stop = rows[1]
    assert (stop["parent_order_id"], stop["status"]) == (order_id, "TRIGGER PENDING")
    assert {row["product"] for row in rows} == {"CO"}
    kite.exit_order("co", stop["order_id"], parent_order_id=order_id)
    assert kite.positions()["net"][0]["quantity"] == 0


def test_autoslice(kite, zerodha):
    contract = next(i for i in kite.instruments("NFO") if i["instrument_type"] == "FUT")
    zerodha.dialect.accounts["AB1234"].cash = 11_000_000
    answer = kite.place_autoslice_order(
        "regular", "NFO", contract["tradingsymbol"], "BUY", 65 * 60, "NRML", "LIMIT", price=24850
    )
    # 3900 units of at most 1755 (27 lots) each: the money is there for two of the three parts.
    assert answer["order_id"]
    (child, failed) = answer["children"]
    assert failed["error"]["error_type"] == "MarginException"
    row = next(row for row in kite.orders() if row["order_id"] == child["order_id"])
    assert row["quantity"] == 1755
    assert row["tags"] == ["autoslice", f"autoslice:{answer['order_id']}"]


@pytest.mark.parametrize(
    ("terms", "error", "words"),
    [
        ({"quantity": 5000}, ex.GeneralException, "Insufficient funds. Required margin is"),
        ({"price": 95.03}, ex.InputException, "Tick size"),
        ({"price": 130}, ex.InputException, "circuit"),
        ({"tradingsymbol": "NOTHING"}, ex.InputException, "does not exist"),
        ({"transaction_type": "SELL"}, ex.GeneralException, "Insufficient stock holding"),
        ({"product": "NRML"}, ex.InputException, "product"),
        ({"tag": "not-alnum"}, ex.InputException, "tag"),
        ({"tag": "A" * 21}, ex.InputException, "tag"),
        ({"quantity": 0}, ex.InputException, "quantity"),
        ({"validity": "GTC"}, ex.InputException, "validity"),
    ],
)
def test_refusals(kite, terms, error, words):
    with pytest.raises(error, match=words) as raised:
        buy(kite, **terms)
    assert raised.value.code == 400
    assert kite.orders() == []


def test_late_rejection_is_a_row(zerodha, kite):
    from tests.emulators.core.orders import Reason

    zerodha.exchange.reject_late = {Reason.FUNDS}
    order_id = buy(kite, quantity=5000)
    row = kite.order_history(order_id)[-1]
    assert row["status"] == "REJECTED"
    assert row["status_message_raw"].startswith("RMS:")


def test_order_that_is_being_processed_cannot_be_changed(zerodha, kite):
    from tests.emulators.core.exchange import Latency

    zerodha.exchange.latency = Latency(validating=0.3)
    order_id = buy(kite)
    assert statuses(kite, order_id) == ["PUT ORDER REQ RECEIVED", "VALIDATION PENDING"]
    with pytest.raises(ex.OrderException, match="being processed"):
        kite.cancel_order("regular", order_id)
    until(lambda: statuses(kite, order_id)[-1] == "OPEN")
    kite.cancel_order("regular", order_id)


def test_order_of_nobody(kite):
    with pytest.raises(ex.OrderException):
        kite.cancel_order("regular", "1")
    with pytest.raises(ex.GeneralException) as raised:
        kite.order_history("1")
    assert raised.value.code == 404


def test_twenty_five_modifications(kite):
    order_id = buy(kite)
    for step in range(25):
        kite.modify_order("regular", order_id, price=90 + step % 2)
    with pytest.raises(ex.OrderException, match="modifications"):
        kite.modify_order("regular", order_id, price=92)


def test_registered_addresses_only(zerodha, kite):
    zerodha.dialect.allowed_ips = {"127.0.0.2"}
    with pytest.raises(ex.PermissionException, match="IP not allowed"):
        buy(kite)
    zerodha.dialect.allowed_ips = set()
    with pytest.raises(ex.PermissionException, match="No IPs configured"):
        buy(kite)
    assert kite.orders() == []


def test_timed_out_and_accepted_later(zerodha, kite):
    zerodha.faults.add("timed_out", "POST /orders/*", delay=0.2)
    with pytest.raises(ex.OrderException, match="timed out") as raised:
        buy(kite)
    assert raised.value.code == 400
    assert kite.orders() == []
    assert until(kite.orders)[0]["tag"] == "ABCDEFGHJK0123456789"
    assert zerodha.recorder.count("POST /orders/*") == 1


def test_ten_orders_in_a_second(zerodha, kite):
    zerodha.dialect.limiter.on = True

    def burst() -> None:
        for _ in range(21):  # two calendar seconds at most
            buy(kite, quantity=1)

    with pytest.raises(ex.NetworkException, match="Too many requests") as raised:
        burst()
    assert raised.value.code == 429


# --- Portfolio ------------------------------------------------------------------------------------


def test_day_of_a_delivery(zerodha, kite):
    zerodha.exchange.show("NSE:RELIANCE", 100, asks=[(100, 1000)])
    buy(kite, price=100)
    (position,) = kite.positions()["net"]
    assert (position["quantity"], position["average_price"]) == (10, 100)
    assert position["value"] == position["sell_value"] - position["buy_value"] == -1000
    assert kite.margins("equity")["net"] == 99_000
    assert kite.holdings() == []

    zerodha.exchange.new_day(zerodha.dialect.accounts.values())
    (holding,) = kite.holdings()
    assert (holding["quantity"], holding["t1_quantity"]) == (0, 10)
    assert kite.positions() == {"net": [], "day": []}
    assert kite.orders() == []

    zerodha.exchange.new_day(zerodha.dialect.accounts.values())
    assert kite.holdings()[0]["quantity"] == 10


def test_conversion(zerodha, kite):
    zerodha.exchange.show("NSE:RELIANCE", 100, asks=[(100, 1000)])
    buy(kite, price=100, product="MIS")
    assert kite.margins("equity")["net"] == 99_800
    assert kite.convert_position("NSE", "RELIANCE", "BUY", "day", 10, "MIS", "CNC") is True
    net = {row["product"]: row["quantity"] for row in kite.positions()["net"]}
    assert net == {"MIS": 0, "CNC": 10}
    assert kite.margins("equity")["net"] == 99_000
    with pytest.raises(ex.InputException):
        kite.convert_position("NSE", "RELIANCE", "BUY", "day", 10, "MIS", "CNC")


def test_margins_and_charges(kite):
    order = {
        "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY",
        "variety": "regular", "product": "MIS", "order_type": "LIMIT", "quantity": 10, "price": 100,
    }  # fmt: skip
    (margin,) = kite.order_margins([order])
    assert margin["total"] == 200
    basket = kite.basket_order_margins([order, {**order, "product": "CNC"}])
    assert basket["final"]["total"] == 1200
    (note,) = kite.get_virtual_contract_note(
        [{**order, "order_id": "1", "average_price": 100, "product": "CNC"}]
    )
    assert note["charges"]["transaction_tax"] == 1
    assert note["charges"]["total"] > 1


# --- Market data ----------------------------------------------------------------------------------


def test_quotes(zerodha, kite):
    zerodha.exchange.show("NSE:INFY", 101, bids=[(100.95, 7)], asks=[(101.05, 9)])
    quotes = kite.quote("NSE:INFY", "NSE:NIFTY 50", "NSE:M&M", "NSE:NOTHING")
    assert set(quotes) == {"NSE:INFY", "NSE:NIFTY 50", "NSE:M&M"}
    infy = quotes["NSE:INFY"]
    assert (infy["last_price"], infy["ohlc"]["close"], infy["instrument_token"]) == (
        101,
        100,
        408065,
    )
    assert infy["depth"]["buy"][0] == {"price": 100.95, "quantity": 7, "orders": 1}
    assert len(infy["depth"]["sell"]) == 5
    assert infy["depth"]["sell"][1]["quantity"] == 0
    assert quotes["NSE:NIFTY 50"]["instrument_token"] == 256265
    assert kite.ohlc("BSE:SENSEX")["BSE:SENSEX"]["instrument_token"] == 265
    assert kite.ltp(["NSE:INFY"])["NSE:INFY"]["last_price"] == 101


def test_too_many_quotes(kite):
    with pytest.raises(ex.InputException):
        kite.quote([f"NSE:X{n}" for n in range(501)])


def test_personal_plan_has_no_market_data(zerodha, kite):
    zerodha.dialect.apps[API_KEY].plan = "personal"
    with pytest.raises(ex.PermissionException):
        kite.ltp("NSE:INFY")


def test_candles(kite):
    day = datetime(2026, 11, 20)
    minutes = kite.historical_data(738561, day, day + timedelta(days=1), "minute")
    assert len(minutes) == 375
    assert minutes[0]["date"].isoformat() == "2026-11-20T09:15:00+05:30"
    fives = kite.historical_data(738561, day, day + timedelta(days=1), "5minute", oi=True)
    assert fives[0]["open"] == minutes[0]["open"]
    assert fives[0]["close"] == minutes[4]["close"]
    assert "oi" in fives[0]
    days = kite.historical_data(738561, date(2026, 11, 16), date(2026, 11, 22), "day")
    assert [one["date"].day for one in days] == [16, 17, 18, 19, 20]
    assert days[-1]["close"] == minutes[-1]["close"]
    with pytest.raises(ex.InputException, match="60 days"):
        kite.historical_data(738561, day - timedelta(days=61), day, "minute")


def test_instruments(kite):
    rows = {f"{row['exchange']}:{row['tradingsymbol']}": row for row in kite.instruments()}
    assert rows["NSE:RELIANCE"]["instrument_token"] == 738561
    assert rows["NSE:NIFTY 50"]["segment"] == "INDICES"
    options = [row for row in kite.instruments("NFO") if row["segment"] == "NFO-OPT"]
    assert {row["instrument_type"] for row in options} == {"CE", "PE"}
    assert all(isinstance(row["expiry"], date) and row["lot_size"] == 65 for row in options)


def test_gtt(zerodha, kite):
    order = {
        "transaction_type": "BUY", "quantity": 5, "order_type": "LIMIT", "product": "CNC",
        "price": 95,
    }  # fmt: skip
    made = kite.place_gtt("single", "INFY", "NSE", [95], 100, [order])
    assert kite.get_gtts()[0]["status"] == "active"
    zerodha.exchange.show("NSE:INFY", 94)
    gtt = until(lambda: (g := kite.get_gtt(made["trigger_id"]))["status"] == "triggered" and g)
    result = gtt["orders"][0]["result"]["order_result"]
    assert [row["order_id"] for row in kite.orders()] == [result["order_id"]]
    two = kite.place_gtt("two-leg", "INFY", "NSE", [90, 110], 100, [order, order])
    kite.delete_gtt(two["trigger_id"])
    assert [g["id"] for g in kite.get_gtts()] == [made["trigger_id"]]


# --- Ticker ---------------------------------------------------------------------------------------


def reactor_runs() -> bool:
    from twisted.internet import reactor

    return bool(reactor.running)


class Heard:
    """A ticker with everything that it said."""

    def __init__(self, emulator: EmulatorServer, access_token: str) -> None:
        self.ticks: list[dict[str, Any]] = []
        self.orders: list[dict[str, Any]] = []
        self.errors: list[tuple[Any, str]] = []
        self.beats = self.closes = self.connects = 0
        self.connected = threading.Event()
        self.ticker = KiteTicker(API_KEY, access_token, root=emulator.ws_url)
        self.ticker.on_ticks = lambda ws, ticks: self.ticks.extend(ticks)
        self.ticker.on_order_update = lambda ws, data: self.orders.append(data)
        self.ticker.on_error = lambda ws, code, reason: self.errors.append((code, str(reason)))
        self.ticker.on_connect = self._on_connect
        self.ticker.on_close = self._on_close
        self.ticker.on_message = self._on_message
        if reactor_runs():  # an idle reactor would not notice what another thread asks of it
            self.call("connect", True)
        else:
            self.ticker.connect(threaded=True)

    def _on_connect(self, ws: Any, response: Any) -> None:
        self.connects += 1
        self.connected.set()

    def _on_close(self, ws: Any, code: Any, reason: Any) -> None:
        self.closes += 1

    def _on_message(self, ws: Any, payload: bytes, is_binary: bool) -> None:
        self.beats += is_binary and len(payload) == 1

    def call(self, name: str, *arguments: Any) -> None:
        from twisted.internet import reactor

        reactor.callFromThread(getattr(self.ticker, name), *arguments)


@pytest.fixture
def heard(zerodha: EmulatorServer, kite: KiteConnect) -> Iterator[Heard]:
    made = Heard(zerodha, kite.access_token)
    assert made.connected.wait(10)
    yield made
    made.call("stop_retry")
    made.call("close")


def test_ticks(zerodha, heard):
    zerodha.exchange.show("NSE:INFY", 101.5, bids=[(101.45, 7)], asks=[(101.55, 9)], volume=70)
    heard.call("subscribe", [408065, 256265])
    heard.call("set_mode", "full", [408065])
    until(lambda: any(t["mode"] == "full" for t in heard.ticks))
    full = next(t for t in heard.ticks if t["mode"] == "full")
    assert (full["instrument_token"], full["last_price"], full["volume_traded"]) == (
        408065,
        101.5,
        70,
    )
    assert full["ohlc"] == {"open": 100, "high": 101.5, "low": 100, "close": 100}
    assert full["depth"]["buy"][0] == {"quantity": 7, "price": 101.45, "orders": 1}
    assert full["change"] == 1.5
    index = until(lambda: next((t for t in heard.ticks if t["instrument_token"] == 256265), None))
    assert (index["tradable"], index["mode"], index["last_price"]) == (False, "quote", 24800)

    heard.call("set_mode", "ltp", [408065])
    zerodha.exchange.show("NSE:INFY", 102)
    until(lambda: any(t["mode"] == "ltp" and t["last_price"] == 102 for t in heard.ticks))
    assert until(lambda: heard.beats)


def test_unsubscribed_is_silent(zerodha, heard):
    heard.call("subscribe", [408065, 738561])
    until(lambda: len({t["instrument_token"] for t in heard.ticks}) == 2)
    heard.call("unsubscribe", [408065])
    until(lambda: heard.beats > 1)
    zerodha.exchange.show("NSE:INFY", 103)
    zerodha.exchange.show("NSE:RELIANCE", 103)
    until(lambda: any(t["last_price"] == 103 for t in heard.ticks))
    assert {t["instrument_token"] for t in heard.ticks if t["last_price"] == 103} == {738561}


def test_order_updates(zerodha, kite, heard):
    zerodha.exchange.show("NSE:RELIANCE", 100, asks=[(100, 4)])
    order_id = buy(kite, price=100)
    zerodha.exchange.show("NSE:RELIANCE", 100, asks=[(100, 6)])
    until(lambda: heard.orders and heard.orders[-1]["status"] == "COMPLETE")
    assert [row["status"] for row in heard.orders] == ["OPEN", "UPDATE", "COMPLETE"]
    assert [row["filled_quantity"] for row in heard.orders] == [0, 4, 10]
    assert {row["order_id"] for row in heard.orders} == {order_id}
    assert heard.orders[0]["order_timestamp"].startswith("2026-11-23")


def test_reconnects_and_subscribes_anew(zerodha, heard):
    heard.call("subscribe", [408065])
    until(lambda: heard.ticks)
    zerodha.faults.add("cut_frame", "SOCKET *")
    until(lambda: heard.connects == 2)
    heard.ticks.clear()
    zerodha.exchange.show("NSE:INFY", 104)
    until(lambda: any(t["last_price"] == 104 for t in heard.ticks))


def test_dead_session_is_refused_at_the_handshake(zerodha, kite):
    kite.invalidate_access_token()
    heard = Heard(zerodha, kite.access_token)
    until(lambda: any("403" in reason for _, reason in heard.errors))
    heard.call("stop_retry")
    heard.call("close")
    assert heard.ticks == []
    assert not heard.connects
