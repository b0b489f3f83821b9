"""The unmodified SDK at the emulated Groww, used as its documentation shows, without our code.

Only addresses are changed: what the SDK sends to Groww's hosts goes to the emulator.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import growwapi.common.files
import growwapi.groww.client
import pyotp
import pytest
import requests
from growwapi import GrowwAPI, GrowwFeed
from growwapi.groww.exceptions import (
    GrowwAPIAuthenticationException,
    GrowwAPIException,
    GrowwAPIRateLimitException,
)

from tests.emulators.core.accounts import Holding
from tests.emulators.core.clock import Clock
from tests.emulators.core.exchange import Exchange
from tests.emulators.core.orders import Reason
from tests.emulators.core.server import EmulatorServer
from tests.emulators.groww import Groww

HOSTS = ("https://api.groww.in", "https://growwapi-assets.groww.in")


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    """The machine's own time: the SDK takes the time of its checksums from it."""
    with EmulatorServer(Groww(Exchange(clock=Clock()))) as server:
        server.dialect.limiter.on = False
        yield server


@pytest.fixture(autouse=True)
def addresses(emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    def send_to_emulator(call: Callable[..., Any]) -> Callable[..., Any]:
        def send(url: str, **kwargs: Any) -> Any:
            for host in HOSTS:
                url = url.replace(host, emulator.url)
            assert url.startswith(emulator.url), url
            return call(url, **kwargs)

        return send

    for method in ("get", "post", "put"):
        monkeypatch.setattr(requests, method, send_to_emulator(getattr(requests, method)))
    monkeypatch.setattr(GrowwFeed, "_GROWW_SOCKET_URL", emulator.ws_url)
    monkeypatch.setattr(GrowwFeed, "_nats_clients", {})
    # The SDK writes these files into its own package.
    monkeypatch.setattr(growwapi.common.files, "get_cwd", lambda: str(tmp_path))
    (tmp_path / "sdk").mkdir()
    monkeypatch.setattr(growwapi.groww.client, "get_cwd", lambda: str(tmp_path / "sdk"))


@pytest.fixture
def groww(emulator: EmulatorServer) -> GrowwAPI:
    emulator.dialect.account("GR1")
    return GrowwAPI(emulator.dialect.open_session("GR1"))


def place(groww: GrowwAPI, reference: str = "Ab-654321234-1628190", **terms: Any) -> dict[str, Any]:
    return groww.place_order(
        **{
            "trading_symbol": "RELIANCE",
            "quantity": 10,
            "validity": groww.VALIDITY_DAY,
            "exchange": groww.EXCHANGE_NSE,
            "segment": groww.SEGMENT_CASH,
            "product": groww.PRODUCT_CNC,
            "order_type": groww.ORDER_TYPE_LIMIT,
            "transaction_type": groww.TRANSACTION_TYPE_BUY,
            "price": 95,
            "order_reference_id": reference,
            **terms,
        }
    )


# --- Sessions -------------------------------------------------------------------------------------


def test_totp_flow(emulator):
    login = emulator.dialect.enroll("GR7")
    code = pyotp.TOTP(login.totp_secret).now()

    groww = GrowwAPI(GrowwAPI.get_access_token(api_key=login.totp_token, totp=code))

    assert groww.get_user_profile()["ucc"] == "GR7"
    assert emulator.recorder.count("GET /v1/changelog") == 1


@pytest.mark.parametrize("code", ["000000", "abc", "1234567"])
def test_wrong_totp(emulator, code):
    login = emulator.dialect.enroll("GR7")
    with pytest.raises(GrowwAPIException) as raised:
        GrowwAPI.get_access_token(api_key=login.totp_token, totp=code)
    assert raised.value.code == "400"
    assert "Invalid TOTP" in raised.value.msg


def test_approval_flow(emulator):
    login = emulator.dialect.enroll("GR7", approved=False)
    with pytest.raises(GrowwAPIException, match="not approved"):
        GrowwAPI.get_access_token(api_key=login.api_key, secret=login.api_secret)

    emulator.dialect.approve(login.api_key)
    token = GrowwAPI.get_access_token(api_key=login.api_key, secret=login.api_secret)
    assert GrowwAPI(token).get_user_profile()["ucc"] == "GR7"


def test_approval_with_a_wrong_secret_or_key(emulator):
    login = emulator.dialect.enroll("GR7")
    with pytest.raises(GrowwAPIException, match="checksum"):
        GrowwAPI.get_access_token(api_key=login.api_key, secret="wrong")
    with pytest.raises(GrowwAPIAuthenticationException):
        GrowwAPI.get_access_token(api_key="unknown", secret="wrong")


@pytest.mark.parametrize("bare", [False, True])
def test_an_ended_session(emulator, groww, bare):
    emulator.dialect.levers.bare_errors = bare
    emulator.dialect.end_sessions()
    with pytest.raises(GrowwAPIException) as raised:
        groww.get_holdings_for_user()
    assert isinstance(raised.value, GrowwAPIAuthenticationException) == bare
    assert raised.value.code == ("401" if bare else "GA005")


# --- Orders ---------------------------------------------------------------------------------------


def test_order_life(emulator, groww):
    placed = place(groww)
    number = placed["groww_order_id"]
    assert placed["order_status"] == "OPEN"
    assert placed["order_reference_id"] == "Ab-654321234-1628190"

    changed = groww.modify_order(
        quantity=20,
        order_type=groww.ORDER_TYPE_LIMIT,
        price=96,
        groww_order_id=number,
        segment=groww.SEGMENT_CASH,
    )
    assert changed["groww_order_id"] == number
    detail = groww.get_order_detail(groww.SEGMENT_CASH, number)
    assert (detail["quantity"], detail["price"], detail["order_status"]) == (20, 96, "OPEN")

    emulator.exchange.show("NSE:RELIANCE", "95.5", asks=[("95.50", 8)])
    status = groww.get_order_status_by_reference(
        segment=groww.SEGMENT_CASH, order_reference_id="Ab-654321234-1628190"
    )
    assert (status["order_status"], status["filled_quantity"]) == ("OPEN", 8)
    trades = groww.get_trade_list_for_order(number, groww.SEGMENT_CASH)["trade_list"]
    assert [(t["quantity"], t["price"], t["trade_status"]) for t in trades] == [
        (8, 95.5, "EXECUTED")
    ]

    cancelled = groww.cancel_order(groww_order_id=number, segment=groww.SEGMENT_CASH)
    assert cancelled["order_status"] == "CANCELLED"
    assert groww.get_order_status("CASH", number)["order_status"] == "CANCELLED"


def test_the_sdk_never_sends_a_page_size(emulator, groww):
    for count in range(27):
        place(groww, f"reference{count:05d}", quantity=1)
    assert len(groww.get_order_list(segment="CASH", page=0, page_size=100)["order_list"]) == 25
    assert len(groww.get_order_list(segment="CASH", page=1)["order_list"]) == 2
    assert len(groww.get_order_list(segment="FNO")["order_list"]) == 0
    assert len(groww.get_order_list()["order_list"]) == 25


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"price": 95.03}, "GA001"),
        ({"product": "MTF"}, "GA001"),
        ({"validity": "IOC"}, "GA001"),
        ({"trading_symbol": "NOSUCH"}, "GA001"),
        ({"quantity": 0}, "GA001"),
        ({"reference": "short"}, "GA001"),
        ({"quantity": 100_000}, "GA006"),
        ({"transaction_type": "SELL"}, "GA006"),
    ],
)
def test_refusals(groww, terms, code):
    with pytest.raises(GrowwAPIException) as raised:
        place(groww, **terms)
    assert raised.value.code == code
    assert groww.get_order_list()["order_list"] == []


