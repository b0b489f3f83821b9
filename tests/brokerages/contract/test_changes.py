"""Modifications and cancels, and the races that they may lose."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from brokerages.errors import NotSent, OrderNotFound, OutcomeUnknown, Refused
from brokerages.types import OrderChange, OrderType, Product, ReportedStatus, Validity
from tests.brokerages.contract.conftest import limit, order, refusal_of

S = ReportedStatus


def change(quantity=20, price="96", kind=OrderType.LIMIT, **more):
    value = None if price is None else Decimal(price)
    return OrderChange(quantity, kind, Validity.DAY, value, **more)


@pytest.fixture
def resting(bench, adapter):
    """An order that rests at 95, and its number."""
    request = limit(bench, "95")
    return request, adapter.place_order(request).broker_order_id


def test_modify(bench, adapter, resting):
    request, number = resting
    if not adapter.capabilities.can_modify:
        with pytest.raises(Refused):
            adapter.modify_order(number, change(), request)
        return
    adapter.modify_order(number, change(), request)
    report = adapter.find_order(request)
    assert (report.quantity, report.price, report.status) == (20, Decimal(96), S.OPEN)
    assert report.broker_order_id == number


def test_modify_is_sent_once(bench, adapter, resting):
    bench.need_wire()
    request, number = resting
    adapter.modify_order(number, change(), request)
    assert bench.sent("modify") == 1


def test_modify_to_a_market_order(bench, adapter, resting):
    request, number = resting
    adapter.modify_order(number, change(10, None, OrderType.MARKET), request)
    bench.settle()
    report = adapter.find_order(request)
    assert (report.status, report.filled_quantity) == (S.FILLED, 10)


def test_modify_a_trigger(bench, adapter):
    request = order(bench, order_type=OrderType.SL, price=106, trigger_price=105)
    number = adapter.place_order(request).broker_order_id
    terms = change(10, "104", OrderType.SL, trigger_price=Decimal(103))
    adapter.modify_order(number, terms, request)
    report = adapter.find_order(request)
    assert (report.trigger_price, report.price) == (Decimal(103), Decimal(104))
    assert report.status is S.TRIGGER_PENDING
    bench.show("103")
    bench.settle()
    assert adapter.find_order(request).status is S.FILLED


def test_quantity_of_a_change_is_the_new_total(bench, adapter):
    bench.show("100", asks=[(100, 4)])
    request = limit(bench, "100")
    number = adapter.place_order(request).broker_order_id
    bench.settle()
    adapter.modify_order(number, change(15, "99"), request)
    report = adapter.find_order(request)
    assert (report.quantity, report.filled_quantity) == (15, 4)
    bench.show("99", asks=[(99, 1000)])
    bench.settle()
    assert adapter.find_order(request).filled_quantity == 15


def test_change_that_the_exchange_refuses(bench, adapter, resting):
    bench.need_wire()
    request, number = resting
    bench.venue.lost_changes = 1
    adapter.modify_order(number, change(), request)
    report = adapter.find_order(request)
    assert (report.status, report.quantity, report.price) == (S.OPEN, 10, Decimal(95))


def test_change_that_a_fill_overtakes(bench, adapter, resting):
    bench.need_wire()
    request, number = resting
    bench.slow(modify=60)
    adapter.modify_order(number, change(), request)
    assert adapter.find_order(request).status in (S.OPEN, S.RECEIVED)
    bench.show("94")
    bench.venue.pass_time(61)
    report = adapter.find_order(request)
    assert (report.status, report.filled_quantity) == (S.FILLED, 10)


def test_terms_of_a_change_are_checked(bench, adapter, resting):
    request, number = resting
    with pytest.raises(Refused):
        adapter.modify_order(number, change(20, "96.03"), request)
    report = adapter.find_order(request)
    assert (report.quantity, report.price) == (10, Decimal(95))


def test_cancel(bench, adapter, resting):
    request, number = resting
    adapter.cancel_order(number, request)
    bench.settle()
    report = adapter.find_order(request)
    assert (report.status, report.filled_quantity) == (S.CANCELLED, 0)
    with pytest.raises(Refused):
        adapter.cancel_order(number, request)


def test_cancel_is_sent_once(bench, adapter, resting):
    bench.need_wire()
    request, number = resting
    adapter.cancel_order(number, request)
    assert bench.sent("cancel") == 1


def test_cancel_frees_the_money(bench, adapter, resting):
    request, number = resting
    blocked = adapter.fetch_funds().available
    adapter.cancel_order(number, request)
    bench.settle()
    assert adapter.fetch_funds().available == blocked + 950


def test_cancel_keeps_what_filled(bench, adapter):
    bench.show("100", asks=[(100, 4)])
    request = limit(bench, "100")
    number = adapter.place_order(request).broker_order_id
    bench.settle()
    adapter.cancel_order(number, request)
    bench.settle()
    report = adapter.find_order(request)
    assert (report.status, report.filled_quantity) == (S.CANCELLED, 4)
    assert report.average_price == 100


def test_cancel_on_its_way(bench, adapter, resting):
    bench.need_wire()
    request, number = resting
    bench.slow(cancel=60)
    adapter.cancel_order(number, request)
    assert adapter.find_order(request).status in (S.PENDING_CANCEL, S.OPEN)
    bench.venue.pass_time(61)
    assert adapter.find_order(request).status is S.CANCELLED


def test_cancel_that_a_fill_overtakes(bench, adapter, resting):
    bench.need_wire()
    request, number = resting
    bench.slow(cancel=60)
    adapter.cancel_order(number, request)
    bench.show("94")
    bench.venue.pass_time(61)
    report = adapter.find_order(request)
    assert (report.status, report.filled_quantity) == (S.FILLED, 10)


def test_cancel_that_the_exchange_refuses(bench, adapter, resting):
    bench.need_wire()
    request, number = resting
    bench.venue.lost_cancels = 1
    adapter.cancel_order(number, request)
    assert adapter.find_order(request).status is S.OPEN
    adapter.cancel_order(number, request)
    assert adapter.find_order(request).status is S.CANCELLED


def test_change_before_the_order_arrived(bench, adapter):
    """Too early is neither done nor unknown: it may be asked again."""
    bench.need_wire()
    bench.slow(validating=60)
    request = limit(bench, "95")
    number = adapter.place_order(request).broker_order_id
    for call in (
        lambda: adapter.cancel_order(number, request),
        lambda: adapter.modify_order(number, change(), request),
    ):
        refusal = refusal_of(call)
        assert isinstance(refusal, Refused | NotSent)
        assert not isinstance(refusal, OutcomeUnknown)
    bench.venue.pass_time(61)
    assert adapter.find_order(request).status is S.OPEN


def test_filled_order_can_be_neither_cancelled_nor_modified(bench, adapter):
    request = order(bench)
    number = adapter.place_order(request).broker_order_id
    bench.settle()
    with pytest.raises(Refused):
        adapter.cancel_order(number, request)
    with pytest.raises(Refused):
        adapter.modify_order(number, change(20, "100"), request)
    assert adapter.find_order(request).filled_quantity == 10


@pytest.mark.parametrize(
    "number", ["", "0", "nothing", "P0", "' OR 1=1 --", "../x", "9" * 60, "1/2", "١"]
)
def test_unknown_orders(bench, adapter, number):
    with pytest.raises(OrderNotFound):
        adapter.cancel_order(number, limit(bench, "95"))


def test_order_of_another_account(bench, adapter, resting):
    request, number = resting
    other = bench.adapter()
    with pytest.raises(Refused):
        other.cancel_order(number, request)
    with pytest.raises(Refused):
        other.modify_order(number, change(), request)
    report = adapter.find_order(request)
    assert (report.status, report.quantity) == (S.OPEN, 10)


def test_change_of_an_after_market_order(bench, adapter):
    if not adapter.capabilities.after_market_orders:
        pytest.skip(f"{adapter.name} takes no after-market orders (after_market_orders)")
    bench.close_market()
    request = replace(limit(bench, "95"), after_market=True)
    number = adapter.place_order(request).broker_order_id
    adapter.modify_order(number, change(), request)
    assert adapter.find_order(request).quantity == 20
    adapter.cancel_order(number, request)
    assert adapter.find_order(request).status is S.CANCELLED


def test_change_of_a_short_position_order(bench, adapter):
    from brokerages.types import Side

    request = limit(bench, "105", side=Side.SELL, product=Product.MIS)
    number = adapter.place_order(request).broker_order_id
    adapter.modify_order(number, change(10, "104"), request)
    bench.show("104")
    bench.settle()
    report = adapter.find_order(request)
    assert (report.status, report.average_price) == (S.FILLED, Decimal(104))
