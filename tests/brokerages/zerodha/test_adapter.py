"""The adapter at the emulated Kite: every call, over real sockets."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
import requests

from brokerages.adapters.zerodha.adapter import ZerodhaAdapter
from brokerages.base import IST, AdapterContext, Pace
from brokerages.errors import (
    InsufficientFunds,
    InsufficientHoldings,
    InvalidOrder,
    MarketClosed,
    NotSent,
    NotSupported,
    OffTick,
    OrderNotFound,
    OverFreeze,
    PermissionDenied,
    RateLimited,
    Refused,
    SessionExpired,
    StaticIpRefused,
)
from brokerages.types import (
    CandleInterval,
    Exchange,
    OrderChange,
    OrderType,
    PositionConversion,
    Product,
    QuoteDepth,
    ReportedStatus,
    SessionToken,
    Side,
    Validity,
)
from tests.brokerages.zerodha.conftest import (
    AMPERSAND,
    CREDENTIALS,
    FUTURE,
    INDEX,
    SHARE,
    TAG,
    limit,
    order,
)
from tests.emulators.core.exchange import Latency
from tests.emulators.core.orders import Reason
from tests.emulators.core.server import EmulatorServer
from tests.emulators.zerodha.dialect import API_KEY, API_SECRET

S = ReportedStatus


# --- Sessions -------------------------------------------------------------------------------------


def test_module_does_not_import_the_sdk():
    code = (
        "import sys; from brokerages.registry import adapter_class; "
        "c = adapter_class('zerodha'); from brokerages.base import AdapterContext; "
        "c(AdapterContext('c', None, None), {'api_key': 'k'}).login_url('s'); "
        "print([m for m in ('kiteconnect', 'twisted', 'requests') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_login_through_the_page(kite: EmulatorServer, context: AdapterContext):
    kite.dialect.apps[API_KEY].redirect_url = "http://127.0.0.1:9/callback"
    adapter = ZerodhaAdapter(context, CREDENTIALS)
    state = "a+b/c=d&e?f%20"

    url = adapter.login_url(state)
    query = dict(parse_qsl(urlsplit(url).query))
    answer = requests.post(
        f"{kite.url}/connect/login",
        data=query | {"user_id": "AB1234", "password": "p", "twofa_value": "123456"},
        allow_redirects=False,
        timeout=5,
    )
    back = parse_qs(urlsplit(answer.headers["location"]).query)
    token = adapter.open_session(back["request_token"][0])

    assert back["state"] == [state]
    assert (query["api_key"], query["v"]) == (API_KEY, "3")
    assert token.broker_user_id == "AB1234"
    assert token.expires_at == datetime(2026, 11, 24, 6, 0, tzinfo=IST)
    ZerodhaAdapter(context, CREDENTIALS, token).check_session()


def test_login_is_at_the_broker_where_nothing_else_is_said(context: AdapterContext):
    adapter = ZerodhaAdapter(replace(context, endpoints={}), {"api_key": "k e&y", "api_secret": ""})
    url = urlsplit(adapter.login_url("s"))
    assert (url.scheme, url.netloc, url.path) == ("https", "kite.zerodha.com", "/connect/login")
    assert parse_qs(url.query)["api_key"] == ["k e&y"]


@pytest.mark.parametrize("grant", [None, ""])
def test_session_needs_a_grant(kite: EmulatorServer, context: AdapterContext, grant: str | None):
    with pytest.raises(SessionExpired):
        ZerodhaAdapter(context, CREDENTIALS).open_session(grant)
    assert kite.recorder.count() == 0


def test_grant_works_once(kite: EmulatorServer, context: AdapterContext):
    grant = kite.dialect.request_token("AB1234", API_KEY)
    ZerodhaAdapter(context, CREDENTIALS).open_session(grant)
    with pytest.raises(SessionExpired) as raised:
        ZerodhaAdapter(context, CREDENTIALS).open_session(grant)
    assert raised.value.message == "Token is invalid or has expired."


def test_wrong_secret(kite: EmulatorServer, context: AdapterContext):
    grant = kite.dialect.request_token("AB1234", API_KEY)
    adapter = ZerodhaAdapter(context, CREDENTIALS | {"api_secret": "wrong"})
    with pytest.raises(SessionExpired, match="checksum"):
        adapter.open_session(grant)


@pytest.mark.parametrize("missing", ["api_key", "api_secret"])
def test_missing_credentials_are_named(kite: EmulatorServer, context: AdapterContext, missing: str):
    adapter = ZerodhaAdapter(context, CREDENTIALS | {missing: " "})
    with pytest.raises(Refused) as raised:
        adapter.open_session("grant")
    assert missing.replace("_", " ") in raised.value.message
    assert kite.recorder.count() == 0


def test_without_a_session_nothing_is_sent(kite: EmulatorServer, context: AdapterContext):
    with pytest.raises(SessionExpired):
        ZerodhaAdapter(context, CREDENTIALS).fetch_orders()
    with pytest.raises(SessionExpired):
        ZerodhaAdapter(context, CREDENTIALS, SessionToken({})).open_stream()
    assert kite.recorder.count() == 0


def test_session_is_over_at_six_in_india(kite: EmulatorServer, adapter: ZerodhaAdapter):
    adapter.check_session()
    kite.dialect.clock.set(datetime(2026, 11, 24, 6, 0, 1, tzinfo=IST))
    for call in (adapter.check_session, adapter.fetch_orders, lambda: adapter.place_order(order())):
        with pytest.raises(SessionExpired):
            call()


def test_logout_ends_the_session_and_may_be_repeated(kite: EmulatorServer, adapter: ZerodhaAdapter):
    adapter.close_session()
    adapter.close_session()
    with pytest.raises(SessionExpired):
        adapter.check_session()
    assert kite.recorder.count("DELETE /session/token") == 2


# --- Orders ---------------------------------------------------------------------------------------


def placed(kite: EmulatorServer) -> dict[str, str]:
    (record,) = kite.recorder.find("POST /orders/*")
    return record.request.form


def test_market_order_fills(kite: EmulatorServer, adapter: ZerodhaAdapter):
    ack = adapter.place_order(order())

    report = adapter.find_order(order())
    assert report is not None
    assert (report.broker_order_id, report.client_order_id) == (ack.broker_order_id, TAG)
    assert (report.status, report.filled_quantity) == (S.FILLED, 10)
    (fill,) = adapter.fetch_fills()
    assert (fill.quantity, str(fill.price), fill.side) == (10, "100.05", Side.BUY)
    assert (fill.broker_order_id, fill.client_order_id) == (ack.broker_order_id, TAG)
    assert placed(kite)["market_protection"] == "-1"


def test_symbol_with_an_ampersand(kite: EmulatorServer, adapter: ZerodhaAdapter):
    adapter.place_order(order(instrument=AMPERSAND))
    assert placed(kite)["tradingsymbol"] == "M&M"
    (report,) = adapter.fetch_orders()
    assert report.status is S.FILLED


@pytest.mark.parametrize("product", [Product.CNC, Product.MIS, Product.MTF])
@pytest.mark.parametrize(
    ("terms", "status"),
    [
        ({}, S.FILLED),
        ({"order_type": OrderType.LIMIT, "price": Decimal(95)}, S.OPEN),
        (
            {"order_type": OrderType.SL, "price": Decimal(106), "trigger_price": Decimal(105)},
            S.TRIGGER_PENDING,
        ),
        ({"order_type": OrderType.SL_M, "trigger_price": Decimal(105)}, S.TRIGGER_PENDING),
        (
            {"order_type": OrderType.LIMIT, "price": Decimal(95), "validity": Validity.IOC},
            S.CANCELLED,
        ),
    ],
)
def test_types_products_and_validities(
    adapter: ZerodhaAdapter, product: Product, terms: dict[str, object], status: ReportedStatus
):
    adapter.place_order(order(product=product, **terms))
    (report,) = adapter.fetch_orders()
    assert report.status is status


def test_carried_contract(kite: EmulatorServer, adapter: ZerodhaAdapter):
    kite.dialect.accounts["AB1234"].cash = Decimal(1_000_000)
    adapter.place_order(order(instrument=FUTURE, quantity=65, product=Product.NRML))
    (report,) = adapter.fetch_orders()
    assert (report.status, report.quantity) == (S.FILLED, 65)
    (position,) = adapter.fetch_positions()
    assert (position.symbol, position.product) == ("NIFTY26NOVFUT", Product.NRML)


def test_part_fill_is_seen(kite: EmulatorServer, adapter: ZerodhaAdapter):
    kite.exchange.show("NSE:RELIANCE", "100", bids=[], asks=[("100", 4)])
    adapter.place_order(limit("100"))
    (report,) = adapter.fetch_orders()
    assert (report.status, report.filled_quantity) == (S.PARTIALLY_FILLED, 4)


def test_modify(adapter: ZerodhaAdapter):
    number = adapter.place_order(limit("95")).broker_order_id
    change = OrderChange(20, OrderType.LIMIT, Validity.DAY, Decimal("96.05"))

    assert adapter.modify_order(number, change, limit("95")).broker_order_id == number

    report = adapter.fetch_order(number, limit("95"))
    assert report is not None
    assert (report.quantity, str(report.price), report.status) == (20, "96.05", S.OPEN)


def test_modify_into_a_market_order_fills(kite: EmulatorServer, adapter: ZerodhaAdapter):
    number = adapter.place_order(limit("95")).broker_order_id
    adapter.modify_order(number, OrderChange(10, OrderType.MARKET, Validity.DAY), limit("95"))
    (record,) = kite.recorder.find("PUT /orders/*")
    assert record.request.form["market_protection"] == "-1"
    (report,) = adapter.fetch_orders()
    assert report.status is S.FILLED


def test_cancel(adapter: ZerodhaAdapter):
    number = adapter.place_order(limit("95")).broker_order_id
    ack = adapter.cancel_order(number, limit("95"))
    assert ack.broker_order_id == number
    (report,) = adapter.fetch_orders()
    assert report.status is S.CANCELLED
    with pytest.raises(OrderNotFound):
        adapter.cancel_order(number, limit("95"))


def test_after_market_order_lives_under_its_own_variety(
    kite: EmulatorServer, adapter: ZerodhaAdapter
):
    kite.exchange.close_market()
    with pytest.raises(MarketClosed):
        adapter.place_order(limit("95"))
    request = limit("95", "AMO00000000000000001", after_market=True)
    number = adapter.place_order(request).broker_order_id
    (report,) = adapter.fetch_orders()
    assert report.status is S.OPEN

    change = OrderChange(5, OrderType.LIMIT, Validity.DAY, Decimal(96))
    adapter.modify_order(number, change, request)
    adapter.cancel_order(number, request)

    paths = [r.request.path for r in kite.recorder.find("*/orders/amo*")]
    assert paths == ["/orders/amo", f"/orders/amo/{number}", f"/orders/amo/{number}"]
    (report,) = adapter.fetch_orders()
    assert report.status is S.CANCELLED


def test_iceberg_is_one_order_with_all_its_fills(kite: EmulatorServer, adapter: ZerodhaAdapter):
    kite.exchange.show("NSE:RELIANCE", "100", bids=[], asks=[("100", 500)])
    request = limit("100", quantity=1000, product=Product.MIS, iceberg_legs=4)

    number = adapter.place_order(request).broker_order_id

    assert (placed(kite)["iceberg_legs"], placed(kite)["iceberg_quantity"]) == ("4", "250")
    report = adapter.find_order(request)
    assert report is not None
    assert (report.broker_order_id, report.status) == (number, S.PARTIALLY_FILLED)
    assert (report.quantity, report.filled_quantity) == (1000, 500)
    fills = adapter.fetch_fills()
    assert sum(fill.quantity for fill in fills) == 500
    assert {(f.broker_order_id, f.client_order_id) for f in fills} == {(number, TAG)}

    change = OrderChange(1000, OrderType.LIMIT, Validity.DAY, Decimal(99))
    assert adapter.modify_order(number, change, request).broker_order_id == number
    (leg,) = [row for row in kite.exchange.orders if row.alive]  # the third of the four
    assert (leg.quantity, leg.price) == (250, 99)
    with pytest.raises(NotSupported):
        adapter.modify_order(number, replace(change, quantity=500), request)
    adapter.cancel_order(number, request)
    report = adapter.fetch_order(number, request)
    assert report is not None
    assert (report.status, report.filled_quantity) == (S.CANCELLED, 500)


@pytest.mark.parametrize("number", ["", "../user/profile", "1/2", "' OR 1=1 --", "9" * 60, "१"])
def test_what_cannot_be_an_id_never_becomes_an_address(
    kite: EmulatorServer, adapter: ZerodhaAdapter, number: str
):
    change = OrderChange(20, OrderType.LIMIT, Validity.DAY, Decimal(96))
    with pytest.raises(OrderNotFound):
        adapter.cancel_order(number, order())
    with pytest.raises(OrderNotFound):
        adapter.modify_order(number, change, order())
    assert kite.recorder.count() == 0


@pytest.mark.parametrize("number", ["0", "nothing", "1926112300000000001"])
def test_unknown_orders(adapter: ZerodhaAdapter, number: str):
    change = OrderChange(20, OrderType.LIMIT, Validity.DAY, Decimal(96))
    with pytest.raises(OrderNotFound):
        adapter.cancel_order(number, order())
    with pytest.raises(OrderNotFound):
        adapter.modify_order(number, change, order())
    assert adapter.fetch_order(number, order()) is None


def test_order_that_is_still_on_its_way_may_be_cancelled_a_moment_later(
    kite: EmulatorServer, adapter: ZerodhaAdapter
):
    kite.exchange.latency = Latency(received=1, validating=1, sending=1)
    number = adapter.place_order(limit("95")).broker_order_id
    report = adapter.find_order(limit("95"))
    assert report is not None
    assert report.status is S.RECEIVED

    with pytest.raises(NotSent, match="being processed"):
        adapter.cancel_order(number, limit("95"))

    kite.exchange.pass_time(5)
    adapter.cancel_order(number, limit("95"))


def test_cancel_that_the_exchange_does_not_take(kite: EmulatorServer, adapter: ZerodhaAdapter):
    kite.exchange.lost_cancels = 1
    number = adapter.place_order(limit("95")).broker_order_id
    adapter.cancel_order(number, limit("95"))
    (report,) = adapter.fetch_orders()
    assert report.status is S.OPEN


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (order(quantity=5000), InsufficientFunds),
        (order(side=Side.SELL), InsufficientHoldings),
        (limit("95.03"), OffTick),
        (limit("1000"), InvalidOrder),  # outside the circuit limits
        (order(instrument=FUTURE, quantity=1820, product=Product.NRML), OverFreeze),
        (order(instrument=FUTURE, quantity=64, product=Product.NRML), InvalidOrder),
        (order(instrument=FUTURE, quantity=65), InvalidOrder),  # no CNC there
        (order(instrument=replace(SHARE, symbol="NOSUCH")), InvalidOrder),
        (order("not-alphanumeric"), InvalidOrder),
    ],
)
def test_refusals_keep_the_brokers_words(
    kite: EmulatorServer, adapter: ZerodhaAdapter, request_: object, error: type[Refused]
):
    with pytest.raises(error) as raised:
        adapter.place_order(request_)
    assert type(raised.value) is error
    assert raised.value.broker == "zerodha"
    assert raised.value.code.endswith("Exception")
    (record,) = kite.recorder.find("POST /orders/*")
    assert record.status == 400
    assert adapter.fetch_orders() == []


def test_late_rejection_is_in_the_book(kite: EmulatorServer, adapter: ZerodhaAdapter):
    kite.exchange.reject_late.add(Reason.FUNDS)
    adapter.place_order(order(quantity=5000))
    report = adapter.find_order(order())
    assert report is not None
    assert report.status is S.REJECTED
    assert report.message


@pytest.mark.parametrize("allowed", [set(), {"10.0.0.1"}])
def test_orders_from_an_address_that_is_not_registered(
    kite: EmulatorServer, adapter: ZerodhaAdapter, allowed: set[str]
):
    kite.dialect.allowed_ips = allowed
    with pytest.raises(StaticIpRefused) as raised:
        adapter.place_order(order())
    assert "developer console" in raised.value.advice
    assert adapter.fetch_orders() == []  # reads come from anywhere


def test_rate_limit_of_the_broker(kite: EmulatorServer, adapter: ZerodhaAdapter):
    kite.faults.add("rate_limit", "POST /orders/*")
    with pytest.raises(RateLimited) as raised:
        adapter.place_order(order())
    assert raised.value.message == "Too many requests"
    assert adapter.find_order(order()) is None


def test_plan_without_market_data(kite: EmulatorServer, adapter: ZerodhaAdapter):
    kite.dialect.apps[API_KEY].plan = "personal"
    with pytest.raises(PermissionDenied):
        adapter.fetch_quotes([SHARE], QuoteDepth.LTP)
    adapter.place_order(order())


# --- Pace -----------------------------------------------------------------------------------------


def test_every_request_asks_for_its_permit(
    kite: EmulatorServer, adapter: ZerodhaAdapter, paces: list[Pace]
):
    number = adapter.place_order(limit("95")).broker_order_id
    change = OrderChange(20, OrderType.LIMIT, Validity.DAY, Decimal(96))
    adapter.modify_order(number, change, limit("95"))
    adapter.cancel_order(number, limit("95"))
    adapter.fetch_quotes([SHARE], QuoteDepth.LTP)
    now = kite.dialect.clock.now()
    adapter.fetch_candles(SHARE, CandleInterval.MINUTE, now - timedelta(days=40), now)
    adapter.fetch_funds()

    assert paces == [
        Pace.ORDER, Pace.ORDER, Pace.CANCEL, Pace.QUOTE, Pace.HISTORY, Pace.HISTORY, Pace.OTHER,
    ]  # fmt: skip
    assert kite.recorder.count() == len(paces)


def test_no_permit_no_request(kite: EmulatorServer, adapter: ZerodhaAdapter):
    def refuse(pace: Pace) -> None:
        raise RateLimited("later", broker="zerodha", retry_after=0.5)

    adapter.context = replace(adapter.context, pace=refuse)
    with pytest.raises(RateLimited):
        adapter.place_order(order())
    assert kite.recorder.count() == 0


# --- Portfolio ------------------------------------------------------------------------------------


def test_position_holding_and_money(kite: EmulatorServer, adapter: ZerodhaAdapter):
    before = adapter.fetch_funds()
    adapter.place_order(order(product=Product.MIS))
    after = adapter.fetch_funds()
    (position,) = adapter.fetch_positions()
    assert (position.symbol, position.product, position.quantity) == ("RELIANCE", Product.MIS, 10)
    assert str(position.average_price) == "100.05"
    assert after.available < before.available
    assert after.available + after.used == after.total

    adapter.place_order(order("CNC00000000000000001"))
    assert adapter.fetch_holdings() == []  # today's purchase is a position until tomorrow
    kite.exchange.new_day(kite.dialect.accounts.values())
    (holding,) = adapter.fetch_holdings()
    assert (holding.symbol, holding.quantity, holding.t1_quantity) == ("RELIANCE", 10, 10)
    assert holding.isin == "INE002A01018"


def test_conversion(adapter: ZerodhaAdapter):
    adapter.place_order(order(product=Product.MIS))
    adapter.convert_position(PositionConversion(SHARE, Side.BUY, 4, Product.MIS, Product.CNC))
    found = {p.product: p.quantity for p in adapter.fetch_positions()}
    assert found == {Product.MIS: 6, Product.CNC: 4}
    with pytest.raises(Refused):
        adapter.convert_position(PositionConversion(SHARE, Side.BUY, 40, Product.MIS, Product.CNC))


def test_profile(adapter: ZerodhaAdapter):
    profile = adapter.fetch_profile()
    assert profile.broker_user_id == "AB1234"
    assert Exchange.NSE in profile.exchanges


def test_margins_and_charges(adapter: ZerodhaAdapter):
    one = adapter.estimate_margin([limit("100")])
    assert one.required == 1000
    assert one.charges is not None
    assert one.charges > 0
    two = adapter.estimate_margin([limit("100"), limit("95.05", "LIMIT000000000000002")])
    assert two.required == Decimal("1950.50")
    assert two.charges is not None
    assert adapter.estimate_margin([]).required == 0


def test_accounts_do_not_see_each_other(
    kite: EmulatorServer, context: AdapterContext, adapter: ZerodhaAdapter
):
    token = kite.dialect.open_session("CD5678", API_KEY).access_token
    other = ZerodhaAdapter(context, CREDENTIALS, SessionToken({"access_token": token}))
    number = adapter.place_order(limit("95")).broker_order_id
    assert other.fetch_orders() == []
    with pytest.raises(OrderNotFound):
        other.cancel_order(number, limit("95"))


# --- Market data ----------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", list(QuoteDepth))
def test_quotes(adapter: ZerodhaAdapter, depth: QuoteDepth):
    unknown = replace(SHARE, id=9, symbol="NOSUCH")
    quotes = adapter.fetch_quotes([INDEX, unknown, SHARE], depth)
    assert [quote.instrument_id for quote in quotes] == [4, 1]
    assert all(isinstance(quote.last_price, Decimal) and quote.at.tzinfo for quote in quotes)
    assert bool(quotes[1].bids) == (depth is QuoteDepth.FULL)
    assert (quotes[1].previous_close is None) == (depth is QuoteDepth.LTP)


@pytest.mark.parametrize(
    ("depth", "sizes"),
    [
        (QuoteDepth.FULL, [500, 500, 201]),
        (QuoteDepth.LTP, [1000, 201]),
        (QuoteDepth.OHLC, [1000, 201]),
    ],
)
def test_quotes_are_asked_for_in_batches(
    kite: EmulatorServer, adapter: ZerodhaAdapter, depth: QuoteDepth, sizes: list[int]
):
    many = [replace(SHARE, id=n, symbol=f"S{n}") for n in range(1200)]
    (quote,) = adapter.fetch_quotes([*many, SHARE], depth)
    assert quote.instrument_id == 1
    asked = [len(parse_qs(r.request.target.partition("?")[2])["i"]) for r in kite.recorder.find()]
    assert asked == sizes


def test_no_instruments_no_request(kite: EmulatorServer, adapter: ZerodhaAdapter):
    assert adapter.fetch_quotes([], QuoteDepth.FULL) == []
    assert kite.recorder.count() == 0


@pytest.mark.parametrize(
    ("interval", "days"),
    [(CandleInterval.MINUTES_15, 400), (CandleInterval.HOUR, 800), (CandleInterval.DAY, 4100)],
)
def test_long_spans_have_right_seams(
    kite: EmulatorServer, adapter: ZerodhaAdapter, interval: CandleInterval, days: int
):
    end = kite.dialect.clock.now()
    start = end - timedelta(days=days)

    candles = adapter.fetch_candles(SHARE, interval, start, end)

    starts = [candle.start for candle in candles]
    assert starts == sorted(set(starts))
    assert start <= starts[0]
    assert starts[-1] < end
    requests_ = kite.recorder.find("GET /instruments/historical/*")
    assert len(requests_) == 3
    # the same days in short requests give the same candles
    seam = starts[len(starts) // 2]
    near = adapter.fetch_candles(SHARE, interval, seam - timedelta(days=20), seam)
    assert near == [c for c in candles if seam - timedelta(days=20) <= c.start < seam]
    if interval is not CandleInterval.DAY:
        per_day = {}
        for at in starts:
            per_day.setdefault(at.astimezone(IST).date(), []).append(at)
        whole = list(per_day.values())[1:-1]
        assert len({len(day) for day in whole}) == 1  # no seam lost or doubled one


def test_candles_of_a_contract_have_open_interest(kite: EmulatorServer, adapter: ZerodhaAdapter):
    end = kite.dialect.clock.now()
    candles = adapter.fetch_candles(FUTURE, CandleInterval.DAY, end - timedelta(days=10), end)
    assert candles
    assert all(candle.open_interest is not None for candle in candles)


def test_intervals_that_kite_does_not_have(adapter: ZerodhaAdapter):
    now = datetime(2026, 11, 23, tzinfo=UTC)
    for interval in (CandleInterval.WEEK, CandleInterval.MONTH):
        with pytest.raises(NotSupported):
            adapter.fetch_candles(SHARE, interval, now - timedelta(days=30), now)


def test_instruments(kite: EmulatorServer, adapter: ZerodhaAdapter):
    records = {f"{r.exchange}:{r.symbol}": r for r in adapter.fetch_instruments()}
    assert records["NSE:RELIANCE"].broker_token == "738561"
    assert records["NSE:NIFTY 50"].underlying == "NIFTY"
    assert records["BSE:RELIANCE"].broker_token == "128083204"
    future = next(r for r in records.values() if r.kind == "FUT")
    assert (future.lot_size, future.underlying) == (65, "NIFTY")
    paths = [r.request.path for r in kite.recorder.find("GET /instruments/*")]
    assert paths == [f"/instruments/{name}" for name in ("BFO", "BSE", "NFO", "NSE")]


def test_capabilities_say_what_is_true():
    able = ZerodhaAdapter.capabilities
    assert able.orders_per_second == 10
    assert able.exchanges == {Exchange.NSE, Exchange.BSE, Exchange.NFO, Exchange.BFO}
    assert all(rule.reserve for rule in able.pace if Pace.CANCEL in rule.kinds)
    assert {(r.limit, r.seconds) for r in able.pace if Pace.ORDER in r.kinds} == {
        (10, 1), (200, 60), (3000, 86_400),
    }  # fmt: skip


def test_the_pace_holds_at_the_emulated_limits(
    kite: EmulatorServer,
    context: AdapterContext,
    session: Callable[[], SessionToken],
):
    """With the emulator's own limits on, a quote a second is taken and a second one is not."""
    kite.dialect.limiter.on = True
    adapter = ZerodhaAdapter(context, CREDENTIALS, session())
    adapter.fetch_quotes([SHARE], QuoteDepth.LTP)
    with pytest.raises(RateLimited):
        adapter.fetch_quotes([SHARE], QuoteDepth.LTP)
    time.sleep(1.1)
    adapter.fetch_quotes([SHARE], QuoteDepth.LTP)


def test_postbacks_of_the_emulator_are_genuine(kite: EmulatorServer, adapter: ZerodhaAdapter):
    kite.dialect.apps[API_KEY].postback_url = f"{kite.url}/nowhere"
    number = adapter.place_order(order()).broker_order_id
    deadline = time.monotonic() + 5
    while not kite.dialect.postbacks and time.monotonic() < deadline:
        time.sleep(0.02)
    *_, body, _ = kite.dialect.postbacks[-1]
    assert ZerodhaAdapter.verify_postback({}, body, API_SECRET)
    assert not ZerodhaAdapter.verify_postback({}, body, API_SECRET + "x")
    (hint,) = ZerodhaAdapter.parse_postback(body)
    assert (hint.broker_order_id, hint.client_order_id) == (number, TAG)
