"""What an answer proves decides what becomes of an order; unknowns are looked up, never resent."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from brokerages.adapters.paper.adapter import PaperAdapter
from brokerages.errors import InsufficientFunds, NotSent, OutcomeUnknown, RateLimited
from brokerages.services import adapter_for
from brokerages.types import Side
from tests.brokerages.conftest import REQUEST, tagged
from tests.trading.conftest import Trader, work
from trading.models import Fill, Order, OrderCommand
from trading.services import books, reconciliation
from trading.services.reports import fill_apply, report_apply

RESTING = {"order_type": "LIMIT", "price": "2450.00"}


@pytest.fixture
def place_fault(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the broker fail: before it acts, or after."""
    real = PaperAdapter.place_order
    sends: list[str] = []

    def install(error: Exception, *, acts: bool = False, times: int = 1) -> list[str]:
        def place(self: PaperAdapter, request: Any) -> Any:
            sends.append(request.client_order_id)
            if len(sends) <= times:
                if acts:
                    real(self, request)
                raise error
            return real(self, request)

        monkeypatch.setattr(PaperAdapter, "place_order", place)
        return sends

    return install


def claimed_ago(seconds: float) -> None:
    then = timezone.now() - timedelta(seconds=seconds)
    OrderCommand.objects.update(claimed_at=then)


@pytest.mark.parametrize(
    ("error", "status", "state", "sends"),
    [
        (InsufficientFunds("no funds", broker="paper"), "REJECTED", "DONE", 1),
        (NotSent("no route", broker="paper"), "PENDING", "WAITING", 0),
        (RateLimited("slow down", broker="paper"), "PENDING", "WAITING", 0),
        (OutcomeUnknown("timed out", broker="paper"), "SUBMITTED", "UNKNOWN", 1),
    ],
)
def test_answer_decides_status(trader, place_fault, error, status, state, sends):  # noqa: PLR0917
    place_fault(error)

    order = trader.placed(**RESTING)

    command = OrderCommand.objects.get()
    assert (order["status"], command.state, command.sends) == (status, state, sends)


def test_a_bug_of_ours_is_an_unknown_outcome(trader: Trader, place_fault):
    place_fault(ZeroDivisionError("bug"))

    with pytest.raises(ZeroDivisionError):
        trader.placed(**RESTING)

    assert OrderCommand.objects.get().state == "UNKNOWN"
    assert Order.objects.get().status == "SUBMITTED"


def test_not_sent_is_sent_later(trader: Trader, place_fault):
    sends = place_fault(NotSent("no route", broker="paper"))
    order = trader.placed(**RESTING)

    OrderCommand.objects.update(not_before=timezone.now() - timedelta(seconds=1))
    work()

    assert len(sends) == 2
    assert trader.order(order["id"])["status"] == "OPEN"


@pytest.mark.parametrize("terms", [RESTING, {}])
def test_an_order_whose_answer_was_lost_is_found_by_its_tag(trader: Trader, place_fault, terms):
    sends = place_fault(OutcomeUnknown("timed out", broker="paper"), acts=True)
    order = trader.placed(**terms)
    assert order["status"] == "SUBMITTED"

    claimed_ago(3)
    reconciliation.commands_reconcile()
    work()

    order = trader.order(order["id"])
    assert order["status"] == ("OPEN" if terms else "FILLED")
    assert order["broker_order_id"]
    assert len(sends) == 1
    assert Fill.objects.count() == (0 if terms else 1)
    assert trader.get("/positions")["results"] == [] or order["filled_quantity"] == 10


def test_not_placed_needs_three_reads_and_a_minute(trader: Trader, place_fault):
    sends = place_fault(OutcomeUnknown("timed out", broker="paper"))
    order = trader.placed(**RESTING)

    for seconds in (3, 6, 11, 21, 41):
        claimed_ago(seconds)
        OrderCommand.objects.update(checked_at=None)
        reconciliation.commands_reconcile()
        assert trader.order(order["id"])["status"] == "SUBMITTED"
    claimed_ago(61)
    OrderCommand.objects.update(checked_at=None)
    reconciliation.commands_reconcile()

    assert trader.order(order["id"])["status"] == "NOT_PLACED"
    assert len(sends) == 1


