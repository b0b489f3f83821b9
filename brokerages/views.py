"""The pages of broker connections."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.pages import signed_in, user_id_of
from brokerages import selectors, services
from brokerages.base import BrokerAdapter, SessionRenewal
from brokerages.errors import BrokerError, NotSupported
from brokerages.forms import ConnectForm, LoginForm
from brokerages.models import BrokerConnection, BrokerSession
from brokerages.problems import BrokerageError, NotFound
from brokerages.registry import BROKER_NAMES, adapter_class
from brokerages.services import logins
from brokerages.services.adapters import redirect_url
from brokerages.services.postbacks import sends_postbacks

UNPROCESSABLE = 422
PAPER = "paper"
SESSIONS = {
    SessionRenewal.NONE: ("No login needed", ""),
    SessionRenewal.UNATTENDED: (
        "Logs in by itself each morning",
        "We renew the login each morning.",
    ),
    SessionRenewal.INTERACTIVE: (
        "Asks you to log in each day",
        "The broker asks you to log in once each trading day.",
    ),
}
STATES = {
    BrokerSession.State.ACTIVE: ("Connected", "good"),
    BrokerSession.State.EXPIRED: ("Session expired", "bad"),
    BrokerSession.State.LOGIN_NEEDED: ("Log in needed", "busy"),
    BrokerSession.State.CLOSED: ("Signed out", "idle"),
}


@require_GET
@signed_in
def start(request: HttpRequest) -> HttpResponseBase:
    """The screen after signing up: the paper broker in one press, or a broker of one's own."""
    return render(request, "brokerages/start.html", {"brokers": _brokers()})


