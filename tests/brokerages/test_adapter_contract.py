"""What every adapter must do, run for every broker.

A broker takes part with a `Bench` in `BENCHES`: it makes an adapter with an open session, sets the
market at the venue behind it, and says which orders it takes. Nothing here knows a broker's wire.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from brokerages.adapters.paper.engine import PaperEngine
from brokerages.base import AdapterContext, BrokerAdapter, SessionRenewal
from brokerages.errors import BrokerError, InsufficientFunds, InvalidOrder, OrderNotFound, Refused
from brokerages.registry import BROKER_NAMES, adapter_class
from brokerages.types import (
    Exchange,
    InstrumentRef,
    OrderChange,
    OrderRequest,
    OrderType,
    Product,
    ReportedStatus,
    Side,
    Validity,
)
from tests.brokerages.conftest import REQUEST, SHARE, Market, levels, tagged

pytestmark = pytest.mark.django_db

S = ReportedStatus


class Bench(ABC):
    """One broker on the test bench. ``share`` trades at 100 with ticks of 0.05."""

    share: InstrumentRef = SHARE

    @abstractmethod
    def adapter(self) -> BrokerAdapter:
        """Return an adapter of a new account with ₹100,000 and an open session."""

    @abstractmethod
    def show(self, last: str, quantity: int = 10_000) -> None:
        """Make ``quantity`` units trade at ``last`` on both sides."""

    @abstractmethod
    def settle(self) -> None:
        """Let the venue do what it has to do by now."""


class PaperBench(Bench):
    def __init__(self, market: Market, make_connection: Callable[..., Any]) -> None:
        self.market, self.make_connection = market, make_connection

    def adapter(self) -> BrokerAdapter:
        context = AdapterContext(
            str(self.make_connection().pk),
            self.market.read,
            self.market.clock,
            self.market.is_open,
            self.market.day_end,
        )
        adapter = adapter_class("paper")(context, {})
        adapter.token = adapter.open_session(None)
        return adapter

    def show(self, last: str, quantity: int = 10_000) -> None:
        book = levels((last, quantity))
        self.market.show(self.share, last=last, bids=book, asks=book)

    def settle(self) -> None:
        PaperEngine().advance(self.market.read, self.market.now)


BENCHES = {"paper": PaperBench}


@pytest.fixture(params=sorted(BENCHES))
def bench(request: pytest.FixtureRequest, market: Market, make_connection: Any) -> Bench:
    made = BENCHES[request.param](market, make_connection)
    made.show("100")
    return made


@pytest.fixture
def adapter(bench: Bench) -> BrokerAdapter:
    return bench.adapter()


def order(bench: Bench, tag: str = "ABCDEFGHJK0123456789", **terms: Any) -> OrderRequest:
    return OrderRequest(
        **{
            "client_order_id": tag,
            "instrument": bench.share,
            "side": Side.BUY,
            "quantity": 10,
            "order_type": OrderType.MARKET,
            "product": Product.CNC,
            **terms,
        }
    )


def limit(
    bench: Bench, price: str, tag: str = "LIMIT000000000000001", **terms: Any
) -> OrderRequest:
    return order(bench, tag, order_type=OrderType.LIMIT, price=Decimal(price), **terms)


def state(adapter: BrokerAdapter, tag: str) -> Any:
    """Return what the broker says of the order with our tag, by whichever road it has."""
    if adapter.capabilities.find_by_client_order_id:
        return adapter.find_order(tagged(tag))
    return next((r for r in adapter.fetch_orders() if r.client_order_id == tag), None)


def refusal_of(call: Callable[[], Any]) -> BrokerError | None:
    """Return the broker error that a call raises, if it raises one."""
    try:
        call()
    except BrokerError as e:
        return e
    return None


def test_every_broker_is_on_the_bench():
    assert set(BENCHES) == set(BROKER_NAMES)


# --- What it says of itself -----------------------------------------------------------------------


def test_names_and_capabilities(adapter):
    assert adapter.name in BROKER_NAMES
    assert adapter.label
    assert adapter.capabilities.client_order_id_max_length >= 20
    assert adapter.capabilities.order_types >= {OrderType.MARKET, OrderType.LIMIT}
    names = [field.name for field in adapter.credential_fields]
    assert len(names) == len(set(names))
    needs_login = adapter.capabilities.session_renewal is not SessionRenewal.NONE
    assert bool(adapter.api_hosts) == needs_login


def test_session(adapter):
    adapter.check_session()
    assert adapter.token is not None
    adapter.close_session()


def test_what_is_not_offered_says_so(adapter):
    """A method either works or raises `NotSupported`: never something else."""
    day = datetime(2026, 11, 23, tzinfo=UTC)
    for call in (
        lambda: adapter.login_url("state"),
        lambda: list(adapter.fetch_instruments()),
        lambda: adapter.fetch_candles(SHARE, "1d", day - timedelta(days=2), day),
    ):
        refusal = refusal_of(call)
        assert refusal is None or (refusal.broker == adapter.name and refusal.message)


# --- Orders ---------------------------------------------------------------------------------------


def test_market_order_fills(bench, adapter):
    request = order(bench)

    ack = adapter.place_order(request)
    bench.settle()

    report = state(adapter, request.client_order_id)
    assert report.broker_order_id == ack.broker_order_id
    assert (report.status, report.filled_quantity) == (S.FILLED, 10)
    assert report.average_price == 100
    (fill,) = adapter.fetch_fills()
    assert (fill.quantity, fill.price, fill.side) == (10, Decimal(100), Side.BUY)
    assert (fill.broker_order_id, fill.exchange) == (ack.broker_order_id, bench.share.exchange)
    assert fill.filled_at.tzinfo is not None


def test_what_the_ack_says_is_what_the_book_says(bench, adapter):
    ack = adapter.place_order(order(bench))
    if ack.report is not None:
        assert ack.report == state(adapter, ack.report.client_order_id)
        assert sum(fill.quantity for fill in ack.fills) == ack.report.filled_quantity


def test_limit_order_rests_and_fills_later(bench, adapter):
    adapter.place_order(limit(bench, "95"))
    assert state(adapter, "LIMIT000000000000001").status is S.OPEN

    bench.show("94")
    bench.settle()

    report = state(adapter, "LIMIT000000000000001")
    assert (report.status, report.filled_quantity) == (S.FILLED, 10)
    assert report.average_price <= 95


def test_partial_fill(bench, adapter):
    bench.show("100", quantity=4)
    adapter.place_order(limit(bench, "100"))
    bench.settle()
    report = state(adapter, "LIMIT000000000000001")
    assert (report.status, report.filled_quantity) == (S.PARTIALLY_FILLED, 4)
    assert report.quantity == 10


def test_ioc_does_not_rest(bench, adapter):
    if Validity.IOC not in adapter.capabilities.validities:
        pytest.skip("no IOC here")
    adapter.place_order(limit(bench, "95", validity=Validity.IOC))
    bench.settle()
    assert state(adapter, "LIMIT000000000000001").status is S.CANCELLED


def test_stop_waits_for_its_trigger(bench, adapter):
    if OrderType.SL not in adapter.capabilities.order_types:
        pytest.skip("no stop orders here")
    terms = {"price": Decimal(106), "trigger_price": Decimal(105)}
    adapter.place_order(order(bench, order_type=OrderType.SL, **terms))
    bench.settle()
    assert state(adapter, "ABCDEFGHJK0123456789").status is S.TRIGGER_PENDING

    bench.show("105")
    bench.settle()
    assert state(adapter, "ABCDEFGHJK0123456789").status is S.FILLED


def test_modify(bench, adapter):
    number = adapter.place_order(limit(bench, "95")).broker_order_id
    change = OrderChange(20, OrderType.LIMIT, Validity.DAY, Decimal(96))
    if not adapter.capabilities.can_modify:
        with pytest.raises(Refused):
            adapter.modify_order(number, change, REQUEST)
        return

    adapter.modify_order(number, change, REQUEST)

    report = state(adapter, "LIMIT000000000000001")
    assert (report.quantity, report.price, report.status) == (20, Decimal(96), S.OPEN)


def test_cancel(bench, adapter):
    number = adapter.place_order(limit(bench, "95")).broker_order_id

    adapter.cancel_order(number, REQUEST)
    bench.settle()

    assert state(adapter, "LIMIT000000000000001").status is S.CANCELLED
    with pytest.raises(Refused):
        adapter.cancel_order(number, REQUEST)


def test_filled_order_can_be_neither_cancelled_nor_modified(bench, adapter):
    number = adapter.place_order(order(bench)).broker_order_id
    bench.settle()
    with pytest.raises(Refused):
        adapter.cancel_order(number, REQUEST)
    with pytest.raises(Refused):
        adapter.modify_order(number, OrderChange(20, OrderType.MARKET, Validity.DAY), REQUEST)


@pytest.mark.parametrize("number", ["", "0", "nothing", "P0", "' OR 1=1 --", "9" * 60])
def test_unknown_orders(adapter, number):
    with pytest.raises(OrderNotFound):
        adapter.cancel_order(number, REQUEST)


# --- Refusals -------------------------------------------------------------------------------------


def test_not_enough_money(bench, adapter):
    with pytest.raises(InsufficientFunds) as raised:
        adapter.place_order(order(bench, quantity=5000))
    assert raised.value.message
    assert raised.value.broker == adapter.name
    assert adapter.fetch_fills() == []


def test_sale_of_what_is_not_held(bench, adapter):
    with pytest.raises(Refused):
        adapter.place_order(order(bench, side=Side.SELL))


def test_terms_off_the_grid(bench, adapter):
    with pytest.raises(InvalidOrder):
        adapter.place_order(limit(bench, "95.03"))
    assert state(adapter, "LIMIT000000000000001") is None


# --- Reports --------------------------------------------------------------------------------------


def test_holdings_positions_and_money_follow_the_fills(bench, adapter):
    before = adapter.fetch_funds()
    adapter.place_order(order(bench))
    adapter.place_order(order(bench, "MIS00000000000000001", product=Product.MIS, quantity=5))
    bench.settle()

    after = adapter.fetch_funds()
    assert before.available - after.available > 10 * 100
    assert after.available + after.used == after.total
    (holding,) = adapter.fetch_holdings()
    assert (holding.symbol, holding.quantity) == (bench.share.symbol, 10)
    positions = [p for p in adapter.fetch_positions() if p.product is Product.MIS]
    assert [(p.symbol, p.quantity, p.average_price) for p in positions] == [
        (bench.share.symbol, 5, Decimal(100))
    ]


def test_nothing_is_nothing(adapter):
    assert adapter.fetch_orders() == []
    assert adapter.fetch_fills() == []
    assert adapter.fetch_positions() == []
    assert adapter.fetch_holdings() == []
    assert state(adapter, "NEVERSENT00000000001") is None


def test_profile(adapter):
    profile = adapter.fetch_profile()
    assert profile.broker_user_id
    assert Exchange.NSE in profile.exchanges


def test_accounts_do_not_see_each_other(bench, adapter):
    other = bench.adapter()
    number = adapter.place_order(limit(bench, "95")).broker_order_id

    assert other.fetch_orders() == []
    with pytest.raises(Refused):
        other.cancel_order(number, REQUEST)
    same_tag = other.place_order(limit(bench, "95"))
    assert same_tag.broker_order_id != number


def test_values_are_exact(bench, adapter):
    """Money and prices are decimals, times are aware: a float would be a broken mapping."""
    adapter.place_order(order(bench))
    bench.settle()
    funds = adapter.fetch_funds()
    values = [funds.available, funds.used, funds.total]
    values += [v for r in adapter.fetch_orders() for v in (r.average_price, r.price) if v]
    values += [h.average_price for h in adapter.fetch_holdings()]
    assert all(isinstance(value, Decimal) for value in values)
    assert all(r.reported_at.tzinfo for r in adapter.fetch_orders())


def test_after_market_flag_is_taken_or_refused(bench, adapter):
    request = replace(limit(bench, "95"), after_market=True)
    refusal = refusal_of(lambda: adapter.place_order(request))
    assert refusal is None or isinstance(refusal, Refused)