def test_a_reference_is_taken_once(groww):
    place(groww)
    with pytest.raises(GrowwAPIException) as raised:
        place(groww)
    assert raised.value.code == "GA007"
    assert len(groww.get_order_list()["order_list"]) == 1


def test_unknown_orders(groww):
    for call in (
        lambda: groww.get_order_detail("CASH", "GMK1"),
        lambda: groww.cancel_order("GMK1", "CASH"),
        lambda: groww.get_order_status_by_reference("CASH", "never-sent-1"),
    ):
        with pytest.raises(GrowwAPIException) as raised:
            call()
        assert raised.value.code == "GA004"


def test_every_status(emulator, groww):
    """NEW, ACKED, OPEN, APPROVED, the two requests, EXECUTED and what follows, and the ends."""
    exchange = emulator.exchange
    emulator.exchange.clock.stop()

    def status(reference: str, segment: str = "CASH") -> str:
        return groww.get_order_status_by_reference(segment, reference)["order_status"]

    exchange.latency = type(exchange.latency)(
        received=1, validating=1, sending=1, modify=2, cancel=2
    )
    place(groww, "reference1")
    seen = [status("reference1")]
    for _ in range(3):
        exchange.pass_time(1)
        seen.append(status("reference1"))
    assert seen == ["NEW", "ACKED", "ACKED", "OPEN"]

    number = groww.get_order_list()["order_list"][0]["groww_order_id"]
    groww.modify_order("LIMIT", "CASH", number, 11, price=95)
    assert status("reference1") == "MODIFICATION_REQUESTED"
    exchange.pass_time(3)
    assert status("reference1") == "OPEN"
    assert groww.cancel_order(number, "CASH")["order_status"] == "OPEN"
    assert status("reference1") == "CANCELLATION_REQUESTED"
    exchange.pass_time(3)
    assert status("reference1") == "CANCELLED"

    exchange.latency = type(exchange.latency)()
    place(groww, "reference2", order_type="SL", price=106, trigger_price=105)
    assert status("reference2") == "TRIGGER_PENDING"
    place(groww, "reference3", order_type="MARKET", price=0)
    assert status("reference3") == "EXECUTED"
    exchange.pass_time(400)
    assert status("reference3") == "DELIVERY_AWAITED"
    place(groww, "reference4", order_type="MARKET", price=0, product="MIS")
    exchange.pass_time(400)
    assert status("reference4") == "COMPLETED"
    future = next(i.symbol for i in exchange.instruments.values() if i.kind == "FUT")
    emulator.dialect.accounts["GR1"].cash = 10_000_000
    terms = {"trading_symbol": future, "segment": "FNO", "product": "NRML", "quantity": 65}
    place(groww, "reference5", price=24700, **terms)
    assert status("reference5", "FNO") == "APPROVED"
    exchange.reject_late.add(Reason.FUNDS)
    assert place(groww, "reference6", quantity=1_000_000)["order_status"] == "REJECTED"
    number = place(groww, "reference7")["groww_order_id"]
    emulator.dialect.fail("GR1", number, "Could not be placed")
    assert status("reference7") == "FAILED"


