"""Whether an answer with positions states rupees or paise. Pure Python.

Groww's documents show rupees; others who read the same call have met paise. So the answer is held
against the market before it is believed: what was traded today must lie inside today's range.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from brokerages.adapters.groww.mapping import positive, units
from brokerages.adapters.groww.market import ohlc

HUNDRED = Decimal(100)
CARRIED = ("carry_forward_credit_quantity", "carry_forward_debit_quantity")
SHARE_FACTOR = Decimal(20)  # no share trades at a twentieth of what a position cost


def key_of(row: Mapping[str, Any]) -> str:
    """Return the name of a position's instrument in quotes."""
    return f"{row['exchange']}_{row['trading_symbol']}"


def market_of(
    keys: Iterable[str], prices: Mapping[str, Any], bars: Mapping[str, Any]
) -> tuple[dict[str, Decimal], dict[str, tuple[Decimal, Decimal]]]:
    """Return the last prices and the (low, high) of the day that two answers have."""
    last: dict[str, Decimal] = {}
    ranges: dict[str, tuple[Decimal, Decimal]] = {}
    for key in keys:
        if (price := positive(prices.get(key))) is not None:
            last[key] = price
        bar = ohlc(bars.get(key))
        if "low" in bar and "high" in bar:
            ranges[key] = bar["low"], bar["high"]
    return last, ranges


def in_paise(
    rows: Sequence[Mapping[str, Any]],
    ranges: Mapping[str, tuple[Decimal, Decimal]],
    last: Mapping[str, Decimal],
) -> bool:
    """Return whether the rows' amounts are paise: some row says so, and none says rupees.

    ``ranges`` has today's low and high, ``last`` the last prices, in rupees, by `key_of`. Without
    any evidence the documents are believed.
    """
    votes = [vote for row in rows if (vote := _vote(row, ranges, last)) is not None]
    return bool(votes) and all(votes)


def _vote(
    row: Mapping[str, Any],
    ranges: Mapping[str, tuple[Decimal, Decimal]],
    last: Mapping[str, Decimal],
) -> bool | None:
    """Return True for paise, False for rupees, None where the row proves nothing."""
    key = key_of(row)
    carried = any(units(row.get(name)) for name in CARRIED)
    prices = [
        price
        for name in ("credit_price", "debit_price")
        if (price := positive(row.get(name))) is not None
    ]
    if not carried and prices and key in ranges:
        low, high = ranges[key]
        if all(low <= price <= high for price in prices):
            return False
        if all(low <= price / HUNDRED <= high for price in prices):
            return True
    # An option can lose 99 % in a day, a share cannot.
    price = positive(row.get("net_price"))
    if row.get("segment") == "CASH" and price is not None and key in last:
        return price > last[key] * SHARE_FACTOR
    return None
