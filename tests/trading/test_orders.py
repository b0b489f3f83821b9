"""Orders through the front door: HTTP in, a worker, the paper broker, HTTP out."""

from decimal import Decimal

import pytest

from audit.models import AuditEntry
from tests.trading.conftest import work
from trading.models import Fill, Order, OrderCommand, OrderEvent, Position, Trade
from trading.services.execution import command_dispatch

LIMIT = {"order_type": "LIMIT", "price": "2450.00"}


def test_market_order_fills(trader):
    response = trader.place()

    assert response.status_code == 201
    placed = response.json()
    assert (placed["status"], placed["filled_quantity"], placed["symbol"]) == (
        "PENDING",
        0,
        "NSE:RELIANCE",
    )
    assert Order.objects.count() == OrderCommand.objects.count() == OrderEvent.objects.count() == 1
    work()
    order = trader.order(placed["id"])
    assert (order["status"], order["filled_quantity"]) == ("FILLED", 10)
    assert order["average_price"] == "2500.10"
    assert trader.events(placed["id"]) == ["PLACED", "ACCEPTED", "FILL"]


def test_position_holding_trade_and_pnl_follow_the_fills(trader, market):
    trader.placed(quantity=10)
    market.set("NSE:RELIANCE", "2600.00")

    (position,) = trader.get("/positions")["results"]
    assert (position["quantity"], position["average_price"]) == (10, "2500.10")
    assert position["unrealised_pnl"] == position["pnl"] == "999.00"
    (holding,) = trader.get("/holdings")["results"]
    assert (holding["symbol"], holding["invested"], holding["value"]) == (
        "NSE:RELIANCE",
        "25001.00",
        "26000.00",
    )

    sold = trader.placed(side="SELL", quantity=4)

    assert sold["average_price"] == "2599.90"
    pnl = trader.get("/pnl")
    assert pnl["realised_pnl"] == "399.20"  # 4 x (2599.90 - 2500.10)
    assert pnl["unrealised_pnl"] == "599.40"  # 6 x (2600 - 2500.10)
    trader.placed(side="SELL", quantity=6)
    (trade,) = trader.get("/trades")["results"]
    assert (trade["status"], trade["buy_price"], trade["sell_price"], trade["net_pnl"]) == (
        "closed",
        "2500.10",
        "2599.90",
        "998.00",
    )
    funds = trader.funds()
    assert funds["available"] == funds["total"] == Decimal("1000998.00")


def test_limit_rests_blocks_and_fills_when_the_market_comes(trader, market):
    order = trader.placed(**LIMIT)

    assert order["status"] == "OPEN"
    assert trader.funds()["used"] == Decimal("24500.00")
    market.set("NSE:RELIANCE", "2449.00")
    work()
    order = trader.order(order["id"])
    assert order["status"] == "FILLED"
    assert Decimal(order["average_price"]) <= Decimal("2450.00")


def test_cancel_releases_what_was_blocked(trader):
    order = trader.placed(**LIMIT)

    response = trader.call("DELETE", f"/orders/{order['id']}")

    assert (response.status_code, response.json()["status"]) == (202, "PENDING_CANCEL")
    work()
    assert trader.order(order["id"])["status"] == "CANCELLED"
    assert trader.funds()["used"] == 0
    again = trader.call("DELETE", f"/orders/{order['id']}")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "order_state_conflict")


def test_cancel_before_the_send_never_reaches_the_broker(trader):
    order = trader.place(**LIMIT).json()

    response = trader.call("DELETE", f"/orders/{order['id']}")

    assert response.json()["status"] == "CANCELLED"
    work()
    assert trader.order(order["id"])["broker_order_id"] == ""
    assert OrderCommand.objects.get().state == "DROPPED"


def test_modify_changes_terms_at_the_broker(trader):
    order = trader.placed(**LIMIT)

    response = trader.call("PATCH", f"/orders/{order['id']}", {"price": 2460, "quantity": 12})

    assert (response.status_code, response.json()["price"]) == (202, "2450.00")
    work()
    order = trader.order(order["id"])
    assert (order["price"], order["quantity"], order["status"]) == ("2460.00", 12, "OPEN")
    assert trader.funds()["used"] == Decimal("29520.00")
    assert trader.events(order["id"])[-2:] == ["MODIFY_REQUESTED", "MODIFIED"]


