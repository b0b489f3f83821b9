"""Books, positions, holdings, funds: the broker's own view, exact and complete."""

from __future__ import annotations

from datetime import UTC
from decimal import Decimal

import pytest

from brokerages.errors import NotSupported, Refused
from brokerages.types import Exchange, PositionConversion, Product, ReportedStatus, Side
from tests.brokerages.contract.conftest import limit, order, refusal_of

S = ReportedStatus


def test_nothing_is_nothing(bench, adapter):
    assert adapter.fetch_orders() == []
    assert adapter.fetch_fills() == []
    assert adapter.fetch_positions() == []
    assert adapter.fetch_holdings() == []
    assert adapter.find_order(order(bench, "NEVERSENT00000000001")) is None
    funds = adapter.fetch_funds()
    assert (funds.available, funds.used, funds.total) == (100_000, 0, 100_000)


def test_book_has_every_order(bench, adapter):
    numbers = {adapter.place_order(order(bench)).broker_order_id}
    numbers.add(adapter.place_order(limit(bench, "95")).broker_order_id)
    bench.settle()
    reports = adapter.fetch_orders()
    assert {report.broker_order_id for report in reports} == numbers
    assert {report.status for report in reports} == {S.FILLED, S.OPEN}
    for report in reports:
        found = adapter.fetch_order(report.broker_order_id, order(bench))
        assert (found.status, found.filled_quantity) == (report.status, report.filled_quantity)


def test_orders_placed_elsewhere_are_in_the_book(bench, adapter):
    """On the broker's own site: no tag of ours, and no obstacle."""
    bench.need_wire()
    adapter.place_order(limit(bench, "95"))
    from dataclasses import replace

    account = bench.account(adapter)
    ((number, mine),) = account.orders.items()
    foreign = replace(mine.ticket, tag="")
    other = str(int(number) + 7) if number.isdecimal() else f"{number[:-3]}XYZ"
    bench.venue.place(account, foreign, other)
    tags = {r.broker_order_id: r.client_order_id for r in adapter.fetch_orders()}
    assert tags.keys() == {number, other}
    assert tags[number] == limit(bench, "95").client_order_id
    assert tags[other] != tags[number]


def test_average_of_several_fills_is_exact(bench, adapter):
    bench.show("100", asks=[("99.95", 3), ("100", 3), ("100.05", 5)])
    request = limit(bench, "100.05", quantity=11)
    adapter.place_order(request)
    bench.settle()
    report = adapter.find_order(request)
    assert report.filled_quantity == 11
    expected = (3 * Decimal("99.95") + 300 + 5 * Decimal("100.05")) / 11
    assert abs(report.average_price - expected) < Decimal("0.0001")
    fills = adapter.fetch_fills()
    assert sum(fill.quantity * fill.price for fill in fills) == expected * 11
    assert len({(fill.exchange, fill.side, fill.fill_id) for fill in fills}) == len(fills)


def test_fills_name_their_order(bench, adapter):
    first = adapter.place_order(order(bench)).broker_order_id
    request = order(bench, "MAS00000000000000001", product=Product.MIS, quantity=5)
    second = adapter.place_order(request).broker_order_id
    bench.settle()
    fills = {fill.broker_order_id: fill for fill in adapter.fetch_fills()}
    assert fills.keys() == {first, second}
    assert (fills[first].quantity, fills[second].quantity) == (10, 5)
    if adapter.capabilities.find_by_client_order_id:
        assert fills[second].client_order_id in ("", request.client_order_id)


def test_position_of_a_day(bench, adapter):
    adapter.place_order(order(bench, product=Product.MIS))
    bench.settle()
    (position,) = (p for p in adapter.fetch_positions() if p.product is Product.MIS)
    assert (position.exchange, position.symbol) == (bench.share.exchange, bench.share.symbol)
    assert (position.quantity, position.average_price) == (10, Decimal(100))


def test_short_position_is_negative(bench, adapter):
    adapter.place_order(order(bench, side=Side.SELL, product=Product.MIS))
    bench.settle()
    (position,) = adapter.fetch_positions()
    assert (position.quantity, position.average_price) == (-10, Decimal(100))


def test_closed_position_is_flat(bench, adapter):
    adapter.place_order(order(bench, product=Product.MIS))
    bench.settle()
    bench.show("110")
    request = order(bench, "BACK0000000000000001", side=Side.SELL, product=Product.MIS)
    adapter.place_order(request)
    bench.settle()
    assert all(position.quantity == 0 for position in adapter.fetch_positions())
    assert adapter.fetch_funds().used == 0


def test_position_of_a_contract(bench, adapter):
    bench.need_wire()
    bench.show(100, instrument=bench.call)
    adapter.place_order(limit(bench, 100, instrument=bench.call, quantity=65, product=Product.NRML))
    (position,) = adapter.fetch_positions()
    assert (position.exchange, position.product) == (Exchange.NFO, Product.NRML)
    assert (position.quantity, position.average_price) == (65, Decimal(100))
    assert position.symbol == bench.call.symbol


def test_holdings(bench, adapter):
    bench.give(adapter, 20, "90")
    (holding,) = adapter.fetch_holdings()
    assert (holding.symbol, holding.isin) == (bench.share.symbol, bench.share.isin)
    assert holding.quantity == 20
    assert 0 <= holding.t1_quantity <= holding.quantity  # what has not settled is part of it
    assert holding.average_price == 90


