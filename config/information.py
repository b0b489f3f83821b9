"""The front door: a page for browsers, the API's description for everyone else."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.vary import vary_on_headers

from config.renderers import encode

View = Callable[..., HttpResponseBase]


def wants_page(request: HttpRequest) -> bool:
    """Tell a browser, which names HTML in its Accept header, from a client of the API."""
    return "text/html" in request.headers.get("Accept", "")


def home(page: View | None = None) -> View:
    """Return the view of ``/``: ``page`` for browsers if there is one, else the JSON below."""

    @vary_on_headers("Accept")
    def view(request: HttpRequest) -> HttpResponseBase:
        if page is not None and wants_page(request):
            return page(request)
        body = {
            "name": "Sauda",
            "description": "Multi-user, multi-broker trading platform for Indian markets.",
            "version": settings.SPECTACULAR_SETTINGS["VERSION"],
            "api": "/api/v1",
            "socket": "/ws",
            "openapi": "/openapi.json",
            "docs": "/docs",
            "redoc": "/redoc",
            "health": "/health",
        }
        return HttpResponse(encode(body), content_type="application/json")

    return view
