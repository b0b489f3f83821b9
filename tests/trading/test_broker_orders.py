"""Orders at a real broker: by its own lot, tick and prices, with all that it offers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import User
from brokerages.errors import InsufficientFunds, NotSent, StaticIpRefused
from brokerages.services import connection_create, connection_set_default, session_open
from brokerages.types import OrderType
from marketdata import broker_prices, quotes, selectors
from marketdata.instrument_sync import records_load
from tests.marketdata import fake_broker
from tests.marketdata.fake_broker import NAME, contract, share
from tests.trading.conftest import Trader, work
from trading.models import Notification, Order

RELIANCE = share("RELIANCE", "2885", "INE002A01018", tick_size=Decimal("0.05"))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_broker.World]:
    broker_prices.forget()
    quotes._of_brokers.clear()
    yield fake_broker.registered(monkeypatch)()
    quotes._of_brokers.clear()


@pytest.fixture
def real(trader: Trader, world: fake_broker.World) -> Trader:
    """The trader with the fake broker as the default connection."""
    user = User.objects.get(email=trader.email)
    made = connection_create(user_id=user.pk, broker=NAME, credentials={"api_key": "k"})
    session_open(user_id=user.pk, connection_id=made.pk, grant="g")
    connection_set_default(user_id=user.pk, connection_id=made.pk)
    trader.connection_id = str(made.pk)
    records_load(NAME, [RELIANCE])
    return trader


def denied(response: Any) -> str:
    assert response.status_code == 422, response.content
    return response.json()["error"]["code"]


def test_broker_is_handed_its_own_words(real, world):
    order = real.placed(order_type="LIMIT", price="2500.05")

    assert order["status"] == "OPEN"
    (request,) = world.asked("place_order")
    assert (request.instrument.broker_symbol, request.instrument.broker_token) == (
        "RELIANCE-EQ", "t2885",
    )  # fmt: skip
    assert request.client_order_id == Order.objects.get().tag
    real.call("PATCH", f"/orders/{order['id']}", {"price": "2499.95"})
    work()
    ((change, request),) = world.asked("modify_order")
    assert change.price == Decimal("2499.95")
    assert request.instrument.broker_token == "t2885"
    real.call("DELETE", f"/orders/{order['id']}")
    work()
    assert world.asked("cancel_order")[0].instrument.broker_token == "t2885"


def test_tick_of_the_broker_counts(real, world):
    assert denied(real.place(order_type="LIMIT", price="2500.02")) == "tick_size"
    paper = real.get("/connections")["results"][0]["id"]
    body = {"order_type": "LIMIT", "price": "2500.05", "connection_id": paper}
    assert denied(real.place(**body)) == "tick_size"  # 0.10 there


def test_what_the_broker_does_not_list_is_denied(real, world):
    assert denied(real.place(symbol="NSE:INFY")) == "instrument_not_at_broker"


def test_order_can_be_cancelled_after_the_broker_dropped_the_instrument(real, world):
    order = real.placed(order_type="LIMIT", price="2500.05")
    records_load(NAME, [share("OTHER", "77"), share("MORE", "78")])

    assert denied(real.place()) == "instrument_not_at_broker"
    real.call("DELETE", f"/orders/{order['id']}")
    work()

    assert world.asked("cancel_order")[0].instrument.broker_token == "t2885"


def test_no_list_no_order(trader, world):
    user = User.objects.get(email=trader.email)
    made = connection_create(user_id=user.pk, broker=NAME, credentials={"api_key": "k"})
    session_open(user_id=user.pk, connection_id=made.pk, grant="g")

    assert denied(trader.place(connection_id=str(made.pk))) == "instruments_not_loaded"


def test_simulated_band_denies_no_real_order(real, world):
    far = "4000.00"  # outside of the simulated market's limits, 2000 to 3000

    assert real.placed(order_type="LIMIT", price=far)["status"] == "OPEN"
    paper = real.get("/connections")["results"][0]["id"]
    assert denied(real.place(order_type="LIMIT", price=far, connection_id=paper)) == "price_band"


def test_the_brokers_own_fresh_band_does(real, world):
    world.prices["RELIANCE-EQ"] = Decimal("2500")
    world.bands["RELIANCE-EQ"] = (Decimal(2250), Decimal(2750))
    real.get("/quotes?symbols=NSE:RELIANCE")

    assert denied(real.place(order_type="LIMIT", price="2800.00")) == "price_band"


# --- Variants -------------------------------------------------------------------------------------


def test_variants_reach_the_broker(real, world):
    first = real.placed(order_type="LIMIT", price="2500.05", after_market=True)
    second = real.placed(order_type="LIMIT", price="2500.05", iceberg_legs=5, quantity=10)
    third = real.placed(order_type="MARKET", market_protection="2.5")

    assert (first["after_market"], second["iceberg_legs"]) == (True, 5)
    assert third["market_protection"] == "2.5"
    one, two, three = world.asked("place_order")
    assert (one.after_market, one.iceberg_legs, one.market_protection) == (True, 0, None)
    assert two.iceberg_legs == 5
    assert three.market_protection == Decimal("2.50")


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"iceberg_legs": 1}, "iceberg_legs"),
        ({"iceberg_legs": 11}, "iceberg_legs"),
        ({"iceberg_legs": 2, "validity": "IOC"}, "iceberg_legs"),
        ({"after_market": True, "validity": "IOC"}, "validity_not_allowed"),
        (
            {"order_type": "LIMIT", "price": "2500.00", "market_protection": 1},
            "market_protection_not_allowed",
        ),
    ],
)
def test_variants_that_cannot_be(real, world, terms, code):
    assert denied(real.place(**terms)) == code


@pytest.mark.parametrize(
    "terms",
    [
        {"iceberg_legs": 51},
        {"iceberg_legs": -1},
        {"market_protection": 0},
        {"market_protection": "100.01"},
        {"market_protection": "1.234"},
        {"after_market": "yes"},
    ],
)
def test_variants_that_are_not_read(real, world, terms):
    assert real.place(**terms).status_code == 400


def test_paper_takes_no_variants(trader, market):
    assert denied(trader.place(after_market=True)) == "after_market_not_supported"
    assert denied(trader.place(iceberg_legs=2)) == "iceberg_not_supported"
    assert denied(trader.place(market_protection=2)) == "market_protection_not_supported"


def test_same_key_with_another_variant_is_another_order(real, world):
    assert real.place(key="k1").status_code == 201
    assert real.place(key="k1").headers["Idempotent-Replayed"] == "true"
    assert real.place(key="k1", iceberg_legs=2).status_code == 422


def test_iceberg_goes_around_the_freeze_quantity(real, world):
    made = next(
        x
        for x in selectors.listings_active()
        if x.ref.kind == "FUT" and x.ref.underlying == "NIFTY"
    )
    records_load(NAME, [RELIANCE, contract("NIFTY", "FUT", made.ref.expiry, freeze_quantity=650)])

    terms = {"symbol": made.key, "quantity": 1300}
    assert denied(real.place(**terms)) == "freeze_quantity"
    assert real.placed(**terms, iceberg_legs=2)["status"] == "OPEN"


# --- Advice, preview, prices ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        InsufficientFunds("Insufficient funds. Required 2500", broker=NAME, code="RMS"),
        StaticIpRefused("IP not allowed", broker=NAME, code="IP"),
    ],
)
def test_refusal_says_what_to_do(real, world, error):
    world.fail["place_order"] = error

    order = real.placed()

    assert (order["status"], order["status_message"]) == ("REJECTED", error.message)
    assert order["status_advice"] == error.advice != ""
    body = Notification.objects.latest("created_at").body
    assert body.startswith(error.message)
    assert body.endswith(error.advice)


def test_failed_look_up_of_the_instrument_sends_nothing(real, world, monkeypatch):
    response = real.place()
    monkeypatch.setattr(
        "trading.services.execution.ref_of_order",
        lambda *a: (_ for _ in ()).throw(NotSent("away", broker=NAME)),
    )
    work()

    order = real.order(response.json()["id"])
    assert order["status"] == "PENDING"
    assert not world.asked("place_order")


def test_preview_asks_the_broker(real, world):
    world.prices["RELIANCE-EQ"] = Decimal("2512.35")

    found = real.call("POST", "/orders/preview", {"symbol": "NSE:RELIANCE", "side": "BUY",
                                                  "quantity": 10}).json()  # fmt: skip

    assert (found["margin_required"], found["charges"]) == ("1234.50", "12.10")
    assert (found["estimated_price"], found["source"], found["simulated"]) == (
        "2512.35", NAME, False,
    )  # fmt: skip
    assert found["denied"]["code"] == "insufficient_funds"
    ((request,),) = world.asked("estimate_margin")
    assert request.instrument.broker_token == "t2885"
    assert request.order_type is OrderType.MARKET


def test_real_position_is_worth_what_its_broker_quotes(real, world):
    from datetime import UTC, datetime

    from brokerages.types import Exchange, FillReport, Side
    from trading.services.reports import fill_apply

    order = real.placed(order_type="LIMIT", price="2500.05")
    fill = FillReport(
        "f1", order["broker_order_id"], "", Exchange.NSE, Side.BUY, 10, Decimal("2500.05"),
        datetime.now(UTC),
    )  # fmt: skip
    fill_apply(connection_id=Order.objects.get().connection_id, broker=NAME, fill=fill)

    (before,) = real.get("/positions")["results"]
    assert before["last_price"] is None  # no price at all, rather than a simulated one

    world.prices["RELIANCE-EQ"] = Decimal("2510.05")
    broker_prices.forget()
    (after,) = real.get("/positions")["results"]
    assert (after["last_price"], after["unrealised_pnl"]) == ("2510.05", "100.00")
    assert after["simulated"] is False
    asked = len(world.asked("fetch_quotes"))
    real.get("/positions")
    assert len(world.asked("fetch_quotes")) == asked  # not asked again within seconds


def test_index_cannot_be_bought_anywhere(real, world):
    index = replace(
        share("NIFTY 50", "1001"), kind=selectors.ref_by_key("NSE:NIFTY 50").kind,
        segment=selectors.ref_by_key("NSE:NIFTY 50").segment,
    )  # fmt: skip
    records_load(NAME, [RELIANCE, index])

    assert denied(real.place(symbol="NSE:NIFTY 50", product="MIS")) == "not_tradable"
