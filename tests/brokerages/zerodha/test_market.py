"""Quotes, candles, ticks and the instrument list, without a network."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from brokerages.adapters.zerodha import market
from brokerages.base import IST
from brokerages.errors import InvalidOrder
from brokerages.types import CandleInterval, Exchange, InstrumentKind, Segment
from tests.brokerages.zerodha.conftest import FUTURE, INDEX, PAYLOADS, SHARE, payload

NOW = datetime(2026, 11, 23, 5, 0, 16, tzinfo=UTC)
BARE = replace(SHARE, broker_token="")  # before the broker's list was read


# --- Quotes ---------------------------------------------------------------------------------------


def test_full_quote():
    quote = market.quote_of(SHARE, payload("quote.json")["NSE:RELIANCE"], NOW)
    assert quote is not None
    assert (quote.instrument_id, quote.source, quote.simulated) == (1, "zerodha", False)
    assert quote.at == datetime(2026, 11, 23, 5, 0, 15, tzinfo=UTC)
    assert [str(v) for v in (quote.last_price, quote.open, quote.high, quote.low)] == [
        "1456.35", "1451.00", "1460.90", "1448.05",
    ]  # fmt: skip
    assert quote.previous_close == 1450
    assert (quote.lower_circuit, quote.upper_circuit) == (Decimal(1305), Decimal(1595))
    assert [(str(b.price), b.quantity, b.orders) for b in quote.bids] == [
        ("1456.30", 100, 3), ("1456.20", 20, 1),
    ]  # fmt: skip
    assert len(quote.asks) == 1
    assert quote.volume == 1192471
    assert quote.open_interest is None  # a share has none
    assert quote.sequence > 0


def test_quote_of_a_contract_before_its_first_trade_today():
    quote = market.quote_of(FUTURE, payload("quote.json")["NFO:NIFTY26NOVFUT"], NOW)
    assert quote is not None
    assert quote.open_interest == 6_500_000
    assert (quote.open, quote.high, quote.low) == (None, None, None)


def test_what_never_traded_has_no_quote():
    assert market.quote_of(SHARE, payload("quote.json")["NSE:NEVERTRADED"], NOW) is None


def test_short_quote_takes_our_time():
    quote = market.quote_of(SHARE, {"instrument_token": 1, "last_price": 5}, NOW)
    assert quote is not None
    assert (quote.at, quote.bids, quote.previous_close) == (NOW, (), None)


def test_names_of_quotes():
    assert market.quote_key(INDEX) == "NSE:NIFTY 50"
    assert market.quote_key(replace(SHARE, broker_symbol="RELIANCE-BE")) == "NSE:RELIANCE-BE"


# --- Ticks ----------------------------------------------------------------------------------------


def test_tick_is_exact():
    at = datetime(2021, 7, 5, 5, 11, 27, tzinfo=UTC)
    row = {
        "tradable": True,
        "mode": "full",
        "instrument_token": 738561,
        "last_price": 157370 / 100.0,
        "volume_traded": 1192471,
        "ohlc": {"open": 1569.15, "high": 1575.0, "low": 1561.05, "close": 1567.8},
        "oi": 0,
        "exchange_timestamp": at.astimezone().replace(tzinfo=None),  # as the SDK makes it
        "depth": {
            "buy": [
                {"quantity": 5, "price": 1573.65, "orders": 2},
                {"quantity": 0, "price": 0.0, "orders": 0},
            ],
            "sell": [{"quantity": 7, "price": 1573.7, "orders": 1}],
        },
    }
    tick = market.tick_of(SHARE, row, NOW)
    assert tick is not None
    assert str(tick.last_price) == "1573.70"
    assert tick.at == at
    assert tick.volume == 1192471
    assert tick.quote is not None
    assert tick.quote.previous_close == Decimal("1567.80")
    assert [level.price for level in tick.quote.bids] == [Decimal("1573.65")]


@pytest.mark.parametrize("paise", [1, 5, 99, 157370, 999_999_999, 4_294_967_295])
def test_every_price_of_the_wire_is_exact(paise):
    tick = market.tick_of(SHARE, {"instrument_token": 1, "last_price": paise / 100.0}, NOW)
    assert tick is not None
    assert tick.last_price == Decimal(paise) / 100


@pytest.mark.parametrize("stamp", [None, datetime.fromtimestamp(0), 5])  # noqa: DTZ006
def test_tick_without_a_time_takes_ours(stamp):
    row = {"instrument_token": 1, "last_price": 100.05, "exchange_timestamp": stamp}
    tick = market.tick_of(SHARE, row, NOW)
    assert tick is not None
    assert tick.at == NOW


def test_price_alone():
    tick = market.tick_of(SHARE, {"instrument_token": 1, "last_price": 100.05, "mode": "ltp"}, NOW)
    assert tick is not None
    assert (tick.at, tick.volume, tick.quote) == (NOW, 0, None)


# --- Candles --------------------------------------------------------------------------------------


def ist(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=IST)


@pytest.mark.parametrize("interval", list(market.INTERVALS))
def test_spans_meet_without_gap_or_overlap(interval):
    _, days = market.INTERVALS[interval]
    start, end = ist("2024-01-01T09:15:00"), ist("2026-11-25T15:30:00")
    spans = list(market.spans(start, end, days))

    assert spans[0][0] == datetime(2024, 1, 1, 9, 15)
    assert spans[-1][1] == datetime(2026, 11, 25, 15, 29, 59)  # the end is not included
    for (_, last), (first, _) in pairwise(spans):
        assert first - last == timedelta(seconds=1)
        assert first.time() == datetime.min.time()  # at midnight, so that no candle is cut
    assert all(last - first < timedelta(days=days) for first, last in spans)


@pytest.mark.parametrize(
    ("start", "end", "spans"),
    [
        ("2026-11-23T09:15:00", "2026-11-23T09:15:00", []),
        ("2026-11-23T09:15:00", "2026-11-22T09:15:00", []),
        ("2026-11-23T09:15:00.5", "2026-11-23T09:16:00.5", [("09:15:01", "09:16:00")]),
        ("2026-11-23T00:00:00", "2026-11-24T00:00:00", [("00:00:00", "23:59:59")]),
    ],
)
def test_edges_of_spans(start, end, spans):
    found = market.spans(ist(start), ist(end), 30)
    assert [(f"{a:%H:%M:%S}", f"{b:%H:%M:%S}") for a, b in found] == spans


def test_candles_in_order_each_once_and_only_those_asked_for():
    def row(text: str, close: str = "2") -> dict[str, object]:
        return {
            "date": datetime.fromisoformat(text), "open": 1, "high": Decimal("2.5"), "low": 1,
            "close": Decimal(close), "volume": 7, "oi": 3,
        }  # fmt: skip

    rows = [
        row("2026-11-23T09:25:00+05:30"),
        row("2026-11-23T09:15:00+05:30"),
        row("2026-11-23T09:20:00+05:30", "3"),
        row("2026-11-23T09:20:00+05:30", "4"),
        row("2026-11-23T09:10:00+05:30"),
    ]
    candles = market.candles(rows, ist("2026-11-23T09:15:00"), ist("2026-11-23T09:25:00"))
    assert [(f"{c.start:%H:%M}", c.close) for c in candles] == [("03:45", 2), ("03:50", 4)]
    assert candles[0].start.tzinfo is UTC
    assert (candles[0].volume, candles[0].open_interest) == (7, 3)


def test_weeks_and_months_are_not_offered():
    missing = set(CandleInterval) - set(market.INTERVALS)
    assert missing == {CandleInterval.WEEK, CandleInterval.MONTH}


# --- Instruments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instrument", "token"),
    [
        (SHARE, 738561),
        (BARE, 738561),
        (replace(BARE, exchange=Exchange.BSE, exchange_token="500325"), 128083204),
        (FUTURE, 13568258),
        (INDEX, 256265),
    ],
)  # fmt: skip
def test_tokens(instrument, token):
    assert market.instrument_token(instrument) == token


@pytest.mark.parametrize(
    "instrument",
    [
        replace(INDEX, broker_token=""),  # Kite numbers indices by itself
        replace(SHARE, broker_token="", exchange_token=""),
        replace(SHARE, broker_token="abc", exchange_token="²"),
        replace(SHARE, broker_token="", exchange=Exchange.MCX),
    ],
)
def test_tokens_are_never_guessed(instrument):
    with pytest.raises(InvalidOrder):
        market.instrument_token(instrument)


@pytest.fixture
def listed():
    data = (PAYLOADS / "instruments.csv").read_bytes()
    records = list(market.instrument_records(market.instrument_rows(data)))
    return {f"{record.exchange}:{record.broker_symbol}": record for record in records}


def test_rows_that_cannot_be_named_are_left_out(listed):
    assert list(listed) == [
        "NSE:RELIANCE", "NSE:RELINFRA-BE", "NSE:BAJAJ-AUTO", "NSE:NIFTY 50", "BSE:SENSEX",
        "BSE:RELIANCE", "NFO:NIFTY26NOVFUT", "NFO:NIFTY26NOV24800CE", "BFO:SENSEX2640977100PE",
    ]  # fmt: skip


def test_share(listed):
    share = listed["NSE:RELIANCE"]
    assert (share.kind, share.segment) == (InstrumentKind.EQ, Segment.EQUITY)
    assert (share.broker_token, share.exchange_token, share.symbol) == (
        "738561",
        "2885",
        "RELIANCE",
    )
    assert (str(share.tick_size), share.lot_size) == ("0.05", 1)


def test_series_is_kites_decoration_and_a_hyphen_is_not(listed):
    assert listed["NSE:RELINFRA-BE"].symbol == "RELINFRA"
    assert listed["NSE:BAJAJ-AUTO"].symbol == "BAJAJ-AUTO"


def test_index(listed):
    index = listed["NSE:NIFTY 50"]
    assert (index.kind, index.segment) == (InstrumentKind.INDEX, Segment.INDEX)
    assert (index.underlying, listed["BSE:SENSEX"].underlying) == ("NIFTY", "SENSEX")


def test_contracts(listed):
    future, call, put = (
        listed[key]
        for key in ("NFO:NIFTY26NOVFUT", "NFO:NIFTY26NOV24800CE", "BFO:SENSEX2640977100PE")
    )
    assert (future.kind, future.strike, future.lot_size) == (InstrumentKind.FUT, None, 65)
    assert (str(future.expiry), future.underlying) == ("2026-11-24", "NIFTY")
    assert (call.kind, call.strike) == (InstrumentKind.CE, 24800)
    assert (put.kind, put.strike) == (InstrumentKind.PE, Decimal("77100.5"))
    assert put.segment is Segment.EQUITY_DERIVATIVES


@pytest.mark.parametrize("data", [b"", b"<html>busy</html>", b"a,b\n1,2\n", b"\xff\xfe"])
def test_what_is_no_list(data):
    with pytest.raises(ValueError):
        list(market.instrument_rows(data))
