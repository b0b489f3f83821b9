"""Brokers, connections and sessions over HTTP. Each view reads, calls one service or selector, and
shapes the answer.
"""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from audit.openapi import errors
from brokerages import selectors, services
from brokerages import serializers as shapes

BROKERS, CONNECTIONS = ["brokers"], ["connections"]

SESSION_EXAMPLE = {
    "state": "ACTIVE",
    "broker_user_id": "PAPER-1F2E3D4C",
    "opened_at": "2026-11-23T04:00:00Z",
    "checked_at": "2026-11-23T04:00:00Z",
    "expires_at": None,
    "closed_at": None,
    "last_error": "",
}
CONNECTION_EXAMPLE = {
    "id": "0198c0de-0000-7000-8000-000000000002",
    "broker": "paper",
    "label": "Paper trading",
    "is_default": True,
    "data_source": "simulated",
    "created_at": "2026-11-23T04:00:00Z",
    "session": SESSION_EXAMPLE,
    "credentials": [],
}
CONNECTION = OpenApiExample("Paper", CONNECTION_EXAMPLE, response_only=True)
SESSION = OpenApiExample("Open", SESSION_EXAMPLE, response_only=True)
BROKER_ERRORS = {
    "s409": "`session_expired`, `no_session`: log in at the broker first.",
    "s422": "The broker refused.",
    "s502": "What the broker did is not known.",
    "s503": "The broker was not asked: it is not reachable, or the pace toward it is used up.",
}


class OwnApi(APIView):
    """A path of the signed-in user."""

    def user_id(self, request: Request) -> UUID:
        return cast(UUID, request.user.pk)


def read(kind: type[Serializer], data: Any) -> dict[str, Any]:
    """Return checked input.

    Raises:
        ValidationError: with the reasons by field.
    """
    form = kind(data=data)
    form.is_valid(raise_exception=True)
    return cast(dict[str, Any], form.validated_data)


# --- Brokers --------------------------------------------------------------------------------------


class BrokersApi(OwnApi):
    @extend_schema(
        operation_id="brokers_list",
        tags=BROKERS,
        summary="Brokers that can be connected, and what each can do",
        responses={200: shapes.BrokerPage, **errors(401)},
    )
    def get(self, request: Request) -> Response:
        brokers = [shapes.broker_output(adapter) for adapter in selectors.broker_list()]
        return Response({"results": brokers, "next": None})


# --- Connections ----------------------------------------------------------------------------------


class ConnectionsApi(OwnApi):
    @extend_schema(
        operation_id="connections_list",
        tags=CONNECTIONS,
        summary="The user's connections, oldest first",
        parameters=[shapes.PageInput],
        responses={200: shapes.ConnectionPage, **errors(400, 401)},
        examples=[
            OpenApiExample(
                "One", {"results": [CONNECTION_EXAMPLE], "next": None}, response_only=True
            )
        ],
    )
    def get(self, request: Request) -> Response:
        query = read(shapes.PageInput, request.query_params.dict())
        limit, cursor = query["limit"], query["cursor"]
        connections = selectors.connection_list(user_id=self.user_id(request))
        if cursor is not None:
            try:
                connections = connections.filter(pk__gt=UUID(cursor))
            except ValueError:
                message = "Must be the `next` of an earlier page."
                raise ValidationError({"cursor": [message]}) from None
        found = list(connections[: limit + 1])
        following = str(found[limit - 1].pk) if len(found) > limit else None
        results = shapes.ConnectionOutput(found[:limit], many=True).data
        return Response({"results": results, "next": following})

    @extend_schema(
        operation_id="connections_create",
        tags=CONNECTIONS,
        summary="Connect a broker",
        request=shapes.ConnectionCreateInput,
        responses={
            201: shapes.ConnectionOutput,
            **errors(
                400,
                401,
                413,
                415,
                s409="`too_many_connections`",
                s422="`broker_not_available`, `missing_credentials`, `unknown_credential`, "
                "`data_source`.",
            ),
        },
        examples=[
            OpenApiExample("Paper", {"broker": "paper", "label": "Practice"}, request_only=True),
            CONNECTION,
        ],
    )
    def post(self, request: Request) -> Response:
        """The first connection becomes the default. Where a broker has no login, the session is
        open at once; else open it with `POST /connections/{id}/session`.
        """
        form = read(shapes.ConnectionCreateInput, request.data)
        connection = services.connection_create(user_id=self.user_id(request), **form)
        return Response(shapes.ConnectionOutput(connection).data, status=201)


class ConnectionApi(OwnApi):
    @extend_schema(
        operation_id="connections_read",
        tags=CONNECTIONS,
        summary="One connection",
        responses={200: shapes.ConnectionOutput, **errors(401, 404)},
        examples=[CONNECTION],
    )
    def get(self, request: Request, connection_id: UUID) -> Response:
        connection = selectors.connection_get(
            user_id=self.user_id(request), connection_id=connection_id
        )
        return Response(shapes.ConnectionOutput(connection).data)

    @extend_schema(
        operation_id="connections_update",
        tags=CONNECTIONS,
        summary="Change label, source of prices or credentials",
        request=shapes.ConnectionUpdateInput,
        responses={
            200: shapes.ConnectionOutput,
            **errors(400, 401, 404, 413, 415, s422="`unknown_credential`, `data_source`."),
        },
        examples=[OpenApiExample("Label", {"label": "Long term"}, request_only=True), CONNECTION],
    )
    def patch(self, request: Request, connection_id: UUID) -> Response:
        form = read(shapes.ConnectionUpdateInput, request.data)
        connection = services.connection_update(
            user_id=self.user_id(request), connection_id=connection_id, **form
        )
        return Response(shapes.ConnectionOutput(connection).data)

    @extend_schema(
        operation_id="connections_disable",
        tags=CONNECTIONS,
        summary="Take a connection out of use",
        responses={
            204: OpenApiResponse(description="Done."),
            **errors(401, 404, s409="`open_orders`: cancel them first."),
        },
    )
    def delete(self, request: Request, connection_id: UUID) -> Response:
        """Its history stays; its credentials and session are destroyed. If it was the default, the
        oldest other connection becomes it.
        """
        services.connection_disable(user_id=self.user_id(request), connection_id=connection_id)
        return Response(status=204)


