# ruff: noqa: F811 - fixtures are imported by their names
"""Webhooks at the same time: one effect each, and one order never waits for another."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import Client
from django.utils import timezone

from brokerages.models import InboundEvent
from tests.brokerages.test_webhooks import fill_of, send
from tests.trading.conftest import (  # noqa: F401 - fixtures
    Trader,
    _fresh_tables,
    market,
    new_trader,
    trader,
)
from trading.models import Fill, Order, Position
from trading.services import inbound

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Make all calls at the same moment, each in a thread with a connection of its own."""
    gate = threading.Barrier(len(calls))

    def one(call: Callable[[], Any]) -> Any:
        try:
            gate.wait(20)
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


@pytest.fixture
def resting(trader: Trader) -> Callable[[], Order]:
    def place() -> Order:
        placed = trader.placed(order_type="LIMIT", price="2450.00", quantity=100)
        return Order.objects.get(pk=placed["id"])

    return place


def test_one_delivery_twenty_times_at_once(resting):
    event = fill_of(resting())

    answers = at_once([lambda: send(event, http=Client()) for _ in range(20)])

    assert {answer.status_code for answer in answers} == {200}
    words = Counter(answer.json()["status"] for answer in answers)
    assert words == {"APPLIED": 1, "IGNORED": 19}
    assert Fill.objects.count() == InboundEvent.objects.count() == 1
    assert Position.objects.get().quantity == 4


def test_twenty_fills_of_one_order_at_once(resting):
    order = resting()
    events = [fill_of(order, n, 5) for n in range(20)]

    answers = at_once([lambda e=e: send(e, http=Client()) for e in events])

    assert Counter(a.json()["status"] for a in answers) == {"APPLIED": 20}
    order.refresh_from_db()
    assert (order.filled_quantity, order.status) == (100, "FILLED")
    assert Position.objects.get().quantity == 100


def test_an_order_that_is_busy_holds_up_no_other(resting):
    busy, free = resting(), resting()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                inbound.order_serialise(busy.pk)
                held.set()
                done.wait(20)
        finally:
            connections.close_all()

    late: list[Any] = []

    def wait() -> None:
        try:
            late.append(send(fill_of(busy, 1), http=Client()))
        finally:
            connections.close_all()

    holder, waiter = threading.Thread(target=hold), threading.Thread(target=wait)
    holder.start()
    assert held.wait(10)
    waiter.start()
    started = time.monotonic()

    answer = send(fill_of(free, 2))

    assert answer.json()["status"] == "APPLIED"
    assert time.monotonic() - started < 5
    time.sleep(0.2)
    assert late == []  # its order is busy
    done.set()
    holder.join(10)
    waiter.join(10)
    assert late[0].json()["status"] == "APPLIED"


def test_two_workers_and_a_sender_meet_at_one_order(resting):
    """A parked event is tried by two workers while a duplicate of it comes in."""
    order = resting()
    event = fill_of(order) | {"broker_order_id": "SOON"}
    send(event)
    Order.objects.filter(pk=order.pk).update(broker_order_id="SOON")
    InboundEvent.objects.update(next_at=timezone.now())
    row = InboundEvent.objects.get()

    made = at_once(
        [
            lambda: inbound.event_process(row.pk),
            lambda: inbound.event_process(row.pk),
            lambda: send(event, http=Client()).json()["status"],
        ]
    )

    assert sorted(map(str, made)) == ["False", "IGNORED", "True"]
    row.refresh_from_db()
    assert (row.state, Fill.objects.count()) == ("APPLIED", 1)
