"""Conversions and margins at a real broker: it is asked first, and every rupee stays."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from brokerages.errors import OutcomeUnknown, PermissionDenied
from brokerages.types import Exchange, FillReport, Product, Side
from tests.marketdata.fake_broker import NAME
from tests.trading.conftest import Trader
from tests.trading.test_broker_orders import real, world  # noqa: F401 - fixtures
from trading.models import Order, Position, Trade
from trading.services.reports import fill_apply


def bought(
    trader: Trader, quantity: int, price: str, product: str = "MIS", side: str = "BUY"
) -> None:
    order = trader.placed(
        order_type="LIMIT", price="2500.05", quantity=quantity, product=product, side=side
    )
    fill = FillReport(
        f"f{order['id']}", order["broker_order_id"], "", Exchange.NSE, Side(side), quantity,
        Decimal(price), datetime.now(UTC),
    )  # fmt: skip
    fill_apply(connection_id=Order.objects.latest("id").connection_id, broker=NAME, fill=fill)


def convert(trader: Trader, quantity: int, **more: str) -> object:
    body = {"symbol": "NSE:RELIANCE", "quantity": quantity, "old_product": "MIS",
            "new_product": "CNC", **more}  # fmt: skip
    return trader.call("POST", f"/connections/{trader.connection_id}/convert-position", body)


def held() -> dict[str, tuple[int, Decimal, Decimal]]:
    return {p.product: (p.quantity, p.open_cost, p.realised_pnl) for p in Position.objects.all()}


def test_part_moves_at_its_cost(real, world):  # noqa: F811
    bought(real, 3, "2500.05")
    bought(real, 4, "2501.35")
    cost = 3 * Decimal("2500.05") + 4 * Decimal("2501.35")

    answer = convert(real, 3)

    assert answer.status_code == 200, answer.content
    assert answer.json()["moved"] == 3
    (asked,) = world.asked("convert_position")
    assert (asked.instrument.broker_token, asked.side, asked.quantity) == ("t2885", Side.BUY, 3)
    assert (asked.old_product, asked.new_product) == (Product.MIS, Product.CNC)
    found = held()
    assert (found["MIS"][0], found["CNC"][0]) == (4, 3)
    assert found["MIS"][1] + found["CNC"][1] == cost
    assert found["MIS"][2] == found["CNC"][2] == 0
    assert {t.entry_quantity - t.exit_quantity for t in Trade.objects.all()} == {3, 4}


def test_all_of_it(real, world):  # noqa: F811
    bought(real, 7, "2500.05")

    assert convert(real, 7).status_code == 200

    assert held()["CNC"][:2] == (7, 7 * Decimal("2500.05"))
    assert held()["MIS"][:2] == (0, 0)
    open_trade = Trade.objects.get(status="open")
    assert (open_trade.entry_quantity, open_trade.position.product) == (7, "CNC")


def test_short_position_keeps_its_sign(real, world):  # noqa: F811
    bought(real, 5, "2500.05", side="SELL")

    answer = convert(real, 2, new_product="MTF")

    assert answer.status_code == 200, answer.content
    assert world.asked("convert_position")[0].side is Side.SELL
    assert held()["MTF"][:2] == (-2, -2 * Decimal("2500.05"))
    assert held()["MIS"][:2] == (-3, -3 * Decimal("2500.05"))


@pytest.mark.parametrize(
    ("error", "status"),
    [(PermissionDenied("no", broker=NAME), 422), (OutcomeUnknown("?", broker=NAME), 502)],
)
def test_what_the_broker_did_not_do_moves_nothing(real, world, error, status):  # noqa: F811
    bought(real, 5, "2500.05")
    world.fail["convert_position"] = error

    assert convert(real, 5).status_code == status
    assert held() == {"MIS": (5, 5 * Decimal("2500.05"), 0)}


def test_refusals(real, trader, world):  # noqa: F811
    bought(real, 5, "2500.05")

    assert convert(real, 6).json()["error"]["code"] == "exceeds_position"
    assert convert(real, 5, side="SELL").json()["error"]["code"] == "position_side"
    assert convert(real, 5, new_product="MIS").json()["error"]["code"] == "product_not_allowed"
    assert convert(real, 5, new_product="NRML").json()["error"]["code"] == "product_not_allowed"
    assert convert(real, 5, old_product="CNC", new_product="MIS").status_code == 404
    assert convert(real, 0).status_code == 400
    assert not world.asked("convert_position")


def test_position_opened_elsewhere(real, world):  # noqa: F811
    answer = convert(real, 5, side="BUY")

    assert answer.json()["moved"] == 0
    assert len(world.asked("convert_position")) == 1
    assert not Position.objects.exists()


def test_paper_converts_nothing(trader):
    answer = convert(trader, 5, side="BUY")

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "not_supported")


def test_margins(real, world):  # noqa: F811
    path = f"/connections/{real.connection_id}/margins"
    order = {"symbol": "NSE:RELIANCE", "side": "BUY", "quantity": 10}

    answer = real.call("POST", path, {"orders": [order, order | {"side": "SELL"}]})

    assert answer.json() == {"required": "1234.50", "charges": "12.10"}
    ((first, second),) = world.asked("estimate_margin")
    assert (first.side, second.side) == (Side.BUY, Side.SELL)
    assert first.instrument.broker_token == "t2885"
    assert real.call("POST", path, {"orders": []}).status_code == 400
    assert real.call("POST", path, {"orders": [order] * 21}).status_code == 400
    unknown = real.call("POST", path, {"orders": [order | {"symbol": "NSE:INFY"}]})
    assert unknown.json()["error"]["code"] == "instrument_not_at_broker"


def test_margins_at_paper(trader, market):
    order = {"symbol": "NSE:RELIANCE", "side": "BUY", "quantity": 10}
    path = f"/connections/{trader.connection_id}/margins"

    assert Decimal(trader.call("POST", path, {"orders": [order]}).json()["required"]) > 0