def test_a_worker_that_died_after_the_claim_is_settled_from_the_book(trader: Trader):
    trader.place(**RESTING)
    OrderCommand.objects.update(state="SENDING", sends=1, claimed_at=timezone.now())
    Order.objects.update(status="SUBMITTED")

    work()
    assert Order.objects.get().status == "SUBMITTED"  # nobody resends it
    claimed_ago(61)
    for _ in range(3):
        OrderCommand.objects.update(checked_at=None)
        reconciliation.commands_reconcile()

    assert Order.objects.get().status == "NOT_PLACED"
    assert trader.get("/orders?status=closed")["results"][0]["status_code"] == "not_placed"


def test_a_late_fill_after_the_cancel_counts(trader: Trader, market):
    order = trader.placed(**RESTING)
    Order.objects.update(status="CANCELLED")

    market.set("NSE:RELIANCE", "2440.00")
    work()

    after = trader.order(order["id"])
    assert (after["status"], after["filled_quantity"]) == ("FILLED", 10)
    assert trader.get("/positions")["results"][0]["quantity"] == 10


def test_applying_the_same_books_again_changes_nothing(trader: Trader):
    trader.placed()
    trader.placed(**RESTING)
    before = [(o.status, o.version) for o in Order.objects.order_by("id")]

    for _ in range(3):
        books.connections_reconcile()

    assert [(o.status, o.version) for o in Order.objects.order_by("id")] == before
    assert Fill.objects.count() == 1


def test_a_cancel_waits_for_an_order_whose_outcome_is_unknown(trader: Trader, place_fault):
    place_fault(OutcomeUnknown("timed out", broker="paper"), acts=True)
    order = trader.placed(**RESTING)
    assert trader.call("DELETE", f"/orders/{order['id']}").status_code == 202
    work()
    assert trader.order(order["id"])["status"] == "PENDING_CANCEL"

    OrderCommand.objects.filter(kind="PLACE").update(
        claimed_at=timezone.now() - timedelta(seconds=3)
    )
    reconciliation.commands_reconcile()
    OrderCommand.objects.filter(kind="CANCEL").update(
        not_before=timezone.now() - timedelta(seconds=1)
    )
    work()

    assert trader.order(order["id"])["status"] == "CANCELLED"


def test_a_contradicting_fill_is_noted_once_and_not_counted(trader: Trader):
    order = trader.placed()
    stored = Order.objects.get()
    (fill,) = adapter_for(stored.connection_id).fetch_fills()

    for changed in (replace(fill, quantity=7), replace(fill, side=Side.SELL)):
        for _ in range(3):
            fill_apply(connection_id=stored.connection_id, broker="paper", fill=changed)

    after = trader.order(order["id"])
    assert (after["filled_quantity"], after["status"]) == (10, "FILLED")
    assert trader.events(order["id"]).count("FILL_CONFLICT") == 2
    assert Fill.objects.count() == 1


def test_more_than_ordered_is_recorded_not_clamped(trader: Trader):
    order = trader.placed()
    stored = Order.objects.get()
    (fill,) = adapter_for(stored.connection_id).fetch_fills()

    again = replace(fill, fill_id="P-extra", quantity=4)
    fill_apply(connection_id=stored.connection_id, broker="paper", fill=again)

    after = trader.order(order["id"])
    assert (after["filled_quantity"], after["pending_quantity"]) == (14, 0)
    assert "OVERFILL" in trader.events(order["id"])
    assert trader.get("/positions")["results"][0]["quantity"] == 14


def test_an_order_that_was_not_sent_is_not_sent_again_after_a_cancel(trader: Trader, monkeypatch):
    sends: list[str] = []

    def place(self: PaperAdapter, request: Any) -> Any:
        sends.append(request.client_order_id)
        answer = trader.call("DELETE", f"/orders/{Order.objects.get().pk}")
        assert answer.json()["status"] == "PENDING_CANCEL"
        raise NotSent("no route", broker="paper")

    monkeypatch.setattr(PaperAdapter, "place_order", place)
    order = trader.placed(**RESTING)
    OrderCommand.objects.update(not_before=timezone.now() - timedelta(seconds=1))
    work()

    assert trader.order(order["id"])["status"] == "CANCELLED"
    assert len(sends) == 1
    assert set(OrderCommand.objects.values_list("kind", "state")) == {
        ("PLACE", "DROPPED"),
        ("CANCEL", "DONE"),
    }


