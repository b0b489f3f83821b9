"""The adapter at the emulator, where Upstox differs: slices, approvals, hours, limits, the SDK."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import pytest

from brokerages.adapters.upstox import client
from brokerages.adapters.upstox.adapter import UpstoxAdapter
from brokerages.base import Pace
from brokerages.errors import (
    MarketClosed,
    NotSupported,
    OrderNotFound,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    Refused,
    SessionExpired,
)
from brokerages.types import (
    Candle,
    CandleInterval,
    OrderChange,
    OrderType,
    PositionConversion,
    Product,
    QuoteDepth,
    ReportedStatus,
    Side,
    Validity,
)
from tests.brokerages.contract.conftest import mailbox, until
from tests.brokerages.upstox.conftest import FUTURE, INDEX, MONDAY, SHARE, TAG, order
from tests.emulators.upstox.dialect import API_KEY

__all__ = ["mailbox"]

S = ReportedStatus
PLACE, BOOK = "POST /v3/order/place", "GET /v2/order/retrieve-all"


def sliced(**terms):
    return order(instrument=FUTURE, product=Product.NRML, quantity=1755 + 65, price=24850, **terms)


@pytest.fixture
def rich(desk, adapter):
    """An adapter whose account can pay for a sliced order; the exchange's freeze is 1755."""
    account = desk.account(adapter)
    account.cash = account.opening_cash = Decimal(10**9)
    listed = desk.venue.find("NFO:NIFTY26NOVFUT")
    freezing = replace(listed, freeze=1755)
    desk.venue.list(freezing)
    desk.upstox.by_key["NSE_FO|53001"] = freezing
    return adapter


# --- Requests on the wire -------------------------------------------------------------------------


def test_what_is_sent(desk, adapter):
    adapter.place_order(order(price="95.05"))
    (record,) = desk.server.recorder.find(PLACE)
    assert record.request.json == {
        "instrument_token": "NSE_EQ|INE002A01018",
        "transaction_type": "BUY",
        "quantity": 10,
        "product": "D",
        "validity": "DAY",
        "order_type": "LIMIT",
        "price": 95.05,
        "trigger_price": 0,
        "disclosed_quantity": 0,
        "is_amo": False,
        "tag": TAG,
        "slice": False,
    }
    assert b"95.05" in record.request.body
    assert record.request.headers["x-upstox-sdk-version"] == "2.30.0"
    assert desk.paced == [Pace.ORDER]


def test_price_that_a_json_number_cannot_hold_is_not_sent(desk, adapter):
    with pytest.raises(NotSupported):
        adapter.place_order(order(price="95.123456789012345678"))
    assert desk.server.recorder.count() == 0


def test_every_request_asks_for_its_pace(desk, adapter):
    number = adapter.place_order(order()).broker_order_id
    adapter.modify_order(
        number, OrderChange(20, OrderType.LIMIT, Validity.DAY, Decimal(95)), order()
    )
    adapter.cancel_order(number, order())
    adapter.fetch_quotes([SHARE], QuoteDepth.LTP)
    adapter.fetch_candles(
        SHARE, CandleInterval.DAY, MONDAY - timedelta(days=5), MONDAY - timedelta(days=1)
    )
    adapter.fetch_funds()
    assert desk.paced == [
        Pace.ORDER, Pace.ORDER, Pace.CANCEL, Pace.QUOTE, Pace.HISTORY, Pace.OTHER,
    ]  # fmt: skip


def test_no_permit_no_request(desk, adapter):
    def refuse(kind: Pace) -> None:
        raise RateLimited("wait", broker="upstox")

    eager = UpstoxAdapter(replace(adapter.context, pace=refuse), adapter.credentials, adapter.token)
    desk.server.recorder.clear()
    for call in (eager.fetch_orders, lambda: eager.place_order(order())):
        with pytest.raises(RateLimited):
            call()
    assert desk.server.recorder.count() == 0


