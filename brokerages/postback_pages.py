"""The page with the address that a user enters at the broker."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from accounts.pages import signed_in, user_id_of
from brokerages import selectors
from brokerages.problems import BrokerageError, NotFound
from brokerages.registry import adapter_class
from brokerages.services.postbacks import postback_rotate, postback_url, sends_postbacks


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def postback(request: HttpRequest, connection_id: UUID) -> HttpResponseBase:
    """Show where the broker posts what happens to orders; a POST makes a new address."""
    user_id = user_id_of(request)
    try:
        connection = selectors.connection_get(user_id=user_id, connection_id=connection_id)
        if request.method == "POST":
            postback_rotate(user_id=user_id, connection_id=connection_id)
            messages.success(request, "The address is new. Enter it at the broker now.")
            return redirect("pages:connection-postback", connection_id=connection_id)
        url = postback_url(user_id=user_id, connection_id=connection_id)
    except NotFound as e:
        raise Http404 from e
    except BrokerageError as e:
        messages.error(request, e.message)
        return redirect("pages:connections")
    if not sends_postbacks(connection.broker):
        raise Http404
    able = adapter_class(connection.broker).capabilities
    context = {
        "connection": connection,
        "url": url,
        "signed": able.signs_postbacks,
        "takes_sessions": able.opens_by_approval,
    }
    return render(request, "brokerages/postback.html", context)