def test_delivery_becomes_a_holding(bench, adapter):
    bench.need_wire()
    adapter.place_order(order(bench))
    bench.new_day()
    (holding,) = adapter.fetch_holdings()
    assert (holding.quantity, holding.average_price) == (10, Decimal(100))
    assert 0 <= holding.t1_quantity <= holding.quantity
    assert adapter.fetch_orders() == []  # the book is the day's
    assert all(p.quantity == 0 for p in adapter.fetch_positions())


def test_end_of_the_day_ends_orders(bench, adapter):
    bench.need_wire()
    request = limit(bench, "95")
    adapter.place_order(request)
    bench.venue.end_day()
    report = adapter.find_order(request)
    assert report.status in (S.CANCELLED, S.EXPIRED)
    assert report.filled_quantity == 0


def test_money_follows_the_orders(bench, adapter):
    adapter.place_order(limit(bench, "95"))
    blocked = adapter.fetch_funds()
    assert (blocked.available, blocked.total) == (99_050, blocked.available + blocked.used)
    adapter.place_order(order(bench))
    bench.settle()
    after = adapter.fetch_funds()
    assert blocked.available - after.available >= 1000
    assert after.available + after.used == after.total


def test_values_are_exact(bench, adapter):
    """Money and prices are decimals, times are aware: a float would be a broken mapping."""
    adapter.place_order(order(bench))
    adapter.place_order(limit(bench, "95"))
    bench.give(adapter, 20, "90")
    bench.settle()
    funds = adapter.fetch_funds()
    values = [funds.available, funds.used, funds.total]
    values += [v for r in adapter.fetch_orders() for v in (r.average_price, r.price) if v]
    values += [h.average_price for h in adapter.fetch_holdings()]
    values += [p.average_price for p in adapter.fetch_positions()]
    values += [f.price for f in adapter.fetch_fills()]
    assert all(isinstance(value, Decimal) for value in values)
    assert all(r.reported_at.tzinfo for r in adapter.fetch_orders())
    for fill in adapter.fetch_fills():
        assert fill.filled_at.astimezone(UTC).utcoffset().total_seconds() == 0
    quantities = [r.filled_quantity for r in adapter.fetch_orders()]
    assert all(type(quantity) is int for quantity in quantities)


def test_times_are_the_brokers(bench, adapter):
    bench.need_wire()
    adapter.place_order(order(bench))
    now = bench.venue.clock.now()
    (report,) = adapter.fetch_orders()
    (fill,) = adapter.fetch_fills()
    assert abs((report.reported_at - now).total_seconds()) < 5
    assert abs((fill.filled_at - now).total_seconds()) < 5


def test_profile(adapter):
    profile = adapter.fetch_profile()
    assert profile.broker_user_id
    assert Exchange.NSE in profile.exchanges


def test_accounts_do_not_see_each_other(bench, adapter):
    other = bench.adapter()
    number = adapter.place_order(limit(bench, "95")).broker_order_id
    assert other.fetch_orders() == []
    assert other.fetch_funds().available == 100_000
    refusal = refusal_of(lambda: other.cancel_order(number, limit(bench, "95")))
    assert isinstance(refusal, Refused)
    same_tag = other.place_order(limit(bench, "95"))
    assert same_tag.broker_order_id != number


# --- Conversion and margin ------------------------------------------------------------------------


def converted(bench, quantity=10, **more):
    return PositionConversion(bench.share, Side.BUY, quantity, Product.MIS, Product.CNC, **more)


def test_conversion(bench, adapter):
    if not adapter.capabilities.can_convert_position:
        with pytest.raises(NotSupported):
            adapter.convert_position(converted(bench))
        return
    adapter.place_order(order(bench, product=Product.MIS))
    adapter.convert_position(converted(bench))
    open_units = {p.product: p.quantity for p in adapter.fetch_positions() if p.quantity}
    assert open_units == {Product.CNC: 10}


def test_conversion_of_more_than_there_is(bench, adapter):
    if not adapter.capabilities.can_convert_position:
        pytest.skip(f"{adapter.name} converts no positions (can_convert_position)")
    adapter.place_order(order(bench, product=Product.MIS))
    with pytest.raises(Refused):
        adapter.convert_position(converted(bench, 11))
    (position,) = (p for p in adapter.fetch_positions() if p.quantity)
    assert (position.product, position.quantity) == (Product.MIS, 10)


def need_margins(adapter):
    if not adapter.capabilities.estimates_margin:
        pytest.skip(f"{adapter.name} estimates no margins (estimates_margin)")


def test_margin_of_an_order(bench, adapter):
    need_margins(adapter)
    margin = adapter.estimate_margin([limit(bench, "100")])
    assert margin.required >= 1000
    assert margin.required < 1100
    assert margin.charges is None or margin.charges >= 0
    assert adapter.fetch_orders() == []


def test_margin_of_several_orders(bench, adapter):
    need_margins(adapter)
    one = limit(bench, "100")
    requests = [one, limit(bench, "100", "SECAND00000000000001", quantity=20)]
    alone = adapter.estimate_margin([one]).required
    together = adapter.estimate_margin(requests).required
    assert abs(together - 3 * alone) < 1  # charges that a broker counts in do not add up exactly


def test_margin_of_intraday_is_less(bench, adapter):
    need_margins(adapter)
    delivery = adapter.estimate_margin([limit(bench, "100")]).required
    intraday = adapter.estimate_margin([limit(bench, "100", product=Product.MIS)]).required
    assert 0 < intraday < delivery
