"""What a broker's books tell of many orders at once, of orders given up, and of a day that is
over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone

from audit.ids import uuid7
from brokerages.adapters.paper.adapter import PaperAdapter
from brokerages.errors import OutcomeUnknown, SessionExpired
from brokerages.services import adapter_for
from tests.trading.conftest import Trader, work
from trading.models import Notification, Order, OrderCommand
from trading.services import books, reconciliation

RESTING = {"order_type": "LIMIT", "price": "2450.00"}


class Broker:
    """The paper broker made a real one, whose book is of one day; it counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hidden: set[str] = set()  # broker order ids that the book does not show
        self.lost_answers = False

    def asked_for(self, name: str) -> int:
        return self.asked.count(name)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    for module in (books, reconciliation):
        monkeypatch.setattr(module, "is_venue", lambda name: False)

    def counted(name: str, answer: Callable[[Any], Any]) -> None:
        real = getattr(PaperAdapter, name)

        def call(self: PaperAdapter, *args: Any) -> Any:
            broker.asked.append(name)
            return answer(real(self, *args))

        monkeypatch.setattr(PaperAdapter, name, call)

    def visible(reports: Any) -> Any:
        return [r for r in reports if r.broker_order_id not in broker.hidden]

    def placed(ack: Any) -> Any:
        if broker.lost_answers:
            raise OutcomeUnknown("timed out", broker="paper")
        return ack

    counted("fetch_orders", visible)
    counted("fetch_fills", visible)
    counted("find_order", lambda r: r if r and r.broker_order_id not in broker.hidden else None)
    counted("place_order", placed)
    return broker


def reconcile(seconds_ago: float = 3) -> None:
    OrderCommand.objects.filter(state="UNKNOWN").update(
        claimed_at=timezone.now() - timedelta(seconds=seconds_ago), checked_at=None
    )
    reconciliation.commands_reconcile()


def days_ago(days: int) -> None:
    # and some minutes, so that the day is over for long also just after midnight in India
    then = timezone.now() - timedelta(days=days, minutes=10)
    Order.objects.update(created_at=then)
    OrderCommand.objects.update(claimed_at=then)


def test_one_book_serves_all_unknown_orders_of_a_connection(trader: Trader, broker: Broker):
    broker.lost_answers = True
    orders = [trader.placed(**RESTING) for _ in range(5)]
    broker.asked.clear()

    reconcile()

    assert {trader.order(o["id"])["status"] for o in orders} == {"OPEN"}
    assert sorted(broker.asked) == ["fetch_fills", "fetch_orders"]


def test_what_the_book_lacks_is_asked_for_by_its_tag(trader: Trader, broker: Broker, monkeypatch):
    broker.lost_answers = True
    for _ in range(2):
        trader.placed(**RESTING)
    monkeypatch.setattr(PaperAdapter, "fetch_orders", lambda self: [])

    reconcile()

    assert set(Order.objects.values_list("status", flat=True)) == {"OPEN"}
    assert broker.asked_for("find_order") == 2


def test_an_order_given_up_is_adopted_when_a_poll_shows_it(trader: Trader, broker: Broker, market):
    broker.lost_answers = True
    order = trader.placed(**RESTING)
    hidden = {r.broker_order_id for r in _book(trader)}
    broker.hidden = hidden
    for _ in range(3):
        reconcile(61)
    assert trader.order(order["id"])["status"] == "NOT_PLACED"

    broker.hidden = set()
    assert books.connections_reconcile() == 1

    after = trader.order(order["id"])
    assert (after["status"], after["broker_order_id"]) == ("OPEN", hidden.pop())
    titles = Notification.objects.values_list("kind", flat=True)
    assert list(titles).count("order_revived") == 1
    assert books.connections_reconcile() == 0  # once


