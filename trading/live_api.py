"""What a broker says of orders before they are placed, and what it does with positions."""

from __future__ import annotations

from uuid import UUID

import msgspec
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

from audit import openapi
from brokerages.api import BROKER_ERRORS
from brokerages.selectors import connection_brief
from brokerages.services import adapter_for
from brokerages.types import Product, Side
from marketdata.errors import NotAtBroker
from trading import inputs, serializers
from trading.answers import answer, body_of, errors, user_id
from trading.errors import OrderDenied
from trading.outputs import rupees
from trading.services.conversions import Conversion, conversion_output, position_convert
from trading.services.orders import new_tag, order_request, terms_at_broker

LIVE = ["connections: live"]
MOST_ORDERS = 20


class MarginsInput(msgspec.Struct, forbid_unknown_fields=True):
    orders: list[inputs.OrderPlaceInput]


class ConvertInput(msgspec.Struct, forbid_unknown_fields=True):
    symbol: str
    quantity: int
    old_product: Product
    new_product: Product
    side: Side | None = None
    overnight: bool = False


_margins_decoder = msgspec.json.Decoder(MarginsInput)
_convert_decoder = msgspec.json.Decoder(ConvertInput)


class ConnectionMarginsApi(APIView):
    @extend_schema(
        operation_id="connections_margins",
        tags=LIVE,
        summary="What orders would block at the broker, and the charges that it states",
        description="All orders together: hedged ones need less. Nothing is placed.",
        request=serializers.MarginsBody,
        responses={200: serializers.MarginsOutput, **errors(400, 401, 404, 413, 415),
                   **openapi.errors(**BROKER_ERRORS)},
        examples=[
            OpenApiExample(
                "One order",
                value={"orders": [{"symbol": "NSE:RELIANCE", "side": "BUY", "quantity": 10}]},
                request_only=True,
            ),
            OpenApiExample(
                "Estimate", value={"required": "25001.00", "charges": "29.18"}, response_only=True
            ),
        ],
    )  # fmt: skip
    def post(self, request: Request, connection_id: UUID) -> HttpResponse:
        body = inputs.decode(_margins_decoder, body_of(request))
        if not 1 <= len(body.orders) <= MOST_ORDERS:
            raise ValidationError({"orders": [f"1 to {MOST_ORDERS} orders are needed."]})
        connection = connection_brief(user_id=user_id(request), connection_id=connection_id)
        every = [inputs.order_terms(order) for order in body.orders]
        try:
            requests = [
                order_request(terms_at_broker(connection.broker, terms), tag=new_tag())
                for terms in every
            ]
        except NotAtBroker as e:
            raise OrderDenied(e.message, code=e.code) from e
        margin = adapter_for(connection.id).estimate_margin(requests)
        return answer({"required": rupees(margin.required), "charges": rupees(margin.charges)})


class ConvertPositionApi(APIView):
    @extend_schema(
        operation_id="connections_convert_position",
        tags=LIVE,
        summary="Move open units from one product to another, e.g. intraday to delivery",
        description="The broker is asked first; `moved` says how many units of our own position "
        "changed with it. One that was opened elsewhere needs `side`.",
        request=serializers.ConvertBody,
        responses={200: serializers.ConvertOutput, **errors(400, 401, 404, 413, 415),
                   **openapi.errors(**BROKER_ERRORS)},
        examples=[
            OpenApiExample(
                "To delivery",
                value={
                    "symbol": "NSE:RELIANCE",
                    "quantity": 10,
                    "old_product": "MIS",
                    "new_product": "CNC",
                },
                request_only=True,
            ),
            OpenApiExample(
                "Converted",
                value={
                    "symbol": "NSE:RELIANCE",
                    "quantity": 10,
                    "old_product": "MIS",
                    "new_product": "CNC",
                    "moved": 10,
                },
                response_only=True,
            ),
        ],
    )  # fmt: skip
    def post(self, request: Request, connection_id: UUID) -> HttpResponse:
        body = inputs.decode(_convert_decoder, body_of(request))
        ref = inputs.instrument(body.symbol)
        connection = connection_brief(user_id=user_id(request), connection_id=connection_id)
        asked = Conversion(
            instrument_id=ref.id,
            quantity=inputs.whole("quantity", body.quantity),
            old_product=body.old_product,
            new_product=body.new_product,
            side=body.side,
            overnight=body.overnight,
        )
        moved = position_convert(user_id=user_id(request), connection=connection, asked=asked)
        return answer(conversion_output(asked, ref.key, moved))
