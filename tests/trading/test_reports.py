"""What a broker's report may do to an order, and what it has to wait for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from brokerages.adapters.paper.adapter import PaperAdapter
from brokerages.errors import OutcomeUnknown
from brokerages.services import adapter_for
from brokerages.types import ReportedStatus
from tests.trading.conftest import Trader, work
from trading.models import Order, OrderCommand
from trading.services import books, reconciliation

RESTING = {"order_type": "LIMIT", "price": "2450.00"}


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the broker's book of orders say something else of each order."""
    real = PaperAdapter.fetch_orders

    def say(**changes: Any) -> None:
        monkeypatch.setattr(
            PaperAdapter, "fetch_orders", lambda self: [replace(r, **changes) for r in real(self)]
        )

    return say


@pytest.mark.parametrize("status", ["CANCELLED", "REJECTED", "EXPIRED"])
def test_an_order_ends_when_all_its_fills_are_here(trader: Trader, book, monkeypatch, status):
    order = trader.placed(**RESTING)
    stored = Order.objects.get()
    fills: list[Any] = []
    monkeypatch.setattr(PaperAdapter, "fetch_order_fills", lambda self, report: fills)
    book(status=ReportedStatus(status), filled_quantity=4)

    books.connections_reconcile()
    assert trader.order(order["id"])["status"] == "OPEN"

    trader.placed()
    (fill,) = adapter_for(stored.connection_id).fetch_fills()
    fills.append(
        replace(
            fill,
            fill_id="P-late",
            quantity=4,
            broker_order_id=stored.broker_order_id,
            client_order_id=stored.tag,
        )
    )
    books.connections_reconcile()

    after = trader.order(order["id"])
    ended = "CANCELLED" if status == "REJECTED" else status  # what was left was refused
    assert (after["status"], after["filled_quantity"]) == (ended, 4)


def test_an_order_whose_last_fills_never_came_is_marked_not_ended(
    trader: Trader, book, monkeypatch
):
    monkeypatch.setattr(books, "is_venue", lambda name: False)
    order = trader.placed(**RESTING)
    book(status=ReportedStatus.CANCELLED, filled_quantity=4)
    Order.objects.update(created_at=timezone.now() - timedelta(days=2))
    books.connections_reconcile()
    monkeypatch.setattr(PaperAdapter, "fetch_orders", lambda self: [])

    books.connections_reconcile()

    after = trader.order(order["id"])
    assert (after["status"], after["status_code"]) == ("OPEN", "unverified")


def test_a_quantity_lowered_elsewhere_to_what_is_filled_fills_the_order(
    trader: Trader, book, market
):
    order = trader.placed(**RESTING)
    market.set("NSE:RELIANCE", "2440.00", asks=[("2440.00", 4)])
    work()
    assert trader.order(order["id"])["status"] == "PARTIALLY_FILLED"
    book(quantity=4, reported_at=timezone.now())

    books.connections_reconcile()

    after = trader.order(order["id"])
    assert (after["status"], after["quantity"], after["filled_quantity"]) == ("FILLED", 4, 4)
    assert trader.events(order["id"])[-2:] == ["MODIFIED", "FILLED_BY_MODIFY"]


