"""The unmodified SDK, used as its documentation shows, against the emulator and without our code.

The SDK's streamers dial ``wss://api.upstox.com`` whatever they are told. Here that name resolves to
the emulator, which speaks TLS with a certificate of its own, as a hosts file would have it.
"""

from __future__ import annotations

import gzip
import json
import queue
import re
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
import upstox_client
from upstox_client.rest import ApiException

from tests.emulators.core.clock import IST, Clock
from tests.emulators.core.exchange import Exchange
from tests.emulators.core.server import EmulatorServer
from tests.emulators.tls import Certificate, make_certificate
from tests.emulators.upstox import Upstox
from tests.emulators.upstox.dialect import API_KEY, API_SECRET

MONDAY = datetime(2026, 11, 23, 10, 30, tzinfo=IST)
BROKER = "api.upstox.com"
REDIRECT = "http://127.0.0.1:9/callback"
RELIANCE, NIFTY = "NSE_EQ|INE002A01018", "NSE_INDEX|Nifty 50"
V = "2.0"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), BROKER)


@pytest.fixture
def emulator(certificate: Certificate) -> Iterator[EmulatorServer]:
    dialect = Upstox(Exchange(clock=Clock(MONDAY)), heartbeat=0.2)
    with EmulatorServer(dialect, tls=certificate.context) as server:
        dialect.limiter.on = False
        yield server


def configuration(emulator: EmulatorServer, certificate: Certificate) -> Any:
    made = upstox_client.Configuration()
    made.host = made.order_host = emulator.url
    made.ssl_ca_cert = str(certificate.path)
    return made


@pytest.fixture
def client(emulator: EmulatorServer, certificate: Certificate) -> Any:
    """A client that has logged in: page, redirect, code, token."""
    settings = configuration(emulator, certificate)
    question = {
        "response_type": "code",
        "client_id": API_KEY,
        "redirect_uri": REDIRECT,
        "state": "mine",
    }
    address = f"{emulator.url}/v2/login/authorization/dialog?{urlencode(question)}"
    with requests.Session() as browser:
        browser.trust_env, browser.verify = False, str(certificate.path)
        page = browser.get(address, timeout=5).text
        fields = dict(re.findall(r'name="(\w+)"[^>]*?value="([^"]*)"', page))
        action = re.search(r'action="([^"]*)"', page)
        assert action
        answer = browser.post(
            emulator.url + action[1], data=fields, timeout=5, allow_redirects=False
        )
    back = parse_qs(urlsplit(answer.headers["location"]).query)
    assert back["state"] == ["mine"]
    token = upstox_client.LoginApi(upstox_client.ApiClient(settings)).token(
        V,
        code=back["code"][0],
        client_id=API_KEY,
        client_secret=API_SECRET,
        redirect_uri=REDIRECT,
        grant_type="authorization_code",
    )
    assert token.user_id == "4CAB12"
    settings.access_token = token.access_token
    return upstox_client.ApiClient(settings)


def body(**fields: Any) -> Any:
    terms = {
        "quantity": 10,
        "product": "D",
        "validity": "DAY",
        "price": 95.0,
        "tag": "mytag",
        "instrument_token": RELIANCE,
        "order_type": "LIMIT",
        "transaction_type": "BUY",
        "disclosed_quantity": 0,
        "trigger_price": 0.0,
        "is_amo": False,
        "slice": False,
    }
    return upstox_client.PlaceOrderV3Request(**terms | fields)


