"""What every page of a signed-in user shares."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import cache_control

View = Callable[..., HttpResponseBase]


def user_id_of(request: HttpRequest) -> UUID:
    """Return who is signed in; only for views behind `signed_in`."""
    user_id: UUID = request.principal.id  # type: ignore[attr-defined]
    return user_id


def signed_in(view: View) -> View:
    """Let nobody in without a sign-in, and nothing of the page into a cache."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.principal is None:  # type: ignore[attr-defined]
            return _to_signin(request)
        return view(request, *args, **kwargs)

    return cache_control(private=True, no_store=True)(wrapped)


def _to_signin(request: HttpRequest) -> HttpResponseBase:
    here = request.get_full_path() if request.method == "GET" else ""
    if request.headers.get("HX-Request") == "true":  # a part of a page: the whole page has to go
        shown = urlsplit(request.headers.get("HX-Current-URL", ""))
        response = HttpResponse(status=204)
        following = urlunsplit(("", "", shown.path, shown.query, ""))
        response["HX-Redirect"] = signin_address(safe_next(request, following), expired=True)
        return response
    return redirect(signin_address(here))


def signin_address(following: str = "", *, expired: bool = False) -> str:
    query = {}
    if expired:
        query["expired"] = "1"
    if following and following != "/":
        query["next"] = following
    return reverse("pages:signin") + (f"?{urlencode(query)}" if query else "")


def safe_next(request: HttpRequest, address: str) -> str:
    """Return ``address`` if it is one of ours, else nothing: a sign-in leads to no other site."""
    if not address or not url_has_allowed_host_and_scheme(
        address, {request.get_host()}, require_https=request.is_secure()
    ):
        return ""
    return address
