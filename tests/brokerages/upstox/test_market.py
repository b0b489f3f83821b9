"""Quotes, candles, the instrument list and the feed, from payloads."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from upstox_client.feeder.proto import MarketDataFeedV3_pb2 as proto

from brokerages.adapters.upstox import market
from brokerages.types import (
    BookLevel,
    CandleInterval,
    Exchange,
    InstrumentKind,
    QuoteDepth,
    Segment,
)
from tests.brokerages.upstox.conftest import FUTURE, INDEX, PAYLOADS, SHARE, data, payload

NOW = datetime(2026, 11, 23, 5, 30, tzinfo=UTC)
D = Decimal
NHPC, CALL = replace(SHARE, id=11), replace(FUTURE, id=12)
WANTED = {"NSE_EQ|INE848E01016": NHPC, "NSE_FO|54003": CALL, "NSE_INDEX|Nifty 50": INDEX}


def test_full_quote():
    (quote,) = market.parse_quotes(data("quotes"), WANTED, QuoteDepth.FULL, NOW)
    assert (quote.instrument_id, quote.last_price) == (11, D("52.05"))
    assert quote.previous_close == D("53.20")  # the row's own close is the running day's
    assert quote.at == datetime(2026, 11, 23, 5, 5, 8, tzinfo=UTC)
    assert quote.bids[0] == BookLevel(D("52.05"), 3000, 2)
    assert len(quote.bids) == 5
    assert quote.asks == ()  # rows of zeros are no levels
    assert (quote.lower_circuit, quote.upper_circuit) == (D("42.6"), D("63.8"))
    assert quote.open_interest is None


def test_full_quote_of_v3():
    (quote,) = market.parse_quotes(data("quotes_v3"), WANTED, QuoteDepth.FULL, NOW)
    assert (quote.previous_close, quote.open_interest) == (D("121.9"), 6_500_000)
    assert quote.at.microsecond == 104_000


def test_rows_are_matched_by_what_they_say_not_by_their_name():
    index, share = market.parse_quotes(data("ltp"), WANTED, QuoteDepth.LTP, NOW)
    assert (index.instrument_id, index.last_price) == (INDEX.id, D("24801.35"))
    assert (share.instrument_id, share.previous_close) == (11, D("53.2"))
    assert market.parse_quotes(data("ltp"), {}, QuoteDepth.LTP, NOW) == []


def test_day_of_an_instrument():
    (quote,) = market.parse_quotes(data("ohlc"), WANTED, QuoteDepth.OHLC, NOW)
    assert (quote.open, quote.high, quote.low) == (D("53.4"), D("53.8"), D("51.75"))
    assert quote.volume == 24_123_697
    assert quote.previous_close is None


# --- Candles --------------------------------------------------------------------------------------


def test_candles_are_turned_round():
    candles = market.parse_candles(data("candles"))
    joined = market.joined(candles * 2, candles[2].start, candles[0].start)
    assert [c.start for c in joined] == [candles[2].start, candles[1].start]  # the end is open
    assert joined[0].start == datetime(2026, 11, 20, 9, 56, tzinfo=UTC)
    assert (joined[0].open, joined[0].volume) == (D("2302.95"), 11_000)


@pytest.mark.parametrize(
    "broken", [[["2026-11-20T15:28:00+05:30", 1, 2]], [{}], "none", [["", *"12345"]]]
)
def test_broken_candles(broken):
    with pytest.raises(ValueError):
        market.parse_candles({"candles": broken})


@pytest.mark.parametrize("interval", list(CandleInterval))
def test_spans_meet_without_gap_or_overlap(interval):
    step = market.STEPS[interval]
    first, last = date(2013, 2, 3), date(2026, 11, 20)
    spans = list(market.history_spans(step, first, last))
    assert (spans[0][0], spans[-1][1]) == (first, last)
    for (_, before), (after, _) in pairwise(spans):
        assert after == before + timedelta(days=1)
    if step.days:
        assert all((to - since).days < step.days for since, to in spans)
    assert list(market.history_spans(step, last, first)) == []


# --- Instruments ----------------------------------------------------------------------------------


def listed():
    return [market.parse_instrument(row) for row in payload("instruments")]


def test_share_of_the_list():
    share = listed()[0]
    assert (share.symbol, share.isin) == ("RELIANCE", "INE002A01018")
    assert share.tick_size == D("0.1")  # the list says 10 paise
    assert share.broker_token == "NSE_EQ|INE002A01018"
    assert (share.kind, share.segment) == (InstrumentKind.EQ, Segment.EQUITY)


def test_index_of_the_list():
    index = listed()[2]
    assert (index.symbol, index.underlying) == ("NIFTY BANK", "BANKNIFTY")
    assert index.segment is Segment.INDEX


def test_contracts_of_the_list():
    future, weekly, currency = listed()[3:6]
    assert (future.symbol, future.expiry) == ("NIFTY26NOVFUT", date(2026, 11, 24))
    assert (future.lot_size, future.freeze_quantity, future.strike) == (65, 1800, None)
    assert (weekly.symbol, weekly.strike) == ("NIFTY26D0123250PE", 23250)
    assert (weekly.exchange, weekly.tick_size) == (Exchange.NFO, D("0.05"))
    assert (currency.symbol, currency.exchange) == ("USDINR26NOV88.25CE", Exchange.CDS)
    assert currency.tick_size == D("0.0025")


def test_what_our_words_do_not_name_is_left_out():
    assert listed()[1] is None  # a government security
    assert listed()[6] is None  # a world index


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1 << 20])
def test_list_arrives_in_pieces(size):
    listed = [*json.loads((PAYLOADS / "instruments.json").read_bytes()), {"name": "é₹"}]
    raw = json.dumps(listed, ensure_ascii=False).encode()
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    assert len(list(market.rows_of_list(pieces))) == 8


BROKEN = [
    b"",
    b"[",
    b'[{"a": 1}',
    b'[{"a": 1',
    b'{"a": 1}',
    b"[1]",
    b"<html>",
    b'["\xff\xff\xff\xff\xff"]',
]


@pytest.mark.parametrize("raw", BROKEN)
def test_list_that_is_none_or_cut_off(raw):
    with pytest.raises(ValueError):
        list(market.rows_of_list([raw]))


# --- The feed -------------------------------------------------------------------------------------


def frame(mode):
    message = proto.FeedResponse(type=proto.live_feed, currentTs=1795410308104)
    feed = message.feeds["NSE_FO|54003"]
    if mode == "ltpc":
        target = feed.ltpc
    elif mode == "index":
        target = feed.fullFeed.indexFF.ltpc
    else:
        full = feed.fullFeed.marketFF
        full.vtt, full.oi = 123_456, 6_500_000.0
        full.marketLevel.bidAskQuote.add(bidQ=650, bidP=118.35, askQ=1300, askP=118.45)
        full.marketLevel.bidAskQuote.add(bidQ=65, bidP=118.3)
        full.marketOHLC.ohlc.add(interval="1d", open=120.0, high=131.15, low=98.4, close=118.4)
        target = full.ltpc
    target.ltp, target.ltt, target.cp = 118.4, 1795410308000, 121.9
    return proto.FeedResponse.FromString(message.SerializeToString())


def test_tick_with_a_book():
    (tick,) = market.parse_feed(frame("full"), WANTED)
    assert (tick.instrument_id, tick.last_price, tick.volume) == (12, D("118.4"), 123_456)
    assert tick.at == datetime(2026, 11, 23, 5, 5, 8, 104_000, tzinfo=UTC)
    quote = tick.quote
    assert quote.bids == (BookLevel(D("118.35"), 650), BookLevel(D("118.3"), 65))
    assert quote.asks == (BookLevel(D("118.45"), 1300),)  # a missing field is zero: no level
    assert (quote.open, quote.previous_close, quote.open_interest) == (120, D("121.9"), 6_500_000)


def test_bare_tick():
    (tick,) = market.parse_feed(frame("ltpc"), WANTED)
    assert (tick.last_price, tick.volume, tick.quote) == (D("118.4"), 0, None)


def test_tick_of_an_index():
    (tick,) = market.parse_feed(frame("index"), WANTED)
    assert tick.quote.bids == ()
    assert tick.quote.previous_close == D("121.9")


def test_frames_that_say_no_price():
    assert market.parse_feed(frame("full"), {}) == []
    status = proto.FeedResponse(type=proto.market_info, currentTs=1)
    status.marketInfo.segmentStatus["NSE_EQ"] = proto.NORMAL_OPEN
    assert market.parse_feed(status, WANTED) == []
    silent = frame("ltpc")
    silent.feeds["NSE_FO|54003"].ltpc.ltp = 0
    assert market.parse_feed(silent, WANTED) == []


def test_request_frame():
    sent = json.loads(market.feed_request("sub", ["NSE_EQ|INE002A01018"], "g", "full"))
    assert sent == {
        "guid": "g",
        "method": "sub",
        "data": {"instrumentKeys": ["NSE_EQ|INE002A01018"], "mode": "full"},
    }
    assert "mode" not in json.loads(market.feed_request("unsub", [], "g"))["data"]
