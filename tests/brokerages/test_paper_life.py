"""What happens to a paper order after it was taken: changes, queues, latency, day end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from brokerages.adapters.paper.engine import PaperEngine
from brokerages.errors import InsufficientFunds, InsufficientHoldings, InvalidOrder, OrderNotFound
from brokerages.models import PaperBook, PaperEvent, PaperOrder
from brokerages.types import OrderChange, OrderType, Product, ReportedStatus, Validity
from tests.brokerages.conftest import FUTURE, REQUEST, START, levels, tagged

pytestmark = pytest.mark.django_db

S = ReportedStatus


def change(quantity, price=None, *, trigger=None, validity=Validity.DAY) -> OrderChange:
    order_type = OrderType.MARKET if price is None else OrderType.LIMIT
    if trigger is not None:
        order_type = OrderType.SL_M if price is None else OrderType.SL
    number = None if price is None else Decimal(str(price))
    return OrderChange(
        quantity=quantity,
        order_type=order_type,
        validity=validity,
        price=number,
        trigger_price=None if trigger is None else Decimal(str(trigger)),
    )


class TestModify:
    def test_new_terms_block_new_money(self, paper, market):
        market.show(last=100)
        order = paper.buy(10, 90).broker_order_id

        ack = paper.adapter.modify_order(order, change(20, 95), REQUEST)

        assert (ack.report.status, ack.report.quantity, ack.report.price) == (S.OPEN, 20, 95)
        assert paper.used == 1900

    def test_marketable_terms_fill_at_once(self, paper, market):
        market.show(last=100)
        order = paper.buy(10, 90).broker_order_id

        ack = paper.adapter.modify_order(order, change(10), REQUEST)

        assert (ack.report.status, ack.fills[0].price) == (S.FILLED, Decimal("100.5"))
        assert paper.adapter.find_order(tagged(ack.report.client_order_id)).filled_quantity == 10
        assert (paper.used, paper.available) == (0, 100_000 - 1005)
        assert not PaperEvent.objects.exists()

    def test_to_ioc_cancels_what_does_not_fill(self, paper, market):
        market.show(last=100)
        order = paper.buy(10, 90).broker_order_id
        ack = paper.adapter.modify_order(order, change(10, 91, validity=Validity.IOC), REQUEST)
        assert (ack.report.status, paper.used) == (S.CANCELLED, 0)

    def test_below_what_is_filled(self, paper, market):
        market.show(last=100, asks=levels((100, 6)))
        order = paper.buy(10, 100).broker_order_id
        for quantity in (5, 6):
            with pytest.raises(InvalidOrder, match="6 units are filled"):
                paper.adapter.modify_order(order, change(quantity, 100), REQUEST)
        ack = paper.adapter.modify_order(order, change(7, 99), REQUEST)
        assert (ack.report.quantity, ack.report.filled_quantity, paper.used) == (7, 6, 99)

    def test_too_much_money_leaves_the_order_as_it_was(self, paper, market):
        market.show(last=100)
        order = paper.buy(10, 90).broker_order_id
        with pytest.raises(InsufficientFunds):
            paper.adapter.modify_order(order, change(2000, 90), REQUEST)
        report = paper.adapter.fetch_orders()[0]
        assert (report.quantity, report.status, paper.used) == (10, S.OPEN, 900)

    def test_sale_of_more_than_is_held(self, paper, market):
        market.show(last=100)
        paper.buy(10)
        order = paper.sell(5, 120).broker_order_id
        with pytest.raises(InsufficientHoldings):
            paper.adapter.modify_order(order, change(11, 120), REQUEST)
        assert paper.adapter.modify_order(order, change(10, 120), REQUEST).report.quantity == 10

    @pytest.mark.parametrize("terms", [change(10, 90.03), change(0, 90), change(10, 200)])
    def test_wrong_terms(self, paper, market, terms):
        market.show(last=100, upper_circuit=Decimal(120))
        order = paper.buy(10, 90).broker_order_id
        with pytest.raises(InvalidOrder):
            paper.adapter.modify_order(order, terms, REQUEST)

    def test_stop_moves_and_becomes_a_limit(self, paper, market):
        market.show(last=100)
        order = paper.buy(10, 106, trigger=105).broker_order_id
        ack = paper.adapter.modify_order(order, change(10, 111, trigger=110), REQUEST)
        assert (ack.report.status, ack.report.trigger_price) == (S.TRIGGER_PENDING, 110)
        with pytest.raises(InvalidOrder, match="above the last price"):
            paper.adapter.modify_order(order, change(10, 111, trigger=100), REQUEST)
        ack = paper.adapter.modify_order(order, change(10, 95), REQUEST)
        assert (ack.report.status, paper.used) == (S.OPEN, 950)

    def test_stop_that_was_hit_keeps_its_trigger(self, paper, market):
        market.show(last=100)
        order = paper.buy(10, 105, trigger=105).broker_order_id
        market.show(last=107)
        paper.advance()
        with pytest.raises(InvalidOrder, match="hit already"):
            paper.adapter.modify_order(order, change(10, 120, trigger=115), REQUEST)
        ack = paper.adapter.modify_order(order, change(10, 110, trigger=105), REQUEST)
        assert ack.report.status is S.FILLED

    def test_order_at_its_end(self, paper, market):
        market.show(last=100)
        order = paper.buy(10).broker_order_id
        with pytest.raises(OrderNotFound, match="complete"):
            paper.adapter.modify_order(order, change(20), REQUEST)

    @pytest.mark.parametrize("order", ["", "P", "P0", "X1", "P-1", "P999999", "P" + "9" * 40, "1"])
    def test_unknown_order(self, paper, market, order):
        for call in (
            lambda: paper.adapter.modify_order(order, change(20), REQUEST),
            lambda: paper.adapter.cancel_order(order, REQUEST),
        ):
            with pytest.raises(OrderNotFound, match="no such order"):
                call()


class TestCancel:
    def test_gives_back_what_is_blocked(self, paper, market):
        market.show(last=100, asks=levels((100, 4)))
        order = paper.buy(10, 100).broker_order_id

        ack = paper.adapter.cancel_order(order, REQUEST)

        assert (ack.report.status, ack.report.filled_quantity) == (S.CANCELLED, 4)
        assert (paper.used, paper.available) == (0, 99_600)
        with pytest.raises(OrderNotFound, match="complete"):
            paper.adapter.cancel_order(order, REQUEST)

    def test_filled_order(self, paper, market):
        market.show(last=100)
        with pytest.raises(OrderNotFound):
            paper.adapter.cancel_order(paper.buy(1).broker_order_id, REQUEST)


class TestQueue:
    """Orders of all users share one displayed book, by price and then time."""

    def test_one_book_is_taken_once(self, make_paper, market):
        market.show(last=100, asks=levels((100, 10)))
        filled = [make_paper().buy(4).report.filled_quantity for _ in range(3)]
        assert filled == [4, 4, 2]
        assert PaperBook.objects.get().taken == {"BUY": {"100": 10}}

    def test_earlier_and_better_orders_come_first(self, make_paper, market):
        market.show(last=100)
        late, early, better = make_paper(), make_paper(), make_paper()
        early.buy(10, 99)
        market.now += timedelta(seconds=1)
        late.buy(10, 99)
        better.buy(10, 99.5)

        market.show(last=98.5, asks=levels((99, 15)))
        events = {e.connection_id: e.report.filled_quantity for e in early.advance()}

        assert events == {better.id: 10, early.id: 5}

    def test_newcomer_takes_only_what_the_queue_leaves(self, make_paper, market):
        market.show(last=100)
        resting, newcomer = make_paper(), make_paper()
        resting.buy(10, 99)
        market.show(last=98.5, asks=levels((99, 14)))  # not matched yet

        market.now += timedelta(seconds=1)
        assert newcomer.buy(10, 99).report.filled_quantity == 4
        (event,) = resting.advance()
        assert (event.connection_id, event.report.filled_quantity) == (resting.id, 10)

    def test_modified_price_or_larger_quantity_goes_to_the_end(self, make_paper, market):
        market.show(last=100)
        first, second, third = make_paper(), make_paper(), make_paper()
        orders = {}
        for paper in (first, second, third):
            market.now += timedelta(seconds=1)
            orders[paper.id] = paper.buy(10, 99).broker_order_id
        market.now += timedelta(seconds=1)
        first.adapter.modify_order(orders[first.id], change(11, 99), REQUEST)  # larger: to the end
        second.adapter.modify_order(orders[second.id], change(9, 99), REQUEST)  # smaller: stays

        market.show(last=98.5, asks=levels((99, 19)))
        events = {e.connection_id: e.report.filled_quantity for e in first.advance()}

        assert events == {second.id: 9, third.id: 10}

    def test_older_quote_is_read_again_and_never_matched(self, paper, market):
        old = market.show(last=100, asks=levels((100, 10)))
        market.show(last=105, asks=levels((105, 10)))
        assert paper.buy(2).fills[0].price == 105

        quotes = iter([old, market.quotes[1]])
        paper.adapter.context = replace(paper.adapter.context, quote=lambda ref: next(quotes))
        assert paper.buy(2).fills[0].price == 105

        paper.adapter.context = replace(paper.adapter.context, quote=lambda ref: old)
        ack = paper.buy(2)
        assert (ack.report.status, ack.fills) == (S.OPEN, ())

    def test_source_that_starts_over_in_the_past_is_taken_after_a_moment(self, paper, market):
        old = market.show(last=100)
        market.show(last=105)
        paper.buy(1)
        market.quotes[1] = old
        assert paper.buy(1).report.status is S.OPEN
        market.now += timedelta(seconds=11)
        assert paper.buy(1).fills[0].price == Decimal("100.5")

    def test_source_that_counts_anew_is_a_new_book(self, paper, market):
        market.show(last=100, asks=levels((100, 2)))
        market.show(last=100, asks=levels((100, 2)))
        paper.buy(2)
        del market.quotes[1]
        market.show(last=101, asks=levels((101, 2)))  # sequence 1 again, later
        assert paper.buy(2).report.status is S.FILLED


class TestVenue:
    def test_latency_makes_an_order_wait(self, paper, market, settings):
        settings.PAPER_LATENCY_MS = 250
        market.show(last=100)

        ack = paper.buy(10)
        assert (ack.report.status, ack.fills) == (S.OPEN, ())
        assert paper.advance() == []
        market.now += timedelta(milliseconds=250)
        (event,) = paper.advance()

        assert (event.report.status, event.report.client_order_id) == (
            S.FILLED, ack.report.client_order_id,
        )  # fmt: skip

    def test_a_stop_changed_before_the_venue_has_it_waits_for_no_trigger(
        self, paper, market, settings
    ):
        settings.PAPER_LATENCY_MS = 250
        market.show(last=100)
        paper.buy(10, 110, trigger=105)
        market.now += timedelta(milliseconds=100)
        stop = paper.buy(10, 110, trigger=105)
        changed = paper.adapter.modify_order(stop.broker_order_id, change(10, 110), REQUEST)
        market.now += timedelta(milliseconds=250)

        events = paper.advance()

        assert changed.report.status is S.OPEN
        assert [(e.report.broker_order_id, e.report.status) for e in events] == [
            (stop.broker_order_id, S.FILLED)
        ]

    def test_latency_and_ioc(self, paper, market, settings):
        settings.PAPER_LATENCY_MS = 250
        market.show(last=100)
        paper.buy(10, 90, validity=Validity.IOC)
        market.now += timedelta(seconds=1)
        (event,) = paper.advance()
        assert (event.report.status, paper.used) == (S.CANCELLED, 0)

    def test_day_end_expires_and_releases(self, paper, market):
        market.show(last=100)
        paper.buy(10, 90)
        paper.buy(10, 110, trigger=105)
        market.now = START.replace(hour=10)

        events = paper.advance()

        assert [e.report.status for e in events] == [S.EXPIRED, S.EXPIRED]
        assert (paper.used, paper.available) == (0, 100_000)
        assert paper.advance() == []

    def test_nothing_is_matched_while_the_market_is_closed(self, paper, market):
        market.show(last=100)
        paper.buy(10, 90)
        market.show(last=80)
        market.open = False
        assert paper.advance() == []

    def test_events_stay_until_confirmed(self, paper, market):
        market.show(last=100)
        ack = paper.buy(10, 99)
        market.show(last=98)
        engine = PaperEngine()
        assert engine.advance(market.read, market.now) == 1
        assert engine.advance(market.read, market.now) == 0

        first, again = engine.pending_events(), engine.pending_events()
        assert first == again
        assert first[0].report.client_order_id == ack.report.client_order_id
        assert first[0].fills == tuple(paper.adapter.fetch_fills())
        engine.confirm_events([first[0].id])
        assert engine.pending_events() == []

    def test_only_the_named_instruments(self, paper, market):
        market.show(last=100)
        market.show(FUTURE, last=1000)
        paper.buy(1, 99)
        paper.buy(65, 900, instrument=FUTURE, product=Product.NRML)
        market.show(last=90)
        market.show(FUTURE, last=800)
        engine = PaperEngine()
        assert engine.advance(market.read, market.now, [FUTURE.id]) == 1
        assert engine.advance(market.read, market.now) == 1

    def test_idle_pass_is_cheap(self, paper, market):
        market.show(last=100)
        with CaptureQueriesContext(database) as nothing_open:
            paper.advance()
        paper.buy(1, 90)
        with CaptureQueriesContext(database) as nothing_moves:
            PaperEngine().advance(market.read, market.now)
        assert (len(nothing_open), len(nothing_moves)) == (4, 4)

    def test_many_orders_in_batches(self, make_paper, market, monkeypatch):
        monkeypatch.setattr("brokerages.adapters.paper.engine.BATCH", 7)
        market.show(last=100)
        papers = [make_paper() for _ in range(4)]
        for number in range(40):
            market.now += timedelta(seconds=1)
            papers[number % 4].buy(1, 99)
        market.show(last=98, asks=levels((98.5, 25)))

        filled = [e.report.broker_order_id for e in papers[0].advance()]

        oldest = PaperOrder.objects.order_by("queued_at", "id")[:25]
        assert filled == [f"P{order.pk}" for order in oldest]


def test_filled_market_order_takes_few_statements(paper, market):
    market.show(last=100)
    paper.buy(1)
    with CaptureQueriesContext(database) as queries:
        paper.buy(1)
    assert len(queries) <= 8