# --- Portfolio and money --------------------------------------------------------------------------


def test_portfolio(emulator, groww):
    account = emulator.dialect.accounts["GR1"]
    share = emulator.exchange.find("NSE:INFY")
    account.holdings[share.key] = Holding(share, 7, share.reference)
    place(groww, order_type="MARKET", price=0, product="MIS", quantity=5)

    (holding,) = groww.get_holdings_for_user()["holdings"]
    assert (holding["trading_symbol"], holding["quantity"]) == ("INFY", 7)
    (position,) = groww.get_positions_for_user(segment="CASH")["positions"]
    assert (position["trading_symbol"], position["quantity"]) == ("RELIANCE", 5)
    assert position["net_price"] == 100.05
    same = groww.get_position_for_trading_symbol("RELIANCE", "CASH")["positions"]
    assert same == [position]
    money = groww.get_available_margin_details()
    assert money["net_margin_used"] == pytest.approx(5 * 100.05 * 0.2)
    order = {
        "trading_symbol": "RELIANCE", "transaction_type": "BUY", "quantity": 10, "price": 100,
        "order_type": "LIMIT", "product": "CNC", "exchange": "NSE",
    }  # fmt: skip
    margin = groww.get_order_margin_details(segment="CASH", orders=[order])
    assert margin["cash_cnc_margin_required"] == 1000
    assert margin["total_requirement"] > 1000


