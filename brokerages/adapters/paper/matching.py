"""Quote and open orders → fills. Pure Python.

Orders of all users share the displayed book of an instrument, at most five levels a side, in
price-time order; they do not match each other. The liquidity of one book (one ``sequence`` of a
quote) is consumed once: what was taken is remembered until the next sequence. A fill is at the
price of the level, never worse than the order's limit.

A market order takes level after level, with the configured slippage, within the circuit limits.
What the book cannot serve stays open as a market order for the next book. A quote without any
book (a source that knows only last prices) fills at the last price without a limit on quantity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from brokerages.types import Quote, Side

BASIS_POINT = Decimal(10000)


@dataclass(frozen=True, slots=True)
class Contender:
    """An order that wants liquidity now. ``limit`` None is a market order."""

    order_id: int
    limit: Decimal | None
    remaining: int
    queued_at: datetime


@dataclass(frozen=True, slots=True)
class Match:
    """``quantity`` units of the level at ``level`` rupees go to an order, at ``price``."""

    order_id: int
    quantity: int
    price: Decimal
    level: Decimal | None  # None where no book was displayed, so that nothing is used up


@dataclass(slots=True)
class Level:
    """Liquidity that is left at a price. ``quantity`` None is unlimited."""

    price: Decimal
    quantity: int | None


@dataclass(frozen=True, slots=True)
class Slippage:
    """How much worse than the level a market order fills, in basis points, rounded away to the
    tick.
    """

    basis_points: Decimal
    tick_size: Decimal

    def apply(self, side: Side, price: Decimal, quote: Quote) -> Decimal:
        if not self.basis_points:
            return price
        rounding = ROUND_CEILING if side is Side.BUY else ROUND_FLOOR
        moved = price * (1 + side.sign * self.basis_points / BASIS_POINT)
        ticks = (moved / self.tick_size).to_integral_value(rounding)
        worse = max(ticks * self.tick_size, self.tick_size)
        if quote.upper_circuit is not None:
            worse = min(worse, quote.upper_circuit)
        if quote.lower_circuit is not None:
            worse = max(worse, quote.lower_circuit)
        return worse


def best_price(quote: Quote, side: Side) -> Decimal | None:
    """Return the best displayed price that an order of ``side`` could trade at, or None if that
    side is empty.
    """
    if not quote.asks and not quote.bids:
        return quote.last_price
    levels = quote.asks if side is Side.BUY else quote.bids
    return levels[0].price if levels else None


def crosses(side: Side, limit: Decimal | None, price: Decimal | None) -> bool:
    """Return whether an order of ``side`` with ``limit`` may trade at ``price``."""
    if price is None:
        return False
    return limit is None or (limit >= price if side is Side.BUY else limit <= price)


def is_triggered(side: Side, trigger_price: Decimal, last_price: Decimal) -> bool:
    """Return whether the last price has reached a stop: at or above it for BUY, at or below it
    for SELL.
    """
    return last_price >= trigger_price if side is Side.BUY else last_price <= trigger_price


def price_key(price: Decimal) -> str:
    """Return the one spelling of a price: 100.50 and 100.5 are the same level."""
    return format(price.normalize(), "f")


def open_levels(quote: Quote, side: Side, taken: Mapping[str, int]) -> list[Level]:
    """Return what is left of the levels that orders of ``side`` take from, best first."""
    if not quote.asks and not quote.bids:
        return [Level(quote.last_price, None)]
    displayed = quote.asks if side is Side.BUY else quote.bids
    left = []
    for level in displayed:
        quantity = level.quantity - taken.get(price_key(level.price), 0)
        if quantity > 0 and _within_circuits(quote, level.price):
            left.append(Level(level.price, quantity))
    return left


def _within_circuits(quote: Quote, price: Decimal) -> bool:
    low, high = quote.lower_circuit, quote.upper_circuit
    return (low is None or price >= low) and (high is None or price <= high)


def by_priority(side: Side, contenders: Iterable[Contender]) -> list[Contender]:
    """Sort: market orders first, then the better price, then who came first."""

    def key(contender: Contender) -> tuple[bool, Decimal, datetime, int]:
        limited = contender.limit is not None
        price = Decimal(0) if contender.limit is None else -side.sign * contender.limit
        return (limited, price, contender.queued_at, contender.order_id)

    return sorted(contenders, key=key)


def allocate(
    quote: Quote,
    side: Side,
    levels: Sequence[Level],
    contenders: Iterable[Contender],
    slippage: Slippage,
) -> list[Match]:
    """Give ``levels`` to ``contenders`` in priority order. ``levels`` are reduced in place."""
    matches = []
    for contender in by_priority(side, contenders):
        remaining = contender.remaining
        for level in levels:
            if not remaining or not crosses(side, contender.limit, level.price):
                break
            part = remaining if level.quantity is None else min(remaining, level.quantity)
            if not part:
                continue
            price = level.price
            if contender.limit is None:
                price = slippage.apply(side, price, quote)
            shown = None if level.quantity is None else level.price
            matches.append(Match(contender.order_id, part, price, shown))
            remaining -= part
            if level.quantity is not None:
                level.quantity -= part
    return matches


def add_taken(taken: Mapping[str, int], matches: Iterable[Match]) -> dict[str, int]:
    """Return ``taken`` with the quantities of ``matches`` added to their levels."""
    total = dict(taken)
    for match in matches:
        if match.level is not None:
            key = price_key(match.level)
            total[key] = total.get(key, 0) + match.quantity
    return total
