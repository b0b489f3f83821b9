"""The address of a connection's postbacks over HTTP, for its owner alone."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit.openapi import errors
from brokerages.api import CONNECTIONS, OwnApi
from brokerages.services.postbacks import postback_rotate, postback_url

EXAMPLE = OpenApiExample(
    "Zerodha",
    {"url": "https://sauda.example.com/api/v1/webhooks/zerodha/3q2-7wEBAAABi..."},
    response_only=True,
)


class PostbackAddressOutput(serializers.Serializer):
    url = serializers.CharField(
        allow_null=True,
        help_text="To enter at the broker; null where it sends no postbacks. Keep it to yourself.",
    )


class ConnectionPostbackApi(OwnApi):
    @extend_schema(
        operation_id="connections_postback",
        tags=CONNECTIONS,
        summary="Where the broker posts what happens to orders",
        responses={200: PostbackAddressOutput, **errors(401, 404)},
        examples=[EXAMPLE],
    )
    def get(self, request: Request, connection_id: UUID) -> Response:
        url = postback_url(user_id=self.user_id(request), connection_id=connection_id)
        return Response({"url": url})

    @extend_schema(
        operation_id="connections_postback_rotate",
        tags=CONNECTIONS,
        summary="Make a new address for postbacks",
        request=None,
        responses={
            200: PostbackAddressOutput,
            **errors(401, 404, s409="`postbacks_not_supported`: this broker sends none."),
        },
        examples=[EXAMPLE],
    )
    def post(self, request: Request, connection_id: UUID) -> Response:
        """The address before counts for nothing from now on: enter the new one at the broker."""
        url = postback_rotate(user_id=self.user_id(request), connection_id=connection_id)
        return Response({"url": url})