def cancelling(trader: Trader, state: str) -> dict[str, Any]:
    """A resting order whose cancel was claimed and never answered."""
    order = trader.placed(**RESTING)
    trader.call("DELETE", f"/orders/{order['id']}")
    OrderCommand.objects.filter(kind="CANCEL").update(state=state, claimed_at=timezone.now())
    return order


def look(seconds: float) -> None:
    claimed_ago(seconds)
    OrderCommand.objects.update(checked_at=None)
    reconciliation.commands_reconcile()


def test_a_cancel_on_its_way_is_not_judged_by_the_book_before_it(trader: Trader):
    order = cancelling(trader, "SENDING")

    look(5)
    assert trader.order(order["id"])["status"] == "PENDING_CANCEL"
    look(25)
    assert trader.order(order["id"])["status"] == "OPEN"


def test_a_cancel_that_worked_is_not_called_unsent(trader: Trader):
    order = cancelling(trader, "UNKNOWN")
    broker = adapter_for(Order.objects.get().connection_id)
    broker.cancel_order(Order.objects.get().broker_order_id, REQUEST)

    look(5)

    assert trader.order(order["id"])["status"] == "CANCELLED"
    assert "CANCEL_UNSENT" not in trader.events(order["id"])


def test_a_book_without_the_order_does_not_unplace_it(trader: Trader, monkeypatch):
    order = cancelling(trader, "UNKNOWN")
    monkeypatch.setattr(PaperAdapter, "fetch_orders", lambda self: [])

    look(5)
    assert trader.order(order["id"])["status"] == "PENDING_CANCEL"
    look(10)
    look(20)

    assert trader.order(order["id"])["status"] == "OPEN"
    assert not OrderCommand.objects.filter(state="UNKNOWN").exists()


def test_one_order_that_cannot_be_read_does_not_hold_up_the_others(
    trader: Trader, place_fault, monkeypatch
):
    place_fault(OutcomeUnknown("timed out", broker="paper"), acts=True, times=2)
    broken, other = trader.placed(**RESTING), trader.placed(**RESTING)
    tag, real = Order.objects.get(pk=broken["id"]).tag, PaperAdapter.find_order
    book = PaperAdapter.fetch_orders
    monkeypatch.setattr(
        PaperAdapter,
        "fetch_orders",
        lambda self: [report for report in book(self) if report.client_order_id != tag],
    )

    def find(self: PaperAdapter, asked: Any) -> Any:
        if asked.client_order_id == tag:
            raise KeyError(tag)
        return real(self, asked)

    monkeypatch.setattr(PaperAdapter, "find_order", find)
    look(3)

    assert trader.order(other["id"])["status"] == "OPEN"
    assert trader.order(broken["id"])["status"] == "SUBMITTED"


def test_commands_that_are_not_due_do_not_hide_those_that_are(
    trader: Trader, place_fault, monkeypatch
):
    monkeypatch.setattr(reconciliation, "AT_ONCE", 1)
    place_fault(OutcomeUnknown("timed out", broker="paper"), acts=True, times=2)
    old, new = trader.placed(**RESTING), trader.placed(**RESTING)
    now = timezone.now()
    OrderCommand.objects.filter(order_id=old["id"]).update(
        claimed_at=now - timedelta(seconds=300), checked_at=now - timedelta(seconds=5)
    )
    OrderCommand.objects.filter(order_id=new["id"]).update(claimed_at=now - timedelta(seconds=3))

    reconciliation.commands_reconcile()

    assert trader.order(new["id"])["status"] == "OPEN"


