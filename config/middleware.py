"""What every answer carries: a request id, and for the API closed headers and CORS."""

import re
import time
import uuid
from collections.abc import Callable

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from config.health import PROBES
from config.logs import request_id
from config.metrics import REQUESTS, SECONDS

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
CLOSED_POLICY = "default-src 'none'; frame-ancestors 'none'"
ALLOWED_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
ALLOWED_HEADERS = "authorization, content-type, idempotency-key, x-request-id, x-api-key"
EXPOSED_HEADERS = "x-request-id, retry-after, idempotent-replayed"

METHODS = frozenset({*ALLOWED_METHODS.split(", "), "HEAD"})

Handler = Callable[[HttpRequest], HttpResponse]


class RequestIdMiddleware:
    """Count and time each answer; give it the caller's ``X-Request-ID`` if harmless, or a new."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        value = given if SANE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request.request_id = value  # type: ignore[attr-defined]
        token, started = request_id.set(value), time.perf_counter()
        try:
            response = self.get_response(request)
        finally:
            request_id.reset(token)
        SECONDS.observe(time.perf_counter() - started)
        REQUESTS.labels(_method(request), response.status_code).inc()
        response["X-Request-ID"] = value
        return response


def _method(request: HttpRequest) -> str:
    """Return the method as a label: a caller may invent methods, and each label stays for ever."""
    return str(request.method) if request.method in METHODS else "other"


class ProbesMiddleware:
    """Answer probes before anything asks for a known host or for TLS: they come from inside."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if (probe := PROBES.get(request.path_info[1:])) is not None:
            return probe(request)
        return self.get_response(request)


class ApiHeadersMiddleware:
    """CORS for the configured origins only, and headers that keep JSON out of caches and frames."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        origin = request.META.get("HTTP_ORIGIN", "")
        allowed = bool(origin) and origin in settings.ALLOWED_ORIGINS
        if (
            allowed
            and request.method == "OPTIONS"
            and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.META
        ):
            response = HttpResponse(status=204)
            response["Access-Control-Allow-Methods"] = ALLOWED_METHODS
            response["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
            response["Access-Control-Max-Age"] = "600"
        else:
            response = self.get_response(request)
        if allowed:
            # No Access-Control-Allow-Credentials: other origins use tokens, never our cookies.
            response["Access-Control-Allow-Origin"] = origin
            response["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
        if settings.ALLOWED_ORIGINS:
            patch_vary_headers(response, ("Origin",))
        if response.get("Content-Type", "").startswith("application/json"):
            response.setdefault("Content-Security-Policy", CLOSED_POLICY)
            response.setdefault("Cache-Control", "no-store")
        return response


class ContentPolicyMiddleware(CSPMiddleware):
    """The pages' content security policy. JSON has the cheaper one of ``ApiHeadersMiddleware``."""

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        if response.get("Content-Type", "").startswith("application/json"):
            return response
        return super().process_response(request, response)
