"""Recorded candles played as ticks, at any speed. Marked ``replay`` and simulated: these prices are
not live.

A minute becomes four ticks: open, then low and high in the order that its direction suggests, then
close. What is played is a pure function of the recording, the speed and the time since the start.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import accumulate
from pathlib import Path
from typing import ClassVar

from brokerages.types import BookLevel, Candle, InstrumentKind, Quote
from marketdata.calendar import IST
from marketdata.errors import BadReplayFile
from marketdata.sources.base import INTERVALS, DataSource, Listing
from marketdata.sources.book import BookShape, book
from marketdata.sources.noise import digest, mix

BAR = timedelta(minutes=1)
TICKS_PER_BAR = 4
PRICES = ("open", "high", "low", "close")


@dataclass(slots=True)
class Track:
    """The candles of one instrument, oldest first, with the running high, low and volume before
    each.
    """

    bars: list[Candle]
    starts: list[datetime] = field(init=False)
    high_to: list[Decimal] = field(init=False)
    low_to: list[Decimal] = field(init=False)
    volume_to: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.bars.sort(key=lambda bar: bar.start)
        self.starts = [bar.start for bar in self.bars]
        self.high_to = list(accumulate((bar.high for bar in self.bars), max))
        self.low_to = list(accumulate((bar.low for bar in self.bars), min))
        self.volume_to = list(accumulate((bar.volume for bar in self.bars), initial=0))


Recording = dict[str, Track]


def read_recording(path: Path, names: Mapping[str, str] | None = None) -> Recording:
    """Read a CSV file of one-minute candles.

    Either each row has a ``symbol`` column beside ``datetime, open, high, low, close[, volume]``,
    or there are columns ``<prefix>_open`` and so on, several instruments in a row; ``names`` gives
    the key of each prefix, and prefixes without one are left out. Times without an offset are
    Indian. Prices are rupees.

    Raises:
        BadReplayFile: the columns or a row cannot be understood; the message names the line.
    """
    found: dict[str, list[Candle]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        prefixes = list(_prefixes(reader.fieldnames or ()))
        keys = {prefix: (names or {}).get(prefix, "") for prefix in prefixes if prefix}
        for row in reader:
            try:
                if "symbol" in row:
                    found.setdefault(full_key(row["symbol"]), []).append(_candle(row, ""))
                for prefix, key in keys.items():
                    if key:
                        found.setdefault(key, []).append(_candle(row, f"{prefix}_"))
            except (ValueError, InvalidOperation, TypeError, KeyError) as e:
                raise BadReplayFile(f"{path.name}, line {reader.line_num}: {e!r}") from e
    if not found:
        raise BadReplayFile(f"{path.name} has no candle that could be played")
    return {key: Track(bars) for key, bars in found.items()}


def first_opens(path: Path) -> dict[str, Decimal]:
    """Return the first open of each column prefix, to find out which instruments may be meant."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        row = next(reader, {})
        return {
            prefix: Decimal(row[f"{prefix}_open"])
            for prefix in _prefixes(reader.fieldnames or ())
            if prefix and row
        }


def guess_names(opens: Mapping[str, Decimal], listings: Iterable[Listing]) -> dict[str, str]:
    """Return which listed instruments the prefixes ``nifty``, ``call`` and ``put`` stand for.

    The options are those at the money at the first open, of the last listed expiry, so that they do
    not expire while they are played.
    """
    names = {"nifty": "NSE:NIFTY 50"}
    spot = opens.get("nifty")
    options = [x for x in listings if x.is_option and x.ref.underlying == "NIFTY"]
    if spot is not None and options:
        last = max(x.ref.expiry for x in options if x.ref.expiry is not None)
        for prefix, kind in (("call", InstrumentKind.CE), ("put", InstrumentKind.PE)):
            near = min(
                (x for x in options if x.ref.expiry == last and x.ref.kind is kind),
                key=lambda x: abs((x.ref.strike or Decimal(0)) - spot),
            )
            names[prefix] = near.key
    return {prefix: key for prefix, key in names.items() if prefix in opens}


def full_key(symbol: str) -> str:
    """Return ``NSE:INFY`` for ``INFY``."""
    return symbol if ":" in symbol else f"NSE:{symbol}"


