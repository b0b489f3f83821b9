"""Numbers that look random and are a pure function of their arguments, on every machine and in
every process.
"""

from __future__ import annotations

from hashlib import blake2b
from math import erf, exp, log, sqrt

MASK = (1 << 64) - 1
_UNIT = 1.0 / (1 << 64)


def digest(*parts: object) -> int:
    """Return 64 bits for the parts, for what is computed once; `mix` is for what is often."""
    text = "|".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def unit(*parts: object) -> float:
    """Return a number in [0, 1) for the parts."""
    return digest(*parts) * _UNIT


def mix(seed: int, number: int) -> int:
    """Return 64 bits for a number under a seed (the finaliser of splitmix64)."""
    z = (seed + number * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def wander(day: int, *key: object) -> float:
    """Return smooth noise over days: like a random walk of one unit a day that never goes far from
    zero.

    Octaves of 2 to 64 days, each as strong as a walk is over its period.
    """
    total = 0.0
    for octave in range(1, 7):
        period = 1 << octave
        cell, inside = divmod(day, period)
        x = inside / period
        left, right = unit(*key, octave, cell), unit(*key, octave, cell + 1)
        smooth = x * x * (3 - 2 * x)
        total += (left + (right - left) * smooth - 0.5) * sqrt(period)
    return total


def normal_cdf(x: float) -> float:
    return 0.5 * (1.0 + erf(x * 0.7071067811865476))


def option_price(
    spot: float, *, strike: float, years: float, volatility: float, rate: float, call: bool
) -> float:
    """Return the Black-Scholes price of a European option; it rises with the spot for a call, falls
    for a put.
    """
    deviation = volatility * sqrt(years)
    d1 = (log(spot / strike) + (rate + volatility * volatility / 2) * years) / deviation
    d2 = d1 - deviation
    discounted = strike * exp(-rate * years)
    if call:
        return spot * normal_cdf(d1) - discounted * normal_cdf(d2)
    return discounted * normal_cdf(-d2) - spot * normal_cdf(-d1)
