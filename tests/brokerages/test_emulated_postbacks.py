# ruff: noqa: F811 - fixtures are imported by their names
"""Postbacks over a socket: an emulated broker posts to a running server, and the order follows."""

from __future__ import annotations

import functools
import time
from typing import Any

import pytest

from accounts.models import User
from brokerages.models import BrokerConnection, InboundEvent
from brokerages.services import adapters, connection_create, session_open
from brokerages.services.postbacks import postback_url
from marketdata.instrument_sync import records_load
from tests.brokerages.contract.benches import BENCHES, REDIRECT, UpstoxBench, ZerodhaBench
from tests.brokerages.test_webhooks import run_due
from tests.trading.conftest import (  # noqa: F401 - fixtures
    Trader,
    _fresh_tables,
    market,
    new_trader,
    trader,
)
from trading.models import Fill, Order, Position

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

USER = "AB4711"


@pytest.fixture(params=["zerodha", "upstox"])
def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = BENCHES[request.param](request)
    assert isinstance(made, ZerodhaBench | UpstoxBench)
    given, real = made.context(), adapters.AdapterContext

    @functools.wraps(real)
    def context(*args: Any, **named: Any) -> Any:
        ours = {"endpoints": given.endpoints, "redirect_url": REDIRECT, "now": given.now}
        return real(*args, **(named | ours))

    monkeypatch.setattr(adapters, "AdapterContext", context)
    monkeypatch.setattr(adapters.timezone, "now", given.now)  # sessions end by its clock
    return made


@pytest.fixture
def connection(trader: Trader, bench: Any, settings: Any, live_server: Any) -> BrokerConnection:
    """A connection with a session, whose broker posts to the live server."""
    settings.PUBLIC_URL = live_server.url
    user = User.objects.get(email=trader.email)
    credentials = bench.enroll(USER)
    made = connection_create(user_id=user.pk, broker=bench.name, credentials=credentials)
    adapter = adapters.adapter_without_session(made)
    session_open(user_id=user.pk, connection_id=made.pk, grant=bench.grant(adapter, USER))
    records_load(bench.name, list(adapters.adapter_for(made).fetch_instruments()))
    url = postback_url(user_id=user.pk, connection_id=made.pk)
    assert url is not None
    bench.postbacks_to(url)
    return made


def place(trader: Trader, connection: BrokerConnection) -> Order:
    placed = trader.placed(
        connection_id=str(connection.pk), order_type="LIMIT", price="100.00", quantity=10
    )
    assert placed["status"] in ("OPEN", "SUBMITTED"), placed
    return Order.objects.get(pk=placed["id"])


def arrived(count: int) -> list[InboundEvent]:
    """Wait until ``count`` postbacks are in the inbox."""
    until = time.monotonic() + 20
    while InboundEvent.objects.count() < count and time.monotonic() < until:
        time.sleep(0.05)
    found = list(InboundEvent.objects.order_by("id"))
    assert len(found) >= count
    return found


def test_an_order_follows_its_broker_by_postbacks_alone(trader, bench, connection):
    bench.show(101, bids=[(100, 1000)], asks=[(101, 1000)])
    order = place(trader, connection)
    before = InboundEvent.objects.count()

    bench.show(100, bids=[(99, 1000)], asks=[(100, 4)])  # 4 of 10
    arrived(before + 1)
    assert Fill.objects.count() == 0
    run_due()
    after_part = trader.order(str(order.pk))
    seen = InboundEvent.objects.count()
    bench.show(100, bids=[(99, 1000)], asks=[(100, 1000)])
    arrived(seen + 1)
    run_due()

    assert (after_part["status"], after_part["filled_quantity"]) == ("PARTIALLY_FILLED", 4)
    done = trader.order(str(order.pk))
    assert (done["status"], done["filled_quantity"]) == ("FILLED", 10)
    assert done["average_price"] == "100.00"
    assert Position.objects.get().quantity == 10
    events = InboundEvent.objects.all()
    assert {event.state for event in events} == {"APPLIED"}
    assert {event.signed for event in events} == {bench.name == "zerodha"}
    assert {status for *_, status in bench.dialect.postbacks} == {200}


def test_repeated_reordered_and_lost_they_lead_to_the_same(trader, bench, connection):
    bench.show(101, bids=[(100, 1000)], asks=[(101, 1000)])
    order = place(trader, connection)
    bench.server.faults.add("duplicate", "EVENT postback", times=3)
    bench.server.faults.add("reorder", "EVENT postback", times=1)
    start = InboundEvent.objects.count()

    for quantity in (2, 3, 1):
        bench.show(100, bids=[(99, 1000)], asks=[(100, quantity)])
    bench.show(100, bids=[(99, 1000)], asks=[(100, 1000)])
    arrived(start + 2)
    time.sleep(0.5)
    run_due()
    run_due(later=200)

    done = trader.order(str(order.pk))
    assert (done["status"], done["filled_quantity"]) == ("FILLED", 10)
    assert sum(Fill.objects.values_list("quantity", flat=True)) == 10


@pytest.mark.parametrize("bench", ["zerodha"], indirect=True)  # Upstox signs nothing
def test_a_secret_that_changed_at_the_broker_is_refused(trader, bench, connection):
    bench.show(101, bids=[(100, 1000)], asks=[(101, 1000)])
    place(trader, connection)
    count = InboundEvent.objects.count()
    next(iter(bench.dialect.apps.values())).api_secret = "another-secret"

    bench.show(100, bids=[(99, 1000)], asks=[(100, 1000)])
    until = time.monotonic() + 10
    while not any(status == 401 for *_, status in bench.dialect.postbacks):
        assert time.monotonic() < until
        time.sleep(0.05)

    assert InboundEvent.objects.count() == count