# --- Market data ----------------------------------------------------------------------------------


def test_live_data(emulator, groww):
    emulator.exchange.show("NSE:RELIANCE", "101", bids=[("100.95", 3)], asks=[("101.05", 4)])
    quote = groww.get_quote("RELIANCE", groww.EXCHANGE_NSE, groww.SEGMENT_CASH)
    assert (quote["last_price"], quote["day_change"]) == (101, 1)
    assert quote["depth"]["buy"] == [{"price": 100.95, "quantity": 3}]
    both = groww.get_ltp(("NSE_RELIANCE", "NSE_NIFTY"), segment="CASH")
    assert both == {"NSE_RELIANCE": 101, "NSE_NIFTY": 24800}
    assert groww.get_ltp("NSE_RELIANCE,BSE_SENSEX", segment="CASH")["BSE_SENSEX"] == 81200
    assert groww.get_ohlc("NSE_RELIANCE", segment="CASH")["NSE_RELIANCE"]["high"] == 101
    with pytest.raises(GrowwAPIException, match="50"):
        groww.get_ltp(tuple(f"NSE_S{n}" for n in range(51)), segment="CASH")


def test_history_and_chains(emulator, groww):
    (expiry,) = groww.get_expiries("NSE", "NIFTY")["expiries"]
    contracts = groww.get_contracts("NSE", "NIFTY", expiry)["contracts"]
    assert len(contracts) == 7
    assert f"NSE-NIFTY-{datetime.fromisoformat(expiry):%d%b%y}-24800-CE" in contracts
    chain = groww.get_option_chain("NSE", "NIFTY", expiry)
    name = chain["strikes"]["24800"]["CE"]["trading_symbol"]
    assert "delta" in groww.get_greeks("NSE", "NIFTY", name, expiry)["greeks"]
    candles = groww.get_historical_candles(
        exchange="NSE",
        segment="CASH",
        groww_symbol="NSE-RELIANCE",
        start_time="2026-09-23 09:15:00",
        end_time="2026-09-23 15:30:00",
        candle_interval=groww.CANDLE_INTERVAL_MIN_15,
    )["candles"]
    assert candles[0][0] == "2026-09-23T09:15:00"
    assert len(candles) == 25


def test_instruments(groww):
    found = groww.get_instrument_by_exchange_and_trading_symbol("NSE", "RELIANCE")
    assert found["exchange_token"] == "2885"
    assert groww.get_instrument_by_groww_symbol("NSE-NIFTY")["exchange_token"] == "NIFTY"


def test_rate_limit(emulator, groww):
    emulator.dialect.limiter.on = True

    def hurry() -> None:
        for _ in range(30):
            groww.get_user_profile()

    with pytest.raises(GrowwAPIRateLimitException):
        hurry()
    emulator.dialect.levers.text_limit = True
    with pytest.raises(requests.exceptions.JSONDecodeError):
        hurry()


# --- Feed -----------------------------------------------------------------------------------------


class Told:
    """What a feed's callbacks were called with."""

    def __init__(self) -> None:
        self.metas: list[dict[str, Any]] = []
        self._more = threading.Event()

    def __call__(self, meta: dict[str, Any]) -> None:
        self.metas.append(meta)
        self._more.set()

    def wait(self, count: int = 1) -> None:
        ends = time.monotonic() + 5
        while len(self.metas) < count and time.monotonic() < ends:
            self._more.wait(0.05)
            self._more.clear()
        assert len(self.metas) >= count


