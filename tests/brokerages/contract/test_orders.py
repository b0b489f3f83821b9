"""Placing orders: every type, product and validity, and what the broker then says of them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from brokerages.errors import NotSupported, Refused
from brokerages.types import OrderType, Product, ReportedStatus, Side, Validity
from tests.brokerages.contract.conftest import LIMIT_TAG, TAG, limit, order, refusal_of, until

S = ReportedStatus


def need(adapter, what, value):
    if value not in getattr(adapter.capabilities, what):
        pytest.skip(f"{adapter.name} does not take {value} ({what})")


def test_market_order_fills(bench, adapter):
    request = order(bench)

    ack = adapter.place_order(request)
    bench.settle()

    report = adapter.find_order(request)
    assert report.broker_order_id == ack.broker_order_id
    assert report.client_order_id == TAG
    assert (report.status, report.filled_quantity) == (S.FILLED, 10)
    assert report.average_price == 100
    (fill,) = adapter.fetch_fills()
    assert (fill.quantity, fill.price, fill.side) == (10, Decimal(100), Side.BUY)
    assert (fill.broker_order_id, fill.exchange) == (ack.broker_order_id, bench.share.exchange)
    assert fill.filled_at.tzinfo is not None


def test_order_is_sent_once(bench, adapter):
    bench.need_wire()
    adapter.place_order(order(bench))
    assert bench.sent("place") == 1
    assert bench.server.recorder.find(bench.wire.place)[0].acted


def test_what_the_ack_says_is_what_the_book_says(bench, adapter):
    ack = adapter.place_order(order(bench))
    if ack.report is not None:
        found = adapter.find_order(order(bench))
        assert ack.report.broker_order_id == found.broker_order_id
        assert ack.report.filled_quantity <= found.filled_quantity
        assert sum(fill.quantity for fill in ack.fills) == ack.report.filled_quantity


def test_limit_order_rests_and_fills_later(bench, adapter):
    adapter.place_order(limit(bench, "95"))
    report = adapter.find_order(limit(bench, "95"))
    assert (report.status, report.price, report.quantity) == (S.OPEN, Decimal(95), 10)
    assert report.average_price is None

    bench.show("94")
    bench.settle()

    report = adapter.find_order(limit(bench, "95"))
    assert (report.status, report.filled_quantity) == (S.FILLED, 10)
    assert report.average_price <= 95


@pytest.mark.parametrize("side", list(Side), ids=str)
@pytest.mark.parametrize("kind", [OrderType.SL, OrderType.SL_M], ids=str)
def test_stop_waits_for_its_trigger(bench, adapter, kind, side):
    need(adapter, "order_types", kind)
    sign = side.sign
    request = order(
        bench,
        side=side,
        product=Product.MIS,
        order_type=kind,
        price=100 + 6 * sign if kind is OrderType.SL else None,
        trigger_price=100 + 5 * sign,
    )
    adapter.place_order(request)
    bench.settle()
    report = adapter.find_order(request)
    assert (report.status, report.trigger_price) == (S.TRIGGER_PENDING, request.trigger_price)

    bench.show(100 + 4 * sign)
    bench.settle()
    assert adapter.find_order(request).status is S.TRIGGER_PENDING

    bench.show(100 + 5 * sign)
    bench.settle()
    assert adapter.find_order(request).status is S.FILLED


@pytest.mark.parametrize("kind", [OrderType.MARKET, OrderType.LIMIT], ids=str)
@pytest.mark.parametrize("product", [Product.CNC, Product.MIS, Product.MTF], ids=str)
def test_product_of_shares(bench, adapter, product, kind):
    need(adapter, "products", product)
    price = 100 if kind is OrderType.LIMIT else None
    request = order(bench, product=product, order_type=kind, price=price)
    adapter.place_order(request)
    bench.settle()
    assert adapter.find_order(request).status is S.FILLED


@pytest.mark.parametrize("product", [Product.NRML, Product.MIS], ids=str)
def test_product_of_contracts(bench, adapter, product):
    bench.need_wire()
    need(adapter, "products", product)
    bench.show(100, instrument=bench.call)
    request = limit(bench, 100, instrument=bench.call, quantity=65, product=product)
    adapter.place_order(request)
    report = adapter.find_order(request)
    assert (report.status, report.filled_quantity) == (S.FILLED, 65)
    (fill,) = adapter.fetch_fills()
    assert (fill.exchange, fill.quantity) == (bench.call.exchange, 65)


def test_short_sale(bench, adapter):
    request = order(bench, side=Side.SELL, product=Product.MIS)
    adapter.place_order(request)
    bench.settle()
    assert adapter.find_order(request).status is S.FILLED
    (fill,) = adapter.fetch_fills()
    assert fill.side is Side.SELL


def test_delivery_sale_of_holdings(bench, adapter):
    bench.give(adapter, 20, "90")
    request = order(bench, side=Side.SELL, quantity=15)
    adapter.place_order(request)
    bench.settle()
    assert adapter.find_order(request).status is S.FILLED


def test_partial_fill(bench, adapter):
    bench.show("100", asks=[(100, 4)])
    adapter.place_order(limit(bench, "100"))
    bench.settle()
    report = adapter.find_order(limit(bench, "100"))
    assert (report.status, report.filled_quantity) == (S.PARTIALLY_FILLED, 4)
    assert (report.quantity, report.average_price) == (10, Decimal(100))


def test_rest_of_a_partial_fill_comes_later(bench, adapter):
    bench.show("100", asks=[(100, 4)])
    adapter.place_order(limit(bench, "100"))
    bench.settle()
    bench.show("99", asks=[(99, 100)])
    bench.settle()
    report = adapter.find_order(limit(bench, "100"))
    assert (report.status, report.filled_quantity) == (S.FILLED, 10)
    fills = adapter.fetch_fills()
    assert sorted((fill.quantity, fill.price) for fill in fills) == [(4, 100), (6, 99)]
    assert report.average_price == Decimal("99.4")
    assert len({fill.fill_id for fill in fills}) == 2


def test_ioc_does_not_rest(bench, adapter):
    need(adapter, "validities", Validity.IOC)
    request = limit(bench, "95", validity=Validity.IOC)
    adapter.place_order(request)
    bench.settle()
    report = adapter.find_order(request)
    assert (report.status, report.filled_quantity) == (S.CANCELLED, 0)


def test_ioc_keeps_what_filled(bench, adapter):
    need(adapter, "validities", Validity.IOC)
    bench.show("100", asks=[(100, 4)])
    request = limit(bench, "100", validity=Validity.IOC)
    adapter.place_order(request)
    bench.settle()
    report = adapter.find_order(request)
    assert (report.status, report.filled_quantity) == (S.CANCELLED, 4)


def test_disclosed_quantity(bench, adapter):
    request = limit(bench, "95", quantity=20, disclosed_quantity=5)
    refusal = refusal_of(lambda: adapter.place_order(request))
    if refusal is not None:
        assert isinstance(refusal, Refused)
        assert adapter.find_order(request) is None
        return
    assert adapter.find_order(request).status is S.OPEN
    if bench.has_wire:
        (placed,) = bench.account(adapter).orders.values()
        assert placed.disclosed == 5


def test_after_market_order_waits_for_the_session(bench, adapter):
    request = replace(limit(bench, "100"), after_market=True)
    bench.close_market()
    if not adapter.capabilities.after_market_orders:
        assert adapter.capabilities.why_not(request)[0] == "after_market_not_supported"
        with pytest.raises(Refused):
            adapter.place_order(request)
        return
    adapter.place_order(request)
    report = adapter.find_order(request)
    assert report.status in (S.OPEN, S.RECEIVED)
    assert report.filled_quantity == 0

    bench.venue.open_market()
    assert adapter.find_order(request).status is S.FILLED


def test_iceberg_order_is_one_order(bench, adapter):
    request = limit(bench, "100", quantity=40, iceberg_legs=4)
    if not adapter.capabilities.iceberg_orders:
        assert adapter.capabilities.why_not(request)[0] == "iceberg_not_supported"
        with pytest.raises(NotSupported):
            adapter.place_order(request)
        return
    ack = adapter.place_order(request)
    until(lambda: adapter.find_order(request).status is S.FILLED)
    (report,) = adapter.fetch_orders()
    assert (report.filled_quantity, report.quantity) == (40, 40)
    assert report.broker_order_id == ack.broker_order_id
    fills = adapter.fetch_fills()
    assert sum(fill.quantity for fill in fills) == 40


def test_market_order_has_protection(bench, adapter):
    """A market order does not run through an empty book: some bound always goes with it."""
    bench.need_wire()
    bench.show("100", asks=[(100, 4), (109, 1000)])
    request = order(bench, market_protection=Decimal(3))
    refusal = refusal_of(lambda: adapter.place_order(request))
    if isinstance(refusal, NotSupported):
        pytest.skip(f"{adapter.name} refuses a stated protection: it could not pass it on")
    assert refusal is None
    (placed,) = bench.account(adapter).orders.values()
    if placed.ticket.protection is None:
        pytest.skip(f"{adapter.name} takes market orders without a stated protection")
    assert placed.ticket.protection == 3
    report = adapter.find_order(request)
    assert (report.status, report.filled_quantity) == (S.PARTIALLY_FILLED, 4)


def test_interim_status_is_not_the_end(bench, adapter):
    bench.need_wire()
    bench.slow(validating=30, sending=30)
    request = order(bench)
    adapter.place_order(request)
    assert adapter.find_order(request).status is S.RECEIVED
    bench.venue.pass_time(31)
    assert adapter.find_order(request).status is S.RECEIVED
    bench.venue.pass_time(30)
    assert adapter.find_order(request).status is S.FILLED


def test_symbol_with_signs(bench, adapter):
    """``&`` and blanks in a symbol survive the wire."""
    bench.need_wire()
    request = limit(bench, 95, instrument=bench.refs["NSE:M&M"])
    adapter.place_order(request)
    (placed,) = bench.account(adapter).orders.values()
    assert placed.instrument.symbol == "M&M"
    assert adapter.find_order(request).status is S.OPEN


def test_prices_arrive_exactly(bench, adapter):
    bench.need_wire()
    for number, price in enumerate(("95.05", "99.95", "90.10", "109.95")):
        adapter.place_order(limit(bench, price, f"EXACT0000000000000{number:02d}"))
    prices = {order.price for order in bench.account(adapter).orders.values()}
    assert prices == {Decimal("95.05"), Decimal("99.95"), Decimal("90.10"), Decimal("109.95")}
    told = {report.price for report in adapter.fetch_orders()}
    assert told == prices


# --- Finding --------------------------------------------------------------------------------------


def test_order_that_was_never_sent_is_not_found(bench, adapter):
    adapter.place_order(limit(bench, 95))
    assert adapter.find_order(order(bench, "NEVERSENT00000000001")) is None


def test_tags_that_look_alike_are_told_apart(bench, adapter):
    tags = ["ABCDEFGHJK0123456789", "ABCDEFGHJK0123456788", "BBCDEFGHJK0123456789"]
    numbers = {tag: adapter.place_order(limit(bench, 95, tag)).broker_order_id for tag in tags}
    for tag in tags:
        assert adapter.find_order(limit(bench, 95, tag)).broker_order_id == numbers[tag]
    assert adapter.find_order(limit(bench, 95, "ABCDEFGHJK012345678")) is None


def test_order_is_found_in_a_long_book(bench, adapter):
    """More orders than any page holds."""
    bench.need_wire()
    tags = [f"LANG{n:016d}" for n in range(120)]
    numbers = [adapter.place_order(limit(bench, 95, tag, quantity=1)) for tag in tags]
    for at in (0, 60, 119):
        found = adapter.find_order(limit(bench, 95, tags[at]))
        assert found.broker_order_id == numbers[at].broker_order_id
    assert len({report.broker_order_id for report in adapter.fetch_orders()}) == 120


def test_order_is_fetched_by_its_number(bench, adapter):
    request = limit(bench, 95)
    number = adapter.place_order(request).broker_order_id
    report = adapter.fetch_order(number, request)
    assert (report.client_order_id, report.status) == (LIMIT_TAG, S.OPEN)
    assert adapter.fetch_order("1926112300000099999", request) is None
