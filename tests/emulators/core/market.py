"""Displayed books, last prices, a seeded walk that keeps them moving, and seeded candles."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache

from tests.emulators.core.clock import IST
from tests.emulators.core.instruments import Instrument

LEVELS = 5
SESSION = time(9, 15), time(15, 30)  # IST, of which candles are told


@dataclass(slots=True)
class Level:
    price: Decimal
    quantity: int
    orders: int = 1


@dataclass(slots=True)
class Book:
    """The market of one instrument: at most five levels a side, best first. Fills use levels up."""

    instrument: Instrument
    last: Decimal
    at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    bids: list[Level] = field(default_factory=list)
    asks: list[Level] = field(default_factory=list)
    last_quantity: int = 0
    volume: int = 0
    turnover: Decimal = Decimal(0)
    open_interest: int = 0
    sequence: int = 0

    @property
    def close(self) -> Decimal:
        """Return the previous day's close."""
        return self.instrument.reference

    @property
    def average(self) -> Decimal:
        return self.turnover / self.volume if self.volume else self.last

    def trade(self, quantity: int, price: Decimal, at: datetime) -> None:
        """Book a print of the tape (it does not touch the levels)."""
        self.last, self.at, self.last_quantity = price, at, quantity
        self.high, self.low = max(self.high, price), min(self.low, price)
        self.volume += quantity
        self.turnover += quantity * price
        self.sequence += 1


def spread(
    instrument: Instrument, last: Decimal, quantity: int = 10_000
) -> tuple[list[Level], list[Level]]:
    """Return five levels to each side of ``last``, the best a tick away."""

    def side(sign: int) -> list[Level]:
        steps = (
            instrument.to_tick(last) + sign * n * instrument.tick for n in range(1, LEVELS + 1)
        )
        return [Level(price, quantity, n) for n, price in enumerate(steps, 1) if price > 0]

    return side(-1), side(1)


class Walk:
    """A seeded random walk of last prices in whole ticks, inside the circuit limits."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def spares(self, book: Book) -> bool:
        """Return whether an instrument keeps its price this time: most contracts do."""
        return book.instrument.is_derivative and self.random.random() > 0.05

    def step(self, book: Book) -> tuple[Decimal, int]:
        """Return the next last price and the units that changed hands."""
        instrument = book.instrument
        scale = max(int(book.last / instrument.tick / 4000), 1)
        price = book.last + self.random.randint(-2, 2) * scale * instrument.tick
        price = min(max(price, instrument.lower_circuit), instrument.upper_circuit)
        return price, self.random.randint(1, 200) * instrument.lot


@dataclass(frozen=True, slots=True)
class CandleRow:
    start: datetime  # aware, IST
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int
    open_interest: int = 0


WAVES = ((7.0, 0.0008), (61.0, 0.002), (1700.0, 0.01), (90_000.0, 0.05))  # minutes, size


@lru_cache(maxsize=1024)
def _waves(key: str, seed: int) -> list[tuple[float, float, float]]:
    """Return (radians a minute, size, phase) of the waves of an instrument's history."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return [
        (math.tau / (length * (1 + digest[n + 8] / 512)), size, digest[n] / 255 * math.tau)
        for n, (length, size) in enumerate(WAVES)
    ]


def level_at(instrument: Instrument, at: datetime, seed: int) -> Decimal:
    """Return the historical price at a moment: a sum of waves that depends on nothing but the
    instrument, the seed and the time, so that candles of every length fit together.
    """
    minutes = at.timestamp() / 60
    wave = 1.0
    for speed, size, phase in _waves(instrument.key, seed):
        wave += size * math.sin(minutes * speed + phase)
    ticks = round(float(instrument.reference / instrument.tick) * wave)
    return max(ticks, 1) * instrument.tick


def candles(
    instrument: Instrument,
    minutes: int | None,
    start: datetime,
    end: datetime,
    *,
    seed: int = 1,
    closed: Callable[[date], bool] = lambda day: False,
) -> Iterator[CandleRow]:
    """Yield candles that start in [``start``, ``end``], oldest first. ``minutes`` None: days.

    Weekends and ``closed`` days have none. The open of a candle is the close of the one before it
    on the same day.
    """
    day = start.astimezone(IST).date()
    while day <= end.astimezone(IST).date():
        opens, closes = (datetime.combine(day, at, IST) for at in SESSION)
        if day.weekday() < 5 and not closed(day):
            if minutes is None:
                midnight = datetime.combine(day, time(), IST)
                if start <= midnight <= end:
                    yield _candle(instrument, seed, midnight, (opens, closes), 25)
            else:
                at = opens
                while at < closes:
                    until = min(at + timedelta(minutes=minutes), closes)
                    if start <= at <= end:
                        yield _candle(instrument, seed, at, (at, until), max(minutes // 3, 1))
                    at = until
        day += timedelta(days=1)


def _candle(
    instrument: Instrument, seed: int, label: datetime, span: tuple[datetime, datetime], step: int
) -> CandleRow:
    start, end = span
    seen: list[Decimal] = []
    at = start
    while at < end:
        seen.append(level_at(instrument, at, seed))
        at += timedelta(minutes=step)
    seen.append(level_at(instrument, end, seed))
    length = int((end - start).total_seconds() // 60)
    volume = (int(seen[0] / instrument.tick) % 97 + 3) * length * instrument.lot
    interest = volume * 3 if instrument.is_derivative else 0
    return CandleRow(
        label,
        seen[0],
        max(seen),
        min(seen),
        seen[-1],
        0 if instrument.is_index else volume,
        interest,
    )


def to_levels(pairs: Sequence[tuple[object, int]]) -> list[Level]:
    """Return levels of (price, quantity) pairs."""
    return [Level(Decimal(str(price)), int(quantity)) for price, quantity in pairs[:LEVELS]]
