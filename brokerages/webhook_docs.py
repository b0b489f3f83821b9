"""How the webhooks look in the API description. They are plain views, which it does not find by
itself; these stand in for them there and are called by nobody.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    extend_schema,
    extend_schema_field,
)
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.views import APIView

from audit.openapi import errors
from brokerages.serializers import words
from brokerages.types import Exchange, Side

TAG = ["webhooks"]

FILL_EXAMPLE = {
    "event_id": "fill-20261123-000001",
    "type": "fill",
    "occurred_at": "2026-11-23T04:00:00Z",
    "connection_id": "0198c0de-0000-7000-8000-000000000002",
    "broker_order_id": "261123000000001",
    "fill_id": "10000001",
    "exchange": "NSE",
    "side": "BUY",
    "quantity": 10,
    "price": "2500.05",
    "filled_at": "2026-11-23T04:00:00Z",
}
ORDER_EXAMPLE = {
    "event_id": "order-20261123-000001",
    "type": "order",
    "occurred_at": "2026-11-23T04:00:00Z",
    "connection_id": "0198c0de-0000-7000-8000-000000000002",
    "broker_order_id": "261123000000001",
    "status": "CANCELLED",
    "message": "Cancelled by the user.",
}
ANSWER = {"status": "APPLIED", "event_id": "fill-20261123-000001", "reason": ""}
REASONS = {
    "s401": "The signature is missing or not valid, or the address belongs to no connection.",
    "s503": "The database is away: send it again.",
}


@extend_schema_field(
    {
        "oneOf": [
            {"type": "number"},
            {"type": "string", "pattern": r"^[0-9]{1,10}(\.[0-9]{1,4})?$"},
        ],
        "description": "Rupees per unit, above 0.",
    }
)
class PriceInput(serializers.DecimalField):
    pass


class WebhookEventInput(serializers.Serializer):
    type = serializers.CharField(
        max_length=32, help_text="`fill` or `order`; another word is kept and ignored."
    )
    event_id = serializers.CharField(
        max_length=128, required=False, help_text="The same event has the same id, for ever."
    )
    occurred_at = serializers.DateTimeField(required=False, help_text="With an offset.")
    order_id = serializers.UUIDField(required=False, help_text="The platform's own id.")
    connection_id = serializers.UUIDField(required=False, help_text="Needed without `order_id`.")
    broker_order_id = serializers.CharField(max_length=64, required=False)
    tag = serializers.CharField(
        max_length=64, required=False, help_text="What the broker carries for us."
    )
    fill_id = serializers.CharField(
        max_length=64, required=False, help_text="The broker's id of the execution."
    )
    exchange = serializers.ChoiceField(words(Exchange), required=False)
    side = serializers.ChoiceField(words(Side), required=False)
    quantity = serializers.IntegerField(required=False, min_value=1, help_text="Units.")
    price = PriceInput(
        max_digits=14, decimal_places=4, required=False, help_text="Rupees per unit."
    )
    filled_at = serializers.DateTimeField(required=False, help_text="With an offset.")
    status = serializers.CharField(
        max_length=32, required=False, help_text="A word of ours, such as `OPEN` or `CANCELLED`."
    )
    filled_quantity = serializers.IntegerField(required=False, min_value=0)
    message = serializers.CharField(max_length=500, required=False, allow_blank=True)


class WebhookOutput(serializers.Serializer):
    status = serializers.ChoiceField(["APPLIED", "IGNORED", "PARKED", "QUEUED", "DEAD"])
    event_id = serializers.CharField(allow_null=True)
    reason = serializers.CharField(allow_blank=True)


class BrokerSignature(BaseAuthentication):
    """A name for the description; the view checks the signature itself."""

    def authenticate(self, request: Request) -> None:
        return None


class BrokerSignatureScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = BrokerSignature
    name = "brokerSignature"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "X-Broker-Signature",
            "description": "HMAC-SHA256 of the raw body, as hexadecimal digits.",
        }


class EventsDoc(APIView):
    authentication_classes = (BrokerSignature,)

    @extend_schema(
        operation_id="webhooks_events",
        tags=TAG,
        summary="Take one signed event about an order",
        request=WebhookEventInput,
        parameters=[
            OpenApiParameter(
                "X-Broker-Signature-Alg",
                str,
                OpenApiParameter.HEADER,
                description="`HMAC-SHA256`, or left out.",
            )
        ],
        responses={200: WebhookOutput, **errors(400, 413, 429, **REASONS)},
        examples=[
            OpenApiExample("Fill", FILL_EXAMPLE, request_only=True),
            OpenApiExample("Order", ORDER_EXAMPLE, request_only=True),
            OpenApiExample("Applied", ANSWER, response_only=True),
        ],
    )
    def post(self, request: Request) -> None:
        """Signed with `X-Broker-Signature`: HMAC-SHA256 of the raw body as hexadecimal digits. The
        answer is 200 also for what was received before, is ignored, or waits; only 401, 413, 429
        and 503 are worth another try.
        """


class PostbackDoc(APIView):
    authentication_classes = ()
    permission_classes = ()

    @extend_schema(
        operation_id="webhooks_postback",
        tags=TAG,
        summary="Take a broker's own postback",
        request=None,
        parameters=[
            OpenApiParameter("broker", str, OpenApiParameter.PATH),
            OpenApiParameter(
                "token", str, OpenApiParameter.PATH, description="Of the connection's own address."
            ),
        ],
        responses={200: WebhookOutput, **errors(400, 404, 413, 429, **REASONS)},
        examples=[
            OpenApiExample(
                "Kept", {"status": "QUEUED", "event_id": None, "reason": ""}, response_only=True
            )
        ],
    )
    def post(self, request: Request, broker: str, token: str) -> None:
        """The body is the broker's own. Nothing in it is believed: it makes the platform read the
        order at the broker.
        """


PATHS = (
    ("/api/v1/webhooks/events", EventsDoc),
    ("/api/v1/webhooks/{broker}/{token}", PostbackDoc),
)


def add_paths(endpoints: list[Any], **_: Any) -> list[Any]:
    """Add the webhooks to what is described (a hook of drf-spectacular)."""
    return endpoints + [(path, path, "POST", view.as_view()) for path, view in PATHS]