def test_both_hosts_are_the_given_ones(desk, adapter):
    """Reads and orders have hosts of their own at the broker: the SDK knows both."""
    plain = client.UpstoxClient({}, lambda kind: None)
    assert plain._client.configuration.host == "https://api.upstox.com"
    assert plain._client.configuration.order_host == "https://api-hft.upstox.com"
    given = client.UpstoxClient({"api": desk.server.url}, lambda kind: None)
    assert given._client.configuration.host == desk.server.url
    assert given._client.configuration.order_host == desk.server.url
    assert plain._client.configuration.host == "https://api.upstox.com"


def test_adapters_share_no_token(desk, make_adapter):
    first, second = make_adapter(), make_adapter()
    first.fetch_profile()
    assert second.fetch_profile().broker_user_id == second.token.broker_user_id
    assert first.fetch_profile().broker_user_id == first.token.broker_user_id


def test_adapters_leak_no_threads(desk, make_adapter):
    make_adapter().fetch_profile()
    gc.collect()
    before = threading.active_count()
    for _ in range(20):
        make_adapter().fetch_profile()
    gc.collect()
    assert threading.active_count() <= before


def test_answer_that_drips_for_too_long_is_given_up(desk, adapter, monkeypatch):
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.3)
    desk.server.faults.add("drip", PLACE, seconds=3)
    with pytest.raises(OutcomeUnknown):
        adapter.place_order(order())
    assert desk.server.recorder.count(PLACE) == 1


@pytest.mark.parametrize("limit", ["FRESH_SECONDS", "KEPT_SECONDS"])
def test_connection_is_not_trusted_for_long(desk, adapter, monkeypatch, limit):
    """A kept connection may have been closed by the other side: a new one is made in time."""
    adapter.fetch_profile()
    pool = adapter._client._client.rest_client.pool_manager
    kept = pool.connection_from_url(desk.server.url)
    adapter.fetch_profile()
    assert pool.connection_from_url(desk.server.url) is kept
    monkeypatch.setattr(client, limit, 0)
    adapter.fetch_profile()
    assert pool.connection_from_url(desk.server.url) is not kept


# --- Sessions -------------------------------------------------------------------------------------


def test_login_url(adapter):
    parts = urlsplit(adapter.login_url("the state"))
    assert parts.path == "/v2/login/authorization/dialog"
    assert parse_qs(parts.query) == {
        "response_type": ["code"],
        "client_id": [API_KEY],
        "redirect_uri": [adapter.context.redirect_url],
        "state": ["the state"],
    }


def test_code_is_spent_by_a_failed_exchange(desk, adapter):
    code = desk.upstox.code("4CAB01", API_KEY, adapter.context.redirect_url)
    wrong = UpstoxAdapter(adapter.context, {**adapter.credentials, "api_secret": "wrong"})
    with pytest.raises(Refused):
        wrong.open_session(code)
    with pytest.raises(Refused) as raised:
        adapter.open_session(code)
    assert raised.value.code == "UDAPI100069"


def test_session_by_approval(desk, adapter, mailbox):
    """Asked for, approved in the broker's app, delivered to the notifier, proved by a call."""
    desk.upstox.apps[API_KEY].notifier_url = mailbox.url
    closed = UpstoxAdapter(adapter.context, adapter.credentials)
    until_when = closed.request_session()
    assert until_when == datetime(2026, 11, 23, 22, 0, tzinfo=UTC)  # 03:30 in India
    assert mailbox.posts == []
    desk.upstox.approve("4CAB01", API_KEY)
    _, body = until(lambda: mailbox.posts and mailbox.posts[0])
    token = UpstoxAdapter.parse_session_notice(body, closed.credentials)
    assert (token.broker_user_id, token.expires_at) == ("4CAB01", until_when)
    proved = UpstoxAdapter(adapter.context, adapter.credentials, token)
    proved.check_session()
    assert proved.fetch_profile().broker_user_id == "4CAB01"


