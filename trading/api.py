"""Orders and positions over HTTP: each view reads what was asked, calls one service, answers."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, inline_serializer
from rest_framework.request import Request
from rest_framework.views import APIView

from brokerages.selectors import connection_brief
from trading import inputs, selectors, serializers
from trading.answers import (
    CONNECTION,
    CURSOR,
    KEY,
    LIMIT,
    SYMBOL,
    answer,
    body_of,
    choice_query,
    errors,
    page_of,
    page_query,
    symbol_query,
    user_id,
    uuid_query,
)
from trading.errors import MissingIdempotencyKey
from trading.order_states import OrderStatus
from trading.services import orders
from trading.services.exits import position_exit, positions_exit_all
from trading.services.portfolio import order_preview

ORDER_EXAMPLE = {
    "id": "0198c0de-0000-7000-8000-000000000001",
    "client_order_id": "my-1",
    "connection_id": "0198c0de-0000-7000-8000-000000000002",
    "broker": "paper",
    "symbol": "NSE:RELIANCE",
    "side": "BUY",
    "order_type": "LIMIT",
    "product": "CNC",
    "validity": "DAY",
    "quantity": 10,
    "filled_quantity": 0,
    "pending_quantity": 10,
    "average_price": None,
    "price": "2500.00",
    "trigger_price": None,
    "disclosed_quantity": 0,
    "after_market": False,
    "iceberg_legs": 0,
    "market_protection": None,
    "status": "PENDING",
    "status_message": "",
    "status_code": "",
    "status_advice": "",
    "broker_order_id": "",
    "exchange_order_id": "",
    "source": "API",
    "version": 1,
    "created_at": "2026-11-23T04:00:00Z",
    "updated_at": "2026-11-23T04:00:00Z",
}
PLACE_EXAMPLES = [
    OpenApiExample(
        "Limit buy",
        value={
            "symbol": "NSE:RELIANCE",
            "side": "BUY",
            "quantity": 10,
            "order_type": "LIMIT",
            "price": "2500.00",
            "client_order_id": "my-1",
        },
        request_only=True,
    ),
    OpenApiExample(
        "Accepted, not sent yet", value=ORDER_EXAMPLE, response_only=True, status_codes=["201"]
    ),
]


def idempotency_key(request: Request, client_order_id: str | None) -> str:
    """Return the key that makes a retry safe.

    Raises:
        MissingIdempotencyKey: there is none, so every retry would be a new order.
    """
    if (given := request.headers.get("Idempotency-Key")) is not None:
        return inputs.key("Idempotency-Key", given)
    if client_order_id is not None:
        return client_order_id
    raise MissingIdempotencyKey(
        "Send an Idempotency-Key header or a client_order_id, "
        "so that a retry cannot place a second order."
    )


def place(request: Request, body: inputs.OrderPlaceInput, key: str | None = None) -> orders.Placed:
    """Place the order of a decoded body."""
    client_order_id = body.client_order_id
    key = key or idempotency_key(request, client_order_id)
    terms = inputs.order_terms(body)
    connection = connection_brief(user_id=user_id(request), connection_id=body.connection_id)
    return orders.order_place(
        user_id=user_id(request),
        connection=connection,
        terms=terms,
        idempotency_key=key,
        client_order_id=client_order_id,
    )


def placed_answer(placed: orders.Placed) -> HttpResponse:
    return answer(placed.order, 201, {"Idempotent-Replayed": "true"} if placed.replayed else None)


class OrdersApi(APIView):
    @extend_schema(
        operation_id="orders_list",
        tags=["orders"],
        summary="The user's orders, newest first",
        parameters=[
            OpenApiParameter(
                "status", OpenApiTypes.STR, description="`open`, `closed` or one status."
            ),
            SYMBOL,
            CONNECTION,
            LIMIT,
            CURSOR,
        ],
        responses={200: page_of(serializers.OrderOutput), **errors(400, 401)},
        examples=[
            OpenApiExample(
                "One page", value={"results": [ORDER_EXAMPLE], "next": None}, response_only=True
            )
        ],
    )
    def get(self, request: Request) -> HttpResponse:
        results, following = selectors.order_list(
            user_id=user_id(request),
            status=choice_query(
                request, "status", {"open", "closed", *(s.value for s in OrderStatus)}
            ),
            symbol=symbol_query(request),
            connection_id=uuid_query(request, "connection_id"),
            **page_query(request),
        )
        return answer({"results": results, "next": following})

    @extend_schema(
        operation_id="orders_place",
        tags=["orders"],
        summary="Place an order",
        description="A worker sends it within milliseconds; the answer shows it before that.",
        parameters=[KEY],
        request=serializers.OrderPlaceBody,
        responses={201: serializers.OrderOutput, **errors(400, 401, 404, 413, 415, 422)},
        examples=PLACE_EXAMPLES,
    )
    def post(self, request: Request) -> HttpResponse:
        return placed_answer(place(request, inputs.decode(inputs.place_decoder, body_of(request))))


class OrderPreviewApi(APIView):
    @extend_schema(
        operation_id="orders_preview",
        tags=["orders"],
        summary="What an order would cost, and why it would be denied",
        request=serializers.OrderPlaceBody,
        responses={200: serializers.OrderPreviewOutput, **errors(400, 401, 404, 413, 415, 422)},
        examples=PLACE_EXAMPLES[:1],
    )
    def post(self, request: Request) -> HttpResponse:
        body = inputs.decode(inputs.place_decoder, body_of(request))
        terms = inputs.order_terms(body)
        connection = connection_brief(user_id=user_id(request), connection_id=body.connection_id)
        return answer(order_preview(connection=connection, terms=terms))


class OrdersCancelAllApi(APIView):
    @extend_schema(
        operation_id="orders_cancel_all",
        tags=["orders"],
        summary="Ask for a cancel of every live order",
        request=serializers.CancelAllBody,
        responses={202: serializers.CancelAllOutput, **errors(400, 401, 413, 415)},
        examples=[
            OpenApiExample("All", value={}, request_only=True),
            OpenApiExample(
                "Asked",
                value={"cancelled": [ORDER_EXAMPLE["id"]], "failed": []},
                response_only=True,
            ),
        ],
    )
    def post(self, request: Request) -> HttpResponse:
        form = serializers.CancelAllBody(data=request.data)
        form.is_valid(raise_exception=True)
        connection_id = form.validated_data.get("connection_id")
        return answer(
            orders.orders_cancel_all(user_id=user_id(request), connection_id=connection_id), 202
        )


class OrderApi(APIView):
    @extend_schema(
        operation_id="orders_read",
        tags=["orders"],
        summary="One order",
        responses={200: serializers.OrderOutput, **errors(401, 404)},
        examples=[OpenApiExample("An order", value=ORDER_EXAMPLE, response_only=True)],
    )
    def get(self, request: Request, order_id: UUID) -> HttpResponse:
        return answer(selectors.order_get(user_id=user_id(request), order_id=order_id))

    @extend_schema(
        operation_id="orders_modify",
        tags=["orders"],
        summary="Ask for new terms of a resting order",
        description="The order shows its old terms until the broker took the new ones.",
        request=serializers.OrderModifyBody,
        responses={202: serializers.OrderOutput, **errors(400, 401, 404, 409, 413, 415, 422)},
        examples=[OpenApiExample("New price", value={"price": "2495.00"}, request_only=True)],
    )
    def patch(self, request: Request, order_id: UUID) -> HttpResponse:
        changes = inputs.modify_changes(inputs.decode(inputs.modify_decoder, body_of(request)))
        return answer(
            orders.order_modify(user_id=user_id(request), order_id=order_id, changes=changes), 202
        )

    @extend_schema(
        operation_id="orders_cancel",
        tags=["orders"],
        summary="Ask for a cancel",
        responses={202: serializers.OrderOutput, **errors(401, 404, 409)},
        examples=[
            OpenApiExample(
                "On its way",
                value={**ORDER_EXAMPLE, "status": "PENDING_CANCEL"},
                response_only=True,
            )
        ],
    )
    def delete(self, request: Request, order_id: UUID) -> HttpResponse:
        return answer(orders.order_cancel(user_id=user_id(request), order_id=order_id), 202)


class OrderEventsApi(APIView):
    @extend_schema(
        operation_id="orders_events",
        tags=["orders"],
        summary="The whole timeline of an order, oldest first",
        responses={
            200: inline_serializer(
                "OrderEvents", {"results": serializers.OrderEventOutput(many=True)}
            ),
            **errors(401, 404),
        },
        examples=[
            OpenApiExample(
                "A timeline",
                value={
                    "results": [
                        {
                            "sequence": 1,
                            "kind": "PLACED",
                            "status": "PENDING",
                            "message": "",
                            "data": {},
                            "at": "2026-11-23T04:00:00Z",
                        }
                    ]
                },
                response_only=True,
            )
        ],
    )
    def get(self, request: Request, order_id: UUID) -> HttpResponse:
        return answer(
            {"results": selectors.order_events(user_id=user_id(request), order_id=order_id)}
        )


class PositionsApi(APIView):
    @extend_schema(
        operation_id="positions_list",
        tags=["positions"],
        summary="Positions that are open or were traded today, with P&L at the latest prices",
        parameters=[CONNECTION],
        responses={
            200: inline_serializer("Positions", {"results": serializers.PositionOutput(many=True)}),
            **errors(400, 401),
        },
        examples=[OpenApiExample("None yet", value={"results": []}, response_only=True)],
    )
    def get(self, request: Request) -> HttpResponse:
        connection_id = uuid_query(request, "connection_id")
        return answer(
            {
                "results": selectors.position_list(
                    user_id=user_id(request), connection_id=connection_id
                )
            }
        )


class PositionApi(APIView):
    @extend_schema(
        operation_id="positions_read",
        tags=["positions"],
        summary="One position",
        responses={200: serializers.PositionOutput, **errors(401, 404)},
    )
    def get(self, request: Request, position_id: UUID) -> HttpResponse:
        return answer(selectors.position_get(user_id=user_id(request), position_id=position_id))


class PositionExitApi(APIView):
    @extend_schema(
        operation_id="positions_exit",
        tags=["positions"],
        summary="Close a position, or a part of it, at the market",
        parameters=[KEY],
        request=serializers.PositionExitBody,
        responses={201: serializers.OrderOutput, **errors(400, 401, 404, 409, 413, 415, 422)},
        examples=[OpenApiExample("All of it", value={}, request_only=True)],
    )
    def post(self, request: Request, position_id: UUID) -> HttpResponse:
        form = serializers.PositionExitBody(data=request.data)
        form.is_valid(raise_exception=True)
        given = request.headers.get("Idempotency-Key")
        placed = position_exit(
            user_id=user_id(request),
            position_id=position_id,
            quantity=form.validated_data.get("quantity"),
            idempotency_key=None if given is None else inputs.key("Idempotency-Key", given),
        )
        return placed_answer(placed)


class PositionsExitAllApi(APIView):
    @extend_schema(
        operation_id="positions_exit_all",
        tags=["positions"],
        summary="Close every open position at the market",
        request=serializers.CancelAllBody,
        responses={201: serializers.ExitAllOutput, **errors(400, 401, 413, 415)},
        examples=[OpenApiExample("All", value={}, request_only=True)],
    )
    def post(self, request: Request) -> HttpResponse:
        form = serializers.CancelAllBody(data=request.data)
        form.is_valid(raise_exception=True)
        connection_id = form.validated_data.get("connection_id")
        return answer(
            positions_exit_all(user_id=user_id(request), connection_id=connection_id), 201
        )