def test_partial_fill_then_the_rest(trader, market):
    market.set("NSE:RELIANCE", "2500.00", asks=[("2500.10", 3), ("2500.20", 4)])

    order = trader.placed(quantity=10, order_type="LIMIT", price="2500.20")

    assert (order["status"], order["filled_quantity"]) == ("PARTIALLY_FILLED", 7)
    assert Decimal(order["average_price"]) == Decimal("2500.1571")
    market.set("NSE:RELIANCE", "2500.00", asks=[("2500.10", 100)])
    work()
    order = trader.order(order["id"])
    assert (order["status"], order["filled_quantity"]) == ("FILLED", 10)
    assert Fill.objects.count() == 3
    assert Position.objects.get().quantity == 10


def test_ioc_takes_what_there_is(trader, market):
    market.set("NSE:RELIANCE", "2500.00", asks=[("2500.10", 3)])

    order = trader.placed(order_type="LIMIT", price="2500.10", validity="IOC")

    assert (order["status"], order["filled_quantity"]) == ("CANCELLED", 3)


def test_stop_loss_waits_triggers_and_fills(trader, market):
    trader.placed()

    stop = trader.placed(side="SELL", order_type="SL-M", trigger_price="2480.00")

    assert stop["status"] == "TRIGGER_PENDING"
    market.set("NSE:RELIANCE", "2479.00")
    work()
    work()
    assert trader.order(stop["id"])["status"] == "FILLED"


def test_broker_rejection_has_its_reason(trader):
    order = trader.placed(quantity=1000)

    assert order["status"] == "REJECTED"
    assert order["status_message"]
    assert trader.funds()["used"] == 0
    (notice,) = trader.get("/notifications")["results"]
    assert notice["kind"] == "order_rejected"


def test_selling_for_delivery_needs_holdings(trader):
    assert trader.placed(side="SELL")["status"] == "REJECTED"


@pytest.mark.parametrize(
    ("code", "terms"),
    [
        ("tick_size", {"order_type": "LIMIT", "price": "2450.03"}),
        ("price_band", {"order_type": "LIMIT", "price": "9999.00"}),
        ("price_required", {"order_type": "LIMIT"}),
        ("product_not_allowed", {"product": "NRML"}),
        ("not_tradable", {"symbol": "NSE:NIFTY 50"}),
    ],
)
def test_denied_orders_leave_nothing(trader, code, terms):
    response = trader.place(**terms)

    assert (response.status_code, response.json()["error"]["code"]) == (422, code)
    assert not Order.objects.exists()


def test_a_repeated_key_returns_the_first_order(trader):
    first, again = trader.place("k1"), trader.place("k1")

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    work()
    assert trader.place("k1").json()["status"] == "FILLED"
    assert Order.objects.count() == 1
    other = trader.place("k1", quantity=11)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")


def test_a_client_order_id_is_a_key_too(trader):
    body = {"symbol": "NSE:RELIANCE", "side": "BUY", "quantity": 1, "client_order_id": "mine-1"}

    first, again = (trader.call("POST", "/orders", body) for _ in range(2))

    assert first.json()["id"] == again.json()["id"]
    assert first.json()["client_order_id"] == "mine-1"


def test_an_order_needs_a_key(trader):
    body = {"symbol": "NSE:RELIANCE", "side": "BUY", "quantity": 1}

    response = trader.call("POST", "/orders", body)

    assert (response.status_code, response.json()["error"]["code"]) == (
        400,
        "idempotency_key_required",
    )


def test_another_user_sees_and_moves_nothing(trader, new_trader):
    order, stranger = trader.placed(**LIMIT), new_trader()

    for method, path, body in [
        ("GET", f"/orders/{order['id']}", None),
        ("GET", f"/orders/{order['id']}/events", None),
        ("DELETE", f"/orders/{order['id']}", None),
        ("PATCH", f"/orders/{order['id']}", {"quantity": 1}),
    ]:
        assert stranger.call(method, path, body).status_code == 404
    assert stranger.get("/orders")["results"] == []
    assert stranger.place(connection_id=trader.connection_id).status_code == 404
    assert trader.order(order["id"])["status"] == "OPEN"


def test_exit_closes_once(trader):
    trader.placed(quantity=10)
    (position,) = trader.get("/positions")["results"]

    first = trader.call("POST", f"/positions/{position['id']}/exit", {})
    second = trader.call("POST", f"/positions/{position['id']}/exit", {})

    assert (first.status_code, second.status_code) == (201, 409)
    work()
    assert trader.get("/positions")["results"][0]["quantity"] == 0
    assert trader.call("POST", f"/positions/{position['id']}/exit", {}).status_code == 409