def test_request_with_a_wrong_secret(adapter):
    wrong = UpstoxAdapter(adapter.context, {**adapter.credentials, "api_secret": "wrong"})
    with pytest.raises(Refused):
        wrong.request_session()


def test_order_call_that_doubts_a_good_token(desk, adapter):
    """One such answer is no proof that the session is over: a read decides."""
    desk.server.faults.add("expired", PLACE)
    with pytest.raises(PermissionDenied) as raised:
        adapter.place_order(order())
    assert raised.value.code == "UDAPI100050"
    assert desk.server.recorder.count(PLACE) == 1
    desk.server.faults.add("expired", PLACE)
    desk.server.faults.add("expired", "GET /v2/user/profile")
    with pytest.raises(SessionExpired):
        adapter.place_order(order())
    assert adapter.fetch_orders() == []


# --- Slices ---------------------------------------------------------------------------------------


def test_sliced_order_is_one_order(desk, rich):
    request = sliced()
    desk.venue.show("NFO:NIFTY26NOVFUT", 24850, bids=[], asks=[(24850, 1000)])
    ack = rich.place_order(request)
    assert desk.server.recorder.count(PLACE) == 1
    assert len(desk.account(rich).orders) == 2
    found = rich.find_order(request)
    assert (found.broker_order_id, found.client_order_id) == (ack.broker_order_id, TAG)
    assert (found.quantity, found.filled_quantity) == (1820, 1000)
    assert found.status is S.PARTIALLY_FILLED
    assert rich.fetch_order(ack.broker_order_id, request) == found
    assert rich.fetch_orders() == [found]

    desk.venue.show("NFO:NIFTY26NOVFUT", 24850, bids=[], asks=[(24850, 1000)])
    done = rich.find_order(request)
    assert (done.status, done.filled_quantity) == (S.FILLED, 1820)
    fills = rich.fetch_fills()
    assert rich.fetch_order_fills(done) == fills
    assert {f.broker_order_id for f in fills} == {ack.broker_order_id}
    assert {f.client_order_id for f in fills} == {TAG}
    assert sum(f.quantity for f in fills) == 1820
    assert len({f.fill_id for f in fills}) == len(fills)


def test_sliced_order_is_cancelled_as_a_whole(desk, rich):
    request = sliced()
    desk.venue.show("NFO:NIFTY26NOVFUT", 24900)
    number = rich.place_order(request).broker_order_id
    rich.cancel_order(number, request)
    assert desk.server.recorder.count("DELETE /*") == 1
    assert rich.find_order(request).status is S.CANCELLED
    with pytest.raises(OrderNotFound):
        rich.cancel_order(number, request)


def test_sliced_order_cannot_be_changed(desk, rich):
    request = sliced()
    desk.venue.show("NFO:NIFTY26NOVFUT", 24900)
    number = rich.place_order(request).broker_order_id
    desk.server.recorder.clear()
    change = OrderChange(1820, OrderType.LIMIT, Validity.DAY, Decimal(24800))
    with pytest.raises(NotSupported):
        rich.modify_order(number, change, request)
    assert desk.server.recorder.count() == 0


# --- Orders ---------------------------------------------------------------------------------------


def test_market_order_is_protected(desk, adapter):
    adapter.place_order(order(order_type=OrderType.MARKET, price=None))
    adapter.place_order(
        order(client_order_id="B" * 20, order_type=OrderType.MARKET, price=None,
              market_protection="2.5")
    )  # fmt: skip
    assert [body["market_protection"] for body in desk.bodies(PLACE)] == [-1, 2.5]


