"""What a broker refuses: each its own error, with the broker's words, and nothing in the book."""

from __future__ import annotations

import pytest

from brokerages.errors import (
    InsufficientFunds,
    InsufficientHoldings,
    InvalidOrder,
    MarketClosed,
    OffTick,
    OrderNotFound,
    OutcomeUnknown,
    OverFreeze,
    PermissionDenied,
    RateLimited,
    Refused,
    SessionExpired,
    StaticIpRefused,
)
from brokerages.types import OrderType, Product, ReportedStatus, Side
from tests.brokerages.contract.conftest import limit, order, refusal_of
from tests.emulators.core.orders import Reason

S = ReportedStatus


def refused(bench, adapter, request, kind):
    """Check what every refusal owes the user: its own error, or, where the broker takes orders
    before it checks them, a report with the reason. Return the error, if there is one.
    """
    error = refusal_of(lambda: adapter.place_order(request))
    if error is None and bench.has_wire and bench.checks_later:
        report = adapter.find_order(request)
        assert (report.status, report.filled_quantity) == (S.REJECTED, 0)
        assert report.message
        return None
    assert isinstance(error, kind)
    assert not isinstance(error, OutcomeUnknown)
    assert error.message
    assert error.broker == adapter.name
    assert error.code
    report = adapter.find_order(request)
    assert report is None or report.status is S.REJECTED
    assert adapter.fetch_fills() == []
    return error


def test_not_enough_money(bench, adapter):
    error = refused(bench, adapter, order(bench, quantity=5000), InsufficientFunds)
    assert error is None or error.advice
    assert adapter.fetch_funds().available == 100_000


def test_words_of_the_broker_are_kept(bench, adapter):
    bench.need_wire()
    said = "Insufficient funds. The words of today are 1234.56."
    bench.fault("refuse", reason=Reason.FUNDS, message=said)
    with pytest.raises(Refused if bench.checks_later else InsufficientFunds) as raised:
        adapter.place_order(order(bench))
    assert said in raised.value.message


def test_sale_of_what_is_not_held(bench, adapter):
    error = refused(bench, adapter, order(bench, side=Side.SELL), InsufficientHoldings)
    assert error is None or error.advice


def test_sale_that_the_depository_does_not_authorise(bench, adapter):
    bench.need_wire()
    bench.give(adapter, 20, "90")
    bench.account(adapter).holdings[bench.share.key].authorised = False
    refused(bench, adapter, order(bench, side=Side.SELL), InsufficientHoldings)


def test_price_off_the_tick(bench, adapter):
    error = refused(
        bench, adapter, limit(bench, "95.03"), OffTick if bench.has_wire else InvalidOrder
    )
    assert error is None or error.advice
    if error is not None:
        assert adapter.find_order(limit(bench, "95.03")) is None


def test_trigger_off_the_tick(bench, adapter):
    request = order(bench, order_type=OrderType.SL, price="106", trigger_price="105.03")
    refused(bench, adapter, request, InvalidOrder)


def test_quantity_above_the_freeze(bench, adapter):
    bench.need_wire()
    bench.account(adapter).cash *= 1000
    bench.show(100, instrument=bench.call)
    request = limit(bench, 100, instrument=bench.call, quantity=65 * 28, product=Product.NRML)
    error = refused(bench, adapter, request, OverFreeze)
    assert error is None or "parts" in error.advice


def test_quantity_off_the_lot(bench, adapter):
    bench.need_wire()
    bench.show(100, instrument=bench.call)
    request = limit(bench, 100, instrument=bench.call, quantity=70, product=Product.NRML)
    refused(bench, adapter, request, InvalidOrder)


def test_price_outside_the_band(bench, adapter):
    bench.need_wire()
    refused(bench, adapter, limit(bench, "130"), InvalidOrder)


def test_product_that_the_segment_does_not_have(bench, adapter):
    bench.show(100, instrument=bench.call)
    request = limit(bench, 100, instrument=bench.call, quantity=65, product=Product.CNC)
    refused(bench, adapter, request, Refused)


def test_index_cannot_be_traded(bench, adapter):
    bench.show(24_800, instrument=bench.index)
    refused(bench, adapter, order(bench, instrument=bench.index, quantity=1), Refused)