class ReplaySource(DataSource):
    """Plays a recording from its first minute, ``speed`` times as fast as it was, from
    ``started_at`` on.

    Nights and holidays between recorded days are skipped. At the end it stops, and its quotes grow
    stale; with ``loop`` it begins again.
    """

    name: ClassVar[str] = "replay"
    computed: ClassVar[bool] = False
    simulated: ClassVar[bool] = True

    def __init__(
        self, recording: Recording, *, speed: float, started_at: datetime, loop: bool = False
    ) -> None:
        if speed <= 0:
            raise BadReplayFile("the speed must be more than zero")
        self.recording, self.speed, self.started_at, self.loop = recording, speed, started_at, loop
        self.minutes = sorted({start for track in recording.values() for start in track.starts})
        self._shapes: dict[int, BookShape] = {}

    def symbols(self) -> Collection[str]:
        return self.recording.keys()

    @property
    def bar_seconds(self) -> float:
        """Seconds that one recorded minute takes."""
        return BAR.total_seconds() / self.speed

    def quote(self, listing: Listing, at: datetime) -> Quote | None:
        track = self.recording.get(listing.key)
        position = self._position(at)
        if track is None or position is None:
            return None
        number, round_, quarter = position
        place = bisect_right(track.starts, self.minutes[number]) - 1
        if place < 0:
            return None
        bar = track.bars[place]
        prices = _path(bar)
        # Where nothing was recorded in this minute, the minute before stands as it ended.
        at_tick = quarter if bar.start == self.minutes[number] else TICKS_PER_BAR - 1
        last, played = prices[at_tick], prices[: at_tick + 1]
        before_high, before_low = (
            (track.high_to[place - 1], track.low_to[place - 1]) if place else (last, last)
        )
        bar_number = round_ * len(self.minutes) + number
        sequence = bar_number * TICKS_PER_BAR + quarter
        bids: tuple[BookLevel, ...] = ()
        asks: tuple[BookLevel, ...] = ()
        if listing.is_tradable:
            shape = self._shape(listing)
            ticks = max(1, round(last / shape.tick))
            bits = mix(digest(listing.key), sequence)
            bids, asks = book(shape, bits, ticks, (1, None))
        return Quote(
            instrument_id=listing.ref.id,
            last_price=last,
            at=self.started_at + timedelta(seconds=sequence / TICKS_PER_BAR * self.bar_seconds),
            source=self.name,
            open=track.bars[0].open,
            high=max(before_high, *played),
            low=min(before_low, *played),
            volume=track.volume_to[place] + bar.volume * (at_tick + 1) // TICKS_PER_BAR,
            bids=bids,
            asks=asks,
            sequence=sequence,
            simulated=True,
        )

    def candles(
        self, listing: Listing, interval: str, start: datetime, end: datetime
    ) -> list[Candle]:
        track = self.recording.get(listing.key)
        seconds = INTERVALS[interval]
        groups: dict[datetime, list[Candle]] = {}
        for bar in track.bars if track else ():
            if start <= bar.start < end:
                local = bar.start.astimezone(IST)
                since = (local - local.replace(hour=0, minute=0, second=0)).total_seconds()
                first = bar.start - timedelta(seconds=since % seconds)
                groups.setdefault(first, []).append(bar)
        return [_merged(first, bars) for first, bars in groups.items()]

    def _position(self, at: datetime) -> tuple[int, int, int] | None:
        """Return (number of the minute, round, quarter of the minute) being played at ``at``."""
        elapsed = (at - self.started_at).total_seconds()
        if elapsed < 0:
            return None
        ticks = int(elapsed / self.bar_seconds * TICKS_PER_BAR)
        bar, quarter = divmod(ticks, TICKS_PER_BAR)
        round_, number = divmod(bar, len(self.minutes))
        return (number, round_, quarter) if self.loop or round_ == 0 else None

    def _shape(self, listing: Listing) -> BookShape:
        shape = self._shapes.get(listing.ref.id)
        if shape is None:
            ref = listing.ref
            lots = 20 if ref.lot_size > 1 else 500
            shape = self._shapes[ref.id] = BookShape(ref.tick_size, ref.lot_size, lots, 0.0001)
        return shape


def _path(bar: Candle) -> Sequence[Decimal]:
    """Return the four prices of a minute: a rising one is taken to have fallen first."""
    if bar.close >= bar.open:
        return bar.open, bar.low, bar.high, bar.close
    return bar.open, bar.high, bar.low, bar.close


def _prefixes(columns: Sequence[str]) -> Iterator[str]:
    """Yield what stands before ``open`` in the names of columns: '' for a plain ``open``.

    Raises:
        BadReplayFile: a needed column is missing.
    """
    if "datetime" not in columns:
        raise BadReplayFile("a column named datetime is needed")
    for column in columns:
        if column == "open" or column.endswith("_open"):
            prefix = column.removesuffix("open")
            missing = [f"{prefix}{price}" for price in PRICES if f"{prefix}{price}" not in columns]
            if missing:
                raise BadReplayFile(f"columns are missing: {', '.join(missing)}")
            yield prefix.removesuffix("_")


def _candle(row: Mapping[str, str], prefix: str) -> Candle:
    start = datetime.fromisoformat(row["datetime"])
    if start.tzinfo is None:
        start = start.replace(tzinfo=IST)
    opening, high, low, close = (Decimal(row[f"{prefix}{price}"]) for price in PRICES)
    if not low <= min(opening, close) <= max(opening, close) <= high:
        raise ValueError("open and close must lie between low and high")
    if not low > 0:
        raise ValueError("a price must be more than zero")
    volume = int(Decimal(row.get(f"{prefix}volume") or 0))
    return Candle(start.astimezone(UTC), opening, high, low, close, volume)


def _merged(start: datetime, bars: Sequence[Candle]) -> Candle:
    return Candle(
        start=start,
        open=bars[0].open,
        high=max(bar.high for bar in bars),
        low=min(bar.low for bar in bars),
        close=bars[-1].close,
        volume=sum(bar.volume for bar in bars),
    )
