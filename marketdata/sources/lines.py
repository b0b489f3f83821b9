"""One listing in a simulated market: what it follows, how it moves, and what a day begins with.
Pure Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from math import exp, log

from brokerages.types import InstrumentKind, Quote
from marketdata.calendar import SessionGroup
from marketdata.sources.base import Listing
from marketdata.sources.book import BookShape
from marketdata.sources.clock import MINUTE_MS, DayClock, TradingDay
from marketdata.sources.noise import digest, option_price, unit
from marketdata.sources.paths import DayPath, Driver, Paths

CRORE = 10_000_000
PAISA = Decimal("0.01")
RATE = 0.065  # a year's carry

# Indices: (standard deviation of a day's move, part of it that the whole market makes).
# Shares draw theirs from the seed.
INDEX_MOVES = {
    "NSE:NIFTY 50": (0.008, 0.97),
    "BSE:SENSEX": (0.008, 0.97),
    "NSE:NIFTY BANK": (0.010, 0.90),
    "NSE:NIFTY FIN SERVICE": (0.010, 0.90),
    "NSE:NIFTY MID SELECT": (0.011, 0.85),
    "NSE:INDIA VIX": (0.045, -0.75),
}
IMPLIED_VOLATILITY = {"NIFTY": 0.12, "SENSEX": 0.12, "BANKNIFTY": 0.15, "FINNIFTY": 0.15}
# The part of the price between best bid and ask, before rounding up to a tick.
SPREADS = {InstrumentKind.CE: 0.003, InstrumentKind.PE: 0.003, InstrumentKind.FUT: 0.00003}
LEVEL_RUPEES = 1_000_000  # what one level of a book is worth, about
# Circuit limits from the previous close; shares with derivatives have the narrower ones.
REACH, WIDE_REACH = Decimal("0.10"), Decimal("0.20")

Follow = Callable[[float], float]


def driver_of(spot: Listing, seed: int) -> Driver:
    """Return how a share or an index moves."""
    draw = unit(seed, spot.key, "moves")
    volatility, weight = INDEX_MOVES.get(spot.key, (0.010 + 0.006 * draw, 0.4 + 0.3 * draw))
    return Driver(
        seed,
        spot.key,
        reference=float(spot.reference_price or 0),
        volatility=volatility,
        weight=weight,
        step_ms=500 if spot.ref.kind is InstrumentKind.INDEX or draw < 0.5 else 1000,
    )


@dataclass(slots=True)
class Market:
    """One listing on one day. Prices are whole ticks, ``volume`` the units of the whole day.

    ``follow`` turns the spot's price into the listing's (None: it is the spot); it ``falls`` for a
    put. Limits are None where there are none.
    """

    day: TradingDay
    path: DayPath
    follow: Follow | None
    falls: bool
    close_ms: int
    open: int
    previous: int
    volume: int
    lower: int | None = None
    upper: int | None = None

    def clamp(self, ticks: int) -> int:
        """Return a price within the circuit limits."""
        if self.upper is None or self.lower is None:
            return ticks
        return min(max(ticks, self.lower), self.upper)


class Line:
    """One listing, prepared: its driver, its seed, its tick in rupees, and what was made of it
    last.
    """

    def __init__(self, listing: Listing, driver: Driver, seed: int) -> None:
        ref = listing.ref
        self.listing, self.driver, self.seed = listing, driver, seed
        self.bits = digest(seed, ref.key, "book")
        # Two decimals wherever the tick has two, so that prices print alike.
        self.tick = ref.tick_size.quantize(PAISA) if ref.tick_size % PAISA == 0 else ref.tick_size
        self.tick_float = float(self.tick)
        self.lot = ref.lot_size
        worth = driver.reference * self.lot * (0.01 if listing.is_option else 1)
        lots = max(1 if self.lot == 1 else 6, int(LEVEL_RUPEES / worth))
        self.shape = BookShape(self.tick, self.lot, lots, SPREADS.get(ref.kind, 0.0001))
        self.market: Market | None = None
        self.quote: Quote | None = None

    def prices(self, market: Market, *spot: float) -> tuple[int, ...]:
        """Return the listing's prices in ticks, at least one, for prices of its spot."""
        follow, tick = market.follow, self.tick_float
        prices = spot if follow is None else map(follow, spot)
        return tuple(market.clamp(max(1, int(price / tick + 0.5))) for price in prices)

    def open_day(
        self, day: TradingDay, clock: DayClock, paths: Paths, *, keep: bool = True
    ) -> Market:
        """Return the listing's market on ``day``."""
        listing = self.listing
        path = paths.day(self.driver, day, keep)
        follow = _follow(listing, day, path.price[0])
        market = Market(
            day=day,
            path=path,
            follow=follow,
            falls=listing.ref.kind is InstrumentKind.PE,
            close_ms=clock.close_ms(listing.group, day),
            open=0,
            previous=0,
            volume=self._day_volume(day, path.price[0]),
        )
        (market.open,) = self.prices(market, path.price[0])
        spot, price = self._previous_close(day, clock, paths)
        market.previous = max(1, int(price / self.tick_float + 0.5))
        if listing.is_tradable:
            reach = WIDE_REACH if listing.group is SessionGroup.EQUITY else REACH
            base = market.previous * self.tick
            width = reach * (Decimal(repr(spot)) if listing.is_option else base)
            lower, upper = (base - width) / self.tick, (base + width) / self.tick
            market.lower = max(1, int(lower.to_integral_value(ROUND_CEILING)))
            market.upper = int(upper.to_integral_value(ROUND_FLOOR))
        return market

    def _previous_close(
        self, day: TradingDay, clock: DayClock, paths: Paths
    ) -> tuple[float, float]:
        """Return the last prices of the day before: of the spot, and of the listing itself."""
        before = clock.day_before(day)
        if before is None:
            before, spot = day, self.driver.reference * exp(self.driver.level(day.number))
        else:
            close_ms = clock.close_ms(self.listing.group, before)
            minute = (close_ms - before.start_ms) // MINUTE_MS
            spot = paths.price_at(self.driver, before, minute)
        # The smile of the day before hung on its open. Its close is near enough, and known without
        # making that day.
        follow = _follow(self.listing, before, spot)
        return spot, follow(spot) if follow else spot

    def _day_volume(self, day: TradingDay, spot: float) -> int:
        ref = self.listing.ref
        if not self.listing.is_tradable:
            return 0
        mood = 0.6 + 0.8 * unit(self.bits, day.number)
        if ref.strike is not None:  # options: most at the money
            distance = abs(log(float(ref.strike) / spot))
            return int(mood * 200_000 * exp(-40 * distance) + 20) * self.lot
        if self.listing.spot is not None:
            return int(mood * 120_000) * self.lot
        turnover = CRORE * (100 + 900 * unit(self.seed, ref.key, "turnover"))
        return int(mood * turnover / spot)


def _follow(listing: Listing, day: TradingDay, opening: float) -> Follow | None:
    """Return how the listing's price follows its spot on ``day``; None for the spot itself.

    Time to expiry counts in days and stays the same through a day, which keeps the price rising (or
    falling) with the spot: the day's high and low then follow from the spot's.
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
    smile = 1 - distance + 12 * distance * distance
    volatility = IMPLIED_VOLATILITY.get(ref.underlying, 0.18) * smile
    return lambda spot: option_price(
        spot, strike=strike, years=years, volatility=volatility, rate=RATE, call=call
    )
