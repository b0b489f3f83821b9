"""Ordering and what follows from it, through the pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from brokerages.adapters.paper.adapter import PaperAdapter
from brokerages.base import CredentialField, SessionRenewal
from brokerages.errors import Refused
from brokerages.forms import ConnectForm
from brokerages.models import BrokerConnection, BrokerSession
from brokerages.problems import InvalidConnection
from marketdata.panels import STARTERS
from marketdata.selectors import watchlist_list, watchlist_symbols
from tests.pages.conftest import Market, Visitor, ticket
from tests.trading.conftest import work
from trading.models import Notification, Order


def text(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def test_an_order_is_placed_and_filled(visitor: Visitor) -> None:
    order = visitor.buy()
    assert (order.status, order.source) == ("FILLED", "WEB")
    page = text(visitor.get("/orders?status=all"))
    assert "BUY RELIANCE NSE CNC MARKET" in page
    assert "Filled" in page
    assert "No open orders" in text(visitor.get("/orders"))


def test_the_same_form_sent_twice_is_one_order(visitor: Visitor) -> None:
    form = ticket()
    for _ in range(3):
        assert visitor.post("/orders/new", form).status_code == 302
    assert Order.objects.count() == 1
    changed = visitor.post("/orders/new", form | {"quantity": 11})
    assert changed.status_code == 422
    assert Order.objects.count() == 1


def test_each_ticket_has_a_key_of_its_own(visitor: Visitor) -> None:
    find = re.compile(r'name="idempotency_key" value="(\w{32})"')
    keys = {
        key for _ in range(3) for key in find.findall(visitor.get("/orders/new").content.decode())
    }
    assert len(keys) == 6  # the page's, and that of the ticket beside it


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"quantity": 0}, "greater than or equal to 1"),
        ({"quantity": "ten"}, "whole number"),
        ({"order_type": "LIMIT"}, "LIMIT orders need this"),
        ({"order_type": "SL", "price": "2600"}, "SL orders need this"),
        ({"order_type": "LIMIT", "price": "-1"}, "greater than or equal"),
        ({"order_type": "LIMIT", "price": "nan"}, "Enter a number"),
        ({"symbol": "NSE:NOSUCH"}, "no such instrument"),
        ({"order_type": "LIMIT", "price": "2500.03"}, "tick"),
        ({"symbol": "NSE:NIFTY 50"}, "is an index"),
        ({"connection_id": "0198c0de-0000-7000-8000-000000000009"}, "No such connection"),
        ({"side": "HOLD"}, "valid choice"),
        ({"idempotency_key": "no spaces allowed"}, "valid value"),
    ],
)
def test_an_order_that_cannot_be_says_why(
    visitor: Visitor, terms: dict[str, Any], words: str
) -> None:
    answer = visitor.post("/orders/new", ticket(**terms))
    assert answer.status_code == 422
    if "side" not in terms and "idempotency_key" not in terms:
        assert words in text(answer)
    assert not Order.objects.exists()


def test_an_order_without_a_broker_says_what_to_do(new_visitor: Callable[..., Visitor]) -> None:
    answer = new_visitor(paper=False).post("/orders/new", ticket())
    assert answer.status_code == 422
    assert "Connect a broker first" in text(answer)


def test_the_ticket_is_filled_in_from_the_address(visitor: Visitor) -> None:
    page = visitor.get(
        "/orders/new?symbol=NSE:INFY&side=SELL&quantity=7&order_type=LIMIT&price=1510&product=MIS"
    ).content.decode()
    form = page[page.index('class="page ticket-page"') :]
    assert 'name="quantity" inputmode="numeric" autocomplete="off" value="7"' in form
    assert 'value="1510"' in form
    assert 'value="SELL" checked' in form
    assert 'value="MIS" checked' in form
    assert "1,500.00" in form  # the price, and that it is a simulated one:
    assert ">SIMULATED<" in form


def test_a_waiting_order_is_changed_and_cancelled(visitor: Visitor) -> None:
    order = visitor.buy(order_type="LIMIT", price="2400", product="MIS")
    assert "Open" in text(visitor.get("/orders?part=rows"))
    path = f"/orders/{order.pk}"
    assert 'value="2400' in visitor.get(f"{path}/change").content.decode()
    bad = {"quantity": 12, "order_type": "LIMIT", "price": "", "validity": "DAY"}
    assert visitor.post(f"{path}/change", bad).status_code == 422
    off = bad | {"price": "2400.03"}
    answer = visitor.post(f"{path}/change", off)
    assert answer.status_code == 422
    assert "tick" in text(answer)
    assert visitor.post(f"{path}/change", bad | {"price": "2410"})["Location"] == "/orders"
    work()
    order.refresh_from_db()
    assert (order.quantity, order.price) == (12, 2410)
    assert visitor.post(f"{path}/cancel")["Location"] == "/orders"
    work()
    order.refresh_from_db()
    assert order.status == "CANCELLED"
    again = visitor.client.post(f"{path}/cancel", follow=True)
    assert "already CANCELLED" in text(again)


def test_all_open_orders_are_cancelled_at_once(visitor: Visitor) -> None:
    for price in ("2400", "2390"):
        visitor.buy(order_type="LIMIT", price=price, product="MIS")
    answer = visitor.client.post("/orders/cancel-all", follow=True)
    assert "Cancel asked for 2 orders." in text(answer)
    work()
    assert set(Order.objects.values_list("status", flat=True)) == {"CANCELLED"}


def test_the_timeline_opens_and_closes_by_its_link(visitor: Visitor) -> None:
    order = visitor.buy()
    closed = visitor.get("/orders?status=all").content.decode()
    link = re.search(r'class="expander" href="(\?[^#"]+)#', closed)
    assert link
    address = f"/orders{link[1].replace('&amp;', '&')}"
    assert str(order.pk) in address
    opened = visitor.get(address)
    assert "Placed" in text(opened)
    assert "10 at ₹2,500.10" in text(opened)
    assert 'aria-expanded="true"' in opened.content.decode()


def test_old_orders_are_a_link_away(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trading.views.PAGE", 2)
    for _ in range(3):
        visitor.buy(quantity=1)
    page = visitor.get("/orders?status=all").content.decode()
    assert page.count("<tr id=") == 2
    following = re.search(r'href="\?(status=all&amp;cursor=[^"]+)"', page)
    assert following
    older = visitor.get(f"/orders?{following[1].replace('&amp;', '&')}").content.decode()
    assert older.count("<tr id=") == 1


def test_a_position_shows_its_profit_and_is_left(visitor: Visitor, market: Market) -> None:
    visitor.buy(product="MIS")
    market.set("NSE:RELIANCE", "2600.00")
    page = visitor.get("/positions")
    assert "+999.00" in text(page)  # 10 x (2,600.00 - 2,500.10)
    assert 'class="up"' in page.content.decode()
    assert 'title="Simulated price"' in page.content.decode()
    assert visitor.post(f"/positions/{visitor.position.pk}/exit")["Location"] == "/positions"
    work()
    closed = visitor.get("/positions").content.decode()
    assert "data-closed" in closed
    assert visitor.position.quantity == 0
    again = visitor.client.post(f"/positions/{visitor.position.pk}/exit", follow=True)
    assert "closed already" in text(again)


def test_a_loss_has_a_sign_beside_its_colour(visitor: Visitor, market: Market) -> None:
    visitor.buy(product="MIS")
    market.set("NSE:RELIANCE", "2400.00")
    assert "−1,001.00" in text(visitor.get("/positions"))
    assert "−₹1,001.00" in text(visitor.get("/portfolio"))


def test_every_position_is_left_at_once(visitor: Visitor) -> None:
    visitor.buy(product="MIS")
    visitor.buy(product="MIS", symbol="NSE:INFY")
    answer = visitor.client.post("/positions/exit-all", follow=True)
    assert "2 exit orders placed." in text(answer)
    work()
    assert "data-closed" in visitor.get("/positions").content.decode()


def test_delivery_becomes_a_holding_and_the_overview_adds_up(
    visitor: Visitor, market: Market
) -> None:
    visitor.buy()
    market.set("NSE:RELIANCE", "2510.10")
    holdings = text(visitor.get("/holdings"))
    assert "₹25,001.00" in holdings
    assert "₹25,101.00" in holdings
    assert "+100.00" in holdings
    overview = text(visitor.get("/portfolio"))
    assert "₹9,74,999.00" in overview
    assert "+₹100.00" in overview


def test_round_trips_and_executions_are_listed(visitor: Visitor) -> None:
    visitor.buy(product="MIS")
    visitor.buy(product="MIS", side="SELL")
    trips = text(visitor.get("/trades"))
    assert "RELIANCE" in trips
    assert "Closed" in trips
    fills = text(visitor.get("/trades?view=fills"))
    assert fills.count("25,001.00") == 1
    assert "SELL" in fills


def test_what_happened_is_told_until_it_is_read(visitor: Visitor) -> None:
    visitor.buy()
    assert re.search(r"data-unread\s*>1<", visitor.get("/orders").content.decode())
    assert "Order filled: BUY 10 RELIANCE" in text(visitor.get("/notifications"))
    assert visitor.post("/notifications")["Location"] == "/notifications"
    assert Notification.objects.get().read_at is not None
    assert re.search(r"data-unread hidden>0<", visitor.get("/orders").content.decode())


# --- First run, watchlist, brokers ---------------------------------------------------------------


def symbols_of(visitor: Visitor) -> list[str]:
    mine = watchlist_list(user_id=visitor.user.pk).first()
    return watchlist_symbols([mine.pk]).get(mine.pk, []) if mine else []


def test_one_press_gives_a_broker_and_a_watchlist(new_visitor: Callable[..., Visitor]) -> None:
    visitor = new_visitor(paper=False)
    for _ in range(2):  # pressing twice changes nothing
        assert visitor.post("/start/paper")["Location"] == "/watchlist"
    assert BrokerConnection.objects.get(user_id=visitor.user.pk).is_default
    assert symbols_of(visitor) == list(STARTERS)
    page = text(visitor.get("/watchlist"))
    assert "Your paper broker is ready" in page
    assert "RELIANCE" in page


def test_instruments_come_onto_the_watchlist_and_leave_it(visitor: Visitor) -> None:
    htmx = {"HX-Request": "true"}
    assert "Nothing watched yet" in text(visitor.get("/watchlist"))
    added = visitor.post("/watchlist/add", {"symbol": "NSE:INFY"}, **htmx)
    assert "INFY" in text(added)
    assert b"<html" not in added.content
    assert visitor.post("/watchlist/add", {"symbol": "NSE:M&M"})["Location"] == "/watchlist"
    assert symbols_of(visitor) == ["NSE:INFY", "NSE:M&M"]
    assert 'href="/instruments/NSE:M&amp;M"' in visitor.get("/watchlist").content.decode()
    visitor.post("/watchlist/remove", {"symbol": "NSE:INFY"}, **htmx)
    assert symbols_of(visitor) == ["NSE:M&M"]
    assert visitor.post("/watchlist/add", {"symbol": "NSE:NOSUCH"}).status_code == 404
    assert visitor.post("/watchlist/add").status_code == 404


def test_the_search_finds_and_says_what_is_watched(visitor: Visitor) -> None:
    found = visitor.get("/instruments/search?q=infosys")
    assert "Infosys" in text(found)
    assert "data-add" in found.content.decode()
    visitor.post("/watchlist/add", {"symbol": "NSE:INFY"})
    assert "In the watchlist" in text(visitor.get("/instruments/search?q=infosys"))
    assert "Nothing is called" in text(visitor.get("/instruments/search?q=zzzz"))
    assert text(visitor.get("/instruments/search?q=")).strip() == ""
    index = visitor.get("/instruments/search?q=NIFTY 50").content.decode()
    assert index.count('data-ticket="BUY" data-symbol="NSE:NIFTY 50"') == 0


def test_an_instrument_shows_its_book(visitor: Visitor) -> None:
    page = text(visitor.get("/instruments/NSE:RELIANCE"))
    assert "2,499.90" in page
    assert "2,500.10" in page
    assert "10,00,000" in page


def test_a_broker_is_made_default_and_disabled(visitor: Visitor) -> None:
    first = BrokerConnection.objects.get(user_id=visitor.user.pk)
    made = visitor.post("/connections/new/paper", {"label": "Second"})
    assert made["Location"] == "/connections"
    second = BrokerConnection.objects.get(label="Second")
    visitor.post(f"/connections/{second.pk}/default")
    second.refresh_from_db()
    assert second.is_default
    visitor.buy(order_type="LIMIT", price="2400", product="MIS")
    refused = visitor.client.post(f"/connections/{second.pk}/disable", follow=True)
    assert "Cancel the open orders first." in text(refused)
    visitor.client.post("/orders/cancel-all")
    work()
    visitor.client.post(f"/connections/{second.pk}/disable")
    first.refresh_from_db()
    assert first.is_default
    assert "Disabled" in text(visitor.get("/connections"))


def test_a_broker_that_wants_its_user_is_logged_in_at(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    able = replace(PaperAdapter.capabilities, session_renewal=SessionRenewal.INTERACTIVE)
    monkeypatch.setattr(PaperAdapter, "capabilities", able)
    monkeypatch.setattr(
        PaperAdapter, "login_url", lambda self, state: f"https://broker.test/?state={state}"
    )
    connection = BrokerConnection.objects.get(user_id=visitor.user.pk)
    BrokerSession.objects.update(state=BrokerSession.State.LOGIN_NEEDED)
    assert "Log in needed" in text(visitor.get("/connections"))
    path = f"/connections/{connection.pk}/login"
    assert f'href="{path}/start"' in visitor.get(path).content.decode()
    away = visitor.get(f"{path}/start")
    assert away.status_code == 302
    assert away["Location"].startswith("https://broker.test/?state=")
    assert visitor.post(path).status_code == 422
    assert visitor.post(path, {"grant": "token"})["Location"] == "/connections"
    assert "is logged in" in text(visitor.get("/connections"))

    def refuse(self: PaperAdapter, grant: str | None) -> None:
        raise Refused("The token has expired.", broker="paper")

    monkeypatch.setattr(PaperAdapter, "open_session", refuse)
    again = visitor.post(path, {"grant": "token"})
    assert again.status_code == 422
    assert "The token has expired." in text(again)


def test_a_broker_that_does_without_its_user_is_logged_in_by_a_button(visitor: Visitor) -> None:
    connection = BrokerConnection.objects.get(user_id=visitor.user.pk)
    path = f"/connections/{connection.pk}/login"
    assert "grant" not in visitor.get(path).content.decode()
    assert visitor.post(path)["Location"] == "/connections"


def test_the_connect_form_asks_for_what_the_broker_needs() -> None:
    fields = (
        CredentialField("api_key", "API key", secret=False),
        CredentialField("api_secret", "API secret", help_text="From the console."),
        CredentialField("totp", "TOTP secret", required=False),
    )
    form = ConnectForm(fields, {"credential-api_key": "k", "credential-api_secret": "hidden-value"})
    assert form.is_valid()
    assert form.credentials() == {"api_key": "k", "api_secret": "hidden-value"}
    html = form.as_p()
    assert 'type="password"' in html
    assert "hidden-value" not in html
    form.refuse(InvalidConnection("needs more", detail={"missing": ["api_secret"]}))
    assert form.errors["credential-api_secret"] == ["This is needed."]
    form.refuse(InvalidConnection("something else"))
    assert form.non_field_errors() == ["something else"]


def test_the_trail_tells_what_was_done(visitor: Visitor) -> None:
    visitor.buy()
    page = text(visitor.get("/audit"))
    assert "Order placed" in page
    assert "quantity: 10" in page
    assert "symbol: NSE:RELIANCE" in page
    orders = text(visitor.get("/audit?family=order."))
    assert "Order placed" in orders
    assert "Broker connected" not in orders.split("Everything", 1)[1].split("Time", 1)[1]
