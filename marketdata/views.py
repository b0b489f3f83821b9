"""The pages of the watchlist and of one instrument."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts.pages import signed_in, user_id_of
from marketdata import panels, services
from marketdata.errors import LimitReached, UnknownInstrument

SEARCH_LENGTH = 60
INTERVALS = (("1m", "1m"), ("5m", "5m"), ("15m", "15m"), ("1h", "1h"), ("1d", "1D"))


@require_GET
@signed_in
def watchlist(request: HttpRequest) -> HttpResponseBase:
    """On a phone the watchlist itself; beside the watchlist column, the first instrument on it."""
    panel = panels.watchlist_panel(user_id=user_id_of(request))
    context: dict[str, Any] = dict(panel)
    if panel["items"]:
        first = next((x for x in panel["items"] if x["tradable"]), panel["items"][0])
        context |= _instrument(request, first["symbol"])
    if q := request.GET.get("q", "").strip()[
        :SEARCH_LENGTH
    ]:  # without scripts: results in the page
        context |= {"q": q, "results": panels.search_rows(q, user_id=user_id_of(request))}
    return render(request, "marketdata/watchlist.html", context)


@require_GET
@signed_in
def search(request: HttpRequest) -> HttpResponseBase:
    q = request.GET.get("q", "").strip()[:SEARCH_LENGTH]
    results = panels.search_rows(q, user_id=user_id_of(request)) if q else []
    return render(request, "marketdata/_results.html", {"q": q, "results": results})


@require_POST
@signed_in
def watchlist_add(request: HttpRequest) -> HttpResponseBase:
    mine = panels.watchlist_ensure(user_id=user_id_of(request))
    try:
        services.watchlist_item_add(watchlist=mine, symbol=request.POST.get("symbol", ""))
    except UnknownInstrument as e:
        raise Http404 from e
    except LimitReached as e:
        messages.error(request, str(e))
    return _box(request)


@require_POST
@signed_in
def watchlist_remove(request: HttpRequest) -> HttpResponseBase:
    mine = panels.watchlist_ensure(user_id=user_id_of(request))
    services.watchlist_item_remove(watchlist=mine, symbol=request.POST.get("symbol", ""))
    return _box(request)


@require_POST
@signed_in
def watchlist_starter(request: HttpRequest) -> HttpResponseBase:
    panels.watchlist_start(user_id=user_id_of(request))
    return _box(request)


@require_GET
@signed_in
def instrument(request: HttpRequest, symbol: str) -> HttpResponseBase:
    try:
        context = _instrument(request, symbol)
    except UnknownInstrument as e:
        raise Http404 from e
    return render(request, "marketdata/instrument.html", context)


@require_GET
@signed_in
def depth(request: HttpRequest, symbol: str) -> HttpResponseBase:
    try:
        context = panels.depth_panel(symbol, user_id=user_id_of(request))
    except UnknownInstrument as e:
        raise Http404 from e
    live = reverse("pages:instrument-depth", args=[symbol])
    return render(request, "marketdata/_depth.html", {**context, "live": live})


def _instrument(request: HttpRequest, symbol: str) -> dict[str, Any]:
    context = panels.instrument_panel(symbol, user_id=user_id_of(request))
    context["instrument"]["watched"] = symbol in panels.watched_symbols(user_id=user_id_of(request))
    context["intervals"] = INTERVALS
    context["live"] = reverse("pages:instrument-depth", args=[symbol])
    return context


def _box(request: HttpRequest) -> HttpResponse:
    """Return the list as it is now: only the column for scripts, the page without them."""
    if request.headers.get("HX-Request") != "true":
        return redirect("pages:watchlist")
    panel = panels.watchlist_panel(user_id=user_id_of(request))
    return render(request, "marketdata/_watchlist_box.html", panel)
