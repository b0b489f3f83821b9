"""Random days at the paper broker: whatever happens, the books balance."""

from __future__ import annotations

from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brokerages.adapters.paper.ledger import Hold, Money, Position, Standing, affordable, after_fill
from brokerages.adapters.paper.margins import Trade
from brokerages.errors import Refused
from brokerages.models import PaperEvent, PaperOrder
from brokerages.types import OrderChange, OrderType, Product, Side, Validity
from tests.brokerages.conftest import CALL, FUTURE, REQUEST, SHARE, levels
from tests.brokerages.invariants import check_accounts, check_book

sides = st.sampled_from(Side)
prices = st.integers(1900, 2100).map(lambda ticks: Decimal(ticks) / 20)
products = st.sampled_from([Product.CNC, Product.MIS, Product.MTF])
quantities = st.integers(1, 600)
places = st.fixed_dictionaries(
    {
        "what": st.just("place"),
        "account": st.integers(0, 1),
        "side": sides,
        "quantity": quantities,
        "price": st.none() | prices,
        "product": products,
        "trigger": st.none() | prices,
        "validity": st.sampled_from(Validity),
    }
)
modifies = st.fixed_dictionaries(
    {
        "what": st.just("modify"),
        "account": st.integers(0, 1),
        "which": st.integers(0, 5),
        "quantity": quantities,
        "price": st.none() | prices,
    }
)
cancels = st.fixed_dictionaries(
    {"what": st.just("cancel"), "account": st.integers(0, 1), "which": st.integers(0, 5)}
)
books = st.fixed_dictionaries(
    {
        "what": st.just("book"),
        "last": prices,
        "asks": st.lists(st.integers(1, 300), max_size=5),
        "bids": st.lists(st.integers(1, 300), max_size=5),
    }
)
advances = st.fixed_dictionaries({"what": st.just("advance")})
steps = st.lists(st.one_of(places, places, places, books, modifies, cancels, advances), max_size=25)


@pytest.mark.django_db
@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=steps)
def test_books_balance_whatever_happens(make_paper, market, steps):
    PaperEvent.objects.all().delete()
    papers = [make_paper(), make_paper()]
    market.show(last=100)
    for step in steps:
        market.now += timedelta(seconds=1)
        paper = papers[step.get("account", 0)]
        with suppress(Refused):
            play(step, paper, market)
        check_accounts(*(paper.id for paper in papers))
        check_book(market.quotes[SHARE.id])
    for paper in papers:
        told = {}
        for report in paper.adapter.fetch_orders():
            told[report.broker_order_id] = report.filled_quantity
        assert told == {
            f"P{order.pk}": order.filled_quantity
            for order in PaperOrder.objects.filter(connection_id=paper.id)
        }


def play(step, paper, market) -> None:
    if step["what"] == "place":
        place = paper.buy if step["side"] is Side.BUY else paper.sell
        place(
            step["quantity"],
            step["price"],
            product=step["product"],
            trigger=step["trigger"],
            validity=step["validity"],
        )
    elif step["what"] == "book":
        last, tick = step["last"], Decimal("0.05")
        market.show(
            last=last,
            asks=levels(*((last + tick * n, q) for n, q in enumerate(step["asks"], 1))),
            bids=levels(*((last - tick * n, q) for n, q in enumerate(step["bids"], 1))),
        )
    elif step["what"] == "advance":
        paper.advance()
    else:
        orders = list(PaperOrder.objects.filter(connection_id=paper.id).order_by("-id")[:6])
        if step["which"] >= len(orders):
            return
        number = f"P{orders[step['which']].pk}"
        if step["what"] == "cancel":
            paper.adapter.cancel_order(number, REQUEST)
        else:
            order_type = OrderType.MARKET if step["price"] is None else OrderType.LIMIT
            paper.adapter.modify_order(
                number,
                OrderChange(step["quantity"], order_type, Validity.DAY, step["price"]),
                REQUEST,
            )


# --- The ledger by itself -------------------------------------------------------------------------

DAY = date(2026, 11, 23)
amounts = st.decimals(1, 10_000, places=2)


@settings(max_examples=300, deadline=None)
@given(
    fills=st.lists(st.tuples(sides, st.integers(1, 500), amounts), max_size=30),
    kind=st.sampled_from([(SHARE, Product.MIS), (FUTURE, Product.NRML), (CALL, Product.NRML)]),
    cash=amounts,
)
def test_every_rupee_is_somewhere(fills, kind, cash):
    money, position = Money(cash * 100), Position(DAY)
    for side, lots, price in fills:
        trade = Trade(kind[0], kind[1], side)
        quantity = lots * kind[0].lot_size
        standing = Standing(money, position, Hold(quantity))
        after = after_fill(standing, trade, quantity, price)
        most = affordable(standing, trade, quantity, price)
        if after is None:
            assert most < quantity
            after = after_fill(standing, trade, most, price) if most else standing
        else:
            assert most == quantity
        money, position = after.money, after.position
        assert money.cash >= 0 <= money.debt
        assert position.cost >= 0 <= position.margin
        assert money.cash - money.debt + position.margin == cash * 100 + money.realised
        assert (position.quantity == 0) == (position.cost == 0)


@settings(deadline=None)
@given(
    remaining=st.integers(1, 1000),
    closing=st.integers(0, 1000),
    unit=amounts,
    fills=st.lists(st.tuples(st.integers(1, 400), st.integers(0, 400)), max_size=10),
)
def test_block_never_grows_and_ends_at_nothing(remaining, closing, unit, fills):
    hold = Hold(remaining, min(closing, remaining), unit)
    for size, closes in [*fills, (1000, 1000)]:
        filled = min(size, hold.remaining)
        after = hold.after(filled, min(closes, filled))
        assert 0 <= after.block <= hold.block
        assert 0 <= after.closing <= after.remaining == hold.remaining - filled
        hold = after
    assert (hold.remaining, hold.block) == (0, 0)
