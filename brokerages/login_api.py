"""Logging in at a broker's page over HTTP: where to go, and where its user is sent back to."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.openapi import errors
from brokerages import serializers as shapes
from brokerages import services
from brokerages.api import BROKER_ERRORS, CONNECTION, CONNECTIONS, OwnApi
from brokerages.errors import BrokerError
from brokerages.models import BrokerLogin
from brokerages.problems import BrokerageError, LoginRefused, NotFound
from brokerages.registry import BROKER_NAMES
from brokerages.selectors import connection_get
from brokerages.services.logins import STATE_LENGTH

GRANT_LENGTH = 2000
# What brokers call what the platform exchanges for a session.
GRANTS = ("request_token", "code", "auth_code", "tokenId")


class LoginUrlOutput(serializers.Serializer):
    url = serializers.URLField(help_text="Open it in the user's browser.")
    expires_at = serializers.DateTimeField(help_text="Until then the way back is open, once.")


class ConnectionLoginUrlApi(OwnApi):
    @extend_schema(
        operation_id="connections_login_url",
        tags=CONNECTIONS,
        summary="Where the user logs in at the broker",
        responses={
            200: LoginUrlOutput,
            **errors(
                401,
                404,
                s409=BROKER_ERRORS["s409"],
                s422="`no_login_page`: open the session with the credentials; or the stored "
                "credentials cannot be used.",
            ),
        },
        examples=[
            OpenApiExample(
                "Zerodha",
                {
                    "url": "https://kite.zerodha.com/connect/login?v=3&api_key=your-api-key",
                    "expires_at": "2026-11-23T04:10:00Z",
                },
                response_only=True,
            )
        ],
    )
    def get(self, request: Request, connection_id: UUID) -> Response:
        """The broker sends the user back to the platform, which opens the session."""
        principal = getattr(request._request, "principal", None)
        started_in = BrokerLogin.StartedIn.BROWSER if principal else BrokerLogin.StartedIn.API
        url, expires_at = services.login_start(
            user_id=self.user_id(request),
            connection_id=connection_id,
            started_in=started_in,
            login_session_id=request.user.session_id,  # type: ignore[union-attr]
        )
        return Response(
            LoginUrlOutput({"url": url, "expires_at": expires_at}).data,
            headers={"Cache-Control": "no-store"},
        )


class LoginCallbackApi(APIView):
    """Open to everybody: what comes is proved by its state, and by the browser where it began."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(
        operation_id="connections_callback",
        tags=CONNECTIONS,
        summary="Where a broker sends its user back after a login",
        parameters=[
            OpenApiParameter("broker", OpenApiTypes.STR, OpenApiParameter.PATH),
            OpenApiParameter("state", OpenApiTypes.STR, required=True, description="Of the login."),
            OpenApiParameter("request_token", OpenApiTypes.STR, description="Zerodha's grant."),
            OpenApiParameter("code", OpenApiTypes.STR, description="Upstox's grant."),
        ],
        responses={
            200: shapes.ConnectionOutput,
            302: OpenApiResponse(description="A browser goes on to the brokers' page."),
            **errors(
                s400="A parameter is missing or wrong.",
                s403="`login_refused`: the state was used, has expired, or is another user's.",
                s404="No such broker.",
                **BROKER_ERRORS,
            ),
        },
        examples=[CONNECTION],
        auth=[],
    )
    def get(self, request: Request, broker: str) -> HttpResponseBase:
        """A browser is led on to the dashboard; others get the connection."""
        wants_page = "text/html" in request.META.get("HTTP_ACCEPT", "")
        try:
            connection_id, user_id = _finish(request, broker)
        except (BrokerError, BrokerageError) as e:
            if not wants_page:
                raise
            messages.error(request._request, f"The login did not succeed: {e.message}")
            return _on(request)
        if wants_page:
            label = connection_get(user_id=user_id, connection_id=connection_id).label
            messages.success(request._request, f"{label} is logged in.")
            return _on(request)
        connection = connection_get(user_id=user_id, connection_id=connection_id)
        return Response(shapes.ConnectionOutput(connection).data)


def _finish(request: Request, broker: str) -> tuple[UUID, UUID]:
    if broker not in BROKER_NAMES:
        raise NotFound("There is no such broker.")
    query = request.query_params
    state = query.get("state", "")
    if not 0 < len(state) <= STATE_LENGTH:
        raise ValidationError({"state": ["This is needed, as the login's address had it."]})
    grant = next((query[name] for name in GRANTS if query.get(name)), "")
    if not grant or query.get("status", "success") != "success":
        services.login_cancelled(broker=broker, state=state)
        raise LoginRefused(
            "The broker sent back no login. If it was cancelled there, start it again.",
            code="login_cancelled",
        )
    if len(grant) > GRANT_LENGTH:
        raise ValidationError({"code": ["This is too long to be a broker's."]})
    principal = getattr(request._request, "principal", None)
    connection, _ = services.login_finish(
        broker=broker,
        state=state,
        grant=grant,
        browser_user_id=principal.id if principal else None,
    )
    return connection.pk, connection.user_id


def _on(request: Request) -> HttpResponseRedirect:
    answer = HttpResponseRedirect(reverse("pages:connections"))
    answer["Referrer-Policy"] = "no-referrer"  # the address has the grant in it
    return answer
