"""Quotes, candles and instruments."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from brokerages.errors import BrokerError, OutcomeUnknown
from brokerages.types import CandleInterval, Exchange, InstrumentKind, QuoteDepth, Segment
from tests.brokerages.contract.benches import MONDAY
from tests.emulators.core.clock import IST
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.market import candles as history

MINUTES = {
    CandleInterval.MINUTE: 1,
    CandleInterval.MINUTES_3: 3,
    CandleInterval.MINUTES_5: 5,
    CandleInterval.MINUTES_15: 15,
    CandleInterval.MINUTES_30: 30,
    CandleInterval.HOUR: 60,
}


def need_quotes(adapter, depth):
    if depth not in adapter.capabilities.quotes:
        pytest.skip(f"{adapter.name} gives no {depth} quotes (quotes)")


def need_candles(adapter, interval):
    if interval not in adapter.capabilities.candle_intervals:
        pytest.skip(f"{adapter.name} has no {interval} candles (candle_intervals)")


# --- Quotes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", list(QuoteDepth), ids=str)
def test_quotes(bench, adapter, depth):
    need_quotes(adapter, depth)
    bench.show("101.05", [("101", 7), ("100.95", 9)], [("101.10", 5)], bench.other)
    quotes = {q.instrument_id: q for q in adapter.fetch_quotes([bench.share, bench.other], depth)}
    assert quotes.keys() == {bench.share.id, bench.other.id}
    quote = quotes[bench.other.id]
    assert quote.last_price == Decimal("101.05")
    assert quote.at.tzinfo is not None
    if depth is QuoteDepth.FULL:
        assert [(b.price, b.quantity) for b in quote.bids] == [
            (Decimal(101), 7),
            (Decimal("100.95"), 9),
        ]
        assert [(a.price, a.quantity) for a in quote.asks] == [(Decimal("101.10"), 5)]
    if bench.has_wire and depth is not QuoteDepth.LTP:
        assert quote.high == Decimal("101.05")


def test_quote_of_an_index(bench, adapter):
    need_quotes(adapter, QuoteDepth.LTP)
    bench.show(24_805, instrument=bench.index)
    (quote,) = adapter.fetch_quotes([bench.index], QuoteDepth.LTP)
    assert quote.last_price == 24_805


def test_quote_of_a_contract(bench, adapter):
    need_quotes(adapter, QuoteDepth.FULL)
    bench.show("123.45", instrument=bench.call)
    (quote,) = adapter.fetch_quotes([bench.call], QuoteDepth.FULL)
    assert (quote.instrument_id, quote.last_price) == (bench.call.id, Decimal("123.45"))


def test_quote_of_a_symbol_with_signs(bench, adapter):
    bench.need_wire()
    need_quotes(adapter, QuoteDepth.LTP)
    (quote,) = adapter.fetch_quotes([bench.refs["NSE:M&M"]], QuoteDepth.LTP)
    assert quote.last_price == 100


def test_no_instruments_no_request(bench, adapter):
    need_quotes(adapter, QuoteDepth.LTP)
    assert adapter.fetch_quotes([], QuoteDepth.LTP) == []
    if bench.has_wire:
        assert bench.server.recorder.count() == 0


def listed(bench, count):
    """List ``count`` more shares at the venue; return their references."""
    refs = []
    for number in range(count):
        made = Instrument(
            "NSE", f"MANY{number}", "EQ", 700_000 + number, Decimal(100), "Many",
            f"INE{number:06d}010",
        )  # fmt: skip
        bench.venue.list(made)
        for name in ("by_token", "by_key"):
            known = getattr(bench.dialect, name, None)
            if known is not None:
                known[type(next(iter(known)))(bench.broker_words(made)[1])] = made
        refs.append(bench.ref(10_000 + number, made))
    return refs


def test_many_quotes_are_asked_in_batches(bench, adapter):
    """More than the broker takes at once: every one comes back, in whole batches."""
    bench.need_wire()
    need_quotes(adapter, QuoteDepth.LTP)
    refs = listed(bench, 1100)
    quotes = adapter.fetch_quotes(refs, QuoteDepth.LTP)
    assert {quote.instrument_id for quote in quotes} == {ref.id for ref in refs}
    assert len(quotes) == 1100
    assert 2 <= bench.sent("quotes") <= 30


def test_instrument_that_the_broker_does_not_know_is_left_out(bench, adapter):
    bench.need_wire()
    need_quotes(adapter, QuoteDepth.LTP)
    unknown = replace(
        bench.share, id=9999, symbol="NOTHING", isin="INE999Z01010",
        broker_symbol="NOTHING", broker_token=bench.unknown_token,
    )  # fmt: skip
    quotes = adapter.fetch_quotes([bench.share, unknown], QuoteDepth.LTP)
    assert [quote.instrument_id for quote in quotes] == [bench.share.id]


# --- Candles --------------------------------------------------------------------------------------


def told(bench, interval, start, end):
    """Return what the venue has between ``start`` (included) and ``end`` (not included)."""
    share = bench.listed(bench.share)
    minutes = MINUTES.get(interval)
    rows = history(share, minutes, start, end, seed=bench.venue.seed)
    return [(row.start, row.open, row.high, row.low, row.close) for row in rows if row.start < end]


def read(adapter, bench, interval, start, end):
    found = adapter.fetch_candles(bench.share, interval, start, end)
    assert all(candle.start.tzinfo is not None for candle in found)
    return [(c.start, c.open, c.high, c.low, c.close) for c in found]


@pytest.mark.parametrize("interval", [*MINUTES, CandleInterval.DAY], ids=str)
def test_candles(bench, adapter, interval):
    bench.need_wire()
    need_candles(adapter, interval)
    end = datetime(2026, 11, 21, tzinfo=IST).astimezone(UTC)
    start = end - timedelta(days=5)
    expected = told(bench, interval, start, end)
    assert expected
    assert read(adapter, bench, interval, start, end) == expected


@pytest.mark.parametrize(
    ("interval", "days"),
    [
        (CandleInterval.MINUTE, 95),
        (CandleInterval.MINUTES_15, 320),
        (CandleInterval.HOUR, 500),
        (CandleInterval.DAY, 4500),
    ],
    ids=str,
)
def test_long_span_has_no_gap_and_no_overlap_at_the_seams(bench, adapter, interval, days):
    bench.need_wire()
    need_candles(adapter, interval)
    end = datetime(2026, 11, 20, 11, 7, tzinfo=IST)
    start = max(end - timedelta(days=days, minutes=13), bench.history_from)
    found = read(adapter, bench, interval, start, end)
    assert bench.sent("history") > 1
    assert found == told(bench, interval, start, end)


def test_end_of_a_span_is_not_included(bench, adapter):
    bench.need_wire()
    need_candles(adapter, CandleInterval.MINUTE)
    start = datetime(2026, 11, 20, 10, 0, tzinfo=IST)
    end = start + timedelta(minutes=5)
    found = adapter.fetch_candles(bench.share, CandleInterval.MINUTE, start, end)
    assert [c.start for c in found] == [start + timedelta(minutes=n) for n in range(5)]
    assert all(c.low <= c.open <= c.high and c.volume > 0 for c in found)


def test_span_without_trading_is_empty(bench, adapter):
    bench.need_wire()
    need_candles(adapter, CandleInterval.MINUTE)
    saturday = datetime(2026, 11, 21, 9, 15, tzinfo=IST)
    assert read(adapter, bench, CandleInterval.MINUTE, saturday, saturday + timedelta(days=1)) == []
    assert read(adapter, bench, CandleInterval.MINUTE, saturday, saturday) == []


def test_candles_of_today(bench, adapter):
    bench.need_wire()
    need_candles(adapter, CandleInterval.MINUTE)
    start = MONDAY.replace(hour=9, minute=15)
    found = adapter.fetch_candles(
        bench.share, CandleInterval.MINUTE, start, start + timedelta(minutes=30)
    )
    assert len(found) == 30


def test_failed_part_is_no_shorter_answer(bench, adapter):
    """A span that came in part only is an error, not a span with a hole."""
    bench.need_wire()
    need_candles(adapter, CandleInterval.MINUTE)
    end = datetime(2026, 11, 20, tzinfo=IST)
    bench.fault("status", "history", after=1, status=503)
    with pytest.raises(BrokerError):
        adapter.fetch_candles(bench.share, CandleInterval.MINUTE, end - timedelta(days=95), end)


# --- Instruments ----------------------------------------------------------------------------------


def need_instruments(adapter):
    if not adapter.capabilities.lists_instruments:
        pytest.skip(f"{adapter.name} has no instrument list (lists_instruments)")


def test_instrument_list(bench, adapter):
    need_instruments(adapter)
    records = list(adapter.fetch_instruments())
    keys = {(r.exchange, r.broker_token, r.broker_symbol) for r in records}
    assert len(keys) == len(records)
    for ref in (bench.share, bench.refs["NSE:M&M"], bench.refs["BSE:RELIANCE"]):
        (record,) = (
            r for r in records
            if r.exchange is ref.exchange and r.kind is InstrumentKind.EQ
            and r.symbol == ref.symbol
        )  # fmt: skip
        assert (record.broker_symbol, record.broker_token) == (ref.broker_symbol, ref.broker_token)
        assert (record.tick_size, record.lot_size) == (ref.tick_size, 1)
        assert record.segment is Segment.EQUITY
        assert record.exchange_token == ref.exchange_token


def test_contracts_of_the_list(bench, adapter):
    need_instruments(adapter)
    records = list(adapter.fetch_instruments())
    for ref in (bench.call, bench.future):
        (record,) = (
            r for r in records
            if (r.underlying, r.expiry, r.strike, r.kind)
            == (ref.underlying, ref.expiry, ref.strike, ref.kind)
        )  # fmt: skip
        assert record.exchange is Exchange.NFO
        assert record.lot_size == 65
        assert (record.broker_symbol, record.broker_token) == (ref.broker_symbol, ref.broker_token)


def test_indices_of_the_list(bench, adapter):
    need_instruments(adapter)
    records = list(adapter.fetch_instruments())
    for key in ("NSE:NIFTY 50", "NSE:NIFTY BANK", "BSE:SENSEX"):
        ref = bench.refs[key]
        (record,) = (r for r in records if r.broker_token == ref.broker_token)
        assert (record.kind, record.segment) == (InstrumentKind.INDEX, Segment.INDEX)
        assert record.exchange is ref.exchange


@pytest.mark.parametrize("kind", ["status", "cut", "garbage", "drop_after"])
def test_broken_list_is_an_error(bench, adapter, kind):
    bench.need_wire()
    need_instruments(adapter)
    bench.fault(kind, "instruments", body="<html>no list</html>")
    with pytest.raises(OutcomeUnknown):
        list(adapter.fetch_instruments())