def test_a_repeated_exit_returns_the_first(trader):
    trader.placed()
    position = trader.get("/positions")["results"][0]["id"]

    def leave(key):
        return trader.call("POST", f"/positions/{position}/exit", {}, **{"Idempotency-Key": key})

    first = leave("leave-1")
    work()
    again = leave("leave-1")

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert leave("leave-2").status_code == 409


def test_exit_all_names_what_a_disabled_connection_holds(trader):
    trader.placed()
    assert trader.call("DELETE", f"/connections/{trader.connection_id}").status_code == 204

    answer = trader.call("POST", "/positions/exit-all", {})

    assert answer.status_code == 201, answer.content
    assert answer.json()["orders"] == []
    assert [failure["code"] for failure in answer.json()["failed"]] == ["not_found"]


def test_exit_all_and_cancel_all(trader):
    trader.placed(quantity=10)
    trader.placed(symbol="NSE:INFY", quantity=5, product="MIS")
    resting = trader.placed(**LIMIT)

    cancelled = trader.call("POST", "/orders/cancel-all", {}).json()
    exited = trader.call("POST", "/positions/exit-all", {}).json()

    work()
    assert cancelled == {"cancelled": [resting["id"]], "failed": []}
    assert len(exited["orders"]) == 2
    assert {p["quantity"] for p in trader.get("/positions")["results"]} == {0}


def test_preview_says_cost_and_reason(trader):
    body = {"symbol": "NSE:RELIANCE", "side": "BUY", "quantity": 10}

    preview = trader.call("POST", "/orders/preview", body).json()
    dear = trader.call("POST", "/orders/preview", body | {"quantity": 1000}).json()

    assert preview["denied"] is None
    assert (preview["estimated_price"], preview["available_funds"]) == ("2500.10", "1000000.00")
    assert dear["denied"]["code"] == "insufficient_funds"
    assert not Order.objects.exists()


def test_stale_orders_are_not_sent(trader, settings):
    settings.STALE_COMMAND_SECONDS = 0
    order = trader.placed()

    assert (order["status"], order["status_code"]) == ("DENIED", "stale")
    assert order["broker_order_id"] == ""
    assert OrderCommand.objects.get().sends == 0


def test_everything_is_audited(trader):
    order = trader.placed(**LIMIT)
    trader.call("PATCH", f"/orders/{order['id']}", {"quantity": 11})
    trader.call("DELETE", f"/orders/{order['id']}")
    work()

    actions = AuditEntry.objects.filter(object_type="order", object_id=order["id"])
    assert list(actions.order_by("id").values_list("action", flat=True)) == [
        "order.placed",
        "order.modify_requested",
        "order.cancel_requested",
        "order.cancelled",
    ]


def test_pages_walk_through_all_orders(trader):
    placed = [trader.place(**LIMIT).json()["id"] for _ in range(5)]

    seen, cursor = [], ""
    while cursor is not None:
        page = trader.get(f"/orders?limit=2{cursor and f'&cursor={cursor}'}")
        seen += [order["id"] for order in page["results"]]
        cursor = page["next"]

    assert seen == placed[::-1]


def test_a_command_is_sent_once(trader, monkeypatch):
    trader.place()
    command = OrderCommand.objects.get()

    assert [command_dispatch(command.pk) for _ in range(3)] == [True, False, False]
    assert Fill.objects.count() == 1


def test_journal_trades_move_no_position(trader):
    body = {
        "price": 2500.0,
        "quantity": 10,
        "order_id": 1,
        "stock_ticker": "RELIANCE",
        "type": "eq",
        "order_type": "buy",
        "buy_price": 2500.0,
        "brokerage_charge": 20.0,
        "mtf_charge": 0.0,
    }
    created = trader.call("POST", "/trade/trade", body)
    assert created.status_code == 201
    trade = created.json()
    assert (trade["status"], trade["capital_used"], trade["order_id"]) == ("open", "25000.00", "1")

    closed = trader.call(
        "PUT", f"/trade/trade/{trade['id']}", body | {"order_type": "sell", "price": 2600.0}
    ).json()

    assert (closed["status"], closed["sell_price"], closed["net_pnl"]) == (
        "closed",
        "2600.00",
        "980.00",
    )
    assert not Position.objects.exists()
    assert Trade.objects.get().origin == "JOURNAL"