def test_an_order_given_up_that_filled_is_adopted_with_its_fills(
    trader: Trader, broker: Broker, market
):
    broker.lost_answers = True
    order = trader.placed()  # at the market
    broker.hidden = {r.broker_order_id for r in _book(trader)}
    for _ in range(3):
        reconcile(61)
    assert trader.order(order["id"])["status"] == "NOT_PLACED"

    broker.hidden = set()
    books.connections_reconcile()

    after = trader.order(order["id"])
    assert (after["status"], after["filled_quantity"]) == ("FILLED", 10)
    assert trader.get("/positions")["results"][0]["quantity"] == 10


def test_the_book_of_another_day_proves_nothing(trader: Trader, broker: Broker):
    broker.lost_answers = True
    order = trader.placed(**RESTING)
    broker.hidden = {r.broker_order_id for r in _book(trader)}  # cleared overnight

    for _ in range(4):
        reconcile(24 * 3600)

    after = trader.order(order["id"])
    assert (after["status"], after["status_code"]) == ("SUBMITTED", "unverified")
    assert trader.events(order["id"]).count("UNVERIFIED") == 1
    assert OrderCommand.objects.get().state == "UNKNOWN"
    asked = len(broker.asked)
    reconciliation.commands_reconcile()
    assert len(broker.asked) == asked  # it is not asked for ever


@pytest.mark.parametrize("asked", ["before", "after"])
def test_the_cancel_of_an_order_that_stays_unverified_is_refused(
    trader: Trader, broker: Broker, asked
):
    broker.lost_answers = True
    order = trader.placed(**RESTING)
    broker.hidden = {r.broker_order_id for r in _book(trader)}
    path = f"/orders/{order['id']}"
    if asked == "before":
        assert trader.call("DELETE", path).status_code == 202
        work()
        assert trader.order(order["id"])["status"] == "PENDING_CANCEL"  # it waits for the id
    days_ago(1)
    reconciliation.commands_reconcile()

    for _ in range(2):  # as often as it is asked
        if asked == "after":
            assert trader.call("DELETE", path).status_code == 202
        OrderCommand.objects.filter(state="WAITING").update(
            not_before=timezone.now() - timedelta(seconds=1)
        )
        work()

        after = trader.order(order["id"])
        assert (after["status"], after["status_code"]) == ("SUBMITTED", "unverified")
        assert "Look at the broker's statement" in after["status_message"]
        assert not OrderCommand.objects.filter(state="WAITING").exists()


def test_a_day_order_ends_when_the_cleared_book_was_seen_after_the_close(
    trader: Trader, broker: Broker
):
    order = trader.placed(**RESTING)
    days_ago(1)

    books.connections_reconcile()
    books.connections_reconcile()
    assert trader.order(order["id"])["status"] == "OPEN"  # the broker still has it
    assert trader.events(order["id"]).count("DAY_OVER") == 1

    days_ago(2)
    broker.hidden = {order["broker_order_id"]}
    books.connections_reconcile()

    after = trader.order(order["id"])
    assert (after["status"], after["status_code"]) == ("EXPIRED", "day_over")


def test_fills_of_the_last_minute_count_before_the_day_ends(trader: Trader, broker: Broker, market):
    """What the book says after the close is applied first; only then can the order expire."""
    order = trader.placed(**RESTING)
    days_ago(1)
    books.connections_reconcile()
    market.set("NSE:RELIANCE", "2440.00", asks=[("2440.00", 4)])
    from brokerages.adapters.paper.engine import PaperEngine
    from marketdata.quotes import quote_latest

    PaperEngine().advance(quote_latest, timezone.now())

    books.connections_reconcile()
    assert trader.order(order["id"])["filled_quantity"] == 4
    days_ago(2)
    broker.hidden = {order["broker_order_id"]}
    books.connections_reconcile()

    after = trader.order(order["id"])
    assert (after["status"], after["filled_quantity"]) == ("EXPIRED", 4)


def test_an_order_last_seen_before_the_close_is_marked_not_guessed(trader: Trader, broker: Broker):
    order = trader.placed(**RESTING)
    days_ago(2)
    broker.hidden = {order["broker_order_id"]}

    for _ in range(3):
        books.connections_reconcile()

    after = trader.order(order["id"])
    assert (after["status"], after["status_code"]) == ("OPEN", "unverified")
    assert trader.events(order["id"]).count("UNVERIFIED") == 1
    assert Notification.objects.filter(kind="order_unverified").count() == 1
    assert broker.asked_for("fetch_orders") == 1


