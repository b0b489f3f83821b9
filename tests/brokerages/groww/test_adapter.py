"""The adapter at the emulated Groww: what it does when nothing goes wrong."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from brokerages.adapters.groww import mapping
from brokerages.adapters.groww.adapter import GrowwAdapter
from brokerages.base import Pace
from brokerages.errors import (
    InsufficientFunds,
    InsufficientHoldings,
    InvalidOrder,
    MarketClosed,
    NotSupported,
    OffTick,
    OrderNotFound,
    OutcomeUnknown,
    OverFreeze,
    Refused,
    SessionExpired,
)
from brokerages.types import (
    CandleInterval,
    Exchange,
    InstrumentKind,
    OrderChange,
    OrderType,
    Product,
    QuoteDepth,
    ReportedStatus,
    Side,
    Validity,
)
from tests.brokerages.groww.conftest import INDEX, SHARE, TAG, order
from tests.emulators.core.accounts import Holding
from tests.emulators.core.exchange import Latency
from tests.emulators.core.orders import Reason

S = ReportedStatus


def limit(price: str = "95", **terms):
    decimal = None if price is None else Decimal(price)
    return order(order_type=OrderType.LIMIT, price=decimal, **terms)


# --- Sessions -------------------------------------------------------------------------------------


def test_totp_opens_a_session_until_six(emulator, context):
    login = emulator.dialect.enroll("GR9")
    adapter = GrowwAdapter(
        context, {"totp_token": login.totp_token, "totp_secret": login.totp_secret}
    )

    token = adapter.open_session(None)

    assert token.broker_user_id == "GR9"
    assert token.expires_at == datetime(2026, 11, 24, 0, 30, tzinfo=UTC)
    GrowwAdapter(context, {}, token).check_session()
    again = adapter.renew_session(token)
    assert again.secrets != token.secrets


def test_a_secret_with_spaces_as_groww_shows_it(emulator, context):
    login = emulator.dialect.enroll("GR9")
    spaced = " ".join(login.totp_secret.lower()[i : i + 4] for i in range(0, 32, 4))
    credentials = {"totp_token": f" {login.totp_token}\n", "totp_secret": spaced}
    assert GrowwAdapter(context, credentials).open_session(None).broker_user_id == "GR9"


def test_an_approved_key_opens_a_session(emulator, context):
    login = emulator.dialect.enroll("GR9", approved=False)
    adapter = GrowwAdapter(context, {"api_key": login.api_key, "api_secret": login.api_secret})
    with pytest.raises(Refused, match=r"not approved for today\. Approve the API key"):
        adapter.open_session(None)

    emulator.dialect.approve(login.api_key)
    assert adapter.open_session(None).broker_user_id == "GR9"


@pytest.mark.parametrize(
    ("credentials", "code"),
    [
        ({}, "credentials_missing"),
        ({"totp_token": "x"}, "credentials_missing"),
        ({"api_key": "x", "totp_secret": "ABCD"}, "credentials_missing"),
        ({"totp_token": "x", "totp_secret": "0189!"}, "credentials_unusable"),
        ({"api_key": "x\ny: z", "api_secret": "s"}, "credentials_unusable"),
        ({"totp_token": "unknown", "totp_secret": "JBSWY3DPEHPK3PXP"}, "401"),
    ],
)
def test_credentials_that_open_nothing(context, credentials, code):
    with pytest.raises(Refused) as raised:
        GrowwAdapter(context, credentials).open_session(None)
    assert raised.value.code == code
    assert "unknown" not in raised.value.message


@pytest.mark.parametrize("bare", [False, True])
def test_a_session_ends_at_six(emulator, adapter, bare):
    emulator.dialect.levers.bare_errors = bare
    adapter.check_session()
    emulator.exchange.clock.advance(20 * 3600)
    with pytest.raises(SessionExpired):
        adapter.check_session()
    with pytest.raises(SessionExpired):
        adapter.place_order(order())


@pytest.mark.parametrize("status", [200, 403])
def test_whoever_may_not_see_the_account_has_no_session(emulator, adapter, status):
    body = '{"status":"FAILURE","error":{"code":"GA005","message":"x"}}'
    emulator.faults.add("status", "GET /v1/user/detail", status=status, body=body)
    with pytest.raises(SessionExpired):
        adapter.check_session()


@pytest.mark.parametrize("body", ["{}", "<html>Forbidden</html>", '{"message": "Forbidden"}'])
def test_a_bare_403_ends_no_session(emulator, adapter, body):
    emulator.faults.add("status", "GET /v1/user/detail", status=403, body=body, times=1)
    with pytest.raises(OutcomeUnknown):
        adapter.check_session()
    adapter.check_session()


def test_no_session(context):
    with pytest.raises(SessionExpired):
        GrowwAdapter(context, {}).fetch_funds()


# --- The SDK --------------------------------------------------------------------------------------


def test_the_sdk_is_loaded_late():
    """It brings pandas: whoever only asks what Groww can do does not pay for it."""
    code = (
        "import sys, brokerages.adapters.groww.adapter\n"
        "sys.exit('growwapi' in sys.modules or 'pandas' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=root).returncode == 0


def test_the_sdk_says_and_asks_nothing_by_itself(emulator, adapter, capsys):
    adapter.place_order(order())
    assert emulator.recorder.count() == emulator.recorder.count("POST /v1/order/create") == 1
    assert capsys.readouterr().out == ""
    headers = emulator.recorder.find()[0].request.headers
    assert headers["x-client-id"] == "growwapi"
    assert headers["x-api-version"] == "1.0"


# --- Orders ---------------------------------------------------------------------------------------


def test_an_order_from_place_to_fill(emulator, adapter, paced):
    emulator.exchange.show("NSE:RELIANCE", "100", asks=[("100", 4)])

    ack = adapter.place_order(limit("100"))
    assert ack.report is None
    found = adapter.find_order(limit("100"))
    assert found.broker_order_id == ack.broker_order_id
    assert (found.status, found.filled_quantity) == (S.PARTIALLY_FILLED, 4)
    assert (found.client_order_id, found.quantity, found.price) == (TAG, 10, Decimal(100))
    again = adapter.fetch_order(ack.broker_order_id, order())
    assert again.reported_at > found.reported_at
    assert replace(again, reported_at=found.reported_at) == found
    (listed,) = adapter.fetch_orders()
    assert replace(listed, reported_at=found.reported_at) == found

    emulator.exchange.show("NSE:RELIANCE", "99.95", asks=[("99.90", 100)])
    report = adapter.find_order(order())
    assert (report.status, report.filled_quantity) == (S.FILLED, 10)
    assert report.average_price == Decimal("99.94")
    first, second = adapter.fetch_fills()
    assert (first.quantity, first.price) == (4, Decimal(100))
    assert (second.quantity, second.price) == (6, Decimal("99.9"))
    assert (second.side, second.exchange) == (Side.BUY, Exchange.NSE)
    assert second.client_order_id == TAG
    assert first.filled_at.tzinfo is UTC
    assert paced[0] is Pace.ORDER
    assert set(paced[1:]) == {Pace.OTHER}
    # the body is what Groww documents
    body = emulator.recorder.find("POST /v1/order/create")[0].request.json
    assert body == {
        "trading_symbol": "RELIANCE",
        "quantity": 10,
        "price": 100.0,
        "trigger_price": None,
        "validity": "DAY",
        "exchange": "NSE",
        "segment": "CASH",
        "product": "CNC",
        "order_type": "LIMIT",
        "transaction_type": "BUY",
        "order_reference_id": TAG,
    }


def test_modify_and_cancel(emulator, adapter, paced):
    number = adapter.place_order(limit()).broker_order_id
    change = OrderChange(20, OrderType.LIMIT, Validity.DAY, Decimal("96.05"))
    assert adapter.modify_order(number, change, order()).broker_order_id == number
    report = adapter.find_order(order())
    assert (report.quantity, report.price, report.status) == (20, Decimal("96.05"), S.OPEN)

    adapter.cancel_order(number, order())
    assert adapter.find_order(order()).status is S.CANCELLED
    with pytest.raises(OrderNotFound, match="already"):
        adapter.cancel_order(number, order())
    assert paced.count(Pace.CANCEL) == 2
    assert paced.count(Pace.ORDER) == 2


def test_a_stop(emulator, adapter):
    adapter.place_order(
        order(order_type=OrderType.SL, price=Decimal(106), trigger_price=Decimal(105))
    )
    report = adapter.find_order(order())
    assert (report.status, report.trigger_price) == (S.TRIGGER_PENDING, Decimal(105))
    emulator.exchange.show("NSE:RELIANCE", "105")
    assert adapter.find_order(order()).status is S.FILLED


def test_a_stop_at_market(emulator, adapter):
    adapter.place_order(order(order_type=OrderType.SL_M, trigger_price=Decimal(105)))
    emulator.exchange.show("NSE:RELIANCE", "105")
    report = adapter.find_order(order())
    assert (report.status, report.price) == (S.FILLED, None)


def test_interim_statuses(emulator, adapter):
    exchange = emulator.exchange
    exchange.clock.stop()
    exchange.latency = Latency(received=1, validating=1, sending=1, modify=2, cancel=2)
    number = adapter.place_order(limit()).broker_order_id
    seen = []
    for _ in range(4):
        seen.append(adapter.find_order(order()).status)
        exchange.pass_time(1)
    assert seen == [S.RECEIVED, S.RECEIVED, S.RECEIVED, S.OPEN]
    adapter.modify_order(
        number, OrderChange(11, OrderType.LIMIT, Validity.DAY, Decimal(95)), order()
    )
    changing = adapter.find_order(order())
    assert (changing.status, changing.quantity, changing.price) == (S.OPEN, None, None)
    exchange.pass_time(3)
    assert adapter.find_order(order()).quantity == 11
    adapter.cancel_order(number, order())
    assert adapter.find_order(order()).status is S.PENDING_CANCEL
    exchange.pass_time(3)
    assert adapter.find_order(order()).status is S.CANCELLED


def test_settled_orders_are_filled(emulator, adapter):
    adapter.place_order(order())
    adapter.place_order(order(client_order_id="MIS00000000000000001", product=Product.MIS))
    emulator.exchange.clock.advance(400)
    words = {str(r.raw["order_status"]) for r in adapter.fetch_orders()}
    assert words == {"DELIVERY_AWAITED", "COMPLETED"}
    assert {r.status for r in adapter.fetch_orders()} == {S.FILLED}


def test_a_late_rejection_is_reported_with_its_reason(emulator, adapter):
    emulator.exchange.reject_late.add(Reason.FUNDS)
    ack = adapter.place_order(order(quantity=100_000))
    assert ack.report.status is S.REJECTED
    assert ack.report.message
    report = adapter.find_order(order())
    assert (report.status, report.message) == (S.REJECTED, ack.report.message)


def test_derivatives(emulator, adapter, future):
    emulator.dialect.accounts["GR1"].cash = Decimal(10_000_000)
    request = order(instrument=future, product=Product.NRML, quantity=65)
    adapter.place_order(request)
    assert adapter.find_order(request).status is S.FILLED
    (fill,) = adapter.fetch_fills()
    assert (fill.exchange, fill.quantity) == (Exchange.NFO, 65)
    (position,) = adapter.fetch_positions()
    assert (position.exchange, position.symbol) == (Exchange.NFO, future.symbol)
    assert position.product is Product.NRML
    assert adapter.find_order(order()) is None  # Groww looks in the segment that it is told
    assert adapter.fetch_order(fill.broker_order_id, order()) is None


def test_contracts_without_trades_fall_back_to_the_order(emulator, adapter, future):
    emulator.dialect.levers.trades_of_contracts = False
    emulator.dialect.accounts["GR1"].cash = Decimal(10_000_000)
    close = datetime(2026, 11, 23, 10, tzinfo=UTC)  # 15:30 in India
    number = adapter.place_order(
        order(instrument=future, product=Product.NRML, quantity=65)
    ).broker_order_id
    for seconds in (0, 90, 3600):
        emulator.exchange.clock.advance(seconds)
        assert adapter.fetch_fills() == []  # trades may still follow, under other numbers
    clock = emulator.exchange.clock
    clock.advance((close - clock.now()).total_seconds() + 60)
    assert adapter.fetch_fills() == []
    clock.advance(30 * 60)
    (fill,) = adapter.fetch_fills()
    assert fill.quantity == 65
    assert fill.price == adapter.fetch_orders()[0].average_price
    assert fill.fill_id == f"{number}-ALL"
    assert fill.filled_at < close
    clock.advance(600)
    assert adapter.fetch_fills() == [fill]  # the same fill whenever it is read


def test_trades_that_come_late_are_the_only_fills(emulator, adapter, future):
    emulator.dialect.levers.trades_of_contracts = False
    emulator.dialect.accounts["GR1"].cash = Decimal(10_000_000)
    adapter.place_order(order(instrument=future, product=Product.NRML, quantity=65))
    emulator.exchange.clock.advance(3600)
    seen = adapter.fetch_fills()
    emulator.dialect.levers.trades_of_contracts = True
    seen += adapter.fetch_fills()
    assert [fill.quantity for fill in seen] == [65]


def test_a_report_is_as_old_as_the_request_for_it(emulator, adapter):
    adapter.place_order(limit())
    emulator.exchange.clock.advance(1800)
    number = adapter.find_order(limit()).broker_order_id
    change = OrderChange(10, OrderType.LIMIT, Validity.DAY, price=Decimal("96"))
    adapter.modify_order(number, change, limit())
    for read in (
        lambda: adapter.find_order(limit()),
        lambda: adapter.fetch_order(number, limit()),
        lambda: adapter.fetch_orders()[0],
    ):
        before = emulator.exchange.clock.now()
        report = read()
        assert before <= report.reported_at <= emulator.exchange.clock.now()
        assert report.price == Decimal("96")
        assert mapping.moment(report.raw["created_at"]) < before - timedelta(minutes=20)


def test_fills_of_one_order_are_one_request(emulator, adapter):
    for count in range(3):
        adapter.place_order(order(client_order_id=f"TAG{count:05d}", quantity=count + 1))
    report = adapter.find_order(order(client_order_id="TAG00001"))
    emulator.recorder.clear()
    (fill,) = adapter.fetch_order_fills(report)
    assert (fill.quantity, fill.broker_order_id) == (2, report.broker_order_id)
    assert emulator.recorder.count() == 1
    assert adapter.fetch_order_fills(replace(report, filled_quantity=0)) == []


def test_a_book_of_many_pages(emulator, adapter):
    for count in range(53):
        adapter.place_order(limit(client_order_id=f"TAG{count:05d}", quantity=1))
    reports = adapter.fetch_orders()
    assert len({r.broker_order_id for r in reports}) == 53
    assert emulator.recorder.count("GET /v1/order/list") == 4  # three pages of shares, one of F&O


def test_a_duplicate_reference_is_the_order_that_was_sent_before(emulator, adapter):
    first = adapter.place_order(limit())
    again = adapter.place_order(limit())
    assert again.broker_order_id == first.broker_order_id
    assert len(adapter.fetch_orders()) == 1


@pytest.mark.parametrize(
    ("terms", "error"),
    [
        ({"quantity": 5000}, InsufficientFunds),
        ({"side": Side.SELL}, InsufficientHoldings),
        ({"price": Decimal("95.03")}, OffTick),
        ({"price": Decimal("300")}, InvalidOrder),
        ({"quantity": 0}, InvalidOrder),
        ({"instrument": replace(SHARE, broker_symbol="NOSUCH")}, InvalidOrder),
        ({"product": Product.MTF}, NotSupported),
        ({"validity": Validity.IOC}, NotSupported),
        ({"after_market": True}, NotSupported),
        ({"iceberg_legs": 3}, NotSupported),
        ({"disclosed_quantity": 5}, NotSupported),
        ({"market_protection": Decimal(2)}, NotSupported),
        ({"client_order_id": "with spaces in it"}, NotSupported),
        ({"price": None}, InvalidOrder),
        ({"instrument": replace(SHARE, exchange=Exchange.MCX)}, NotSupported),
    ],
)
def test_refusals_each_by_its_kind(emulator, adapter, terms, error):
    with pytest.raises(error) as raised:
        adapter.place_order(limit(**terms))
    assert raised.value.broker == "groww"
    assert raised.value.message
    assert adapter.fetch_orders() == []
    sent = emulator.recorder.count("POST /v1/order/create")
    assert sent == (0 if raised.value.code in ("not_supported", "price_missing") else 1)


def test_over_freeze_and_closed(emulator, adapter, future):
    emulator.dialect.accounts["GR1"].cash = Decimal(10**12)
    with pytest.raises(OverFreeze, match="freeze"):
        adapter.place_order(order(instrument=future, product=Product.NRML, quantity=65 * 40))
    emulator.exchange.close_market()
    with pytest.raises(MarketClosed):
        adapter.place_order(order())


@pytest.mark.parametrize("number", ["", "0", "../list", "' OR 1=1 --", "9" * 80])
def test_unknown_orders(emulator, adapter, number):
    with pytest.raises(OrderNotFound):
        adapter.cancel_order(number, order())
    change = OrderChange(1, OrderType.MARKET, Validity.DAY)
    with pytest.raises(OrderNotFound):
        adapter.modify_order(number, change, order())
    assert adapter.fetch_order(number, order()) is None
    assert all("/list" not in r.line for r in emulator.recorder.find())


# --- Portfolio ------------------------------------------------------------------------------------


def test_positions_holdings_and_money(emulator, adapter):
    account = emulator.dialect.accounts["GR1"]
    infy = emulator.exchange.find("NSE:INFY")
    account.holdings[infy.key] = Holding(infy, 7, Decimal("98.5"), t1=3)
    adapter.place_order(order(product=Product.MIS, quantity=5))

    (holding,) = adapter.fetch_holdings()
    assert (holding.symbol, holding.quantity, holding.t1_quantity) == ("INFY", 10, 3)
    assert holding.average_price == Decimal("98.5")
    (position,) = adapter.fetch_positions()
    assert (position.symbol, position.quantity) == ("RELIANCE", 5)
    assert (position.average_price, position.last_price) == (Decimal("100.05"), Decimal(100))
    assert position.unrealised == Decimal("-0.25")
    funds = adapter.fetch_funds()
    assert funds.available == account.available
    assert funds.used == account.used
    assert funds.total == funds.available + funds.used


def test_positions_that_come_in_paise(emulator, adapter):
    adapter.place_order(order(product=Product.MIS, quantity=5))
    emulator.dialect.levers.positions_in_paise = True
    emulator.exchange.show("NSE:RELIANCE", "100.10")
    (position,) = adapter.fetch_positions()
    assert position.average_price == Decimal("100.05")


def test_positions_are_read_although_quotes_fail(emulator, adapter):
    adapter.place_order(order(product=Product.MIS, quantity=5))
    emulator.faults.add("status", "GET /v1/live-data/*", status=502, times=None)
    (position,) = adapter.fetch_positions()
    assert (position.average_price, position.last_price) == (Decimal("100.05"), None)


def test_profile(adapter):
    profile = adapter.fetch_profile()
    assert profile.broker_user_id == "GR1"
    assert profile.exchanges == {Exchange.NSE, Exchange.BSE, Exchange.NFO, Exchange.BFO}


def test_margin(emulator, adapter, future):
    one = adapter.estimate_margin([limit("100")])
    assert one.required == 1000
    assert one.charges > 0
    both = adapter.estimate_margin(
        [order(), order(instrument=future, product=Product.NRML, quantity=65)]
    )
    assert both.required > one.required
    queries = [r.request.query for r in emulator.recorder.find("POST /v1/margins/*")]
    assert [q["segment"] for q in queries] == ["CASH", "CASH", "FNO"]


# --- Market data ----------------------------------------------------------------------------------


def test_quotes(emulator, adapter, future, paced):
    emulator.exchange.show("NSE:RELIANCE", "101", bids=[("100.95", 3)], asks=[("101.05", 4)])

    shares = adapter.fetch_quotes([SHARE, INDEX, future], QuoteDepth.LTP)
    assert [q.instrument_id for q in shares] == [1, 2, 3]
    assert shares[0].last_price == Decimal(101)
    assert emulator.recorder.count("GET /v1/live-data/ltp") == 2
    (bar,) = adapter.fetch_quotes([SHARE], QuoteDepth.OHLC)
    assert (bar.open, bar.high, bar.low) == (Decimal(100), Decimal(101), Decimal(100))
    (full,) = adapter.fetch_quotes([SHARE], QuoteDepth.FULL)
    assert full.previous_close == Decimal(100)
    assert (full.bids[0].price, full.bids[0].quantity) == (Decimal("100.95"), 3)
    assert full.upper_circuit == Decimal(110)
    assert full.at == emulator.exchange.book(emulator.exchange.find("NSE:RELIANCE")).at.replace(
        microsecond=full.at.microsecond
    )
    assert set(paced) == {Pace.QUOTE}


def test_quotes_go_out_fifty_at_a_time(emulator, adapter):
    many = [replace(SHARE, id=n, broker_symbol=f"S{n}") for n in range(10, 129)]
    quotes = adapter.fetch_quotes([*many, SHARE], QuoteDepth.LTP)
    assert [q.instrument_id for q in quotes] == [SHARE.id]
    sizes = [len(r.request.all("exchange_symbols")) for r in emulator.recorder.find("GET *ltp")]
    assert sizes == [50, 50, 20]


def test_a_full_quote_of_what_groww_does_not_know_is_left_out(emulator, adapter):
    unknown = replace(SHARE, id=77, broker_symbol="NOSUCH")
    quotes = adapter.fetch_quotes([unknown, SHARE], QuoteDepth.FULL)
    assert [q.instrument_id for q in quotes] == [SHARE.id]
    emulator.dialect.end_sessions()
    with pytest.raises(SessionExpired):
        adapter.fetch_quotes([unknown], QuoteDepth.FULL)


def test_a_bar_as_text(emulator, adapter):
    emulator.dialect.levers.ohlc_as_text = True
    (bar,) = adapter.fetch_quotes([SHARE], QuoteDepth.OHLC)
    assert bar.high == Decimal(100)
    assert adapter.fetch_quotes([SHARE], QuoteDepth.FULL)[0].low == Decimal(100)


def test_long_candles_come_in_parts_without_gaps_or_repeats(emulator, adapter, paced):
    start = datetime(2026, 8, 3, 3, 45, tzinfo=UTC)
    end = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)

    candles = adapter.fetch_candles(SHARE, CandleInterval.MINUTES_5, start, end)

    starts = [c.start for c in candles]
    assert starts == sorted(set(starts))
    days = {at.date() for at in starts}
    weekdays = [
        day for n in range(111) if (day := (start + timedelta(n)).date()).weekday() < 5
        and day <= end.date()
    ]  # fmt: skip
    assert len(days) == len(weekdays)
    assert len(candles) == 75 * len(weekdays)
    assert emulator.recorder.count("GET /v1/historical/candles") == 4
    assert set(paced) == {Pace.HISTORY}


def test_daily_candles_of_an_index_and_the_end_is_left_out(emulator, adapter):
    start = datetime(2026, 11, 1, 18, 30, tzinfo=UTC)
    end = datetime(2026, 11, 19, 18, 30, tzinfo=UTC)  # midnight in India: the 20th is not asked for
    candles = adapter.fetch_candles(INDEX, CandleInterval.DAY, start, end)
    assert len(candles) == 14
    assert candles[-1].start == datetime(2026, 11, 18, 18, 30, tzinfo=UTC)


def test_candles_of_a_contract(emulator, adapter, future):
    end = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
    candles = adapter.fetch_candles(future, CandleInterval.DAY, end - timedelta(days=5), end)
    assert candles[0].open_interest > 0
    with pytest.raises(NotSupported, match="list"):
        adapter.fetch_candles(
            replace(future, broker_token=""), CandleInterval.DAY, end - timedelta(days=5), end
        )


def test_instruments(emulator, adapter, future):
    records = {(r.exchange, r.symbol): r for r in adapter.fetch_instruments()}

    share = records[Exchange.NSE, "RELIANCE"]
    assert (share.broker_symbol, share.broker_token) == ("RELIANCE", "2885/NSE-RELIANCE")
    assert (share.isin, share.tick_size) == ("INE002A01018", Decimal("0.05"))
    index = records[Exchange.NSE, "NIFTY 50"]
    assert (index.kind, index.broker_symbol) == (InstrumentKind.INDEX, "NIFTY")
    assert index.broker_token == "NIFTY/NSE-NIFTY"
    contract = records[Exchange.NFO, future.symbol]
    assert (contract.lot_size, contract.freeze_quantity, contract.strike) == (65, 1800, None)
    assert contract.underlying == "NIFTY"
    assert contract.broker_token == future.broker_token
    assert len(records) == len(emulator.exchange.instruments)  # the odd rows are left out
