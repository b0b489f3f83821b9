"""Many threads at one paper account, one order, one book: on real connections, with real locks."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from django.db import connection as database
from django.db.models import Sum

from brokerages.adapters.paper.engine import PaperEngine
from brokerages.errors import InsufficientFunds, OrderNotFound, Refused
from brokerages.models import PaperFill, PaperOrder
from brokerages.types import OrderChange, OrderType, Product, ReportedStatus, Validity
from tests.brokerages.conftest import REQUEST, SHARE, levels, tagged
from tests.brokerages.invariants import check_accounts, check_book

pytestmark = pytest.mark.django_db(transaction=True)

THREADS = 16


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work`` ``count`` times on 16 threads, each with a database connection of its own."""

    def run(number: int) -> Any:
        try:
            return work(number)
        finally:
            database.close()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(count)))


def test_four_hundred_buys_of_one_share(paper, market):
    market.show(last=100, asks=levels((100, 150), (101, 1000)))

    in_threads(400, lambda number: paper.buy(1, tag=f"B{number}"))

    assert paper.holding == 400
    assert paper.available == 100_000 - 150 * 100 - 250 * 101
    assert paper.used == 0
    check_accounts()
    check_book(market.quotes[SHARE.id])


def test_money_for_ten_orders_buys_ten(paper, market):
    market.show(last=10_000, asks=levels((10_000, 1000)))

    def attempt(number: int) -> bool:
        try:
            paper.buy(1, tag=f"B{number}")
        except InsufficientFunds:
            return False
        return True

    assert sum(in_threads(40, attempt)) == 10
    assert (paper.holding, paper.available) == (10, 0)


def test_one_tag_many_times_is_one_order(paper, market):
    market.show(last=100)

    acks = in_threads(32, lambda _: paper.buy(5, tag="SAME"))

    assert len({ack.broker_order_id for ack in acks}) == 1
    assert (PaperOrder.objects.count(), paper.holding) == (1, 5)


def test_shares_are_sold_once(paper, market):
    market.show(last=100)
    paper.buy(10)

    def attempt(number: int) -> bool:
        try:
            paper.sell(3, tag=f"S{number}")
        except Refused:
            return False
        return True

    assert sum(in_threads(16, attempt)) == 3
    assert paper.holding == 1


def test_one_book_serves_many_accounts_once(make_paper, market):
    market.show(last=100, asks=levels((100, 100), (101, 100)))
    papers = [make_paper() for _ in range(8)]

    in_threads(80, lambda number: papers[number % 8].buy(3, tag=f"B{number}"))

    assert PaperFill.objects.aggregate(total=Sum("quantity"))["total"] == 200
    check_book(market.quotes[SHARE.id])
    check_accounts()


def test_cancel_against_fill(paper, market):
    """Whoever has the account first wins; the other is told, and nothing is half done."""
    outcomes = set()
    for _ in range(25):
        market.show(last=100)
        ack = paper.buy(10, 99)
        market.show(last=98)
        start = Barrier(2)

        def cancel(order: str = ack.broker_order_id, start: Barrier = start) -> bool:
            start.wait()
            try:
                paper.adapter.cancel_order(order, REQUEST)
            except OrderNotFound:
                return False
            return True

        def fill(start: Barrier = start) -> int:
            start.wait()
            return PaperEngine().advance(market.read, market.now)

        cancelled, filled = in_threads(2, lambda n, c=cancel, f=fill: (c, f)[n]())
        report = paper.adapter.find_order(tagged(ack.report.client_order_id))
        assert cancelled != bool(filled)
        assert report.status is (ReportedStatus.CANCELLED if cancelled else ReportedStatus.FILLED)
        assert report.filled_quantity == (0 if cancelled else 10)
        outcomes.add(cancelled)
        check_accounts()
    assert paper.used == 0


def test_no_deadlock_when_everything_happens_at_once(make_paper, market):
    instruments = [replace(SHARE, id=number, symbol=f"S{number}") for number in (1, 2, 3)]
    for instrument in instruments:
        market.show(instrument, last=100)
    papers = [make_paper() for _ in range(5)]

    def work(number: int) -> None:
        dice = random.Random(number)
        paper, instrument = dice.choice(papers), dice.choice(instruments)
        price = Decimal(dice.randint(196, 204)) / 2
        kind = dice.randrange(6)
        if kind == 0:
            market.show(instrument, last=price, asks=levels((price, 40)), bids=levels((price, 40)))
            PaperEngine().advance(market.read, market.now)
            return
        try:
            side = paper.buy if dice.random() < 0.5 else paper.sell
            ack = side(
                dice.randint(1, 30),
                None if kind == 1 else price,
                tag=f"N{number}",
                instrument=instrument,
                product=Product.MIS,
            )
            if kind == 2:
                paper.adapter.cancel_order(ack.broker_order_id, REQUEST)
            if kind == 3:
                terms = OrderChange(31, OrderType.LIMIT, Validity.DAY, price + 1)
                paper.adapter.modify_order(ack.broker_order_id, terms, REQUEST)
        except Refused:
            pass

    in_threads(600, work)

    check_accounts()
    assert PaperFill.objects.count() > 100