def test_a_day_that_is_not_over_ends_nothing(trader: Trader, broker: Broker):
    order = trader.placed(**RESTING)
    broker.hidden = {order["broker_order_id"]}

    books.connections_reconcile()

    assert trader.order(order["id"])["status"] == "OPEN"
    assert trader.events(order["id"])[-1] == "ACCEPTED"


def test_a_book_that_cannot_be_read_ends_nothing(trader: Trader, broker: Broker, monkeypatch):
    order = trader.placed(**RESTING)
    days_ago(2)

    def expired(self: PaperAdapter) -> Any:
        raise SessionExpired("over", broker="paper")

    monkeypatch.setattr(PaperAdapter, "fetch_orders", expired)
    books.connections_reconcile()

    after = trader.order(order["id"])
    assert (after["status"], after["status_code"]) == ("OPEN", "")


def test_each_connection_is_left_to_a_worker_of_its_own(new_trader, broker: Broker, monkeypatch):
    broker.lost_answers = True
    traders = [new_trader(), new_trader()]
    orders = [trader.placed(**RESTING) for trader in traders]
    told: list[tuple[str, bool]] = []

    def wake(connection_id: UUID, *, commands: bool) -> bool:
        told.append((str(connection_id), commands))
        return True

    monkeypatch.setattr(reconciliation, "wake_reconcile", wake)
    reconcile()
    assert sorted(told) == sorted((trader.connection_id, True) for trader in traders)
    assert {trader.order(o["id"])["status"] for trader, o in zip(traders, orders, strict=True)} == {
        "SUBMITTED"
    }

    assert reconciliation.commands_reconcile(UUID(traders[0].connection_id)) == 1
    assert traders[0].order(orders[0]["id"])["status"] == "OPEN"
    assert traders[1].order(orders[1]["id"])["status"] == "SUBMITTED"

    monkeypatch.setattr(reconciliation, "wake_reconcile", lambda pk, commands: False)
    reconcile()  # nobody can be woken: done here
    assert traders[1].order(orders[1]["id"])["status"] == "OPEN"


def test_no_two_read_the_books_of_one_connection(trader: Trader, broker: Broker):
    trader.placed(**RESTING)
    holding, done = threading.Event(), threading.Event()

    def other() -> None:
        with books.alone("books", UUID(trader.connection_id)) as is_alone:
            assert is_alone
            holding.set()
            done.wait(10)
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert holding.wait(10)
    try:
        books.connections_reconcile()
        assert broker.asked_for("fetch_orders") == 0
    finally:
        done.set()
        thread.join()
    books.connections_reconcile()
    assert broker.asked_for("fetch_orders") == 1


def _book(trader: Trader) -> Any:
    return adapter_for(UUID(trader.connection_id)).fetch_orders()


def test_orders_given_up_are_found_among_many_without_reading_them(trader: Trader, market):
    one = Order.objects.get(pk=trader.placed(**RESTING)["id"])
    fields = {f.attname: getattr(one, f.attname) for f in Order._meta.concrete_fields}
    fields |= {"status": "FILLED", "broker_order_id": ""}
    many = [
        Order(**fields | {"id": uuid7(), "tag": f"T{n}", "idempotency_key": f"k{n}"})
        for n in range(3000)
    ]
    Order.objects.bulk_create(many, batch_size=1000)
    Order.objects.filter(tag="T7").update(status="NOT_PLACED")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE trading_order")

    _, given_up = books._expected()
    of_all = given_up.values_list("connection_id", flat=True).distinct()
    of_one = given_up.filter(connection_id=trader.connection_id)
    assert list(of_all) == [UUID(trader.connection_id)]
    assert [order.tag for order in of_one] == ["T7"]
    for found in (of_all, of_one):
        assert "order_given_up_by_connection" in found.explain()
