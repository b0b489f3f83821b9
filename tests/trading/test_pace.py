"""Orders wait for their turn at the broker: never sent above its cap, never counted as sent."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection

from brokerages.adapters.paper.adapter import PaperAdapter
from brokerages.base import Pace, PaceRule
from brokerages.errors import RateLimited
from tests.trading.conftest import Trader
from trading.models import Order, OrderCommand
from trading.services import execution, outbox
from trading.services.execution import lane_drain

RESTING = {"order_type": "LIMIT", "price": "2450.00"}
RULE = PaceRule(frozenset({Pace.ORDER, Pace.CANCEL}), limit=5, seconds=1, reserve=2)


class Wire:
    """The paper broker made a real one: a lane of its own, and a cap on its requests."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, str]] = []
        self.fault: Exception | None = None


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Wire:
    settings.BROKER_PACE_SLACK_MS = 0
    wire = Wire()
    real_place, real_cancel = PaperAdapter.place_order, PaperAdapter.cancel_order

    def place(self: PaperAdapter, request: Any) -> Any:
        self.context.pace(Pace.ORDER)
        wire.sent.append((time.monotonic(), "place"))
        if wire.fault is not None:
            fault, wire.fault = wire.fault, None
            raise fault
        return real_place(self, request)

    def cancel(self: PaperAdapter, broker_order_id: str, request: Any) -> Any:
        self.context.pace(Pace.CANCEL)
        wire.sent.append((time.monotonic(), "cancel"))
        return real_cancel(self, broker_order_id, request)

    capabilities = replace(PaperAdapter.capabilities, dispatch_lane="", pace=(RULE,))
    monkeypatch.setattr(PaperAdapter, "capabilities", capabilities)
    monkeypatch.setattr(PaperAdapter, "place_order", place)
    monkeypatch.setattr(PaperAdapter, "cancel_order", cancel)
    return wire


def lane_of(trader: Trader) -> str:
    return trader.connection_id.replace("-", "")


def drain_until_empty(trader: Trader, seconds: float = 10.0) -> int:
    """Do what workers do; return how many drains it took."""
    drains, end = 0, time.monotonic() + seconds
    while OrderCommand.objects.filter(state="WAITING").exists():
        assert time.monotonic() < end
        lane_drain(lane_of(trader))
        drains += 1
        time.sleep(0.1)
    return drains


def test_a_burst_goes_out_at_the_brokers_pace(trader: Trader, wire: Wire):
    for _ in range(8):
        assert trader.place(**RESTING).status_code == 201

    drain_until_empty(trader)

    at = [t for t, _ in wire.sent]
    assert len(at) == 8
    assert max(sum(t <= x < t + 0.99 for x in at) for t in at) <= 3
    assert set(Order.objects.values_list("status", flat=True)) == {"OPEN"}
    assert set(OrderCommand.objects.values_list("sends", flat=True)) == {1}


def test_a_denied_lane_is_left_alone_until_its_turn(trader: Trader, wire: Wire, monkeypatch):
    later: list[tuple[str, float]] = []
    monkeypatch.setattr(
        execution, "wake_later", lambda lane, seconds: later.append((lane, seconds))
    )
    for _ in range(8):
        trader.place(**RESTING)

    lane_drain(lane_of(trader))
    lane_drain(lane_of(trader))  # whoever else was woken

    assert len(wire.sent) == 3
    ((lane, seconds),) = later  # one was denied; the rest were not even claimed
    assert lane == lane_of(trader)
    assert 0.5 < seconds <= 1.0
    waiting = OrderCommand.objects.filter(state="WAITING")
    assert [c.attempts for c in waiting.order_by("id")] == [1, 0, 0, 0, 0]
    assert set(waiting.values_list("sends", flat=True)) == {0}
    assert Order.objects.filter(status="PENDING").count() == 5
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM trading_ordercommand"
            " WHERE state = 'WAITING' AND not_before > clock_timestamp()"
        )
        assert cursor.fetchone() == (5,)


def test_one_message_wakes_a_lane_when_its_turn_has_come(settings: Any, monkeypatch):
    settings.WAKE_WORKERS = True
    sent: list[tuple[str, float | None]] = []
    monkeypatch.setattr(outbox, "_send", lambda lane, seconds=None: sent.append((lane, seconds)))
    lane = uuid4().hex

    for seconds in (0.4, 0.3, 0.2):
        outbox.wake_later(lane, seconds)
    outbox.wake_later(uuid4().hex, 3600)  # the sweeper's

    assert sent == [(lane, 0.4)]
    time.sleep(0.45)
    outbox.wake_later(lane, 0.1)
    assert len(sent) == 2


def test_a_cancel_passes_orders_that_wait(trader: Trader, wire: Wire):
    first = trader.placed(**RESTING)
    for _ in range(5):
        trader.place(**RESTING)
    lane_drain(lane_of(trader))
    assert [what for _, what in wire.sent] == ["place"] * 3

    trader.call("DELETE", f"/orders/{first['id']}")
    lane_drain(lane_of(trader))

    assert [what for _, what in wire.sent] == ["place"] * 3 + ["cancel"]
    assert trader.order(first["id"])["status"] == "CANCELLED"


def test_a_cancel_waits_as_often_as_it_has_to(trader: Trader, wire: Wire):
    order = trader.placed(**RESTING)
    trader.call("DELETE", f"/orders/{order['id']}")
    OrderCommand.objects.filter(kind="CANCEL").update(attempts=execution.MAX_ATTEMPTS + 5)
    for _ in range(4):
        trader.place(**RESTING)
    wire.fault = RateLimited("too many", broker="paper", retry_after=0.3)

    lane_drain(lane_of(trader))
    drain_until_empty(trader)

    assert trader.order(order["id"])["status"] == "CANCELLED"


def test_the_brokers_own_refusal_holds_everybody(trader: Trader, wire: Wire):
    """A 429 freezes the account for as long as the broker asks, and the order is sent after it."""
    wire.fault = RateLimited("Too many requests", broker="paper", code="429", retry_after=1.2)
    order = trader.placed(**RESTING)
    assert (order["status"], order["status_code"]) == ("PENDING", "429")
    trader.place(**RESTING)

    drain_until_empty(trader)

    at = [t for t, _ in wire.sent]
    assert len(at) == 3
    assert at[1] - at[0] >= 1.15
    assert trader.order(order["id"])["status"] == "OPEN"