def test_after_market_order_is_parked_changed_and_cancelled(desk, adapter):
    desk.venue.close_market()
    request = order(after_market=True)
    number = adapter.place_order(request).broker_order_id
    assert adapter.find_order(request).status is S.RECEIVED
    adapter.modify_order(
        number, OrderChange(20, OrderType.LIMIT, Validity.DAY, Decimal(96)), request
    )
    parked = adapter.find_order(request)
    assert parked.raw == {"status": "modify after market order req received"}
    assert (parked.quantity, parked.price) == (20, 96)
    adapter.cancel_order(number, request)
    assert adapter.find_order(request).raw == {"status": "cancelled after market order"}


def test_margin_funded_shares(desk, adapter):
    desk.venue.show("NSE:RELIANCE", 100)
    adapter.place_order(order(product=Product.MTF, order_type=OrderType.MARKET, price=None))
    (position,) = adapter.fetch_positions()
    assert (position.product, position.quantity) == (Product.MTF, 10)
    assert desk.server.recorder.count("GET *positions") == 2


def test_conversion(desk, adapter):
    adapter.place_order(order(product=Product.MIS, order_type=OrderType.MARKET, price=None))
    adapter.convert_position(PositionConversion(SHARE, Side.BUY, 4, Product.MIS, Product.CNC))
    found = {p.product: p.quantity for p in adapter.fetch_positions()}
    assert found == {Product.MIS: 6, Product.CNC: 4}
    with pytest.raises(Refused) as raised:
        adapter.convert_position(PositionConversion(SHARE, Side.BUY, 400, Product.MIS, Product.CNC))
    assert raised.value.code == "UDAPI1035"


def test_exchange_refuses_a_change_and_a_cancel(desk, adapter):
    request = order()
    number = adapter.place_order(request).broker_order_id
    desk.venue.lost_changes = desk.venue.lost_cancels = 1
    adapter.modify_order(
        number, OrderChange(20, OrderType.LIMIT, Validity.DAY, Decimal(96)), request
    )
    assert (adapter.find_order(request).quantity, adapter.find_order(request).price) == (10, 95)
    adapter.cancel_order(number, request)
    assert adapter.find_order(request).status is S.OPEN


def test_orders_at_night(desk, adapter):
    desk.upstox.night_closes = True
    desk.venue.clock.set(datetime(2026, 11, 23, 1, 0, tzinfo=MONDAY.tzinfo))
    adapter.token = adapter.open_session(
        desk.upstox.code("4CAB01", API_KEY, adapter.context.redirect_url)
    )
    with pytest.raises(MarketClosed) as raised:
        adapter.place_order(order())
    assert raised.value.code == "UDAPI100074"
    with pytest.raises(Refused) as raised:
        adapter.fetch_funds()
    assert raised.value.code == "UDAPI100072"
    assert not isinstance(raised.value, SessionExpired)
    adapter.check_session()  # the night is no reason to log in again


def test_no_fills_no_book(desk, adapter):
    assert adapter.fetch_fills() == []
    assert desk.server.recorder.count(BOOK) == 0


def test_fills_of_one_order_are_one_request(desk, adapter):
    adapter.place_order(order(order_type=OrderType.MARKET, price=None))
    request = order(client_order_id="B" * 20, order_type=OrderType.MARKET, price=None, quantity=7)
    adapter.place_order(request)
    report = adapter.find_order(request)
    desk.server.recorder.clear()
    fills = adapter.fetch_order_fills(report)
    assert desk.server.recorder.count() == desk.server.recorder.count("GET /v2/order/trades") == 1
    assert [(f.client_order_id, f.quantity) for f in fills] == [("B" * 20, 7)]
    assert fills == [f for f in adapter.fetch_fills() if f.client_order_id == "B" * 20]
    assert adapter.fetch_order_fills(replace(report, filled_quantity=0)) == []


def test_estimate(desk, adapter):
    first = adapter.estimate_margin([order()])
    assert first.required == 950
    assert first.charges is not None
    assert first.charges > 0
    market_order = order(order_type=OrderType.MARKET, price=None)
    assert adapter.estimate_margin([market_order]).charges is None  # no price is known here
    with pytest.raises(NotSupported):
        adapter.estimate_margin([order()] * 21)