class ConnectionDefaultApi(OwnApi):
    @extend_schema(
        operation_id="connections_set_default",
        tags=CONNECTIONS,
        summary="Use this connection where none is named",
        request=None,
        responses={200: shapes.ConnectionOutput, **errors(401, 404)},
        examples=[CONNECTION],
    )
    def post(self, request: Request, connection_id: UUID) -> Response:
        connection = services.connection_set_default(
            user_id=self.user_id(request), connection_id=connection_id
        )
        return Response(shapes.ConnectionOutput(connection).data)


class BrokerageActivateApi(OwnApi):
    @extend_schema(
        operation_id="dashboard_activate_brokerage",
        tags=CONNECTIONS,
        summary="Connect a broker and open its session in one call",
        request=shapes.BrokerageActivateInput,
        responses={
            200: OpenApiResponse(shapes.ConnectionOutput, "There was one; it is active again."),
            201: OpenApiResponse(shapes.ConnectionOutput, "A new connection."),
            **errors(
                400,
                401,
                413,
                415,
                s409=BROKER_ERRORS["s409"],
                s422="`broker_not_available`, `api_url_not_allowed`, `missing_credentials`, or "
                "the broker refused.",
                s502=BROKER_ERRORS["s502"],
                s503=BROKER_ERRORS["s503"],
            ),
        },
        examples=[
            OpenApiExample("Paper", {"brokerage": "paper"}, request_only=True),
            OpenApiExample(
                "Zerodha",
                {
                    "brokerage": "zerodha",
                    "api_url": "https://api.kite.trade",
                    "api_key": "your-api-key",
                    "api_secret": "your-api-secret",
                    "request_token": "your-request-token",
                },
                request_only=True,
            ),
            CONNECTION,
        ],
    )
    def post(self, request: Request) -> Response:
        """`api_url` is compared with the broker's own addresses; nothing is ever sent to another
        one. For paper only the name is needed.
        """
        form = read(shapes.BrokerageActivateInput, request.data)
        connection, is_new = services.activate_brokerage(user_id=self.user_id(request), **form)
        return Response(shapes.ConnectionOutput(connection).data, status=201 if is_new else 200)


# --- Sessions -------------------------------------------------------------------------------------


class ConnectionSessionApi(OwnApi):
    @extend_schema(
        operation_id="connections_session_read",
        tags=CONNECTIONS,
        summary="The broker session as it was last known",
        responses={
            200: shapes.BrokerSessionOutput,
            **errors(401, s404="No such connection, or `no_session`: none was opened yet."),
        },
        examples=[SESSION],
    )
    def get(self, request: Request, connection_id: UUID) -> Response:
        session = selectors.session_get(user_id=self.user_id(request), connection_id=connection_id)
        return Response(shapes.BrokerSessionOutput(session).data)

    @extend_schema(
        operation_id="connections_session_open",
        tags=CONNECTIONS,
        summary="Log in at the broker",
        request=shapes.SessionOpenInput,
        responses={
            200: shapes.BrokerSessionOutput,
            **errors(400, 401, 404, 413, 415, **BROKER_ERRORS),
        },
        examples=[
            OpenApiExample("Grant", {"grant": "your-request-token"}, request_only=True),
            SESSION,
        ],
    )
    def post(self, request: Request, connection_id: UUID) -> Response:
        """Uses the stored credentials and, where the broker's login gives one, the `grant`."""
        form = read(shapes.SessionOpenInput, request.data)
        session = services.session_open(
            user_id=self.user_id(request), connection_id=connection_id, grant=form.get("grant")
        )
        return Response(shapes.BrokerSessionOutput(session).data)

    @extend_schema(
        operation_id="connections_session_close",
        tags=CONNECTIONS,
        summary="Log out at the broker",
        responses={204: OpenApiResponse(description="Done."), **errors(401, 404)},
    )
    def delete(self, request: Request, connection_id: UUID) -> Response:
        """Our copy of the session is destroyed even if the broker cannot be reached."""
        services.session_close(user_id=self.user_id(request), connection_id=connection_id)
        return Response(status=204)


class ConnectionSessionCheckApi(OwnApi):
    @extend_schema(
        operation_id="connections_session_check",
        tags=CONNECTIONS,
        summary="Ask the broker whether the session still stands",
        request=None,
        responses={
            200: shapes.BrokerSessionOutput,
            **errors(401, 404, s422="The broker refused.", s502=BROKER_ERRORS["s502"],
                     s503=BROKER_ERRORS["s503"]),
        },
        examples=[SESSION],
    )  # fmt: skip
    def post(self, request: Request, connection_id: UUID) -> Response:
        session = services.session_check(user_id=self.user_id(request), connection_id=connection_id)
        return Response(shapes.BrokerSessionOutput(session).data)
