"""Words and rows, held against payload files in the documented shapes."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerages.adapters.groww import mapping, market, portfolio, positions
from brokerages.errors import InvalidOrder, NotSupported, OrderNotFound
from brokerages.types import (
    CandleInterval,
    Exchange,
    InstrumentKind,
    OrderChange,
    OrderType,
    Product,
    ReportedStatus,
    Segment,
    Side,
    Validity,
)
from tests.brokerages.groww.conftest import INDEX, PAYLOADS, SHARE, order, payload

S = ReportedStatus
NOW = datetime(2025, 10, 15, 6, 0, tzinfo=UTC)


def orders():
    return payload("order_list")["payload"]["order_list"]


# --- Values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1.5, True, "1e5", "", "NaN", Decimal("NaN"), [], {}, None])
def test_what_is_no_amount(value):
    with pytest.raises(ValueError, match="amount"):
        mapping.amount(value)


def test_quantities_are_whole():
    assert mapping.units(Decimal("10.0")) == 10
    assert mapping.units(None) == 0
    with pytest.raises(ValueError, match="quantity"):
        mapping.units(Decimal("10.5"))


@pytest.mark.parametrize(
    "text",
    [
        "2025-10-15T10:15:30",
        "2025-10-15T10:15:30Z",
        "2025-10-15 10:15:30",
        "2025-10-15T10:15:30+05:30",
    ],
)
def test_times_are_those_of_india(text):
    assert mapping.moment(text) == datetime(2025, 10, 15, 4, 45, 30, tzinfo=UTC)


@pytest.mark.parametrize("value", [None, "", "soon", 5])
def test_what_is_no_time(value):
    with pytest.raises(ValueError, match=r"time|isoformat"):
        mapping.moment(value)


# --- Orders ---------------------------------------------------------------------------------------


def test_a_partly_filled_order():
    report = mapping.parse_order(orders()[0], NOW)
    assert report.broker_order_id == "GMK39038RDT490CCVRO"
    assert report.client_order_id == "ab12-cd34-0001"
    assert report.status is S.PARTIALLY_FILLED
    assert (report.quantity, report.filled_quantity) == (100, 40)
    assert report.average_price == Decimal("1380.45")
    assert (report.price, report.trigger_price) == (Decimal("1380.5"), None)
    assert report.reported_at == NOW
    assert report.raw["exchange_time"]


def test_a_rejected_order_keeps_the_words():
    report = mapping.parse_order(orders()[1], NOW)
    assert (report.status, report.message) == (S.REJECTED, "RMS: insufficient balance")
    assert (report.average_price, report.price) == (None, None)
    assert report.reported_at == NOW


def test_a_filled_contract():
    report = mapping.parse_order(orders()[2], NOW)
    assert (report.status, report.filled_quantity) == (S.FILLED, 75)
    assert (report.message, report.client_order_id) == ("", "")
    assert report.exchange_order_id == "1200000012345678"


def test_a_status_alone():
    report = mapping.parse_status(payload("order_status")["payload"], NOW)
    assert (report.status, report.filled_quantity) == (S.PENDING_CANCEL, 40)
    assert (report.average_price, report.quantity, report.reported_at) == (None, None, NOW)


@pytest.mark.parametrize(
    ("word", "filled", "kind", "status"),
    [
        ("NEW", 0, "LIMIT", S.RECEIVED),
        ("ACKED", 0, "LIMIT", S.RECEIVED),
        ("TRIGGER_PENDING", 0, "SL", S.TRIGGER_PENDING),
        ("APPROVED", 0, "LIMIT", S.OPEN),
        ("APPROVED", 1, "LIMIT", S.PARTIALLY_FILLED),
        ("OPEN", 0, "LIMIT", S.OPEN),
        ("MODIFICATION_REQUESTED", 0, "LIMIT", S.OPEN),
        ("MODIFICATION_REQUESTED", 3, "SL", S.PARTIALLY_FILLED),
        ("MODIFICATION_REQUESTED", 0, "SL", S.UNKNOWN),
        ("MODIFICATION_REQUESTED", 0, "SL_M", S.UNKNOWN),
        ("CANCELLATION_REQUESTED", 3, "LIMIT", S.PENDING_CANCEL),
        ("EXECUTED", 10, "LIMIT", S.FILLED),
        ("DELIVERY_AWAITED", 10, "LIMIT", S.FILLED),
        ("COMPLETED", 10, "LIMIT", S.FILLED),
        ("CANCELLED", 3, "LIMIT", S.CANCELLED),
        ("REJECTED", 0, "LIMIT", S.REJECTED),
        ("FAILED", 0, "LIMIT", S.REJECTED),
        ("SOMETHING_NEW", 0, "LIMIT", S.UNKNOWN),
        ("open", 0, "LIMIT", S.UNKNOWN),
        (None, 0, "LIMIT", S.UNKNOWN),
    ],
)
def test_statuses(word, filled, kind, status):
    assert mapping.status_of(word, filled, kind) is status


@pytest.mark.parametrize(
    "change",
    [
        {"groww_order_id": None},
        {"groww_order_id": "../x"},
        {"filled_quantity": Decimal("1.5")},
        {"quantity": "many"},
        {"price": "much"},
    ],
)
def test_a_row_that_does_not_make_sense_is_not_guessed_at(change):
    with pytest.raises(ValueError):
        mapping.parse_order(orders()[0] | change, NOW)


def test_trades_each_once_and_only_executions(caplog):
    report = mapping.parse_order(orders()[0], NOW)
    first, second = mapping.parse_fills(payload("trades")["payload"]["trade_list"], report, NOW)
    assert (first.fill_id, first.quantity, first.price) == ("23445677", 10, Decimal("1380.40"))
    assert (second.fill_id, second.quantity) == ("23445678", 30)
    assert (first.client_order_id, first.side) == ("ab12-cd34-0001", Side.BUY)
    assert "SOMETHING_NEW" in caplog.text


@pytest.mark.parametrize("number", [None, ""])
def test_a_trade_without_the_exchanges_number_waits_for_it(number):
    report = mapping.parse_order(orders()[0], NOW)
    rows = payload("trades")["payload"]["trade_list"][:2]
    early = rows[0] | {"groww_trade_id": "G1", "exchange_trade_id": number}
    (only,) = mapping.parse_fills([early, rows[1]], report, NOW)
    assert only.fill_id == rows[1]["exchange_trade_id"]
    del early["exchange_trade_id"]
    assert mapping.parse_fills([early], report, NOW) == []
    final = rows[0] | {"groww_trade_id": "G1"}
    numbers = [fill.fill_id for fill in mapping.parse_fills([final, rows[1]], report, NOW)]
    assert sorted(numbers) == ["23445677", "23445678"]


def test_the_whole_of_an_ended_order_as_one_fill():
    ended, open_ = mapping.parse_order(orders()[2], NOW), mapping.parse_order(orders()[0], NOW)
    fill = mapping.fill_of_total(ended)
    assert (fill.quantity, fill.price, fill.exchange) == (75, Decimal("131.35"), Exchange.NFO)
    assert mapping.fill_of_total(open_) is None
    assert mapping.fill_of_total(replace(ended, average_price=None)) is None
    later = replace(ended, reported_at=NOW + timedelta(days=1))
    assert mapping.fill_of_total(later) == fill  # its day decides whether it was counted before
    timeless = replace(ended, raw=ended.raw | {"created_at": None, "exchange_time": None})
    with pytest.raises(ValueError):
        mapping.fill_of_total(timeless)


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        ("131.3333333333", "131.3333"),
        ("131.33335", "131.3334"),
        ("131.33345", "131.3335"),
        ("131.35", "131.3500"),
        ("7", "7.0000"),
    ],
)
def test_prices_of_fills_have_four_digits(stated, kept):
    ended = mapping.parse_order(orders()[2] | {"average_fill_price": Decimal(stated)}, NOW)
    row = payload("trades")["payload"]["trade_list"][0] | {"price": Decimal(stated)}
    (trade,) = mapping.parse_fills([row], ended, NOW)
    assert str(trade.price) == str(mapping.fill_of_total(ended).price) == kept
    assert ended.average_price == Decimal(stated)


@pytest.mark.parametrize(
    ("made_at", "end"),
    [
        ("2025-10-15T09:00:00", datetime(2025, 10, 15, 10, tzinfo=UTC)),
        ("2025-10-15T15:29:59", datetime(2025, 10, 15, 10, tzinfo=UTC)),
        ("2025-10-15T18:15:00", datetime(2025, 10, 15, 18, 30, tzinfo=UTC)),
    ],
)
def test_when_the_day_of_an_order_ends(made_at, end):
    report = mapping.parse_order(orders()[2] | {"created_at": made_at}, NOW)
    assert mapping.day_end_of(report) == end


def test_an_order_of_an_unknown_day_has_no_end():
    with pytest.raises(ValueError):
        mapping.day_end_of(mapping.parse_order(orders()[2] | {"created_at": None}, NOW))


@pytest.mark.parametrize(
    ("kind", "word", "price", "trigger"),
    [
        (OrderType.MARKET, "MARKET", 0.0, None),
        (OrderType.LIMIT, "LIMIT", 1380.55, None),
        (OrderType.SL, "SL", 1380.55, 1379.0),
        (OrderType.SL_M, "SL_M", 0.0, 1379.0),
    ],
)
def test_build_order(kind, word, price, trigger):
    request = order(
        order_type=kind,
        price=Decimal("1380.55") if kind.has_price else None,
        trigger_price=Decimal(1379) if kind.has_trigger else None,
        side=Side.SELL,
        product=Product.MIS,
    )
    built = mapping.build_order(request)
    assert (built["order_type"], built["price"], built["trigger_price"]) == (word, price, trigger)
    assert (built["transaction_type"], built["product"]) == ("SELL", "MIS")
    assert json.dumps(built["price"]) in ("0.0", "1380.55")


@pytest.mark.parametrize(
    ("exchange", "venue"),
    [
        (Exchange.NSE, ("NSE", "CASH")),
        (Exchange.BSE, ("BSE", "CASH")),
        (Exchange.NFO, ("NSE", "FNO")),
        (Exchange.BFO, ("BSE", "FNO")),
    ],
)
def test_venues(exchange, venue):
    assert mapping.venue_of(replace(SHARE, exchange=exchange)) == venue
    assert mapping.EXCHANGES[venue] is exchange


@pytest.mark.parametrize("price", [None, Decimal(0), Decimal(-1), Decimal("NaN")])
def test_a_limit_without_a_price_is_not_sent(price):
    with pytest.raises(InvalidOrder):
        mapping.build_order(order(order_type=OrderType.LIMIT, price=price))


def test_a_price_that_json_cannot_carry_is_not_sent():
    with pytest.raises(InvalidOrder):
        mapping.build_order(
            order(order_type=OrderType.LIMIT, price=Decimal("1380.55000000000000001"))
        )


@given(st.decimals(min_value="0.01", max_value="9999999", places=4))
def test_every_price_goes_out_exactly(price):
    built = mapping.build_order(order(order_type=OrderType.LIMIT, price=price))
    assert Decimal(json.dumps(built["price"])) == price


@pytest.mark.parametrize(
    "tag",
    ["short", "x" * 21, "a-b-c-d-efgh", "-abcdefgh", "abcdefgh-", "abc defgh", "äbcdefgh", ""],
)
def test_references_that_groww_does_not_take(tag):
    with pytest.raises(NotSupported):
        mapping.reference(tag)


def test_references_that_it_takes():
    for tag in ("ABCDEFGHJK0123456789", "ab12-cd34-0001", "12345678"):
        assert mapping.reference(tag) == tag


def test_build_change():
    change = OrderChange(20, OrderType.SL, Validity.DAY, Decimal("96.05"), Decimal(96))
    assert mapping.build_change("GMK1", change, order()) == {
        "groww_order_id": "GMK1",
        "segment": "CASH",
        "order_type": "SL",
        "quantity": 20,
        "price": 96.05,
        "trigger_price": 96.0,
    }
    market_change = OrderChange(20, OrderType.MARKET, Validity.DAY, Decimal(5))
    assert mapping.build_change("GMK1", market_change, order())["price"] is None
    with pytest.raises(NotSupported):
        mapping.build_change("GMK1", replace(change, validity=Validity.IOC), order())
    with pytest.raises(NotSupported):
        mapping.build_change("GMK1", replace(change, disclosed_quantity=2), order())
    with pytest.raises(OrderNotFound):
        mapping.build_change("a/b", change, order())


# --- Portfolio and money --------------------------------------------------------------------------


def test_positions():
    rows = payload("positions")["payload"]["positions"]
    short, call, gold, other = (portfolio.parse_position(row, Decimal(1380)) for row in rows)
    assert (short.exchange, short.symbol, short.product) == (Exchange.NSE, "RELIANCE", Product.MIS)
    assert (short.quantity, short.average_price) == (-15, Decimal("1382.25"))
    assert (short.realised, short.unrealised) == (Decimal("-120.5"), Decimal("33.75"))
    assert (call.exchange, call.realised) == (Exchange.NFO, None)
    assert (gold.exchange, gold.quantity) == (Exchange.MCX, 0)
    assert other is None  # a product that we have no word for


def test_a_position_in_paise():
    row = payload("positions")["payload"]["positions"][0] | {
        "net_price": 138225, "realised_pnl": Decimal("-12050.0"),
    }  # fmt: skip
    report = portfolio.parse_position(row, None, paise=True)
    assert (report.average_price, report.realised) == (Decimal("1382.25"), Decimal("-120.5"))
    assert report.unrealised is None


class TestPaise:
    """Whether an answer is in paise is decided by what the market shows."""

    RANGES = {
        "NSE_RELIANCE": (Decimal(1370), Decimal(1390)),
        "NSE_NIFTY25O2024500CE": (Decimal("1.2"), Decimal(140)),
    }
    LAST = {"NSE_RELIANCE": Decimal(1380), "NSE_NIFTY25O2024500CE": Decimal("1.3")}

    def rows(self, unit=1):
        found = payload("positions")["payload"]["positions"][:2]
        names = ("net_price", "credit_price", "debit_price")
        return [row | {name: row[name] * unit for name in names} for row in found]

    def test_rupees_inside_the_range_of_the_day(self):
        assert not positions.in_paise(self.rows(), self.RANGES, self.LAST)

    def test_paise(self):
        assert positions.in_paise(self.rows(100), self.RANGES, self.LAST)
        assert positions.in_paise(self.rows(100)[1:], self.RANGES, self.LAST)

    def test_an_option_that_lost_nearly_all_is_in_rupees(self):
        assert not positions.in_paise(self.rows()[1:], self.RANGES, self.LAST)
        assert not positions.in_paise(self.rows()[1:], {}, self.LAST)

    def test_one_row_in_rupees_is_enough(self):
        mixed = [self.rows()[0], self.rows(100)[1]]
        assert not positions.in_paise(mixed, self.RANGES, self.LAST)

    def test_no_evidence_is_rupees(self):
        assert not positions.in_paise(self.rows(100), {}, {})
        assert not positions.in_paise([], {}, {})

    def test_carried_shares_are_judged_by_the_last_price(self):
        carried = [r | {"carry_forward_debit_quantity": 15} for r in self.rows(100)[:1]]
        assert positions.in_paise(carried, self.RANGES, self.LAST)
        carried = [r | {"carry_forward_debit_quantity": 15} for r in self.rows()[:1]]
        assert not positions.in_paise(carried, self.RANGES, self.LAST)


def test_holdings():
    rows = payload("holdings")["payload"]["holdings"]
    first, second, third, example = (portfolio.parse_holding(row) for row in rows)
    assert (example.quantity, example.t1_quantity) == (13, 3)  # as in Groww's documents
    assert (first.exchange, first.quantity, first.t1_quantity) == (Exchange.NSE, 10, 3)
    assert first.average_price == Decimal("1285.333333")
    assert (second.exchange, second.average_price) == (Exchange.BSE, Decimal(0))
    assert (third.exchange, third.symbol, third.isin) == (Exchange.NSE, "INFY", "INE009A01021")


def test_funds():
    funds = portfolio.parse_funds(payload("margins")["payload"])
    assert (funds.available, funds.used) == (Decimal("37981.85"), Decimal("12000.5"))
    assert funds.total == Decimal("49982.35")
    bare = portfolio.parse_funds({"clear_cash": 5})
    assert (bare.available, bare.used) == (Decimal(5), Decimal(0))
    with pytest.raises(KeyError):
        portfolio.parse_funds({})


def test_margin():
    margin = portfolio.parse_margin(payload("order_margins")["payload"])
    assert (margin.required, margin.charges) == (Decimal("151750.50"), Decimal("45.12"))


def test_profile():
    profile = portfolio.parse_profile(payload("user")["payload"])
    assert profile.broker_user_id == "924189"
    assert profile.exchanges == {Exchange.NSE, Exchange.BSE}


def test_sessions():
    token = mapping.parse_session(payload("session"), NOW)
    assert token.secrets["access_token"].startswith("eyJ")
    assert token.expires_at == datetime(2025, 10, 16, 0, 30, tzinfo=UTC)
    for body in ({}, {"token": ""}, {"token": 5}, {"token": "a\nb"}):
        with pytest.raises(ValueError, match="token"):
            mapping.parse_session(body, NOW)


@pytest.mark.parametrize(
    ("now", "end"),
    [
        (datetime(2025, 10, 15, 0, 29, tzinfo=UTC), datetime(2025, 10, 15, 0, 30, tzinfo=UTC)),
        (datetime(2025, 10, 15, 0, 30, tzinfo=UTC), datetime(2025, 10, 16, 0, 30, tzinfo=UTC)),
        (datetime(2025, 10, 15, 20, 0, tzinfo=UTC), datetime(2025, 10, 16, 0, 30, tzinfo=UTC)),
    ],
)
def test_without_an_expiry_a_session_ends_at_six_in_india(now, end):
    assert mapping.next_expiry(now) == end
    assert mapping.parse_session({"token": "t", "expiry": "?"}, now).expires_at == end
    past = {"token": "t", "expiry": "2025-10-15T05:00:00"}
    assert mapping.parse_session(past, now).expires_at == end


# --- Market data ----------------------------------------------------------------------------------


def test_a_full_quote_with_its_bar_as_text():
    quote = market.full_quote(SHARE, payload("quote")["payload"], NOW)
    assert (quote.last_price, quote.previous_close) == (Decimal("149.5"), Decimal("150.05"))
    assert (quote.open, quote.high, quote.low) == (
        Decimal("149.50"),
        Decimal("150.50"),
        Decimal("148.50"),
    )
    assert [(b.price, b.quantity, b.orders) for b in quote.bids] == [
        (Decimal("149.45"), 1000, 4),
        (Decimal("149.4"), 250, 0),
    ]
    assert (quote.volume, quote.open_interest) == (1203400, None)
    assert quote.at == datetime(2025, 10, 15, 4, 45, 30, tzinfo=UTC)
    assert quote.lower_circuit == Decimal("135.05")


def test_a_quote_with_nulls_and_seconds():
    call = replace(SHARE, segment=Segment.EQUITY_DERIVATIVES, exchange=Exchange.NFO)
    quote = market.full_quote(call, payload("quote_option")["payload"], NOW)
    assert (quote.open_interest, quote.previous_close, quote.bids) == (51234, None, ())
    assert (quote.low, quote.upper_circuit) == (None, None)
    assert quote.at == datetime(2025, 10, 15, 4, 45, 30, tzinfo=UTC)


def test_no_price_is_no_quote():
    assert market.full_quote(SHARE, {"last_price": None}, NOW) is None
    assert market.ltp_quote(SHARE, 0, None, NOW) is None
    assert market.ltp_quote(SHARE, None, {"open": 1}, NOW) is None


def test_candles():
    candles = market.parse_candles(payload("candles")["payload"])
    assert [c.start for c in candles] == [
        datetime(2025, 9, 24, 5, minute, tzinfo=UTC) for minute in (0, 5, 25)
    ]
    assert (candles[0].low, candles[0].volume) == (Decimal("1384.55"), 120034)
    assert candles[0].open_interest is None


@pytest.mark.parametrize("interval", list(CandleInterval))
def test_spans_cover_all_and_none_is_too_long(interval):
    start = datetime(2024, 1, 1, tzinfo=UTC)
    end = datetime(2025, 10, 15, 6, 30, tzinfo=UTC)
    spans = list(market.spans(interval, start, end))
    assert (spans[0][0], spans[-1][1]) == (start, end)
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    longest = timedelta(days=market.INTERVALS[interval][1])
    assert all(stop - first <= longest for first, stop in spans)


def test_spans_of_nothing_and_of_long_ago():
    at = datetime(2025, 1, 1, tzinfo=UTC)
    assert list(market.spans(CandleInterval.DAY, at, at)) == []
    old = list(market.spans(CandleInterval.DAY, datetime(1999, 1, 1, tzinfo=UTC), at))
    assert old[0][0] == market.FIRST_DAY


def test_instruments():
    with (PAYLOADS / "instruments.csv").open(encoding="utf-8", newline="") as file:
        records = list(market.parse_instruments(csv.DictReader(file)))
    found = {(r.exchange, r.broker_symbol): r for r in records}
    assert len(records) == 8
    share = found[Exchange.NSE, "RELIANCE"]
    assert (share.kind, share.segment, share.tick_size) == (
        InstrumentKind.EQ,
        Segment.EQUITY,
        Decimal("0.1"),
    )
    index = found[Exchange.NSE, "NIFTY"]
    assert (index.symbol, index.segment, index.exchange_token) == ("NIFTY 50", Segment.INDEX, "")
    midcap = found[Exchange.NSE, "NIFTYMIDSELECT"]
    assert (midcap.symbol, midcap.underlying) == ("NIFTY MID SELECT", "MIDCPNIFTY")
    assert (midcap.lot_size, midcap.tick_size) == (1, Decimal("0.05"))
    future = found[Exchange.NFO, "NIFTY25SEPFUT"]
    assert (future.strike, future.expiry, future.lot_size) == (None, date(2025, 9, 30), 75)
    call = found[Exchange.NFO, "NIFTY25N1823400CE"]
    assert (call.strike, call.underlying, call.freeze_quantity) == (Decimal(23400), "NIFTY", 1800)
    assert call.broker_token == "35241/NSE-NIFTY-18Nov25-23400-CE"
    put = found[Exchange.BFO, "SENSEX25N2081500.5PE"]
    assert (put.kind, put.strike) == (InstrumentKind.PE, Decimal("81500.5"))


def test_names():
    assert market.quote_key(INDEX) == "NSE_NIFTY"
    assert (market.feed_token(INDEX), market.groww_symbol(INDEX)) == ("NIFTY", "NSE-NIFTY")
    bare = replace(SHARE, broker_symbol="", broker_token="", exchange_token="2885")
    assert market.quote_key(bare) == "NSE_RELIANCE"
    assert (market.feed_token(bare), market.groww_symbol(bare)) == ("2885", "NSE-RELIANCE")
    with pytest.raises(NotSupported):
        market.groww_symbol(replace(bare, exchange=Exchange.NFO))
    with pytest.raises(NotSupported):
        market.feed_token(replace(bare, exchange_token=""))