def test_closed_market(bench, adapter):
    bench.close_market()
    if bench.has_wire and bench.parks_when_closed:
        adapter.place_order(limit(bench, "95"))
        report = adapter.find_order(limit(bench, "95"))
        assert report.status in (S.OPEN, S.RECEIVED)
        return
    error = refused(bench, adapter, limit(bench, "95"), MarketClosed)
    assert "session" in error.advice


def test_address_that_is_not_registered(bench, adapter):
    bench.need_wire()
    bench.dialect.allowed_ips = {"127.0.0.9"}
    error = refused(bench, adapter, order(bench), StaticIpRefused)
    assert "IP" in error.advice
    assert adapter.fetch_funds().available == 100_000  # reads go on


def test_address_is_checked_for_changes_too(bench, adapter):
    bench.need_wire()
    request = limit(bench, "95")
    number = adapter.place_order(request).broker_order_id
    bench.dialect.allowed_ips = {"127.0.0.9"}
    with pytest.raises(StaticIpRefused):
        adapter.cancel_order(number, request)
    assert adapter.find_order(request).status is S.OPEN


def test_too_many_requests(bench, adapter):
    """Said before the broker acted: it may be sent again, later."""
    bench.need_wire()
    bench.fault("rate_limit")
    with pytest.raises(RateLimited) as raised:
        adapter.place_order(order(bench))
    assert raised.value.retry_after > 0
    assert bench.sent("place") == 1
    assert adapter.find_order(order(bench)) is None


def test_broker_counts_its_own_limits(bench, adapter):
    """The real limiter of the emulator, not a fault: some of a burst is refused, none is lost."""
    bench.need_wire()
    bench.dialect.limiter.on = True
    tags = [f"BVRST{n:015d}" for n in range(25)]
    refusals = [
        refusal_of(lambda tag=tag: adapter.place_order(limit(bench, 95, tag, quantity=1)))
        for tag in tags
    ]
    bench.dialect.limiter.on = False
    assert {type(error) for error in refusals} == {type(None), RateLimited}
    placed = {order.ticket.tag for order in bench.account(adapter).orders.values()}
    assert len(placed) == refusals.count(None) >= 10
    assert bench.sent("place") == 25


def test_dead_session_is_no_other_refusal(bench, adapter):
    bench.need_wire()
    bench.fault("expired", "*", times=None)
    with pytest.raises(SessionExpired):
        adapter.place_order(order(bench))
    assert bench.sent("place") == 1


def test_key_without_permission(bench, adapter):
    bench.need_wire()
    if bench.name != "zerodha":
        pytest.skip(f"no plan of {bench.name} lacks a part of the API")
    for app in bench.dialect.apps.values():
        app.plan = "personal"
    from brokerages.types import QuoteDepth

    with pytest.raises(PermissionDenied):
        adapter.fetch_quotes([bench.share], QuoteDepth.LTP)


def test_rejection_after_the_ack(bench, adapter):
    """Taken first, rejected by the risk system later: told by the report, in its words."""
    bench.need_wire()
    bench.venue.reject_late = {Reason.FUNDS}
    request = order(bench, quantity=5000)
    adapter.place_order(request)
    report = adapter.find_order(request)
    assert (report.status, report.filled_quantity) == (S.REJECTED, 0)
    assert " " in report.message  # a sentence, in the broker's words
    assert adapter.fetch_funds().available == 100_000


def test_rejection_by_the_exchange(bench, adapter):
    bench.need_wire()
    request = limit(bench, "95")
    number = adapter.place_order(request).broker_order_id
    bench.venue.reject(bench.account(adapter), number, "17070 : The price is out of the range")
    report = adapter.find_order(request)
    assert report.status is S.REJECTED
    assert "out of the range" in report.message


def test_refusals_of_a_cancel(bench, adapter):
    request = limit(bench, "95")
    number = adapter.place_order(request).broker_order_id
    adapter.cancel_order(number, request)
    bench.settle()
    with pytest.raises(OrderNotFound) as raised:
        adapter.cancel_order(number, request)
    assert raised.value.message
