"""The page of a person's own audit trail."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_GET

from audit import selectors
from audit.models import AuditEntry

PAGE = 50
TITLES = {
    "auth.signup": "Signed up",
    "auth.signin": "Signed in",
    "auth.signin_failed": "Sign-in failed",
    "auth.signout": "Signed out",
    "auth.session_revoked": "Device signed out",
    "auth.code_requested": "Code asked for",
    "auth.password_changed": "Password changed",
    "auth.password_refused": "Password change refused",
    "auth.password_reset": "Password reset",
    "auth.reset_refused": "Password reset refused",
    "auth.verify_refused": "E-mail confirmation refused",
    "auth.refreshed": "Session renewed",
    "auth.token_reused": "Old token used again, session ended",
    "user.created": "Account opened",
    "user.updated": "Account changed",
    "user.email_verified": "E-mail confirmed",
    "connection.created": "Broker connected",
    "connection.made_default": "Broker made the default",
    "connection.disabled": "Broker disabled",
    "connection.updated": "Broker connection changed",
    "session.opened": "Broker session opened",
    "session.expired": "Broker session expired",
    "session.closed": "Broker session closed",
    "order.outcome_unknown": "Order outcome unknown",
}
LEFT_OUT = {"user_agent", "fields"}  # long, and shown elsewhere
FAMILIES = (
    ("", "Everything"),
    ("order.", "Orders"),
    ("auth.", "Sign-ins"),
    ("user.", "Account"),
    ("connection.", "Broker connections"),
    ("session.", "Broker sessions"),
)


@require_GET
@cache_control(private=True, no_store=True)
def trail(request: HttpRequest) -> HttpResponseBase:
    principal = request.principal  # type: ignore[attr-defined]
    if principal is None:  # below the accounts, so without their decorator
        return _to_signin(request)
    family = request.GET.get("family", "")
    if family not in dict(FAMILIES):
        raise Http404
    found = selectors.entry_list(user_id=principal.id, action=family)
    cursor = request.GET.get("cursor", "")
    if cursor.isdecimal() and len(cursor) < 19:
        found = found.filter(pk__lt=int(cursor))
    entries = list(found[: PAGE + 1])
    context = {
        "families": FAMILIES,
        "family": family,
        "entries": [_row(entry) for entry in entries[:PAGE]],
        "next": entries[PAGE - 1].pk if len(entries) > PAGE else None,
        "query": urlencode({"family": family}) if family else "",
    }
    return render(request, "audit/trail.html", context)


def _to_signin(request: HttpRequest) -> HttpResponseBase:
    address = f"/signin?{urlencode({'next': request.get_full_path()})}"
    if request.headers.get("HX-Request") == "true":
        return HttpResponse(status=204, headers={"HX-Redirect": address})
    return redirect(address)


def _row(entry: AuditEntry) -> dict[str, Any]:
    short = entry.object_id if len(entry.object_id) <= 12 else f"…{entry.object_id[-8:]}"
    return {
        "id": entry.pk,
        "at": entry.at,
        "title": TITLES.get(entry.action) or _spoken(entry.action),
        "object": f"{entry.object_type} {short}".strip(),
        "details": "; ".join(_sentences(entry.changes))
        + (f" ({entry.reason})" if entry.reason else ""),
        "ip": entry.ip,
    }


def _spoken(code: str) -> str:
    return code.replace(".", " ").replace("_", " ").capitalize()


def _sentences(changes: Any) -> list[str]:
    """Return changes as words: ``price: 10 → 11``."""
    if not isinstance(changes, dict):
        return [str(changes)] if changes else []
    found = []
    for name, value in changes.items():
        if name in LEFT_OUT or value in (None, "", [], {}):
            continue
        if isinstance(value, list) and len(value) == 2:
            said = f"{_word(value[0])} → {_word(value[1])}"
        elif isinstance(value, list):
            said = ", ".join(_word(x) for x in value)
        else:
            said = _word(value)
        found.append(f"{name.replace('_', ' ')}: {said}")
    return found


def _word(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