# --- Market data ----------------------------------------------------------------------------------


def test_quotes_are_asked_for_500_at_a_time(desk, adapter):
    many = [replace(SHARE, id=n, isin=f"INE{n:06d}010") for n in range(1, 1202)]
    found = adapter.fetch_quotes([*many, SHARE, INDEX], QuoteDepth.LTP)
    assert sorted(q.instrument_id for q in found) == [SHARE.id, INDEX.id]
    sizes = [
        len(record.request.query["instrument_key"].split(","))
        for record in desk.server.recorder.find("GET /v3/market-quote/ltp")
    ]
    assert sizes == [500, 500, 203]


@pytest.mark.parametrize(
    ("interval", "days", "calls"),
    [
        (CandleInterval.MINUTE, 60, 3 + 1),
        (CandleInterval.MINUTES_30, 200, 3 + 1),
        (CandleInterval.HOUR, 60, 1 + 1),
        (CandleInterval.DAY, 4000, 2 + 1),
        (CandleInterval.WEEK, 4000, 1),
    ],
)
def test_long_spans_are_split(desk, adapter, interval, days, calls):
    """Within the broker's limit of each call, and the same candles as asked for day by day."""
    end = desk.venue.clock.now()
    found = adapter.fetch_candles(SHARE, interval, end - timedelta(days=days), end)
    assert desk.server.recorder.count("GET /v3/historical-candle/*") == calls
    starts = [candle.start for candle in found]
    assert starts == sorted(set(starts))
    assert end - timedelta(days=days) <= starts[0]
    assert starts[-1] < end
    assert all(isinstance(candle, Candle) for candle in found)


def test_seams_have_neither_gap_nor_overlap(desk, adapter):
    end = desk.venue.clock.now()
    start = end - timedelta(days=40)
    whole = adapter.fetch_candles(SHARE, CandleInterval.MINUTES_15, start, end)
    pieces = []
    while start < end:
        after = min(start + timedelta(days=3, hours=1), end)
        pieces += adapter.fetch_candles(SHARE, CandleInterval.MINUTES_15, start, after)
        start = after
    assert pieces == whole
    days = {candle.start.date() for candle in whole}
    assert len(days) >= 28
    assert desk.venue.clock.now().date() in days  # today too, which is a call of its own


def test_list_that_is_cut_off_is_no_list(desk, adapter):
    desk.server.faults.add("cut", "GET /market-quote/*")
    with pytest.raises(OutcomeUnknown):
        list(adapter.fetch_instruments())
    desk.server.faults.add("status", "GET /market-quote/*", status=404)
    with pytest.raises(OutcomeUnknown):
        list(adapter.fetch_instruments())
    desk.server.faults.add("garbage", "GET /market-quote/*", body='[{"segment": "NSE_EQ"')
    with pytest.raises(OutcomeUnknown):
        list(adapter.fetch_instruments())


def test_row_of_the_list_that_cannot_be_read_hides_no_other(desk, adapter, monkeypatch, caplog):
    from tests.emulators.upstox import market

    real = market._listed

    def odd(one):
        row = real(one)
        return row | {"tick_size": "odd"} if one.symbol in strange else row

    monkeypatch.setattr(market, "_listed", odd)
    for number in range(40):  # a list long enough for one row to be few
        share = replace(
            desk.venue.find("NSE:INFY"), symbol=f"S{number}", isin=f"INE{number:06d}010"
        )
        desk.venue.list(share)
    strange = {"TCS"}
    symbols = {record.symbol for record in adapter.fetch_instruments()}
    assert "TCS" not in symbols
    assert {"RELIANCE", "S39"} <= symbols
    assert "1 of the instruments" in caplog.text
    strange = {f"S{number}" for number in range(20)}
    with pytest.raises(OutcomeUnknown):
        list(adapter.fetch_instruments())
