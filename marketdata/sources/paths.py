"""The simulated path of a share or an index through a day. Pure Python; floats inside, rounded to
ticks by the caller.

A day is made at once from its seed: a bridge of minute prices between the levels of two days, with
a high and a low in each minute that the steps within the minute do touch. So any moment can be
asked in any order, in any process, and high, low and candles agree with every quote.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import exp, sqrt
from random import Random

from marketdata.sources.clock import MINUTE_MS, TradingDay
from marketdata.sources.noise import digest, mix, unit, wander

KEPT_PATHS = 200
_U24 = 1.0 / (1 << 24)


@dataclass(slots=True)
class DayPath:
    """One day. ``price[m]`` opens minute m and closes the one before; ``high_to[m]`` and
    ``low_to[m]`` are over the minutes before m; ``volume_to[m]`` is the part of the day's volume
    traded before m.
    """

    day: TradingDay
    price: array[float]
    high: array[float]
    low: array[float]
    high_to: array[float]
    low_to: array[float]
    volume_to: array[float]


@dataclass(slots=True)
class MinutePath:
    """The steps of one minute: the price at each, and the day's high and low up to it."""

    minute: int
    price: list[float]
    high: list[float]
    low: list[float]


class Driver:
    """A share or an index whose price moves by itself. Derivatives follow one.

    ``volatility`` is the standard deviation of a day's move; ``weight`` the part (−1 to 1) that the
    whole market makes. ``step_ms`` divides a minute; ``phase_ms`` keeps instruments from changing
    at the same moment.
    """

    def __init__(
        self,
        seed: int,
        key: str,
        *,
        reference: float,
        volatility: float,
        weight: float,
        step_ms: int,
    ) -> None:
        self.seed, self.key, self.reference = seed, key, reference
        self.volatility, self.weight, self.step_ms = volatility, weight, step_ms
        self.own_weight = sqrt(1 - weight * weight)
        self.bits = digest(seed, key)
        self.phase_ms = self.bits % step_ms
        self.last_step = (MINUTE_MS - 1 + self.phase_ms) // step_ms
        self._levels: dict[int, float] = {}
        self._minutes: dict[tuple[int, int], MinutePath] = {}

    def level(self, number: int) -> float:
        """Return the logarithm of the price over the reference price at the start of a day."""
        found = self._levels.get(number)
        if found is None:
            if len(self._levels) > 1_000:
                self._levels.clear()
            market, own = wander(number, self.seed, "market"), wander(number, self.seed, self.key)
            found = self.volatility * (self.weight * market + self.own_weight * own)
            self._levels[number] = found
        return found

    def step_at(self, ms_in_minute: int) -> int:
        return (ms_in_minute + self.phase_ms) // self.step_ms

    def step_start(self, step: int) -> int:
        """Return the milliseconds within the minute at which a step begins."""
        return max(0, step * self.step_ms - self.phase_ms)

    def minute(self, path: DayPath, minute: int) -> MinutePath:
        """Return the steps of a minute of the day."""
        key = (path.day.start_ms, minute)
        found = self._minutes.get(key)
        if found is None:
            found = self._steps(path, minute)
            if len(self._minutes) > 3:
                self._minutes.clear()
            self._minutes[key] = found
        return found

    def _steps(self, path: DayPath, minute: int) -> MinutePath:
        opening, closing = path.price[minute], path.price[minute + 1]
        high, low, last = path.high[minute], path.low[minute], self.last_step
        bits = mix(self.bits, path.day.start_ms // MINUTE_MS + minute)
        half = last // 2
        first = 1 + (bits >> 8) % (half - 1)
        second = half + (bits >> 24) % (last - half)
        up_first = bits & 1
        knots = [
            (0, opening),
            (first, high if up_first else low),
            (second, low if up_first else high),
            (last, closing),
        ]
        swing = (high - low) * 0.3
        prices = [opening]
        state = bits
        for (a, from_price), (b, to_price) in pairwise(knots):
            slope = (to_price - from_price) / (b - a)
            for step in range(a + 1, b):
                state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
                price = from_price + slope * (step - a) + ((state >> 40) * _U24 - 0.5) * swing
                prices.append(high if price > high else low if price < low else price)
            prices.append(to_price)
        before_high = max(path.high_to[minute], opening)
        before_low = min(path.low_to[minute], opening)
        highs = list(accumulate(prices, max, initial=before_high))[1:]
        lows = list(accumulate(prices, min, initial=before_low))[1:]
        return MinutePath(minute, prices, highs, lows)


class Paths:
    """Makes the days of drivers under one seed and keeps the ones asked last."""

    def __init__(self, seed: int, gaps: bool) -> None:
        self.seed, self.gaps = seed, gaps
        self._kept: dict[tuple[str, int, int], DayPath] = {}
        self._market: dict[tuple[int, int], list[float]] = {}

    def day(self, driver: Driver, day: TradingDay, keep: bool = True) -> DayPath:
        key = (driver.key, day.start_ms, day.minutes)
        path = self._kept.get(key)
        if path is None:
            path = self._make(driver, day)
            if keep:
                if len(self._kept) >= KEPT_PATHS:
                    oldest, *_ = self._kept  # all at once: other threads add meanwhile
                    self._kept.pop(oldest, None)
                self._kept[key] = path
        return path

    def price_at(self, driver: Driver, day: TradingDay, minute: int) -> float:
        """Return the price at the start of a minute; a day's end is known without making it."""
        if minute >= day.minutes:
            return driver.reference * exp(driver.level(day.number + 1))
        return self.day(driver, day).price[minute]

    def _make(self, driver: Driver, day: TradingDay) -> DayPath:
        random = Random(digest(self.seed, driver.key, day.number)).random  # noqa: S311 - not for secrets
        minutes = day.minutes
        scale = driver.volatility / sqrt(minutes)
        market, weight, own = self._market_steps(day), driver.weight, driver.own_weight * 2
        walk = list(
            accumulate(
                (weight * z + own * (random() + random() + random() - 1.5) for z in market),
                initial=0.0,
            )
        )
        start, end = driver.level(day.number), driver.level(day.number + 1)
        if self.gaps:
            start += (
                0.7 * driver.volatility * (unit(self.seed, driver.key, "gap", day.number) - 0.5)
            )
        drift = (end - start - walk[-1] * scale) / minutes
        reference = driver.reference
        price = array(
            "d", [reference * exp(start + walk[m] * scale + drift * m) for m in range(minutes + 1)]
        )
        high, low, weights = array("d"), array("d"), []
        for m in range(minutes):
            a, b = price[m], price[m + 1]
            if a < b:
                a, b = b, a
            high.append(a * (1 + scale * (0.25 + 0.75 * random())))
            low.append(b * (1 - scale * (0.25 + 0.75 * random())))
            position = 2 * m / minutes - 1 if self.gaps else 0.5  # busy at the open and the close
            weights.append((0.3 + 1.4 * random()) * (0.5 + 1.5 * position * position))
        total = sum(weights)
        return DayPath(
            day=day,
            price=price,
            high=high,
            low=low,
            high_to=array("d", accumulate(high, max, initial=price[0])),
            low_to=array("d", accumulate(low, min, initial=price[0])),
            volume_to=array("d", (part / total for part in accumulate(weights, initial=0.0))),
        )

    def _market_steps(self, day: TradingDay) -> list[float]:
        """Return the moves that all instruments share in each minute of the day."""
        key = (day.number, day.minutes)
        steps = self._market.get(key)
        if steps is None:
            random = Random(digest(self.seed, "market", day.number)).random  # noqa: S311 - not for secrets
            steps = [2 * (random() + random() + random() - 1.5) for _ in range(day.minutes)]
            if len(self._market) > 8:
                self._market.clear()
            self._market[key] = steps
        return steps
