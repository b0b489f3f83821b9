"""The platform as a trader meets it: in a browser, by hand, live."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, Route, expect

from tests.e2e.conftest import PATIENCE, LivePlatform, Visitor

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(180)]

PASSWORD = "correct horse battery"
TWO_MINUTES = 120.0
ROW = '.wl-row[data-symbol="NSE:RELIANCE"]'

Open = Callable[..., Visitor]

expect.set_options(timeout=PATIENCE * 1000)


def new_email() -> str:
    return f"asha.{uuid4().hex[:8]}@example.org"


def sign_up(page: Page, email: str) -> None:
    page.goto("/")
    page.get_by_role("link", name="Open an account").click()
    page.get_by_label("Name").fill("Asha Rao")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    page.wait_for_url("**/start")


def start_on_paper(page: Page) -> None:
    page.get_by_role("button", name="Start with ₹10,00,000").click()
    page.wait_for_url("**/watchlist")
    expect(page.locator("[data-feed-state]")).to_have_attribute("data-state", "live")


def changes(page: Page, selector: str) -> None:
    """Wait until a text on the page becomes another one."""
    before = page.locator(selector).first.inner_text()
    expect(page.locator(selector).first).not_to_have_text(before)


def open_ticket(page: Page, side: str, *, phone: bool) -> None:
    if phone:
        row = page.locator(ROW)
        if row.get_attribute("data-open") is None:
            row.locator(".wl-line").tap()
        row.locator(f"[data-ticket={side}]").tap()
    else:
        page.locator(ROW).hover()
        page.keyboard.press("b" if side == "BUY" else "s")
    expect(page.get_by_role("dialog")).to_be_visible()


def outcome(page: Page, status: str) -> None:
    expect(page.locator("[data-t=outcome]")).to_have_attribute("data-status", status)


def orders_of(page: Page) -> list[dict[str, Any]]:
    """Ask the API as the page would."""
    answer = page.evaluate("fetch('/api/v1/orders').then((r) => r.json())")
    rows: list[dict[str, Any]] = answer["results"]
    return rows


def go(page: Page, name: str, *, phone: bool) -> None:
    """Follow a link of the navigation; on a phone some pages are below another."""
    if phone and name in ("Positions", "Holdings", "Trades"):
        page.locator(".bottomnav").get_by_role("link", name="Portfolio").tap()
        page.locator(".subnav").get_by_role("link", name=name).tap()
    elif phone:
        page.locator(".bottomnav").get_by_role("link", name=name, exact=True).tap()
    else:
        page.locator(".topnav").get_by_role("link", name=name).click()
    title = "Good" if name in ("Overview", "Portfolio") else name
    expect(page.locator("main h1")).to_contain_text(title)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_from_sign_up_to_profit_and_loss(visitor: Open, phone: bool, scheme: str) -> None:
    window = visitor(f"{'phone' if phone else 'desktop'}-{scheme}", phone=phone, scheme=scheme)
    page, began = window.page, time.monotonic()
    page.goto("/")
    window.shot("landing")
    sign_up(page, new_email())
    window.shot("start")
    start_on_paper(page)
    page.evaluate("window.loadedOnce = true")  # gone after any reload
    changes(page, f"{ROW} [data-q=last]")
    expect(page.locator(f"{ROW} .spark path").first).to_be_attached()
    window.shot("watchlist")

    # an order, pressed twice
    open_ticket(page, "BUY", phone=phone)
    quantity = page.get_by_label("Quantity")
    expect(quantity).to_be_focused()
    quantity.fill("10")
    expect(page.locator("[data-t=margin]:not([data-stale])")).to_contain_text(re.compile(r"₹\d\d,"))
    expect(page.locator("[data-t=funds]")).to_have_text("₹10,00,000.00")
    expect(page.locator("[data-t=quote] .sim")).to_be_visible()
    window.shot("ticket")
    page.locator("[data-t=go]").dblclick()
    outcome(page, "FILLED")
    assert time.monotonic() - began < TWO_MINUTES
    window.shot("filled")
    placed = orders_of(page)
    assert [order["status"] for order in placed] == ["FILLED"]
    assert placed[0]["filled_quantity"] == 10
    page.locator("[data-t=done]").click()

    # its profit and loss, as prices move
    go(page, "Positions", phone=phone)
    row = page.locator("#position-rows tbody tr")
    expect(row).to_have_count(1)
    changes(page, "#position-rows [data-q=last]")
    assert pnl_difference(page) < 0.011
    window.shot("positions")
    go(page, "Portfolio" if phone else "Overview", phone=phone)
    expect(page.locator("[data-sum=pnl]")).to_contain_text(re.compile(r"₹"))
    changes(page, "#position-rows [data-q=last]")
    window.shot("overview")
    go(page, "Holdings", phone=phone)
    expect(page.locator("#holding-rows tbody tr")).to_have_count(1)

    # an order that waits, seen to come and to go without a reload
    go(page, "Orders", phone=phone)
    expect(page.locator("#order-rows")).to_contain_text("No open orders")
    place_waiting_order(page)
    waiting = page.locator("#order-rows tbody tr[data-order]")
    expect(waiting).to_have_count(1)
    expect(waiting.locator(".status")).to_have_text("Open")
    expect(page.get_by_role("button", name="Cancel all")).to_be_enabled()
    window.shot("orders")
    waiting.get_by_role("button", name="Cancel").click()
    expect(page.locator("#order-rows")).to_contain_text("No open orders")

    # out again
    go(page, "Positions", phone=phone)
    page.get_by_role("button", name="Exit", exact=True).click()
    page.locator("#ask").get_by_role("button", name="Exit").click()
    expect(page.locator("#position-rows tbody tr[data-closed]")).to_have_count(1)
    assert sorted(order["status"] for order in orders_of(page)) == ["CANCELLED", "FILLED", "FILLED"]
    assert page.evaluate("window.loadedOnce"), "the page was loaded again"
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert window.problems == []


def pnl_difference(page: Page) -> float:
    """How far the P&L shown is from what the price beside it makes of what was paid."""
    return float(
        page.evaluate(
            """() => {
              const row = document.querySelector("#position-rows tr[data-pnl]");
              const shown = (name) => Number(row.querySelector(`[data-q=${name}]`).textContent
                .replaceAll(",", "").replace("+", "").replace("\u2212", "-"));
              const made = Number(row.dataset.quantity) * shown("last") - Number(row.dataset.cost);
              return Math.abs(shown("pnl") - made);
            }"""
        )
    )


def place_waiting_order(page: Page) -> None:
    """Place an order from elsewhere, as another device would: the page has to hear of it."""
    made = page.evaluate(
        """async () => {
          const quotes = await (await fetch("/api/v1/quotes?symbols=NSE:INFY")).json();
          const last = Number(quotes.data["NSE:INFY"].last_price);
          const price = (Math.floor(last * 0.95 * 10) / 10).toFixed(2);
          const answer = await fetch("/api/v1/orders", {
            method: "POST",
            headers: {
              "Content-Type": "application/json",
              "X-CSRFToken": document.body.dataset.csrf,
              "Idempotency-Key": crypto.randomUUID(),
            },
            body: JSON.stringify({symbol: "NSE:INFY", side: "BUY", quantity: 5, order_type: "LIMIT",
              product: "MIS", price}),
          });
          return [answer.status, await answer.text()];
        }"""
    )
    assert made[0] == 201, made[1]


def test_a_lost_answer_is_asked_for_again_and_stays_one_order(visitor: Open) -> None:
    window = visitor()
    page = window.page
    sign_up(page, new_email())
    start_on_paper(page)
    keys: list[str] = []

    def lose_the_first_answer(route: Route) -> None:
        if route.request.method != "POST":
            route.fallback()
            return
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            route.fetch()  # the platform has it
            route.abort()  # the browser never hears of it
        else:
            route.fallback()

    page.route("**/api/v1/orders", lose_the_first_answer)
    open_ticket(page, "BUY", phone=False)
    page.locator("[data-t=go]").click()
    outcome(page, "FILLED")
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert len(orders_of(page)) == 1


def test_a_denial_is_explained_in_the_ticket_before_anything_is_sent(visitor: Open) -> None:
    window = visitor()
    page = window.page
    sign_up(page, new_email())
    start_on_paper(page)
    open_ticket(page, "BUY", phone=False)
    page.get_by_label("Quantity").fill("10000")
    expect(page.get_by_role("alert")).to_contain_text("available")
    page.get_by_label("Quantity").fill("1")
    expect(page.locator("[data-t=denied]")).to_be_hidden()
    page.get_by_role("radio", name="Limit").check()
    page.get_by_label("Price", exact=True).fill("100.03")
    expect(page.get_by_role("alert")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert orders_of(page) == []
    assert window.problems == []


def test_prices_and_orders_go_on_while_the_socket_is_away(visitor: Open) -> None:
    window = visitor()
    page = window.page
    page.route_web_socket("**/ws", lambda socket: socket.close())
    sign_up(page, new_email())
    page.get_by_role("button", name="Start with ₹10,00,000").click()
    page.wait_for_url("**/watchlist")
    expect(page.locator("[data-feed-state]")).to_have_text("Reconnecting")
    changes(page, f"{ROW} [data-q=last]")
    open_ticket(page, "BUY", phone=False)
    page.locator("[data-t=go]").click()
    outcome(page, "FILLED")


def test_the_hands_stay_on_the_keyboard(visitor: Open) -> None:
    window = visitor()
    page = window.page
    sign_up(page, new_email())
    start_on_paper(page)
    page.keyboard.press("/")
    expect(page.locator("#finder")).to_be_focused()
    page.keyboard.type("infosys")
    expect(page.locator("[data-result]").first).to_contain_text("INFY")
    page.keyboard.press("Enter")
    expect(page.locator("main h1")).to_contain_text("INFY")
    page.keyboard.press("s")
    expect(page.locator("#ticket-title")).to_contain_text("Sell INFY")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    # the row under the pointer is meant, not the one that was pressed before
    page.locator('.wl-row[data-symbol="NSE:TCS"]').hover()
    page.get_by_role("button", name="Depth of TCS").click()
    page.locator('.wl-row[data-symbol="NSE:SBIN"]').hover()
    page.keyboard.press("b")
    expect(page.locator("#ticket-title")).to_contain_text("Buy SBIN")
    page.keyboard.press("Escape")
    page.locator('.wl-row[data-symbol="NSE:NIFTY 50"]').hover()
    page.keyboard.press("b")  # an index cannot be bought
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("/")
    page.keyboard.type("wipro")
    page.get_by_role("button", name="Watch WIPRO").click()
    expect(page.locator('.wl-row[data-symbol="NSE:WIPRO"]')).to_be_visible()
    page.keyboard.press("Escape")
    page.locator('.wl-row[data-symbol="NSE:WIPRO"]').hover()
    page.get_by_role("button", name="Depth of WIPRO").click()
    expect(page.locator('.wl-row[data-symbol="NSE:WIPRO"] .depth .bid tbody tr')).to_have_count(5)
    page.get_by_role("button", name="Remove WIPRO").click()
    expect(page.locator('.wl-row[data-symbol="NSE:WIPRO"]')).to_have_count(0)
    assert window.problems == []


def test_a_waiting_order_is_changed_in_the_ticket(visitor: Open) -> None:
    window = visitor()
    page = window.page
    sign_up(page, new_email())
    start_on_paper(page)
    place_waiting_order(page)
    go(page, "Orders", phone=False)
    page.get_by_role("link", name="Change").click()
    quantity = page.get_by_label("Quantity")
    expect(quantity).to_have_value("5")
    quantity.fill("7")
    page.locator("[data-t=go]").click()
    expect(page.locator("#order-rows tbody tr[data-order]")).to_contain_text("0 / 7")
    page.locator("[data-t=done]").click()
    page.get_by_role("link", name="Timeline of this order").click()
    expect(page.locator(".timeline")).to_contain_text("Placed")
    assert window.problems == []


def test_an_ended_sign_in_leads_back_to_the_sign_in_page(visitor: Open) -> None:
    window = visitor()
    page = window.page
    sign_up(page, new_email())
    start_on_paper(page)
    go(page, "Orders", phone=False)
    page.wait_for_load_state("networkidle")
    window.context.clear_cookies()
    with contextlib.suppress(PlaywrightError):  # what the page asks by itself may notice first
        page.locator(".topnav").get_by_role("link", name="Positions").click(timeout=3000)
    page.wait_for_url("**/signin?*")
    expect(page.locator("main")).to_contain_text("sign-in has ended")
    assert "next=%2Forders" in page.url


def test_a_code_by_mail_signs_in_and_a_new_password_can_be_had(
    visitor: Open, live_platform: LivePlatform
) -> None:
    window = visitor()
    page, email = window.page, new_email()
    sign_up(page, email)
    start_on_paper(page)
    page.get_by_role("link", name="Enter the code").click()
    page.get_by_label("Six-digit code").fill(live_platform.mailed_code(email, "Confirm"))
    page.get_by_role("button", name="Confirm").click()
    page.wait_for_url("**/portfolio")
    expect(page.get_by_text("Your e-mail address is confirmed.")).to_be_visible()
    expect(page.locator(".banner")).to_have_count(0)
    page.locator(".menu > summary").click()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("link", name="Code by e-mail").click()
    page.get_by_label("E-mail").fill(email)
    page.get_by_role("button", name="Send me a code").click()
    expect(page.get_by_role("button", name="Send a new code")).to_be_disabled()
    page.get_by_label("Six-digit code").fill("000000")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".error")).to_contain_text("code is wrong")
    page.get_by_label("Six-digit code").fill(live_platform.mailed_code(email, "sign-in code"))
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/portfolio")
    page.locator(".menu > summary").click()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("link", name="Forgotten your password?").click()
    page.get_by_label("E-mail").fill(email)
    page.get_by_role("button", name="Send me a code").click()
    page.get_by_label("Six-digit code").fill(live_platform.mailed_code(email, "Reset"))
    page.get_by_label("New password").fill("another fine battery")
    page.get_by_role("button", name="Save password").click()
    expect(page.get_by_text("Sign in with the new one")).to_be_visible()
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill("another fine battery")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/portfolio")


def test_without_scripts_one_can_sign_in_search_and_trade(visitor: Open) -> None:
    window = visitor(java_script_enabled=False)
    page = window.page
    sign_up(page, new_email())
    page.get_by_role("button", name="Start with ₹10,00,000").click()
    page.get_by_label("Search shares").fill("infosys")
    page.get_by_label("Search shares").press("Enter")
    page.locator("[data-result]").first.get_by_role("link", name="Buy INFY").click()
    page.get_by_label("Quantity").fill("3")
    page.get_by_role("button", name="Place order").click()
    expect(page.get_by_text("Order placed: BUY 3 INFY.")).to_be_visible()
    until = time.monotonic() + 10
    while "Filled" not in page.locator("#order-rows").inner_text():
        assert time.monotonic() < until
        page.reload()
    page.get_by_role("link", name="Positions").first.click()
    expect(page.locator("#position-rows tbody tr")).to_have_count(1)