def error_of(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(ApiException) as raised:
        call()
    return raised.value.status, json.loads(raised.value.body)["errors"][0]["error_code"]


# --- REST -----------------------------------------------------------------------------------------


def test_user(client: Any) -> None:
    users = upstox_client.UserApi(client)
    profile = users.get_profile(V).data
    assert (profile.user_id, profile.broker) == ("4CAB12", "UPSTOX")
    assert users.get_user_fund_margin_v3().data.available_to_trade.total == 100_000
    assert users.get_user_fund_margin(V).data["equity"].available_margin == 100_000


def test_token_request(client: Any, emulator: EmulatorServer, certificate: Certificate) -> None:
    anonymous = upstox_client.ApiClient(configuration(emulator, certificate))
    request = upstox_client.IndieUserTokenRequest(client_secret=API_SECRET)
    answer = upstox_client.LoginApi(anonymous).init_token_request_for_indie_user(request, API_KEY)
    assert int(answer.data.authorization_expiry) > MONDAY.timestamp() * 1000
    assert emulator.dialect.approve("4CAB12", API_KEY).access_token


def test_orders(client: Any) -> None:
    orders, books = upstox_client.OrderApiV3(client), upstox_client.OrderApi(client)
    answer = orders.place_order(body())
    assert answer.status == "success"
    (number,) = answer.data.order_ids
    assert answer.metadata.latency >= 0

    change = upstox_client.ModifyOrderRequest(
        order_id=number,
        quantity=20,
        order_type="LIMIT",
        validity="DAY",
        price=96.05,
        trigger_price=0.0,
        disclosed_quantity=0,
    )
    assert orders.modify_order(change).data.order_id == number
    (row,) = books.get_order_book(V).data
    assert (row.order_id, row.quantity, row.price, row.tag) == (number, 20, 96.05, "mytag")
    assert row.status == "open"
    assert books.get_order_status(order_id=number).data.status == "open"

    assert orders.cancel_order(number).data.order_id == number
    history = [state.status for state in books.get_order_details(V, tag="mytag").data]
    assert history == [
        "put order req received",
        "validation pending",
        "open pending",
        "open",
        "modify validation pending",
        "modify pending",
        "modified",
        "open",
        "cancel pending",
        "cancelled",
    ]
    assert error_of(lambda: orders.cancel_order(number)) == (400, "UDAPI100040")
    assert error_of(lambda: orders.modify_order(change)) == (400, "UDAPI100041")
    assert error_of(lambda: orders.cancel_order("nothing")) == (400, "UDAPI100010")


def test_fills_and_portfolio(client: Any) -> None:
    orders, books = upstox_client.OrderApiV3(client), upstox_client.OrderApi(client)
    holdings = upstox_client.PortfolioApi(client)
    bare = body(order_type="MARKET", price=0.0, product="I")
    assert error_of(lambda: orders.place_order(bare)) == (400, "UDAPI1158")
    orders.place_order(body(order_type="MARKET", price=0.0, product="I", market_protection=-1))
    (trade,) = books.get_trade_history(V).data
    assert (trade.quantity, trade.average_price) == (10, 100.05)
    assert books.get_trades_by_order(trade.order_id, V).data[0].trade_id == trade.trade_id
    (position,) = holdings.get_positions(V).data
    assert (position.quantity, position.product, position.trading_symbol) == (10, "I", "RELIANCE")
    convert = upstox_client.ConvertPositionRequest(
        instrument_token=RELIANCE,
        old_product="I",
        new_product="D",
        transaction_type="BUY",
        quantity=10,
    )
    assert holdings.convert_positions(convert, V).status == "success"
    assert holdings.get_holdings(V).data == []
    assert holdings.get_mtf_positions().data == []


def test_several_orders_at_once(client: Any) -> None:
    books = upstox_client.OrderApi(client)
    listed = [
        upstox_client.MultiOrderRequest(
            quantity=quantity,
            product="D",
            validity="DAY",
            price=95.0,
            tag="many",
            instrument_token=RELIANCE,
            order_type="LIMIT",
            transaction_type="BUY",
            disclosed_quantity=0,
            trigger_price=0.0,
            is_amo=False,
            slice=False,
            correlation_id=str(quantity),
        )
        for quantity in (5, 0)
    ]
    answer = books.place_multi_order(listed)
    assert answer.status == "partial_success"
    assert [row.correlation_id for row in answer.data] == ["5"]
    assert answer.errors[0].error_code == "UDAPI1052"
    assert len(books.cancel_multi_order(tag="many").data.order_ids) == 1


def test_refusals(client: Any, emulator: EmulatorServer) -> None:
    orders = upstox_client.OrderApiV3(client)
    emulator.dialect.allowed_ips = {"127.0.0.9"}
    assert error_of(lambda: orders.place_order(body())) == (403, "UDAPI1154")
    emulator.dialect.allowed_ips = None
    emulator.faults.add("rate_limit", "POST *")
    assert error_of(lambda: orders.place_order(body())) == (429, "UDAPI10005")
    emulator.dialect.end_sessions("4CAB12")
    assert error_of(lambda: orders.place_order(body())) == (401, "UDAPI100050")
    assert emulator.recorder.count("POST /v3/order/place") == 3


def test_token_dies_at_half_past_three(client: Any, emulator: EmulatorServer) -> None:
    users = upstox_client.UserApi(client)
    end = datetime(2026, 11, 24, 3, 30, tzinfo=IST)
    emulator.exchange.clock.set(end - timedelta(seconds=20))
    users.get_profile(V)
    emulator.exchange.clock.set(end)
    assert error_of(lambda: users.get_profile(V)) == (401, "UDAPI100050")


def test_rate_limit_counts_place_modify_and_cancel_together(
    client: Any, emulator: EmulatorServer
) -> None:
    emulator.dialect.limiter.on = True
    orders = upstox_client.OrderApiV3(client)
    for _ in range(5):
        orders.cancel_order(orders.place_order(body(quantity=1)).data.order_ids[0])
    assert error_of(lambda: orders.place_order(body(quantity=1))) == (429, "UDAPI10005")
    upstox_client.OrderApi(client).get_order_book(V)  # reads count for themselves


def test_charges(client: Any) -> None:
    charges = upstox_client.ChargeApi(client)
    leg = upstox_client.Instrument(
        instrument_key=RELIANCE, quantity=10, product="D", transaction_type="BUY", price=95.0
    )
    margin = charges.post_margin(upstox_client.MarginRequest(instruments=[leg])).data
    assert margin.final_margin == 950
    brokerage = charges.get_brokerage(RELIANCE, 10, "D", "BUY", 95.0, V).data
    assert brokerage.charges.total > 0


def test_market_data(client: Any) -> None:
    quotes = upstox_client.MarketQuoteV3Api(client)
    keys = f"{RELIANCE},{NIFTY}"
    prices = quotes.get_ltp(instrument_key=keys).data
    assert prices["NSE_EQ:RELIANCE"].last_price == 100
    assert prices["NSE_INDEX:Nifty 50"].instrument_token == NIFTY
    full = quotes.get_full_market_quote_v3(instrument_key=RELIANCE).data["NSE_EQ:RELIANCE"]
    assert full.depth.buy[0].price == 99.95
    old = upstox_client.MarketQuoteApi(client).get_full_market_quote(keys, V).data
    assert old["NSE_EQ:RELIANCE"].instrument_token == RELIANCE
    day = quotes.get_market_quote_ohlc("1d", instrument_key=RELIANCE).data["NSE_EQ:RELIANCE"]
    assert day.live_ohlc.high == 100


def test_candles(client: Any) -> None:
    history = upstox_client.HistoryV3Api(client)
    rows = history.get_historical_candle_data1(
        NIFTY, "minutes", 15, "2026-11-20", "2026-11-19"
    ).data.candles
    assert rows[0][0] == "2026-11-20T15:15:00+05:30"  # newest first
    assert rows[-1][0] == "2026-11-19T09:15:00+05:30"
    assert len(rows) == 50
    today = history.get_intra_day_candle_data(NIFTY, "hours", 1).data.candles
    assert [row[0][11:16] for row in today] == ["10:15", "09:15"]
    too_long = lambda: history.get_historical_candle_data1(  # noqa: E731
        NIFTY, "minutes", 1, "2026-11-20", "2026-10-01"
    )
    assert error_of(too_long)[0] == 400


def test_calendar(client: Any, emulator: EmulatorServer) -> None:
    emulator.dialect.holidays[datetime(2026, 12, 25, tzinfo=IST).date()] = "Christmas"
    calendar = upstox_client.MarketHolidaysAndTimingsApi(client)
    (holiday,) = calendar.get_holidays().data
    assert holiday.description == "Christmas"
    assert calendar.get_exchange_timings("2026-12-25").data == []
    assert calendar.get_exchange_timings("2026-12-24").data[0].exchange == "NSE"
    assert calendar.get_market_status("NSE").data.status == "NORMAL_OPEN"


def test_instruments(emulator: EmulatorServer, certificate: Certificate) -> None:
    answer = requests.get(
        f"{emulator.url}/market-quote/instruments/exchange/complete.json.gz",
        verify=str(certificate.path),
        timeout=5,
        proxies={"https": ""},
    )
    rows = {row["instrument_key"]: row for row in json.loads(gzip.decompress(answer.content))}
    assert rows[RELIANCE]["tick_size"] == 5  # paise
    assert "lot_size" not in rows[NIFTY]
    contract = rows["NSE_FO|53001"]
    assert datetime.fromtimestamp(contract["expiry"] / 1000, IST).date().weekday() == 1


# --- Streamers ------------------------------------------------------------------------------------


class Ear:
    """Listens to a streamer; forgets nothing."""

    def __init__(self, streamer: Any) -> None:
        self.streamer, self.heard = streamer, queue.Queue[tuple[str, Any]]()
        for name in ("open", "message", "error", "close", "reconnecting", "autoReconnectStopped"):
            streamer.on(name, lambda *said, name=name: self.heard.put((name, said)))

    def next(self, name: str) -> Any:
        while True:
            heard, said = self.heard.get(timeout=10)
            if heard == name:
                return said[0] if said else None


@pytest.fixture
def named(emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the broker's name stand for the emulator's address."""
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *more: Any, **options: Any) -> Any:
        if host == BROKER:
            host, port = "127.0.0.1", emulator.port
        return real(host, port, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.fixture
def ear(named: None) -> Iterator[Callable[[Any], Ear]]:
    made: list[Ear] = []

    def listen(streamer: Any) -> Ear:
        made.append(Ear(streamer))
        streamer.connect()
        return made[-1]

    yield listen
    for one in made:
        one.streamer.auto_reconnect(False)
        one.streamer.disconnect()


def test_market_data_streamer(client: Any, emulator: EmulatorServer, ear: Any) -> None:
    heard = ear(upstox_client.MarketDataStreamerV3(client, [RELIANCE], "full"))
    status = heard.next("message")
    assert status["type"] == "market_info"
    assert status["marketInfo"]["segmentStatus"]["NSE_EQ"] == "NORMAL_OPEN"
    snapshot = heard.next("message")
    assert "type" not in snapshot  # initial_feed is zero, and zeros are left out
    shown = snapshot["feeds"][RELIANCE]["fullFeed"]["marketFF"]
    assert shown["ltpc"]["ltp"] == 100
    assert shown["marketLevel"]["bidAskQuote"][0]["bidP"] == 99.95
    assert isinstance(snapshot["currentTs"], str)

    emulator.exchange.show("NSE:RELIANCE", "100.5")
    live = heard.next("message")
    assert live["type"] == "live_feed"
    assert live["feeds"][RELIANCE]["fullFeed"]["marketFF"]["ltpc"]["ltp"] == 100.5

    heard.streamer.subscribe([NIFTY], "ltpc")
    assert heard.next("message")["feeds"][NIFTY]["ltpc"]["ltp"] == 24800
    heard.streamer.change_mode([NIFTY], "full")
    index = heard.next("message")["feeds"][NIFTY]["fullFeed"]["indexFF"]
    assert {bar["interval"] for bar in index["marketOHLC"]["ohlc"]} == {"1d", "I1"}
    heard.streamer.unsubscribe([NIFTY])
    heard.streamer.subscribe(["NSE_FO|54003"], "option_greeks")
    first = heard.next("message")["feeds"]["NSE_FO|54003"]["firstLevelWithGreeks"]
    assert first["firstDepth"]["askP"] == 100.05
    (dialled,) = emulator.recorder.find("GET /v3/feed/market-data-feed")
    assert dialled.status == 302


def test_market_data_streamer_comes_back(client: Any, emulator: EmulatorServer, ear: Any) -> None:
    heard = ear(upstox_client.MarketDataStreamerV3(client, [RELIANCE], "ltpc"))
    heard.next("message"), heard.next("message")
    emulator.call(emulator.dialect.sockets[0].abort)
    heard.next("reconnecting")
    heard.next("message")  # market info again
    assert heard.next("message")["feeds"][RELIANCE]["ltpc"]["ltp"] == 100


def test_portfolio_streamer(client: Any, ear: Any) -> None:
    heard = ear(upstox_client.PortfolioDataStreamer(client, order_update=True))
    heard.next("open")
    orders = upstox_client.OrderApiV3(client)
    (number,) = orders.place_order(body()).data.order_ids
    statuses = []
    while not statuses or statuses[-1] != "open":
        update = json.loads(heard.next("message"))
        assert (update["update_type"], update["order_id"]) == ("order", number)
        statuses.append(update["status"])
    assert statuses == ["put order req received", "validation pending", "open pending", "open"]


def test_streamer_with_a_dead_token(client: Any, ear: Any) -> None:
    client.configuration.access_token = "dead"
    heard = ear(upstox_client.MarketDataStreamerV3(client, [RELIANCE], "ltpc"))
    assert "401 Unauthorized" in str(heard.next("error"))
