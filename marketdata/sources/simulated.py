"""Simulated markets: seeded, reproducible, always marked. Pure Python.

A quote is a pure function of the seed, the instrument and the time: every process computes the same
one with no shared state, also while Redis is away. Shares and indices follow `paths`; a future is
its spot with carry; an option is priced by Black-Scholes with the days to expiry, so that it rises
or falls with every step of its spot.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from brokerages.types import BookLevel, Candle, Quote
from marketdata.sources.base import INTERVALS, DataSource, Listing
from marketdata.sources.book import book
from marketdata.sources.clock import MINUTE_MS, DayClock, datetime_of
from marketdata.sources.lines import Line, Market, driver_of
from marketdata.sources.noise import mix
from marketdata.sources.paths import Driver, Paths

STEPS_PER_MINUTE = 1024  # room in `sequence` for the steps of one minute


class SimulatedSource(DataSource):
    """See the module. One instance per process; threads may share it."""

    name: ClassVar[str] = "simulated"
    computed: ClassVar[bool] = True
    simulated: ClassVar[bool] = True

    def __init__(self, seed: int, clock: DayClock) -> None:
        self.seed, self.clock = seed, clock
        self.paths = Paths(seed, clock.has_gaps)
        self._drivers: dict[str, Driver] = {}
        self._lines: dict[int, Line] = {}

    def quote(self, listing: Listing, at: datetime) -> Quote | None:
        line = self._line(listing)
        if line is None:
            return None
        at_ms = int(at.timestamp() * 1000)
        market = self._market(line, at_ms)
        if market is None:
            return None
        at_ms = min(at_ms, market.close_ms - 1)
        minute, inside = divmod(at_ms - market.day.start_ms, MINUTE_MS)
        step = line.driver.step_at(inside)
        sequence = (at_ms // MINUTE_MS) * STEPS_PER_MINUTE + step
        latest = line.quote
        if latest is not None and latest.sequence == sequence:
            return latest
        quote = line.quote = self._build(line, market, minute, step, sequence)
        return quote

    def candles(
        self, listing: Listing, interval: str, start: datetime, end: datetime
    ) -> list[Candle]:
        minutes = INTERVALS[interval] // 60
        line = self._line(listing)
        if line is None:
            return []
        start_ms, end_ms = int(start.timestamp() * 1000), int(end.timestamp() * 1000)
        newest_first: list[Candle] = []
        day = self.clock.day_at(end_ms)
        while day is not None and day.end_ms > start_ms:
            expiry = listing.ref.expiry
            if expiry is None or day.date <= expiry:
                keep = day.end_ms > end_ms
                market = line.open_day(day, self.clock, self.paths, keep=keep)
                newest_first += reversed(_day_candles(line, market, minutes, start_ms, end_ms))
            day = self.clock.day_before(day)
        return newest_first[::-1]

    def _line(self, listing: Listing) -> Line | None:
        line = self._lines.get(listing.ref.id)
        if line is None or line.listing is not listing:
            spot = listing.spot or listing
            if spot.reference_price is None:
                return None
            line = self._lines[listing.ref.id] = Line(listing, self._driver(spot), self.seed)
        return line

    def _driver(self, spot: Listing) -> Driver:
        driver = self._drivers.get(spot.key)
        if driver is None or driver.reference != float(spot.reference_price or 0):
            driver = self._drivers[spot.key] = driver_of(spot, self.seed)
        return driver

    def _market(self, line: Line, at_ms: int) -> Market | None:
        market = line.market
        if market is not None and market.day.start_ms <= at_ms < market.close_ms:
            return market
        day = self.clock.day_at(at_ms)
        expiry = line.listing.ref.expiry
        if day is None or (expiry is not None and expiry < day.date):
            return None
        if market is None or market.day.start_ms != day.start_ms:
            market = line.market = line.open_day(day, self.clock, self.paths)
        return market

    def _build(self, line: Line, market: Market, minute: int, step: int, sequence: int) -> Quote:
        listing, driver, path, tick = line.listing, line.driver, market.path, line.tick
        steps = driver.minute(path, minute)
        high_spot, low_spot = steps.high[step], steps.low[step]
        if market.falls:
            high_spot, low_spot = low_spot, high_spot
        last, high, low = line.prices(market, steps.price[step], high_spot, low_spot)
        bids: tuple[BookLevel, ...] = ()
        asks: tuple[BookLevel, ...] = ()
        if listing.is_tradable:
            limits = (market.lower or 1, market.upper)
            bids, asks = book(line.shape, mix(line.bits, sequence), last, limits)
        starts_ms = market.day.start_ms + minute * MINUTE_MS + driver.step_start(step)
        return Quote(
            instrument_id=listing.ref.id,
            last_price=last * tick,
            at=datetime_of(starts_ms),
            source=self.name,
            open=market.open * tick,
            high=high * tick,
            low=low * tick,
            previous_close=market.previous * tick,
            volume=_volume_to(line, market, minute, step),
            bids=bids,
            asks=asks,
            lower_circuit=None if market.lower is None else market.lower * tick,
            upper_circuit=None if market.upper is None else market.upper * tick,
            sequence=sequence,
            simulated=True,
        )


def _volume_to(line: Line, market: Market, minute: int, step: int | None = None) -> int:
    """Return the units traded before a minute of the day, or up to a step in it; whole lots."""
    path = market.path
    part = path.volume_to[minute]
    if step is not None:
        done = (step + 1) / (line.driver.last_step + 2)
        part += (path.volume_to[minute + 1] - part) * done
    return int(market.volume * part) // line.lot * line.lot


def _day_candles(
    line: Line, market: Market, minutes: int, start_ms: int, end_ms: int
) -> list[Candle]:
    """Return the candles of one day that start in the span, the last one as far as it has come at
    its end.
    """
    day, path, tick = market.day, market.path, line.tick
    seen_ms = min(market.close_ms, end_ms)
    whole_minutes, inside = divmod(seen_ms - day.start_ms, MINUTE_MS)
    found = []
    for first in range(0, whole_minutes + (inside > 0), minutes):
        candle_ms = day.start_ms + first * MINUTE_MS
        if not start_ms <= candle_ms < end_ms:
            continue
        until = min(first + minutes, whole_minutes)
        spots = [path.price[first], *path.high[first:until], *path.low[first:until]]
        close, volume = path.price[until], _volume_to(line, market, until)
        if inside and until < first + minutes:  # the minute that is still running
            step = line.driver.step_at(inside - 1)
            steps = line.driver.minute(path, until).price[: step + 1]
            spots += steps
            close, volume = steps[-1], _volume_to(line, market, until, step)
        opening, closing, *ends = line.prices(
            market, path.price[first], close, max(spots), min(spots)
        )
        found.append(
            Candle(
                start=datetime_of(candle_ms),
                open=opening * tick,
                high=max(ends) * tick,
                low=min(ends) * tick,
                close=closing * tick,
                volume=volume - _volume_to(line, market, first),
            )
        )
    return found
