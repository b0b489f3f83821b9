"""The frame around every page: watchlist column, indices, bell, order ticket."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString

from accounts.pages import user_id_of
from brokerages.selectors import connection_list
from marketdata import panels
from trading.forms import ORDER_TYPE_WORDS, PRODUCT_WORDS, OrderForm
from trading.selectors import notifications_unread

register = template.Library()


@register.simple_tag(takes_context=True)
def watchlist_panel(context: template.Context) -> SafeString:
    """The column, from the page's own context where it has it already."""
    request = context["request"]
    values: dict[str, Any] = {
        "request": request,
        "q": context.get("q"),
        "results": context.get("results"),
    }
    if "watchlist" in context and "items" in context:
        names = ("watchlist", "items", "simulated_prices")
        values |= {name: context[name] for name in names}
    else:
        values |= panels.watchlist_panel(user_id=user_id_of(request))
    return render_to_string("marketdata/_watchlist.html", values, request=request)


@register.simple_tag(takes_context=True)
def market_indices(context: template.Context) -> list[dict[str, Any]]:
    return panels.index_rows(user_id=user_id_of(context["request"]))


@register.simple_tag(takes_context=True)
def unread_count(context: template.Context) -> int:
    return notifications_unread(user_id=user_id_of(context["request"]))


@register.simple_tag(takes_context=True)
def order_ticket(context: template.Context) -> SafeString:
    """An empty ticket, which scripts fill when it is opened."""
    request = context["request"]
    values = {
        "form": OrderForm(),
        "action": reverse("pages:order-new"),
        "products": PRODUCT_WORDS,
        "order_types": ORDER_TYPE_WORDS,
        "connections": list(connection_list(user_id=user_id_of(request))),
    }
    return render_to_string("trading/_ticket.html", values, request=request)
