"""The pages of trading. Each asks a selector or a service and hands plain values to a template."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.pages import signed_in, user_id_of
from brokerages.problems import BrokerageError
from brokerages.selectors import connection_brief, connection_list
from brokerages.services import connection_create
from brokerages.types import Product
from marketdata.panels import priced_rows, watchlist_start
from trading import selectors
from trading.errors import NotFound, TradingError
from trading.forms import ORDER_TYPE_WORDS, PRODUCT_WORDS, OrderForm, TermsForm, new_key
from trading.models import Order
from trading.order_states import CANCELLABLE, CLOSED, MODIFIABLE
from trading.selectors import IST
from trading.services import exits
from trading.services import orders as order_services
from trading.services.notifications import notifications_mark_read
from trading.services.portfolio import portfolio_overview

PAGE, LATEST = 50, 6
UNPROCESSABLE = 422
PAPER = "paper"
DELIVERY = (Product.CNC.value, Product.MTF.value)
BAD = {"REJECTED", "DENIED", "NOT_PLACED"}

Row = dict[str, Any]


# --- Overview ------------------------------------------------------------------------------------


@require_GET
@signed_in
def portfolio(request: HttpRequest) -> HttpResponseBase:
    part = request.GET.get("part")
    if part == "recent":
        latest, _ = selectors.order_list(user_id=user_id_of(request), limit=LATEST)
        return render(request, "trading/_recent.html", {"recent_orders": latest})
    overview = portfolio_overview(user_id=user_id_of(request))
    context = overview | _summary(overview) | {"greeting": _greeting(timezone.now())}
    context["recent_orders"] = overview["recent_orders"][:LATEST]
    if part == "summary":
        return render(request, "trading/_summary.html", context)
    return render(request, "trading/portfolio.html", context)


def _summary(overview: Row) -> Row:
    """Return the figures of the cards, and the rows of the two tables below them."""
    rows, held = shown_positions(overview["positions"]), overview["holdings"]
    funds = overview["funds"]
    total, used = _number(funds["total"]), _number(funds["used"])
    return {
        "positions": rows,
        "holdings": held,
        "total": _sum(rows, "pnl"),
        "positions_pnl": _sum(rows, "pnl"),
        "open_positions": sum(1 for row in rows if row["quantity"]),
        "holdings_invested": _sum(held, "invested"),
        "holdings_value": _sum(held, "value"),
        "holdings_pnl": _sum(held, "pnl"),
        "simulated": any(row["simulated"] for row in rows),
        "funds_used_percent": int(100 * used / total) if total else 0,
    }


def shown_positions(rows: Iterable[Row]) -> list[Row]:
    """Return the positions of the day: what was traded today, or is carried and no holding."""
    today = timezone.now().astimezone(IST).date()
    shown = []
    for row in rows:
        traded_today = row["updated_at"].astimezone(IST).date() == today
        if traded_today or row["product"] not in DELIVERY:
            shown.append({**row, "abs_quantity": abs(row["quantity"])})
    shown.sort(key=lambda row: not row["quantity"])  # closed ones last
    return shown


def _greeting(now: datetime) -> str:
    hour = now.astimezone(IST).hour
    return "Good morning" if hour < 12 else "Good afternoon" if hour < 17 else "Good evening"


# --- Orders --------------------------------------------------------------------------------------


@require_GET
@signed_in
def orders(request: HttpRequest) -> HttpResponseBase:
    status = request.GET.get("status", "open")
    if status not in ("open", "closed", "all"):
        raise Http404
    user_id = user_id_of(request)
    cursor = _cursor(request)
    found, following = selectors.order_list(
        user_id=user_id, status=None if status == "all" else status, limit=PAGE, cursor=cursor
    )
    here = {"status": status} | ({"cursor": cursor} if cursor else {})
    context = {
        "status": status,
        "orders": _order_rows(found, user_id, request.GET.get("expand", ""), here),
        "next": following,
        "query": urlencode({"status": status}),
        "region_url": f"{reverse('pages:orders')}?{urlencode({**here, 'part': 'rows'})}",
        "has_open": any(order["status"] not in CLOSED for order in found),
    }
    if request.GET.get("part") == "rows":
        return render(request, "trading/_orders.html", context)
    return render(request, "trading/orders.html", context)


def _order_rows(found: list[Row], user_id: UUID, expand: str, here: Row) -> list[Row]:
    expanded = set(expand.split(",")) - {""}
    prices = {
        row["symbol"]: row["last_price"]
        for row in priced_rows({x["symbol"] for x in found}, user_id=user_id)
    }
    rows = []
    for order in found:
        name, status = str(order["id"]), order["status"]
        is_open = name in expanded
        others = expanded ^ {name}
        again = {"symbol": order["symbol"], "side": order["side"], "quantity": order["quantity"]}
        again |= {"product": order["product"], "order_type": order["order_type"]}
        again |= {"price": order["price"]} if order["price"] else {}
        row = {
            **order,
            "open": status not in CLOSED,
            "can_modify": status in MODIFIABLE,
            "can_cancel": status in CANCELLABLE,
            "status_tone_bad": status in BAD,
            "last_price": prices.get(order["symbol"]),
            "short_id": name[-8:],
            "expanded": is_open,
            "expand_url": f"?{urlencode(here | {'expand': ','.join(sorted(others))})}#order-{name}",
            "repeat_url": f"{reverse('pages:order-new')}?{urlencode(again)}",
        }
        if is_open:
            row["events"] = selectors.order_events(user_id=user_id, order_id=order["id"])
        rows.append(row)
    return rows


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def order_new(request: HttpRequest) -> HttpResponseBase:
    """The ticket as a page of its own; with scripts it opens beside the watchlist instead."""
    names = ("symbol", "side", "quantity", "product", "order_type", "price")
    asked = {name: request.GET[name] for name in names if request.GET.get(name)}
    form = OrderForm(request.POST) if request.method == "POST" else OrderForm(initial=asked)
    if form.is_bound and form.is_valid():
        user_id = user_id_of(request)
        try:
            connection = connection_brief(
                user_id=user_id, connection_id=form.cleaned_data["connection_id"]
            )
            placed = order_services.order_place(
                user_id=user_id,
                connection=connection,
                terms=form.terms(),
                idempotency_key=form.cleaned_data["idempotency_key"],
                source=Order.Source.WEB,
            )
        except (TradingError, BrokerageError) as e:
            form.add_error(None, e.message)
        else:
            messages.success(request, f"Order placed: {_sentence(placed.order)}")
            return redirect(f"{reverse('pages:orders')}?status=all")
    return _ticket(request, form, mode="place", action=reverse("pages:order-new"))


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def order_change(request: HttpRequest, order_id: UUID) -> HttpResponseBase:
    user_id = user_id_of(request)
    order = _own_order(user_id, order_id)
    fixed = {name: order[name] for name in ("symbol", "side", "product")}
    names = ("quantity", "order_type", "validity", "price", "trigger_price")
    initial = {**fixed, **{name: order[name] for name in names}}
    form = OrderForm(initial=initial)
    if request.method == "POST":
        changed = TermsForm(request.POST)
        if changed.is_valid():
            terms = {
                name: value for name, value in changed.cleaned_data.items() if value is not None
            }
            try:
                order_services.order_modify(user_id=user_id, order_id=order_id, changes=terms)
            except TradingError as e:
                changed.add_error(None, e.message)
            else:
                messages.success(request, f"Change requested: {_sentence(order)}")
                return redirect("pages:orders")
        form = OrderForm({**request.POST.dict(), **fixed, "idempotency_key": new_key()})
        form.take_errors(changed)
    action = reverse("pages:order-modify", args=[order_id])
    return _ticket(request, form, mode="modify", action=action, order=order)


def _ticket(request: HttpRequest, form: OrderForm, **more: Any) -> HttpResponseBase:
    symbol = form["symbol"].value()
    quotes = priced_rows([symbol], user_id=user_id_of(request)) if symbol else []
    context = {
        "form": form,
        "products": PRODUCT_WORDS,
        "order_types": ORDER_TYPE_WORDS,
        "quote": quotes[0] if quotes else None,
        "connections": list(connection_list(user_id=user_id_of(request))),
        **more,
    }
    status = UNPROCESSABLE if form.is_bound and form.errors else 200
    return render(request, "trading/order_form.html", context, status=status)


@require_POST
@signed_in
def order_cancel(request: HttpRequest, order_id: UUID) -> HttpResponseBase:
    try:
        order_services.order_cancel(user_id=user_id_of(request), order_id=order_id)
    except NotFound as e:
        raise Http404 from e
    except TradingError as e:
        messages.error(request, e.message)
    return redirect("pages:orders")


@require_POST
@signed_in
def orders_cancel(request: HttpRequest) -> HttpResponseBase:
    answer = order_services.orders_cancel_all(user_id=user_id_of(request))
    asked = len(answer["cancelled"])
    messages.success(request, f"Cancel asked for {asked} order{'s' if asked != 1 else ''}.")
    _failures(request, answer["failed"])
    return redirect("pages:orders")


# --- Positions, holdings, trades -----------------------------------------------------------------


@require_GET
@signed_in
def positions(request: HttpRequest) -> HttpResponseBase:
    rows = shown_positions(selectors.position_list(user_id=user_id_of(request)))
    context = {
        "positions": rows,
        "total": _sum(rows, "pnl"),
        "has_open": any(row["quantity"] for row in rows),
        "compact": "compact" in request.GET,
    }
    part = request.GET.get("part") == "rows"
    return render(request, f"trading/{'_positions' if part else 'positions'}.html", context)


@require_POST
@signed_in
def position_exit(request: HttpRequest, position_id: UUID) -> HttpResponseBase:
    try:
        placed = exits.position_exit(user_id=user_id_of(request), position_id=position_id)
    except NotFound as e:
        raise Http404 from e
    except (TradingError, BrokerageError) as e:
        messages.error(request, e.message)
    else:
        messages.success(request, f"Exit placed: {_sentence(placed.order)}")
    return redirect("pages:positions")


@require_POST
@signed_in
def positions_exit(request: HttpRequest) -> HttpResponseBase:
    answer = exits.positions_exit_all(user_id=user_id_of(request))
    made = len(answer["orders"])
    messages.success(request, f"{made} exit order{'s' if made != 1 else ''} placed.")
    _failures(request, answer["failed"])
    return redirect("pages:positions")


@require_GET
@signed_in
def holdings(request: HttpRequest) -> HttpResponseBase:
    rows = selectors.holding_list(user_id=user_id_of(request))
    context = {
        "holdings": rows,
        "invested": _sum(rows, "invested"),
        "value": _sum(rows, "value"),
        "pnl": _sum(rows, "pnl"),
        "compact": "compact" in request.GET,
    }
    part = request.GET.get("part") == "rows"
    return render(request, f"trading/{'_holdings' if part else 'holdings'}.html", context)


@require_GET
@signed_in
def trades(request: HttpRequest) -> HttpResponseBase:
    view = request.GET.get("view", "trips")
    if view not in ("trips", "fills"):
        raise Http404
    user_id = user_id_of(request)
    if view == "fills":
        cursor = _number_cursor(request)
        rows, following = selectors.fill_list(user_id=user_id, limit=PAGE, cursor=cursor)
    else:
        cursor = _cursor(request)
        found, following = selectors.trade_list(user_id=user_id, limit=PAGE, cursor=cursor)
        rows = [
            {**row, "charges": _number(row["brokerage_charge"]) + _number(row["mtf_charge"])}
            for row in found
        ]
    context = {"view": view, "rows": rows, "next": following, "query": urlencode({"view": view})}
    part = request.GET.get("part") == "rows"
    return render(request, f"trading/{'_trades' if part else 'trades'}.html", context)


# --- Notifications, first run --------------------------------------------------------------------

_TONES = (("filled", "good", "check"), ("order_", "bad", "alert"), ("overfill", "bad", "alert"))


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def notifications(request: HttpRequest) -> HttpResponseBase:
    user_id = user_id_of(request)
    if request.method == "POST":
        notifications_mark_read(user_id=user_id)
        return redirect("pages:notifications")
    found, following = selectors.notification_list(
        user_id=user_id, limit=PAGE, cursor=_cursor(request)
    )
    rows = []
    for row in found:
        looks = next(
            ((tone, icon) for word, tone, icon in _TONES if word in row["kind"]), ("info", "info")
        )
        rows.append({**row, "tone": looks[0], "icon": looks[1]})
    context = {"rows": rows, "next": following, "unread": any(not row["read_at"] for row in rows)}
    part = request.GET.get("part") == "rows"
    return render(request, f"trading/{'_notifications' if part else 'notifications'}.html", context)


@require_POST
@signed_in
def start_paper(request: HttpRequest) -> HttpResponseBase:
    """Connect the paper broker and lay out a watchlist: from here on one can trade."""
    user_id = user_id_of(request)
    mine = connection_list(user_id=user_id)
    if not any(connection.broker == PAPER for connection in mine):
        try:
            connection_create(user_id=user_id, broker=PAPER, label="Paper")
        except BrokerageError as e:
            messages.error(request, e.message)
            return redirect("pages:connections")
    watchlist_start(user_id=user_id)
    messages.success(
        request, "Your paper broker is ready. Choose a share in your watchlist to buy or sell it."
    )
    return redirect("pages:watchlist")


# --- Shared --------------------------------------------------------------------------------------


def _own_order(user_id: UUID, order_id: UUID) -> Row:
    try:
        return selectors.order_get(user_id=user_id, order_id=order_id)
    except NotFound as e:
        raise Http404 from e


def _cursor(request: HttpRequest) -> str | None:
    """Return the cursor of an older page, if it can be one: a UUID."""
    try:
        return str(UUID(request.GET.get("cursor", "")))
    except ValueError:
        return None


def _number_cursor(request: HttpRequest) -> str | None:
    cursor = request.GET.get("cursor", "")
    return cursor if cursor.isdecimal() and cursor.isascii() and len(cursor) < 19 else None


def _failures(request: HttpRequest, failed: Iterable[Row]) -> None:
    for failure in failed:
        messages.error(request, failure["message"])


def _sentence(order: Row) -> str:
    return f"{order['side']} {order['quantity']} {order['symbol'].partition(':')[2]}."


def _number(text: str | None) -> Decimal:
    return Decimal(text) if text is not None else Decimal(0)


def _sum(rows: Iterable[Row], name: str) -> Decimal:
    """Return the sum of what is known."""
    return sum((_number(row[name]) for row in rows), Decimal(0))
