"""Properties of simulated prices: reproducible, on the tick, consistent, marked."""

import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerages.types import InstrumentKind
from marketdata.calendar import IST
from marketdata.sources.clock import AlwaysOpen, ExchangeHours
from marketdata.sources.simulated import SimulatedSource
from tests.marketdata.helpers import calendar, derivative, index, share

NOON = datetime(2026, 11, 18, 6, 30, tzinfo=UTC)
LISTINGS = [
    share(),
    share(11, "TATASTEEL", "172", "0.01"),
    share(12, "MARUTI", "15850", "1"),
    index(),
    derivative(InstrumentKind.FUT, pk=21),
    derivative(InstrumentKind.CE, 24800, 22),
    derivative(InstrumentKind.PE, 24800, 23),
    derivative(InstrumentKind.CE, 29000, 24),
    derivative(InstrumentKind.PE, 20000, 25),
    derivative(InstrumentKind.CE, 20000, 26),
]
SOURCES = {
    "always": SimulatedSource(1, AlwaysOpen()),
    "exchange": SimulatedSource(1, ExchangeHours(calendar())),
}
times = st.datetimes(datetime(2026, 2, 1), datetime(2026, 12, 20), timezones=st.just(UTC))
seconds = st.floats(0, 7200)


def fresh(hours: str = "always", seed: int = 1) -> SimulatedSource:
    return SimulatedSource(seed, AlwaysOpen() if hours == "always" else ExchangeHours(calendar()))


@settings(max_examples=150, deadline=None)
@given(listing=st.sampled_from(LISTINGS), hours=st.sampled_from(sorted(SOURCES)), at=times)
def test_every_quote_is_sound(listing, hours, at):
    quote = SOURCES[hours].quote(listing, at)
    tick, lot = listing.ref.tick_size, listing.ref.lot_size

    assert quote.simulated
    assert quote.source == "simulated"
    assert quote.instrument_id == listing.ref.id
    assert timedelta(0) <= at - quote.at
    if hours == "always":
        assert at - quote.at <= timedelta(seconds=1)
    prices = [quote.last_price, quote.open, quote.high, quote.low, quote.previous_close]
    prices += [level.price for level in quote.bids + quote.asks]
    assert all(price >= tick and price % tick == 0 for price in prices)
    assert quote.low <= min(quote.open, quote.last_price)
    assert quote.high >= max(quote.open, quote.last_price)
    assert quote.volume % lot == 0
    if listing.is_tradable:
        assert quote.lower_circuit <= quote.low <= quote.high <= quote.upper_circuit
        _book_is_sound(quote, lot)
    else:
        assert quote.bids == quote.asks == ()
        assert quote.upper_circuit is None


def _book_is_sound(quote, lot):
    bids, asks = [x.price for x in quote.bids], [x.price for x in quote.asks]
    assert len(bids) <= 5 >= len(asks)
    assert bids or asks
    assert bids == sorted(set(bids), reverse=True)
    assert asks == sorted(set(asks))
    if bids and asks:
        assert bids[0] < asks[0]
        assert quote.last_price in (bids[0], asks[0])
    for level in quote.bids + quote.asks:
        assert level.quantity > 0
        assert level.quantity % lot == 0
        assert level.orders >= 1


@settings(max_examples=60, deadline=None)
@given(
    listing=st.sampled_from(LISTINGS), hours=st.sampled_from(sorted(SOURCES)), at=times, on=seconds
)
def test_a_day_only_goes_on(listing, hours, at, on):
    """Within a trading day volume and sequence never fall, the range never shrinks."""
    source = SOURCES[hours]
    first, later = source.quote(listing, at), source.quote(listing, at + timedelta(seconds=on))

    assert first.sequence <= later.sequence
    if source.clock.day_at(_ms(at)).date == source.clock.day_at(_ms(later.at)).date:
        assert first.volume <= later.volume
        assert first.high <= later.high
        assert first.low >= later.low
        assert (first.open, first.previous_close) == (later.open, later.previous_close)
    if first.sequence == later.sequence:
        assert first == later


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


@settings(max_examples=40, deadline=None)
@given(listing=st.sampled_from(LISTINGS), hours=st.sampled_from(sorted(SOURCES)), at=times)
def test_history_does_not_matter(listing, hours, at):
    """A source that was asked anything before answers as one that was just made."""
    assert SOURCES[hours].quote(listing, at) == fresh(hours).quote(listing, at)


def test_another_process_computes_the_same():
    program = (
        "from datetime import *; from tests.marketdata.test_simulated import *;"
        "print([repr(fresh().quote(x, NOON)) for x in LISTINGS])"
    )
    environment = {"DJANGO_SETTINGS_MODULE": "config.settings.test", "PYTHONHASHSEED": "77"}

    there = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()

    assert there == str([repr(fresh().quote(x, NOON)) for x in LISTINGS])


def test_the_seed_makes_the_prices():
    assert fresh(seed=1).quote(share(), NOON) != fresh(seed=2).quote(share(), NOON)