def test_a_report_from_before_a_modify_does_not_undo_it(trader: Trader):
    order = trader.placed(**RESTING)
    stored = Order.objects.get()
    before = adapter_for(stored.connection_id).find_order(tagged(stored.tag))
    trader.call("PATCH", f"/orders/{order['id']}", {"price": "2460.00"})
    work()

    report_apply(connection_id=stored.connection_id, broker="paper", report=before)

    assert trader.order(order["id"])["price"] == "2460.00"


def test_an_event_that_fails_holds_up_its_order_alone(trader: Trader, market, monkeypatch):
    bad, good = trader.placed(**RESTING), trader.placed(**RESTING)
    real = reconciliation.report_apply

    def apply(*, report: Any, **rest: Any) -> Any:
        if report.broker_order_id == bad["broker_order_id"]:
            raise ValueError("bug")
        return real(report=report, **rest)

    monkeypatch.setattr(reconciliation, "report_apply", apply)
    market.set("NSE:RELIANCE", "2440.00")
    work()
    assert [trader.order(o["id"])["status"] for o in (bad, good)] == ["OPEN", "FILLED"]

    monkeypatch.setattr(reconciliation, "report_apply", real)
    work()
    assert trader.order(bad["id"])["status"] == "FILLED"


def test_a_change_that_waited_too_long_is_not_sent(trader: Trader, settings):
    order = trader.placed(**RESTING)
    trader.call("PATCH", f"/orders/{order['id']}", {"price": "2460.00"})
    settings.STALE_COMMAND_SECONDS = 0

    work()

    after = trader.order(order["id"])
    assert (after["price"], after["status"]) == ("2450.00", "OPEN")
    assert trader.events(order["id"])[-1] == "MODIFY_REFUSED"


@pytest.mark.parametrize("stale", [False, True])
def test_an_order_at_its_end_is_never_sent(trader: Trader, place_fault, settings, stale):
    sends = place_fault(NotSent("no route", broker="paper"))
    order = trader.place(**RESTING).json()
    Order.objects.update(status="CANCELLED")
    if stale:
        settings.STALE_COMMAND_SECONDS = 0

    work()

    assert not sends
    assert trader.order(order["id"])["status"] == "CANCELLED"
    command = OrderCommand.objects.get()
    assert (command.state, command.sends, command.error_code) == ("DROPPED", 0, "order_closed")


def test_looks_of_an_earlier_send_do_not_count_for_the_next(trader: Trader, place_fault):
    place_fault(NotSent("no route", broker="paper"))
    order = trader.place(**RESTING).json()
    # looked up twice while it was on its way
    OrderCommand.objects.update(checks=2, checked_at=timezone.now())
    work()
    command = OrderCommand.objects.get()
    assert (command.state, command.checks, command.checked_at) == ("WAITING", 0, None)

    place_fault(OutcomeUnknown("timed out", broker="paper"), times=2)
    OrderCommand.objects.update(not_before=timezone.now() - timedelta(seconds=1))
    work()
    claimed_ago(61)
    reconciliation.commands_reconcile()

    assert trader.order(order["id"])["status"] == "SUBMITTED"


def test_a_change_that_waits_for_its_turn_too_long_makes_room_for_the_next(
    trader: Trader, settings, monkeypatch
):
    def modify(*args: Any) -> Any:
        raise RateLimited("come back tomorrow", broker="paper", retry_after=86_400)

    order = trader.placed(**RESTING)
    path = f"/orders/{order['id']}"
    with monkeypatch.context() as patched:
        patched.setattr(PaperAdapter, "modify_order", modify)
        trader.call("PATCH", path, {"price": "2460.00"})
        work()
    reconciliation.stale_commands_deny()
    assert trader.call("PATCH", path, {"price": "2470.00"}).status_code == 409  # not stale yet
    settings.STALE_COMMAND_SECONDS = 0

    assert reconciliation.stale_commands_deny() == 1

    assert trader.events(order["id"])[-1] == "MODIFY_REFUSED"
    after = trader.order(order["id"])
    assert (after["price"], after["status"]) == ("2450.00", "OPEN")
    settings.STALE_COMMAND_SECONDS = 30
    assert trader.call("PATCH", path, {"price": "2470.00"}).status_code == 202
    work()
    assert trader.order(order["id"])["price"] == "2470.00"
