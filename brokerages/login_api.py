"""Logging in at a broker's own page, and coming back from there, over HTTP."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.principals import Principal
from audit.openapi import errors
from brokerages import serializers as shapes
from brokerages.api import BROKER_ERRORS, CONNECTION, CONNECTIONS, OwnApi
from brokerages.errors import BrokerError
from brokerages.problems import BrokerageError, NotFound
from brokerages.registry import BROKER_NAMES
from brokerages.services import logins

GRANTS = ("request_token", "code")  # what brokers call what their redirect carries
LONGEST_GRANT = 4096
PAGE = "text/html"


class LoginUrlOutput(serializers.Serializer):
    url = serializers.CharField(help_text="Open it in a browser.")
    expires_at = serializers.DateTimeField(help_text="The way back is open until then, once.")


class SessionRequestOutput(serializers.Serializer):
    expires_at = serializers.DateTimeField(
        allow_null=True, help_text="Until when the user may approve; null where it is not said."
    )


class ConnectionLoginUrlApi(OwnApi):
    @extend_schema(
        operation_id="connections_login_url",
        tags=CONNECTIONS,
        summary="Where the user logs in at the broker",
        responses={
            200: LoginUrlOutput,
            **errors(
                401, 404, s422="`not_supported`: this broker has no login page; open the session."
            ),
        },
        examples=[
            OpenApiExample(
                "Zerodha",
                {
                    "url": "https://kite.zerodha.com/connect/login?v=3&api_key=your-api-key"
                    "&redirect_params=state%3D...",
                    "expires_at": "2026-11-23T04:10:00Z",
                },
                response_only=True,
            )
        ],
    )
    def get(self, request: Request, connection_id: UUID) -> Response:
        """The broker sends the browser back to `/connections/callback/{broker}`, which opens the
        session. Each answer is good for one login.
        """
        principal = cast(Principal, request.user)
        started = logins.login_start(principal=principal, connection_id=connection_id)
        return Response({"url": started.url, "expires_at": started.expires_at})


class ConnectionSessionRequestApi(OwnApi):
    @extend_schema(
        operation_id="connections_session_request",
        tags=CONNECTIONS,
        summary="Have the broker ask its user to approve a session",
        request=None,
        responses={
            202: SessionRequestOutput,
            **errors(
                401,
                404,
                s409=BROKER_ERRORS["s409"],
                s422="`approval_not_supported`, or the broker refused.",
                s502=BROKER_ERRORS["s502"],
                s503=BROKER_ERRORS["s503"],
            ),
        },
        examples=[
            OpenApiExample("Asked", {"expires_at": "2026-11-23T22:00:00Z"}, response_only=True)
        ],
    )
    def post(self, request: Request, connection_id: UUID) -> Response:
        """The user approves it in the broker's app. The broker then posts the session to the
        connection's postback address, which has to be entered there as the app's notifier.
        """
        until = logins.session_request(user_id=self.user_id(request), connection_id=connection_id)
        return Response({"expires_at": until}, status=202)


def _parameter(name: str, text: str) -> OpenApiParameter:
    return OpenApiParameter(name, str, OpenApiParameter.QUERY, description=text)


class OneRenderer(BaseContentNegotiation):
    """Browsers need not name JSON: they get a redirect."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class LoginCallbackApi(APIView):
    permission_classes = [AllowAny]
    content_negotiation_class = OneRenderer

    @extend_schema(
        operation_id="connections_callback",
        tags=CONNECTIONS,
        summary="Back from the broker's login page",
        parameters=[
            _parameter("state", "As it was in the address of the login."),
            _parameter("request_token", "Of Zerodha's redirect."),
            _parameter("status", "Of Zerodha's redirect: `success`, else the login failed."),
            _parameter("code", "Of Upstox's redirect."),
        ],
        responses={
            200: shapes.ConnectionOutput,
            302: OpenApiResponse(description="To the dashboard, for a browser."),
            **errors(
                401,
                404,
                s400="`invalid_login`: the state is not one of ours, was used, is too old, or is "
                "another user's. `login_cancelled`: there is no grant.",
                **BROKER_ERRORS,
            ),
        },
        examples=[CONNECTION],
    )
    def get(self, request: Request, broker: str) -> HttpResponseBase:
        """The broker sends the user's browser here. A login that was started in a browser is
        finished in that user's browser only; one that was started by a client of the API needs no
        sign-in here, and is refused to anybody else's.
        """
        response = self._answer(request, broker)
        response["Referrer-Policy"] = "no-referrer"
        response["Cache-Control"] = "no-store"
        return response

    def _answer(self, request: Request, broker: str) -> HttpResponseBase:
        if broker not in BROKER_NAMES:
            raise NotFound("No such broker.")
        query = request.query_params
        state = query.get("state", "")
        asker = cast(Principal, request.user) if request.user.is_authenticated else None
        in_browser = PAGE in request.headers.get("Accept", "")
        try:
            connection, session = logins.login_finish(
                broker=broker, state=state, grant=_grant(query), asker=asker
            )
        except (BrokerageError, BrokerError) as e:
            if not in_browser:
                raise
            messages.error(request._request, e.message)
            mine = logins.login_connection(broker, state, user_id=asker.id) if asker else None
            if mine is None:
                return redirect("pages:connections")
            return redirect("pages:connection-login", mine)
        if in_browser:
            messages.success(request._request, f"{connection.label} is logged in.")
            return redirect("pages:connections")
        connection.session = session
        return Response(shapes.ConnectionOutput(connection).data)


def _grant(query: Any) -> str:
    """Return what the redirect carries; nothing where it says that the login failed."""
    if query.get("error") or query.get("status", "success") != "success":
        return ""
    grant = next((found for name in GRANTS if (found := query.get(name))), "")
    return grant if len(grant) <= LONGEST_GRANT and "\x00" not in grant else ""
