"""A five-level book around a simulated price. Pure Python."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from brokerages.types import BookLevel
from marketdata.sources.noise import mix

LEVELS = 5
DEEPER = (1.0, 1.5, 1.9, 2.2, 2.6)  # later levels hold more


@dataclass(frozen=True, slots=True)
class BookShape:
    """What books of one instrument have in common. ``spread`` is the part of the price between best
    bid and ask.
    """

    tick: Decimal
    lot: int
    typical_lots: int
    spread: float


def book(
    shape: BookShape, bits: int, last: int, limits: tuple[int, int | None]
) -> tuple[tuple[BookLevel, ...], tuple[BookLevel, ...]]:
    """Return bids and asks, best first; ``bits`` decides everything but ``last``, the last price.

    ``last`` and the lower and upper ``limits`` are in ticks. The last trade was at the best bid or
    the best ask, so one of them is ``last``, and the two never meet. Levels beyond the limits are
    left out, as they are on the exchange.
    """
    spread = max(1, int(last * shape.spread)) + (bits & 1)
    at_ask = bits & 2 and last > limits[0]
    best_bid, best_ask = (last - spread, last) if at_ask else (last, last + spread)
    bids = _side(shape, mix(bits, 1), _within(range(best_bid, best_bid - 10, -1), limits))
    asks = _side(shape, mix(bits, 2), _within(range(best_ask, best_ask + 10), limits))
    return bids, asks


def _within(prices: range, limits: tuple[int, int | None]) -> range:
    """Return the prices from the best on that are within the limits."""
    lowest, highest = limits
    if prices.step < 0:
        return range(prices.start, max(prices.stop, lowest - 1), -1)
    return prices if highest is None else range(prices.start, min(prices.stop, highest + 1))


def _side(shape: BookShape, bits: int, prices: range) -> tuple[BookLevel, ...]:
    tick, lot, typical = shape.tick, shape.lot, shape.typical_lots
    levels = []
    place = 0
    for deeper in DEEPER:
        if place >= len(prices):
            break
        lots = 1 + int(typical * deeper * ((bits & 63) + 8) / 40)
        levels.append(BookLevel(prices[place] * tick, lots * lot, 1 + (bits & 15)))
        place += 1 + (bits >> 6 & 1)
        bits >>= 7
    return tuple(levels)
