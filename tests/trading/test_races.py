"""Many at once, on real PostgreSQL: nothing twice, nothing lost, every rupee in its place."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier, Event
from typing import Any

import pytest
from django.db import connection
from django.db.models import F, Sum

from audit.models import AuditEntry
from brokerages.adapters.paper.adapter import PaperAdapter
from brokerages.errors import NotSent
from brokerages.services import adapter_for
from tests.trading.conftest import work
from trading.models import Fill, Order, OrderCommand, OrderEvent, Position
from trading.services import orders
from trading.services.execution import command_dispatch, lane_drain

pytestmark = pytest.mark.django_db(transaction=True)

THREADS = 16


def at_once(jobs: list[Callable[[], Any]]) -> list[Any]:
    """Run all jobs at the same moment, each in a thread with a database connection of its own."""
    barrier = Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return job()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def test_one_key_at_once_is_one_order(trader):
    answers = at_once([lambda: trader.place("one")] * 50)

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer for answer in answers) == 1
    assert Order.objects.count() == OrderCommand.objects.count() == OrderEvent.objects.count() == 1
    assert AuditEntry.objects.filter(action="order.placed").count() == 1


def test_one_command_for_many_workers_is_one_send(trader):
    trader.place()
    command = OrderCommand.objects.get()

    sent = at_once([lambda: command_dispatch(command.pk)] * THREADS)

    assert sum(sent) == 1
    command.refresh_from_db()
    assert (command.sends, command.state) == (1, "DONE")
    assert Fill.objects.count() == 1


def test_sixteen_clients_buy_one_share_four_hundred_times(trader):
    resting = trader.placed(order_type="LIMIT", price="2400.00", quantity=3)
    blocked = adapter_for(Order.objects.get().connection).fetch_funds().used
    assert blocked == Decimal(7200)

    def buy_25() -> None:
        for _ in range(25):
            assert trader.place(symbol="NSE:INFY", quantity=1).status_code == 201

    lane = OrderCommand.objects.get().lane
    at_once([buy_25] * THREADS)
    at_once([lambda: lane_drain(lane)] * 4)
    work()

    orders = Order.objects.exclude(pk=resting["id"])
    assert set(orders.values_list("status", flat=True)) == {"FILLED"}
    assert orders.count() == Fill.objects.count() == 400
    position = Position.objects.get()
    paid = Fill.objects.aggregate(paid=Sum(F("quantity") * F("price")))["paid"]
    assert (position.quantity, position.open_cost) == (400, paid)
    funds = adapter_for(Order.objects.first().connection).fetch_funds()
    assert funds.used == blocked
    assert funds.available == Decimal(1_000_000) - paid - blocked
    for action in ("order.placed", "order.filled"):
        entries = AuditEntry.objects.filter(action=action).exclude(object_id=resting["id"])
        assert entries.count() == 400
    assert trader.order(resting["id"])["status"] == "OPEN"
    assert OrderCommand.objects.filter(sends__gt=1).count() == 0


def test_cancel_and_fill_race_ends_in_one_truth(trader, market):
    for _ in range(10):
        order = trader.placed(order_type="LIMIT", price="2490.00", quantity=5, product="MIS")
        lane = OrderCommand.objects.filter(order_id=order["id"]).get().lane
        trader.call("DELETE", f"/orders/{order['id']}")
        market.set("NSE:RELIANCE", "2480.00")

        at_once([lambda lane=lane: lane_drain(lane), work, work])

        work()
        after = trader.order(order["id"])
        filled = sum(Fill.objects.filter(order_id=order["id"]).values_list("quantity", flat=True))
        assert after["status"] in ("FILLED", "CANCELLED")
        assert after["filled_quantity"] == filled == (5 if after["status"] == "FILLED" else 0)
        market.set("NSE:RELIANCE", "2500.00")
    position = Position.objects.first()
    total = sum(Fill.objects.values_list("quantity", flat=True))
    assert (position.quantity if position else 0) == total


def test_cancel_and_claim_race_never_loses_the_order(trader):
    for _ in range(20):
        order = trader.place(order_type="LIMIT", price="2400.00").json()
        command = OrderCommand.objects.get(order_id=order["id"])

        at_once(
            [
                lambda pk=command.pk: command_dispatch(pk),
                lambda o=order: trader.call("DELETE", f"/orders/{o['id']}"),
            ]
        )

        work()
        assert trader.order(order["id"])["status"] == "CANCELLED"
    assert adapter_for(Order.objects.first().connection).fetch_funds().used == 0


def test_cancel_and_failed_send_race_sends_nothing_more(trader, monkeypatch):
    sending, may_fail, settled = Event(), Event(), Event()
    sends: list[str] = []
    real_lock = orders.order_lock

    def place(self: PaperAdapter, request: Any) -> Any:
        sends.append(request.client_order_id)
        sending.set()
        assert may_fail.wait(10)
        raise NotSent("no route", broker="paper")

    def lock(*args: Any, **names: Any) -> Order:
        # the cancel has seen the command and not yet the order: the send fails right now
        may_fail.set()
        settled.wait(0.5)
        return real_lock(*args, **names)

    def dispatch() -> None:
        command_dispatch(command.pk)
        settled.set()

    def cancel() -> Any:
        assert sending.wait(10)
        return trader.call("DELETE", f"/orders/{order['id']}")

    order = trader.place(order_type="LIMIT", price="2400.00").json()
    command = OrderCommand.objects.get()
    monkeypatch.setattr(PaperAdapter, "place_order", place)
    monkeypatch.setattr(orders, "order_lock", lock)

    _, answer = at_once([dispatch, cancel])

    assert answer.status_code == 202
    assert settled.is_set()
    OrderCommand.objects.update(not_before=F("created_at"))
    work()
    assert trader.order(order["id"])["status"] == "CANCELLED"
    assert len(sends) == 1
    command.refresh_from_db()
    assert command.state == "DROPPED"