@require_GET
@signed_in
def connections(request: HttpRequest) -> HttpResponseBase:
    found = selectors.connection_list(user_id=user_id_of(request), include_disabled=True)
    rows = sorted((_row(connection) for connection in found), key=lambda row: row["disabled"])
    live = {connection.broker for connection in found if connection.disabled_at is None}
    brokers = [{**broker, "connected": broker["name"] in live} for broker in _brokers()]
    context = {"connections": rows, "brokers": brokers}
    return render(request, "brokerages/connections.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
@sensitive_post_parameters()
def connection_new(request: HttpRequest, broker: str) -> HttpResponseBase:
    if broker not in BROKER_NAMES:
        raise Http404
    adapter = adapter_class(broker)
    form = ConnectForm(
        adapter.credential_fields, request.POST if request.method == "POST" else None
    )
    if form.is_bound and form.is_valid():
        user_id = user_id_of(request)
        try:
            made = services.connection_create(
                user_id=user_id,
                broker=broker,
                label=form.cleaned_data["label"],
                credentials=form.credentials(),
            )
        except BrokerageError as e:
            form.refuse(e)
        else:
            _open_session(request, user_id, made)
            return redirect("pages:connections")
    context = {"form": form, "broker": _broker(adapter)}
    status = UNPROCESSABLE if form.is_bound and form.errors else 200
    return render(request, "brokerages/connect.html", context, status=status)


def _open_session(request: HttpRequest, user_id: UUID, connection: BrokerConnection) -> None:
    """Log in at once where that needs nobody; say what is left to do."""
    renewal = adapter_class(connection.broker).capabilities.session_renewal
    if renewal is SessionRenewal.INTERACTIVE:
        messages.success(
            request, f"{connection.label} is connected. Log in at the broker to trade."
        )
        return
    try:
        if renewal is SessionRenewal.UNATTENDED:
            services.session_open(user_id=user_id, connection_id=connection.pk)
    except BrokerError as e:
        messages.error(request, f"{connection.label} is saved, but the login failed: {e.message}")
    else:
        messages.success(request, f"{connection.label} is connected.")


@require_POST
@signed_in
def default(request: HttpRequest, connection_id: UUID) -> HttpResponseBase:
    try:
        made = services.connection_set_default(
            user_id=user_id_of(request), connection_id=connection_id
        )
    except NotFound as e:
        raise Http404 from e
    messages.success(request, f"Orders go to {made.label} now, unless you choose another.")
    return redirect("pages:connections")


@require_POST
@signed_in
def disable(request: HttpRequest, connection_id: UUID) -> HttpResponseBase:
    try:
        services.connection_disable(user_id=user_id_of(request), connection_id=connection_id)
    except NotFound as e:
        raise Http404 from e
    except BrokerageError as e:
        messages.error(request, e.message)
    else:
        messages.success(request, "The connection is disabled. Its history stays.")
    return redirect("pages:connections")


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
@sensitive_post_parameters()
def login(request: HttpRequest, connection_id: UUID) -> HttpResponseBase:
    """Open the day's session: at the broker's own page where it wants its user, else at once."""
    user_id = user_id_of(request)
    try:
        connection = selectors.connection_get(user_id=user_id, connection_id=connection_id)
    except NotFound as e:
        raise Http404 from e
    adapter = adapter_class(connection.broker)
    interactive = adapter.capabilities.session_renewal is SessionRenewal.INTERACTIVE
    form = LoginForm(request.POST if request.method == "POST" else None, interactive=interactive)
    if form.is_bound and form.is_valid():
        try:
            services.session_open(
                user_id=user_id,
                connection_id=connection_id,
                grant=form.cleaned_data.get("grant") or None,
            )
        except BrokerError as e:
            form.add_error(None, e.message)
        else:
            messages.success(request, f"{connection.label} is logged in.")
            return redirect("pages:connections")
    context = {
        "form": form,
        "connection": connection,
        "broker": _broker(adapter),
        "interactive": interactive,
    }
    status = UNPROCESSABLE if form.is_bound and form.errors else 200
    return render(request, "brokerages/login.html", context, status=status)


@require_GET
@signed_in
def login_start(request: HttpRequest, connection_id: UUID) -> HttpResponseBase:
    """Lead on to the broker's login page; mails lead here. A GET, since the content policy lets no
    form lead to another site; all it does is to open a way back for a few minutes.
    """
    principal = request.principal  # type: ignore[attr-defined]
    try:
        started = logins.login_start(principal=principal, connection_id=connection_id)
    except NotFound as e:
        raise Http404 from e
    except NotSupported:  # nothing to do there: the session opens with the stored credentials
        return redirect("pages:connection-login", connection_id)
    except BrokerError as e:
        messages.error(request, e.message)
        return redirect("pages:connections")
    answer = redirect(started.url)
    answer["Referrer-Policy"] = "no-referrer"
    return answer


@require_POST
@signed_in
def login_request(request: HttpRequest, connection_id: UUID) -> HttpResponseBase:
    """Have the broker ask its user, in its own app."""
    try:
        logins.session_request(user_id=user_id_of(request), connection_id=connection_id)
    except NotFound as e:
        raise Http404 from e
    except (BrokerError, BrokerageError) as e:
        messages.error(request, e.message)
    else:
        messages.success(request, "Approve the session in your broker's app.")
    return redirect("pages:connections")


def _brokers() -> list[dict[str, Any]]:
    """Return every broker that can be connected, the paper broker first."""
    found = [_broker(adapter) for adapter in selectors.broker_list()]
    return sorted(found, key=lambda broker: (broker["name"] != PAPER, broker["label"]))


def _broker(adapter: type[BrokerAdapter]) -> dict[str, Any]:
    able = adapter.capabilities
    short, long = SESSIONS[able.session_renewal]
    return {
        "name": adapter.name,
        "label": adapter.label,
        "monogram": _monogram(adapter.label),
        "session_words": short,
        "session_long": long,
        "order_types": _list(able.order_types),
        "products": _list(able.products),
        "exchanges": _list(able.exchanges),
        "orders_per_second": able.orders_per_second,
        "opens_by_approval": able.opens_by_approval,
        "redirect_url": redirect_url(adapter.name)
        if able.session_renewal is SessionRenewal.INTERACTIVE
        else "",
    }


def _row(connection: BrokerConnection) -> dict[str, Any]:
    session = selectors.session_of(connection)
    state = BrokerSession.State(session.state) if session else None
    words, tone = STATES[state] if state else ("Not logged in yet", "busy")
    known = connection.broker in BROKER_NAMES
    label = adapter_class(connection.broker).label if known else connection.broker.capitalize()
    return {
        "id": connection.pk,
        "label": connection.label,
        "broker_label": label,
        "monogram": _monogram(label),
        "is_default": connection.is_default,
        "disabled": connection.disabled_at is not None,
        "data_source": connection.data_source,
        "broker_user_id": session.broker_user_id if session else "",
        "expires_at": session.expires_at if session else None,
        "last_error": session.last_error if session else "",
        "state_words": words,
        "state_tone": tone,
        "needs_login": state is not BrokerSession.State.ACTIVE,
        "interactive": known
        and adapter_class(connection.broker).capabilities.session_renewal
        is SessionRenewal.INTERACTIVE,
        "sends_postbacks": sends_postbacks(connection.broker),
    }


def _monogram(label: str) -> str:
    words = label.split()
    return "".join(word[0] for word in words[:2]).upper() if len(words) > 1 else label[:2].title()


def _list(words: Any) -> str:
    return ", ".join(sorted(str(word) for word in words))
