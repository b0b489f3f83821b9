"""Simulated markets: seeded, reproducible, always marked.

A quote is a pure function of the seed, the instrument and the time: every process computes the same
one with no shared state, also while Redis is away. Shares and indices follow `paths`; a future is
its spot with carry; an option is priced by Black-Scholes with the days to expiry, so that both rise
and fall with every step of their spot.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from math import exp, log
from typing import ClassVar

from brokerages.types import BookLevel, Candle, InstrumentKind, Quote
from marketdata.sources.base import INTERVALS, DataSource, Listing
from marketdata.sources.book import BookShape, book
from marketdata.sources.clock import MINUTE_MS, DayClock, TradingDay, datetime_of
from marketdata.sources.noise import digest, mix, option_price, unit
from marketdata.sources.paths import DayPath, Driver, MinutePath, Paths

RATE = 0.065  # a year's carry
STEPS_PER_MINUTE = 1024  # room in `sequence` for the steps of one minute
PAISA = Decimal("0.01")

# (day's standard deviation, part that the whole market makes) of indices; shares draw theirs from
# the seed.
INDEX_MOVES = {
    "NSE:NIFTY 50": (0.008, 0.97),
    "BSE:SENSEX": (0.008, 0.97),
    "NSE:NIFTY BANK": (0.010, 0.90),
    "NSE:NIFTY FIN SERVICE": (0.010, 0.90),
    "NSE:NIFTY MID SELECT": (0.011, 0.85),
    "NSE:INDIA VIX": (0.045, -0.75),
}
IMPLIED_VOLATILITY = {"NIFTY": 0.12, "SENSEX": 0.12, "BANKNIFTY": 0.15, "FINNIFTY": 0.15}
CRORE = 10_000_000
# The part of the price between best bid and ask, before rounding up to a tick.
SPREADS = {InstrumentKind.CE: 0.003, InstrumentKind.PE: 0.003, InstrumentKind.FUT: 0.00003}

Follow = Callable[[float], float]


class _Market:
    """What is the same for every quote of one listing on one day."""

    __slots__ = (
        "close_ms", "day", "falls", "follow", "lower", "open", "path", "previous", "upper", "volume",
    )  # fmt: skip

    def __init__(self, day: TradingDay, path: DayPath, follow: Follow | None, falls: bool) -> None:
        self.day, self.path, self.follow, self.falls = day, path, follow, falls
        self.close_ms = self.open = self.previous = self.volume = 0
        self.lower: int | None = None
        self.upper: int | None = None

    def clamp(self, ticks: int) -> int:
        """Return a price within the circuit limits."""
        if self.upper is None or self.lower is None:
            return ticks
        return min(max(ticks, self.lower), self.upper)


class _Line:
    """One listing, prepared: its driver, its seed, its tick in rupees, and the last quote made."""

    def __init__(self, listing: Listing, driver: Driver, seed: int) -> None:
        ref = listing.ref
        self.listing, self.driver = listing, driver
        self.bits = digest(seed, ref.key, "book")
        # Two decimals wherever the tick has two, so that prices print alike.
        self.tick = ref.tick_size.quantize(PAISA) if ref.tick_size % PAISA == 0 else ref.tick_size
        self.tick_float = float(self.tick)
        self.lot = ref.lot_size
        self.turnover = CRORE * (100 + 900 * unit(seed, ref.key, "turnover"))
        self.shape = BookShape(
            self.tick, self.lot, self._typical_lots(), SPREADS.get(ref.kind, 0.0001)
        )
        self.market: _Market | None = None
        self.quote: Quote | None = None

    def ticks(self, price: float) -> int:
        """Return a price in whole ticks, at least one."""
        return max(1, int(price / self.tick_float + 0.5))

    def _typical_lots(self) -> int:
        reference = self.driver.reference * (0.01 if self.listing.is_option else 1)
        return max(1 if self.lot == 1 else 6, int(1_000_000 / (reference * self.lot)))


class SimulatedSource(DataSource):
    """See the module. One instance per process; threads may share it."""

    name: ClassVar[str] = "simulated"
    computed: ClassVar[bool] = True
    simulated: ClassVar[bool] = True

    def __init__(self, seed: int, clock: DayClock) -> None:
        self.seed, self.clock = seed, clock
        self.paths = Paths(seed, clock.has_gaps)
        self._drivers: dict[str, Driver] = {}
        self._lines: dict[int, _Line] = {}

    # quotes

    def quote(self, listing: Listing, at: datetime) -> Quote | None:
        line = self._line(listing)
        at_ms = int(at.timestamp() * 1000)
        market = self._market(line, at_ms) if line is not None else None
        if line is None or market is None:
            return None
        driver = line.driver
        at_ms = min(at_ms, market.close_ms - 1)
        minute, inside = divmod(at_ms - market.day.start_ms, MINUTE_MS)
        step = driver.step_at(inside)
        sequence = (at_ms // MINUTE_MS) * STEPS_PER_MINUTE + step
        latest = line.quote
        if latest is not None and latest.sequence == sequence:
            return latest
        quote = self._build(line, market, minute, step, sequence)
        line.quote = quote
        return quote

    def _build(self, line: _Line, market: _Market, minute: int, step: int, sequence: int) -> Quote:
        listing, driver, path = line.listing, line.driver, market.path
        steps = driver.minute(path, minute)
        last, high, low = self._prices(line, market, steps, step)
        part = (step + 1) / (driver.last_step + 2)
        done, minute_end = path.volume_to[minute], path.volume_to[minute + 1]
        volume = int(market.volume * (done + (minute_end - done) * part)) // line.lot * line.lot
        bids: tuple[BookLevel, ...] = ()
        asks: tuple[BookLevel, ...] = ()
        if listing.is_tradable:
            bids, asks = book(
                line.shape, mix(line.bits, sequence), last, market.lower or 1, market.upper
            )
        tick = line.tick
        start_ms = market.day.start_ms + minute * MINUTE_MS + driver.step_start(step)
        return Quote(
            instrument_id=listing.ref.id,
            last_price=last * tick,
            at=datetime_of(start_ms),
            source=self.name,
            open=market.open * tick,
            high=high * tick,
            low=low * tick,
            previous_close=market.previous * tick,
            volume=volume,
            bids=bids,
            asks=asks,
            lower_circuit=None if market.lower is None else market.lower * tick,
            upper_circuit=None if market.upper is None else market.upper * tick,
            sequence=sequence,
            simulated=True,
        )

    @staticmethod
    def _prices(line: _Line, market: _Market, steps: MinutePath, step: int) -> tuple[int, int, int]:
        """Return last, high and low in ticks."""
        last, high, low = steps.price[step], steps.high[step], steps.low[step]
        if market.follow is not None:
            if market.falls:
                high, low = low, high
            last, high, low = market.follow(last), market.follow(high), market.follow(low)
        return (
            market.clamp(line.ticks(last)),
            market.clamp(line.ticks(high)),
            market.clamp(line.ticks(low)),
        )

    # candles

    def candles(
        self, listing: Listing, interval: str, start: datetime, end: datetime
    ) -> list[Candle]:
        minutes = INTERVALS[interval] // 60
        line = self._line(listing)
        if line is None:
            return []
        start_ms, end_ms = int(start.timestamp() * 1000), int(end.timestamp() * 1000)
        found: list[Candle] = []
        day = self.clock.day_at(end_ms)
        while day is not None and day.end_ms > start_ms:
            path = self.paths.day(line.driver, day, keep=day.end_ms > end_ms)
            market = self._open_market(line, day, path)
            found += reversed(self._day_candles(line, market, minutes, start_ms, end_ms))
            day = self.clock.day_before(day)
        return found[::-1]

    def _day_candles(
        self, line: _Line, market: _Market, minutes: int, start_ms: int, end_ms: int
    ) -> list[Candle]:
        day, path = market.day, market.path
        expiry = line.listing.ref.expiry
        if expiry is not None and expiry < day.date:
            return []
        last_minute = (min(market.close_ms, end_ms) - 1 - day.start_ms) // MINUTE_MS
        running = end_ms < min(market.close_ms, day.start_ms + (last_minute + 1) * MINUTE_MS)
        candles = []
        for first in range(0, last_minute + 1, minutes):
            candle_ms = day.start_ms + first * MINUTE_MS
            if not start_ms <= candle_ms < end_ms:
                continue
            until = min(first + minutes, last_minute + 1)
            partly = running and until == last_minute + 1
            whole = until - 1 if partly else until
            highs, lows = list(path.high[first:whole]), list(path.low[first:whole])
            close, done = path.price[whole], path.volume_to[whole]
            if partly:
                steps, step = self._running(line, path, last_minute, end_ms - 1)
                highs.append(max(steps.price[: step + 1]))
                lows.append(min(steps.price[: step + 1]))
                close = steps.price[step]
                part = (step + 1) / (line.driver.last_step + 2)
                done += (path.volume_to[last_minute + 1] - done) * part
            opening, high, low, closing = self._followed(
                line, market, path.price[first], max(highs), min(lows), close
            )
            lot = line.lot
            before = int(market.volume * path.volume_to[first]) // lot * lot
            volume = int(market.volume * done) // lot * lot - before
            candles.append(Candle(datetime_of(candle_ms), opening, high, low, closing, volume))
        return candles

    @staticmethod
    def _running(line: _Line, path: DayPath, minute: int, at_ms: int) -> tuple[MinutePath, int]:
        inside = at_ms - path.day.start_ms - minute * MINUTE_MS
        return line.driver.minute(path, minute), line.driver.step_at(inside)

    @staticmethod
    def _followed(
        line: _Line, market: _Market, opening: float, high: float, low: float, close: float
    ) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        if market.follow is not None:
            if market.falls:
                high, low = low, high
            opening, high = market.follow(opening), market.follow(high)
            low, close = market.follow(low), market.follow(close)
        prices = (
            market.clamp(line.ticks(price)) * line.tick for price in (opening, high, low, close)
        )
        return next(prices), next(prices), next(prices), next(prices)

    # the day of one listing

    def _line(self, listing: Listing) -> _Line | None:
        line = self._lines.get(listing.ref.id)
        if line is None or line.listing is not listing:
            spot = listing.spot or listing
            if spot.reference_price is None:
                return None
            line = _Line(listing, self._driver(spot), self.seed)
            self._lines[listing.ref.id] = line
        return line

    def _driver(self, spot: Listing) -> Driver:
        reference = float(spot.reference_price or 0)
        driver = self._drivers.get(spot.key)
        if driver is None or driver.reference != reference:
            draw = unit(self.seed, spot.key, "moves")
            volatility, weight = INDEX_MOVES.get(spot.key, (0.010 + 0.006 * draw, 0.4 + 0.3 * draw))
            step_ms = 500 if spot.ref.kind is InstrumentKind.INDEX or draw < 0.5 else 1000
            driver = Driver(self.seed, spot.key, reference, volatility, weight, step_ms)
            self._drivers[spot.key] = driver
        return driver

    def _market(self, line: _Line, at_ms: int) -> _Market | None:
        market = line.market
        if market is not None and market.day.start_ms <= at_ms < market.close_ms:
            return market
        day = self.clock.day_at(at_ms)
        if day is None:
            return None
        if market is None or market.day.start_ms != day.start_ms:
            expiry = line.listing.ref.expiry
            if expiry is not None and expiry < day.date:
                return None
            market = line.market = self._open_market(line, day, self.paths.day(line.driver, day))
        return market

    def _open_market(self, line: _Line, day: TradingDay, path: DayPath) -> _Market:
        listing, _driver = line.listing, line.driver
        market = _Market(
            day,
            path,
            self._follow(listing, day, path.price[0]),
            listing.ref.kind is InstrumentKind.PE,
        )
        market.close_ms = self.clock.close_ms(listing.group, day)
        market.open = line.ticks(market.follow(path.price[0]) if market.follow else path.price[0])
        spot, price = self._previous_close(line, day)
        market.previous = line.ticks(price)
        if listing.is_tradable:
            reach = (
                Decimal("0.10") if listing.group is not listing.group.EQUITY else Decimal("0.20")
            )
            base = market.previous * line.tick
            width = Decimal(repr(spot)) if listing.is_option else base
            market.lower = max(
                1, int(((base - width * reach) / line.tick).to_integral_value(ROUND_CEILING))
            )
            market.upper = int(((base + width * reach) / line.tick).to_integral_value(ROUND_FLOOR))
        market.volume = self._day_volume(line, day, path.price[0])
        return market

    def _previous_close(self, line: _Line, day: TradingDay) -> tuple[float, float]:
        """Return the last prices of the day before: of the spot, and of the listing itself."""
        before = self.clock.day_before(day)
        if before is None:
            spot = line.driver.reference * exp(line.driver.level(day.number))
            opening, on = spot, day
        else:
            close = self.clock.close_ms(line.listing.group, before)
            minute = (close - before.start_ms) // MINUTE_MS
            spot = self.paths.price_at(line.driver, before, minute)
            # The smile is fixed at the day's open, which costs the whole day before; its close is
            # near enough.
            opening, on = spot, before
        follow = self._follow(line.listing, on, opening)
        return spot, follow(spot) if follow else spot

    def _follow(self, listing: Listing, day: TradingDay, opening: float) -> Follow | None:
        """Return how the listing's price follows its spot on ``day``; None for the spot itself.

        Time to expiry counts in days and stays the same through a day, which keeps the price rising
        (or falling) strictly with the spot: the day's high and low then follow from the spot's.
        """
        ref = listing.ref
        if listing.spot is None or ref.expiry is None:
            return None
        years = ((ref.expiry - day.date).days + 0.5) / 365
        if ref.strike is None:
            carry = exp(RATE * years)
            return lambda spot: spot * carry
        strike, call = float(ref.strike), ref.kind is InstrumentKind.CE
        distance = log(strike / opening)
        volatility = IMPLIED_VOLATILITY.get(ref.underlying, 0.18) * (
            1 - distance + 12 * distance * distance
        )
        return lambda spot: option_price(spot, strike, years, volatility, RATE, call)

    def _day_volume(self, line: _Line, day: TradingDay, spot: float) -> int:
        """Return the units that trade on the whole day."""
        listing = line.listing
        if not listing.is_tradable:
            return 0
        mood = 0.6 + 0.8 * unit(line.bits, day.number)
        if listing.ref.strike is not None:  # options: most at the money
            distance = abs(log(float(listing.ref.strike) / spot))
            return int(mood * 200_000 * exp(-40 * distance) + 20) * line.lot
        if listing.spot is not None:
            return int(mood * 120_000) * line.lot
        return int(mood * line.turnover / spot)
