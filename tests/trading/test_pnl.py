from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerages.types import Side
from trading.pnl import OpenQuantity, apply_fill, average, unrealised

prices = st.integers(1, 5_000_000).map(lambda paise: Decimal(paise) / 20)
fills = st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 5000), prices), max_size=60)


def run(sequence):
    held, realised = OpenQuantity(), Decimal(0)
    for side, quantity, price in sequence:
        effect = apply_fill(held, side, quantity, price)
        assert effect.closed_quantity + effect.opened_quantity == quantity
        held, realised = effect.after, realised + effect.realised
    return held, realised


@settings(max_examples=1000)
@given(fills, prices)
def test_realised_and_unrealised_are_exactly_the_cash_and_the_mark(sequence, mark):
    held, realised = run(sequence)
    cash = sum((-side.sign * quantity * price for side, quantity, price in sequence), Decimal(0))
    assert held.quantity == sum(side.sign * quantity for side, quantity, _ in sequence)
    assert realised + unrealised(held, mark) == cash + held.quantity * mark


@settings(max_examples=500)
@given(fills)
def test_flat_has_no_cost(sequence):
    held, _ = run(sequence)
    if held.quantity == 0:
        assert held.cost == 0
    else:
        assert (held.cost > 0) == (held.quantity > 0)


@settings(max_examples=500)
@given(fills)
def test_mirrored_sides_negate_everything(sequence):
    held, realised = run(sequence)
    mirrored, opposite = run([(side.opposite, q, p) for side, q, p in sequence])
    assert (mirrored.quantity, mirrored.cost, opposite) == (-held.quantity, -held.cost, -realised)


@settings(max_examples=300)
@given(fills, st.integers(1, 4999))
def test_splitting_a_fill_that_opens_changes_nothing(sequence, at):
    split = []
    for side, quantity, price in sequence:
        first = min(at, quantity)
        split += [(side, part, price) for part in (first, quantity - first) if part]
    (held, realised), (parts, in_parts) = run(sequence), run(split)
    assert parts.quantity == held.quantity
    # the share of the cost that a partial close releases is rounded once per fill
    assert abs(in_parts - realised) <= Decimal("0.0001") * len(sequence)


def test_average_of_three_purchases():
    held, _ = run(
        [(Side.BUY, 30, Decimal(260)), (Side.BUY, 30, Decimal(256)), (Side.BUY, 20, Decimal(270))]
    )
    assert average(held.cost, held.quantity) == Decimal("261.0000")


def test_flip_splits_at_zero():
    effect = apply_fill(OpenQuantity(10, Decimal(1000)), Side.SELL, 25, Decimal(110))
    assert effect.after == OpenQuantity(-15, Decimal(-1650))
    assert (effect.closed_quantity, effect.opened_quantity) == (10, 15)
    assert effect.realised == Decimal(100)


def test_short_earns_when_the_price_falls():
    held = OpenQuantity(-10, Decimal(-1000))
    assert unrealised(held, Decimal(90)) == Decimal(100)
    assert apply_fill(held, Side.BUY, 4, Decimal(90)).realised == Decimal(40)


@pytest.mark.parametrize("quantity", [1, 3, 7])
def test_a_third_of_a_paisa_is_never_lost(quantity):
    held = OpenQuantity(7, Decimal("100.01"))
    effect = apply_fill(held, Side.SELL, quantity, Decimal("14.30"))
    assert effect.realised == quantity * Decimal("14.30") - (held.cost - effect.after.cost)