def test_prices_move_within_seconds_and_a_day_is_realistic():
    source = fresh()
    prices = [source.quote(share(), NOON + timedelta(seconds=n)).last_price for n in range(120)]
    assert len(set(prices)) > 5

    days = source.candles(share(), "1d", NOON - timedelta(days=90), NOON)
    ranges = sorted((day.high - day.low) / day.open for day in days)
    assert Decimal("0.008") < ranges[len(ranges) // 2] < Decimal("0.03")
    assert all(abs(day.close / Decimal(1364) - 1) < Decimal("0.2") for day in days)


def test_a_shift_in_the_book_changes_the_sequence():
    source = fresh()
    seen = {}
    for n in range(400):
        quote = source.quote(share(), NOON + timedelta(milliseconds=100 * n))
        assert seen.setdefault(quote.sequence, quote) == quote
    assert len(seen) >= 30


def test_derivatives_follow_their_spot():
    source = fresh()
    spot = source.quote(index(), NOON).last_price
    future, call, put = (
        source.quote(derivative(kind, strike, pk), NOON).last_price
        for kind, strike, pk in [
            (InstrumentKind.FUT, None, 21),
            (InstrumentKind.CE, 24800, 22),
            (InstrumentKind.PE, 24800, 23),
        ]
    )  # fmt: skip

    assert spot < future < spot * Decimal("1.02")
    # put-call parity, to a few ticks: a day counts as half
    assert abs((call - put) - (future - 24800) * Decimal("0.993")) < 3
    far = source.quote(derivative(InstrumentKind.CE, 29000, 24), NOON)
    assert far.last_price == far.low == Decimal("0.05") or far.last_price < 20


def test_an_expired_contract_has_no_quote():
    old = derivative(InstrumentKind.FUT, pk=31, expiry=date(2026, 11, 17))

    assert fresh().quote(old, NOON) is None
    assert fresh().quote(old, NOON - timedelta(days=1)) is not None


def test_exchange_hours_freeze_the_close():
    source = fresh("exchange")
    friday = datetime(2026, 11, 20, tzinfo=IST)
    close = source.quote(
        share(), friday.replace(hour=15, minute=14, second=59, microsecond=999_000)
    )
    evening = source.quote(share(), friday.replace(hour=20))
    sunday = source.quote(share(), friday + timedelta(days=2))
    monday = source.quote(share(), friday + timedelta(days=3, hours=9, minutes=15))

    assert close == evening == sunday
    assert monday.previous_close == evening.last_price
    assert monday.volume < evening.volume
    future = source.quote(derivative(InstrumentKind.FUT, pk=21), friday.replace(hour=20))
    assert future.at.astimezone(IST).strftime("%H:%M") == "15:39"


def test_always_open_days_join_without_a_gap():
    source = fresh()
    midnight = datetime(2026, 11, 20, tzinfo=IST)
    last = source.quote(share(), midnight - timedelta(milliseconds=1))
    first = source.quote(share(), midnight)

    assert first.previous_close == last.last_price == first.open


@pytest.mark.parametrize("hours", ["always", "exchange"])
@pytest.mark.parametrize("listing", LISTINGS, ids=lambda x: x.ref.symbol)
def test_candles_agree_with_quotes(hours, listing):
    source = fresh(hours)
    start = datetime(2026, 11, 18, 10, 0, tzinfo=IST)
    (minute,) = source.candles(listing, "1m", start, start + timedelta(minutes=1))
    moments = [*range(0, 60_000, 50), 59_999]
    quotes = [source.quote(listing, start + timedelta(milliseconds=ms)) for ms in moments]

    assert minute.open == quotes[0].last_price
    assert minute.close == quotes[-1].last_price
    assert minute.high == max(quote.last_price for quote in quotes)
    assert minute.low == min(quote.last_price for quote in quotes)


@pytest.mark.parametrize("hours", ["always", "exchange"])
def test_long_candles_are_made_of_short_ones(hours):
    source = fresh(hours)
    start, end = datetime(2026, 11, 18, tzinfo=IST), datetime(2026, 11, 18, 13, 7, 23, tzinfo=IST)
    minutes = source.candles(share(), "1m", start, end)
    hourly = source.candles(share(), "1h", start, end)

    assert sum(x.volume for x in hourly) == sum(x.volume for x in minutes)
    for hour in hourly:
        parts = [x for x in minutes if hour.start <= x.start < hour.start + timedelta(hours=1)]
        assert (hour.open, hour.close) == (parts[0].open, parts[-1].close)
        assert (hour.high, hour.low) == (max(x.high for x in parts), min(x.low for x in parts))
    assert hourly[-1].close == source.quote(share(), end).last_price


def test_speed():
    source = fresh()
    listings = LISTINGS[:3] + LISTINGS[4:7]
    source.quotes(listings, NOON)
    started, count = time.perf_counter(), 0
    for n in range(400):  # each asks for a new state
        count += len(source.quotes(listings, NOON + timedelta(seconds=n)))

    assert (time.perf_counter() - started) / count < 0.0002  # 20,000/s when nothing else runs
