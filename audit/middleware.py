"""Opens the audit context of each request: its id and where it came from. Who asks comes later."""

import ipaddress
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from audit import context


class AuditContextMiddleware:
    """Stands right after the middleware that gives the request its id."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = getattr(request, "request_id", "")
        # A caller who does not sign in is still a person, not the system.
        with context.fresh_scope(
            actor_kind=context.ActorKind.USER, request_id=request_id, ip=client_ip(request)
        ):
            return self.get_response(request)


def client_ip(request: HttpRequest) -> str | None:
    """Return the caller's address, or None where there is none (a unix socket).

    ``X-Forwarded-For`` is believed only for as many entries, counted from its end, as proxies of
    ours (``TRUSTED_PROXIES``) have appended to it; what stands before those was written by the
    caller.
    """
    given = request.META.get("REMOTE_ADDR", "")
    if proxies := settings.TRUSTED_PROXIES:
        hops = [hop.strip() for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
        if len(hops) >= proxies:
            given = hops[-proxies]
    try:
        address = ipaddress.ip_address(given)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
