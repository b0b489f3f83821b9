"""What holds for every page: it opens for its user and nobody else, and holds no code."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import get_resolver

from brokerages.models import BrokerConnection
from tests.pages.conftest import BROWSER, Visitor

PAGES = [
    "/portfolio",
    "/portfolio?part=summary",
    "/portfolio?part=recent",
    "/watchlist",
    "/watchlist?q=infosys",
    "/instruments/NSE:RELIANCE",
    "/instruments/NSE:NIFTY%2050",
    "/instruments/NSE:RELIANCE/depth",
    "/instruments/search?q=nifty",
    "/orders",
    "/orders?status=closed",
    "/orders?status=all&part=rows",
    "/orders/new",
    "/orders/new?symbol=NSE:RELIANCE&side=SELL&quantity=5&order_type=LIMIT&price=2510",
    "/positions",
    "/positions?part=rows&compact=1",
    "/holdings",
    "/holdings?part=rows",
    "/trades",
    "/trades?view=fills",
    "/notifications",
    "/notifications?part=rows",
    "/connections",
    "/connections/new/paper",
    "/start",
    "/audit",
    "/audit?family=order.",
    "/account",
    "/verify-email",
]
CHANGES = [
    "/orders/cancel-all",
    "/positions/exit-all",
    "/watchlist/add",
    "/watchlist/remove",
    "/watchlist/starter",
    "/start/paper",
    "/notifications",
    "/account/password",
    "/account/sessions",
    "/verify-email/resend",
]
SIGNED_OUT = ["/", "/signup", "/signin", "/signin/code", "/forgot-password", "/signin?next=/orders"]


def test_opens_for_its_user_and_stays_out_of_caches(visitor: Visitor) -> None:
    visitor.buy()
    for path in PAGES:
        answer = visitor.get(path)
        assert answer.status_code == 200, path
        assert "no-store" in answer["Cache-Control"], path
        assert "default-src 'none'" in answer["Content-Security-Policy"], path


def test_opens_for_someone_who_has_nothing_yet(new_visitor: Callable[..., Visitor]) -> None:
    visitor = new_visitor(paper=False)
    for path in PAGES:
        assert visitor.get(path).status_code == 200, path


def test_asks_others_to_sign_in(db: None) -> None:
    for path in PAGES:
        answer = Client(headers=BROWSER).get(path)
        assert answer.status_code == 302, path
        assert answer["Location"].startswith("/signin"), path


def test_changes_nothing_without_a_sign_in(db: None) -> None:
    for path in CHANGES:
        answer = Client(headers=BROWSER).post(path)
        assert answer.status_code == 302, path
        assert answer["Location"].startswith("/signin"), path


def test_changes_nothing_on_a_get(visitor: Visitor) -> None:
    for path in CHANGES:
        if path != "/notifications":  # a page too
            assert visitor.get(path).status_code == 405, path


def test_changes_nothing_without_the_token_of_a_form(visitor: Visitor) -> None:
    strict = Client(enforce_csrf_checks=True, headers=BROWSER)
    strict.cookies = visitor.client.cookies
    for path in CHANGES:
        assert strict.post(path).status_code == 403, path


@pytest.mark.parametrize("path", ["/orders", "/audit"])
def test_part_of_a_page_sends_the_whole_page_to_the_sign_in(db: None, path: str) -> None:
    answer = Client(headers=BROWSER).get(path, headers={"HX-Request": "true"})
    assert answer.status_code == 204
    assert answer["HX-Redirect"].startswith("/signin")


@pytest.mark.parametrize("path", SIGNED_OUT)
def test_opens_for_everyone(db: None, path: str) -> None:
    assert Client(headers=BROWSER).get(path).status_code == 200


def test_holds_no_code_in_its_markup(visitor: Visitor) -> None:
    """The content policy would refuse it; so it must not be there."""
    visitor.buy()
    for client, paths in ((visitor.client, PAGES), (Client(headers=BROWSER), SIGNED_OUT)):
        for path in paths:
            html = client.get(path).content.decode()
            assert not re.search(r"\sstyle=|<style|\son\w+=\"|javascript:", html), path
            for tag in re.findall(r"<script[^>]*>", html):
                assert "src=" in tag or "nonce=" in tag, (path, tag)


def test_every_page_is_on_a_list_above() -> None:
    """A new page has to be named here or in a test of its own."""
    patterns = next(
        p for p in get_resolver().url_patterns if getattr(p, "namespace", "") == "pages"
    )
    routes = {re.sub(r"<[^>]*>", "*", str(p.pattern)) for p in patterns.url_patterns}
    listed = {
        re.sub(r"NSE:[A-Z]+(%20\d+)?|paper$", "*", path.split("?")[0].strip("/"))
        for path in [*PAGES, *CHANGES, *SIGNED_OUT]
    }
    listed |= {"start/paper"}
    own_tests = {
        "orders/*/change",
        "orders/*/cancel",
        "positions/*/exit",
        "connections/*/default",
        "connections/*/disable",
        "connections/*/login",
        "connections/*/login/start",
        "connections/*/login/request",
        "connections/*/postback",
        "account/sessions/*",
        "signin/code/enter",
        "signout",
        "reset-password",
    }
    assert routes - listed == own_tests


@pytest.mark.parametrize("path", ["change", "cancel"])
def test_anothers_order_is_no_order(visitor: Visitor, stranger: Visitor, path: str) -> None:
    order = visitor.buy(order_type="LIMIT", price="2400", product="MIS")
    for someone, wanted in ((stranger, 404), (visitor, 302)):
        body = {"quantity": 11, "order_type": "LIMIT", "price": "2401", "validity": "DAY"}
        assert someone.post(f"/orders/{order.pk}/{path}", body).status_code == wanted
    assert stranger.get(f"/orders/{uuid4()}/change").status_code == 404


def test_anothers_position_is_no_position(visitor: Visitor, stranger: Visitor) -> None:
    visitor.buy()
    path = f"/positions/{visitor.position.pk}/exit"
    assert stranger.post(path).status_code == 404
    assert visitor.post(path).status_code == 302


@pytest.mark.parametrize("path", ["default", "disable"])
def test_anothers_connection_is_no_connection(
    visitor: Visitor, stranger: Visitor, path: str
) -> None:
    connection = BrokerConnection.objects.get(user_id=visitor.user.pk)
    assert stranger.post(f"/connections/{connection.pk}/{path}").status_code == 404
    assert stranger.get(f"/connections/{connection.pk}/login").status_code == 404
    assert visitor.post(f"/connections/{connection.pk}/{path}").status_code == 302


def test_anothers_device_stays_signed_in(visitor: Visitor, stranger: Visitor) -> None:
    session = visitor.user.login_sessions.get()
    assert stranger.post(f"/account/sessions/{session.pk}").status_code == 404
    assert visitor.get("/account").status_code == 200


def test_nothing_of_others_is_shown(visitor: Visitor, stranger: Visitor) -> None:
    visitor.buy()
    for path in (
        "/orders?status=all",
        "/positions",
        "/holdings",
        "/trades?view=fills",
        "/portfolio",
    ):
        html = stranger.get(path).content.decode()
        assert 'data-order="' not in html.replace('data-order="{', "")
        assert "data-pnl " not in html
    assert "Order placed" not in stranger.get("/audit").content.decode()


def test_an_unknown_address_is_a_page_for_browsers(visitor: Visitor) -> None:
    answer = visitor.get("/no-such-page")
    assert answer.status_code == 404
    assert b"Back to Sauda" in answer.content
    assert Client().get("/no-such-page").json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "path",
    [
        "/instruments/NSE:NOSUCH",
        "/instruments/NSE:NOSUCH/depth",
        "/orders?status=strange",
        "/trades?view=strange",
        "/audit?family=strange",
        "/connections/new/nobody",
    ],
)
def test_what_is_not_there_is_not_found(visitor: Visitor, path: str) -> None:
    assert visitor.get(path).status_code == 404


def test_a_strange_cursor_breaks_nothing(visitor: Visitor) -> None:
    for path in ("/orders?", "/trades?", "/trades?view=fills&", "/audit?", "/notifications?"):
        for cursor in ("zzz", "-", "9" * 40, "%00", "٣", "0198c0de-0000-7000-8000-000000000009"):
            assert visitor.get(f"{path}cursor={cursor}").status_code == 200, (path, cursor)


def test_the_front_door_shows_each_their_own(visitor: Visitor) -> None:
    assert visitor.get("/")["Location"] == "/portfolio"
    assert b"Open an account" in Client(headers=BROWSER).get("/").content
    assert Client().get("/").json()["name"] == "Sauda"


def test_moving_between_pages_brings_only_the_page(visitor: Visitor) -> None:
    whole = visitor.get("/orders").content.decode()
    part = visitor.get("/orders", **{"HX-Request": "true", "HX-Boosted": "true"}).content.decode()
    assert "<html" in whole
    assert 'id="watchlist"' in whole
    assert "<html" not in part
    assert 'id="watchlist"' not in part
    assert part.lstrip().startswith("<title>Orders")


def test_names_are_text_wherever_they_are_shown(new_visitor: Callable[..., Visitor]) -> None:
    visitor = new_visitor(name='<script>alert("x")</script>')
    for path in ("/portfolio", "/account"):
        html = visitor.get(path).content.decode()
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert" in html