def cancelling(trader: Trader, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> Any:
    """A resting order whose cancel was taken, or answered with ``error``, and is not carried
    out.
    """
    order = trader.placed(**RESTING)

    def cancel(self: PaperAdapter, broker_order_id: str, request: Any) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(PaperAdapter, "cancel_order", cancel)
    assert trader.call("DELETE", f"/orders/{order['id']}").status_code == 202
    work()
    return order


def test_a_cancel_that_the_exchange_refuses_afterwards_lets_the_order_rest(
    trader: Trader, monkeypatch
):
    order = cancelling(trader, monkeypatch, None)

    books.connections_reconcile()
    assert trader.order(order["id"])["status"] == "PENDING_CANCEL"  # the book may be older

    OrderCommand.objects.update(settled_at=timezone.now() - timedelta(seconds=6))
    books.connections_reconcile()

    assert trader.order(order["id"])["status"] == "OPEN"
    assert trader.events(order["id"])[-1] == "CANCEL_REFUSED"
    assert trader.call("DELETE", f"/orders/{order['id']}").status_code == 202
    assert trader.order(order["id"])["status"] == "PENDING_CANCEL"  # it can be asked for again


@pytest.mark.parametrize("word", ["PENDING_CANCEL", "RECEIVED", "UNKNOWN"])
def test_a_cancel_that_is_not_decided_yet_stays_unsettled(trader: Trader, monkeypatch, word):
    order = cancelling(trader, monkeypatch, OutcomeUnknown("timed out", broker="paper"))
    real = PaperAdapter.fetch_order
    with monkeypatch.context() as undecided:
        undecided.setattr(
            PaperAdapter,
            "fetch_order",
            lambda self, *args: replace(real(self, *args), status=ReportedStatus(word)),
        )
        look(5)
    command = OrderCommand.objects.get(kind="CANCEL")
    assert (command.state, trader.order(order["id"])["status"]) == ("UNKNOWN", "PENDING_CANCEL")

    look(10)

    assert trader.order(order["id"])["status"] == "OPEN"


def look(seconds: float) -> None:
    claimed_at = timezone.now() - timedelta(seconds=seconds)
    OrderCommand.objects.update(claimed_at=claimed_at, checked_at=None)
    reconciliation.commands_reconcile()


@pytest.mark.parametrize("acts", [True, False])
def test_a_modify_whose_answer_was_lost_is_read_from_the_book(trader: Trader, monkeypatch, acts):
    order = trader.placed(**RESTING)
    modify, fetch = PaperAdapter.modify_order, PaperAdapter.fetch_order

    def lost(self: PaperAdapter, *args: Any) -> None:
        if acts:
            modify(self, *args)
        raise OutcomeUnknown("timed out", broker="paper")

    def whole_seconds(self: PaperAdapter, *args: Any) -> Any:
        report = fetch(self, *args)
        return replace(report, reported_at=report.reported_at.replace(microsecond=0))

    monkeypatch.setattr(PaperAdapter, "modify_order", lost)
    monkeypatch.setattr(PaperAdapter, "fetch_order", whole_seconds)
    change = {"price": "2460.00", "quantity": 7}
    assert trader.call("PATCH", f"/orders/{order['id']}", change).status_code == 202
    work()
    assert trader.order(order["id"])["price"] == "2450.00"

    look(3)

    after = trader.order(order["id"])
    assert (after["price"], after["quantity"]) == (("2460.00", 7) if acts else ("2450.00", 10))
    command = OrderCommand.objects.get(kind="MODIFY")
    assert (command.state, command.error_code) == ("DONE", "reconciled")
    assert ("MODIFIED" in trader.events(order["id"])) == acts
    books.connections_reconcile()
    assert trader.order(order["id"])["price"] == after["price"]


def test_the_terms_of_the_second_of_a_modify_are_taken(trader: Trader, book):
    order = trader.placed(**RESTING)
    trader.call("PATCH", f"/orders/{order['id']}", {"price": "2460.00"})
    work()
    claimed_at = timezone.now().replace(microsecond=900_000) - timedelta(minutes=1)
    OrderCommand.objects.filter(kind="MODIFY").update(claimed_at=claimed_at)

    book(price=Decimal("2455.00"), reported_at=claimed_at.replace(microsecond=0))
    books.connections_reconcile()
    assert trader.order(order["id"])["price"] == "2455.00"

    second_before = claimed_at.replace(microsecond=0) - timedelta(seconds=1)
    book(price=Decimal("2450.00"), reported_at=second_before)
    books.connections_reconcile()
    assert trader.order(order["id"])["price"] == "2455.00"
