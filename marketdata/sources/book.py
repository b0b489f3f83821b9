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
    shape: BookShape, bits: int, last: int, lowest: int, highest: int | None
) -> tuple[tuple[BookLevel, ...], tuple[BookLevel, ...]]:
    """Return bids and asks, best first; ``last``, ``lowest`` and ``highest`` are in ticks, ``bits``
    decides the rest.

    The last trade was at the best bid or the best ask, so one of them is ``last``, and the two
    never meet. Levels beyond the limits are left out, as they are on the exchange.
    """
    spread = max(1, int(last * shape.spread)) + (bits & 1)
    at_ask = bits & 2 and last > lowest
    best_bid, best_ask = (last - spread, last) if at_ask else (last, last + spread)
    return (
        _side(shape, mix(bits, 1), best_bid, -1, lowest, highest),
        _side(shape, mix(bits, 2), best_ask, 1, lowest, highest),
    )


def _side(
    shape: BookShape, bits: int, best: int, step: int, lowest: int, highest: int | None
) -> tuple[BookLevel, ...]:
    tick, lot, typical = shape.tick, shape.lot, shape.typical_lots
    levels = []
    price = best
    for deeper in DEEPER:
        if price < lowest or (highest is not None and price > highest):
            break
        lots = 1 + int(typical * deeper * ((bits & 63) + 8) / 40)
        levels.append(BookLevel(price * tick, lots * lot, 1 + (bits & 15)))
        bits >>= 6
        price += step * (1 + (bits & 1))
        bits >>= 1
    return tuple(levels)