def wait_for_subjects(emulator: EmulatorServer, count: int) -> None:
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        if sum(len(one.subjects) for one in emulator.dialect.listeners) == count:
            return
        time.sleep(0.01)
    raise AssertionError("the subscriptions did not arrive")


@pytest.fixture
def feed(groww: GrowwAPI) -> Iterator[GrowwFeed]:
    made = GrowwFeed(groww)
    yield made
    nats = made._nats_client
    nats._loop.call_soon_threadsafe(lambda: nats._loop.create_task(nats._socket.close()))
    time.sleep(0.1)
    nats._loop.call_soon_threadsafe(nats._loop.stop)
    nats.consume_thread.join(5)


def test_ticks(emulator, feed):
    told = Told()
    share = [{"exchange": "NSE", "segment": "CASH", "exchange_token": "2885"}]
    feed.subscribe_ltp(share, on_data_received=told)
    feed.subscribe_market_depth(share, on_data_received=told)
    index = [{"exchange": "NSE", "segment": "CASH", "exchange_token": "NIFTY"}]
    feed.subscribe_index_value(index, on_data_received=told)
    wait_for_subjects(emulator, 3)

    emulator.exchange.show("NSE:RELIANCE", "101", bids=[("100.95", 3)])
    emulator.exchange.show("NSE:NIFTY 50", "24900")
    told.wait(3)

    price = feed.get_ltp()["NSE"]["CASH"]["2885"]
    assert (price["ltp"], price["volume"]) == (101, 0)
    book = feed.get_market_depth()["NSE"]["CASH"]["2885"]
    assert book["buyBook"]["1"] == {"price": 100.95, "qty": 3}
    assert feed.get_index_value()["NSE"]["CASH"]["NIFTY"]["value"] == 24900
    feed.unsubscribe_ltp(share)
    wait_for_subjects(emulator, 2)


def test_order_updates(emulator, groww, feed):
    told = Told()
    feed.subscribe_equity_order_updates(on_data_received=told)
    feed.subscribe_fno_order_updates(on_data_received=told)
    feed.subscribe_fno_position_updates(on_data_received=told)
    wait_for_subjects(emulator, 3)

    placed = place(groww)
    told.wait(4)  # NEW, ACKED, ACKED, OPEN
    update = feed.get_equity_order_update()
    assert update["growwOrderId"] == placed["groww_order_id"]
    assert (update["orderStatus"], update["transactionType"]) == ("APPROVED", "BUY")
    assert update["price"] == "9500"  # paise, as text

    emulator.dialect.accounts["GR1"].cash = 10_000_000
    future = next(i for i in emulator.exchange.instruments.values() if i.kind == "FUT")
    place(
        groww, "reference5", order_type="MARKET", price=0, quantity=65, segment="FNO",
        product="NRML", trading_symbol=future.symbol,
    )  # fmt: skip
    told.wait(10)
    assert feed.get_fno_order_update()["orderStatus"] == "EXECUTED"
    position = feed.get_fno_position_update()
    assert position["exchangePosition"]["NSE"]["creditQty"] == 65


def test_a_wrong_signature_is_refused(emulator, groww):
    """Signed with another key than the one that the socket token was made for."""
    import asyncio
    import base64
    import os

    import nats.errors
    import nkeys
    from nats.aio.client import Client

    def key() -> Any:
        return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))

    token = groww.generate_socket_token(key())["token"]
    other = key()

    async def connect() -> None:
        async def fail(error: Exception) -> None:
            raise error

        client = Client()
        try:
            await client.connect(
                servers=[emulator.ws_url],
                user_jwt_cb=lambda: bytearray(token.encode()),
                signature_cb=lambda nonce: base64.b64encode(other.sign(nonce.encode())),
                allow_reconnect=False,
                error_cb=fail,
            )
        finally:
            await client.close()

    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        asyncio.run(connect())
