"""Recorded candles played as ticks."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command

from brokerages.types import InstrumentKind
from marketdata.errors import BadReplayFile
from marketdata.sources.replay import ReplaySource, first_opens, guess_names, read_recording
from tests.marketdata.helpers import derivative, index, share

START = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
PLAIN = """datetime,symbol,open,high,low,close,volume
2026-11-20 09:15:00,RELIANCE,100,104,99,102,1000
2026-11-20 09:16:00,RELIANCE,102,103,98,99,2000
2026-11-20 09:15:00,NSE:NIFTY 50,25000,25010,24990,25005,0
2026-11-20 09:17:00,NSE:NIFTY 50,25005,25020,25000,25020,0
"""
PRICES = "nifty_open,nifty_high,nifty_low,nifty_close,call_open,call_high,call_low,call_close"
WIDE = f"""datetime,{PRICES}
2025-10-03 09:15:00+05:30,24759.55,24855.7,24758.6,24796.7,280.05,280.05,254.6,254.6
2025-10-03 09:16:00+05:30,24795.3,24795.45,24777.7,24778.8,254.6,254.6,240.45,242.5
"""


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain.csv"
    path.write_text(PLAIN)
    return path


@pytest.fixture
def wide(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text(WIDE)
    return path


def playing(path, names=None, **options) -> ReplaySource:
    return ReplaySource(read_recording(path, names), speed=60, started_at=START, **options)


def prices(source, listing, quarters):
    """Return the price in each quarter of a recorded minute; a minute takes a second here."""
    found = [
        source.quote(listing, START + timedelta(seconds=0.25 * n + 0.01)) for n in range(quarters)
    ]
    return [quote and quote.last_price for quote in found]


def test_a_minute_is_played_as_open_extremes_close(plain):
    source = playing(plain)

    rising, falling = [100, 99, 104, 102], [102, 103, 98, 99]
    assert prices(source, share(), 8) == [Decimal(x) for x in rising + falling]


def test_an_instrument_stands_while_its_minute_is_missing(plain):
    source = playing(plain)

    assert prices(source, share(), 12)[8:] == [99, 99, 99, 99]
    assert prices(source, index(), 12)[4:8] == [25005] * 4
    assert prices(source, index(), 12)[8:] == [25005, 25000, 25020, 25020]


def test_quotes_are_marked_and_consistent(plain):
    source = playing(plain)
    seen = []
    for n in range(12):
        at = START + timedelta(seconds=n / 4 + 0.1)
        quote = source.quote(share(), at)
        assert (quote.source, quote.simulated) == ("replay", True)
        assert timedelta(0) <= at - quote.at <= timedelta(seconds=0.25)
        assert quote.low <= quote.last_price <= quote.high
        assert quote.bids[0].price < quote.asks[0].price
        seen.append(quote)
    assert [q.volume for q in seen] == sorted(q.volume for q in seen)
    assert seen[-1].volume == 3000
    assert (seen[-1].high, seen[-1].low, seen[-1].open) == (104, 98, 100)
    assert len({q.sequence for q in seen}) == 12


def test_it_ends_or_begins_again(plain):
    once, again = playing(plain), playing(plain, loop=True)
    after = START + timedelta(seconds=3.01)

    assert once.quote(share(), after) is None
    assert again.quote(share(), after).last_price == 100
    assert again.quote(share(), after).sequence > again.quote(share(), START).sequence
    assert once.quote(share(), START - timedelta(seconds=1)) is None


def test_the_same_recording_is_played_the_same(plain):
    one, other = playing(plain), playing(plain)

    for n in range(12):
        at = START + timedelta(seconds=n / 4)
        assert one.quote(share(), at) == other.quote(share(), at)


def test_columns_of_several_instruments(wide):
    listings = [
        index(),
        derivative(InstrumentKind.CE, 24700, 5),
        derivative(InstrumentKind.CE, 24750, 6),
        derivative(InstrumentKind.PE, 24750, 7),
    ]
    names = guess_names(first_opens(wide), listings)

    assert names == {"nifty": "NSE:NIFTY 50", "call": "NFO:NIFTY26DEC24750CE"}
    source = playing(wide, names)
    assert prices(source, listings[2], 5) == [
        Decimal(x) for x in ("280.05", "280.05", "254.6", "254.6", "254.6")
    ]
    assert source.quote(listings[1], START) is None
    (candle,) = source.candles(
        index(), "5m", datetime(2025, 10, 3, tzinfo=UTC), datetime(2025, 10, 4, tzinfo=UTC)
    )
    assert (candle.open, candle.high) == (Decimal("24759.55"), Decimal("24855.7"))
    assert (candle.low, candle.close) == (Decimal("24758.6"), Decimal("24778.8"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("time,open,high,low,close\n", "datetime"),
        ("datetime,symbol,open,high,low\n", "close"),
        ("datetime,symbol,open,high,low,close\n", "no candle"),
        ("datetime,symbol,open,high,low,close\nyesterday,A,1,1,1,1\n", "line 2"),
        ("datetime,symbol,open,high,low,close\n2026-11-20,A,1,1,1,x\n", "line 2"),
        ("datetime,symbol,open,high,low,close\n2026-11-20,A,5,4,3,4\n", "line 2"),
        ("datetime,symbol,open,high,low,close\n2026-11-20,A,0,0,0,0\n", "line 2"),
        ("datetime,symbol,open,high,low,close\n2026-11-20,A,NaN,1,1,1\n", "line 2"),
        ("datetime,symbol,open,high,low,close\n2026-11-20,A,1,1\n", "line 2"),
    ],
)
def test_files_that_cannot_be_played(tmp_path, text, says):
    path = tmp_path / "bad.csv"
    path.write_text(text)

    with pytest.raises(BadReplayFile, match=says):
        read_recording(path)


def test_the_command_names_what_is_wrong(market, tmp_path, plain):
    unlisted = tmp_path / "unlisted.csv"
    unlisted.write_text(PLAIN.replace("RELIANCE", "NOSUCH"))

    for arguments in (
        [],
        ["--file", str(tmp_path / "absent.csv")],
        ["--file", str(unlisted)],
        ["--file", str(plain), "--map", "nifty"],
        ["--file", str(plain), "--speed", "0"],
    ):
        with pytest.raises(CommandError):
            call_command("run_feed", "--source", "replay", *arguments)
