"""The trading API. Each view reads what was asked, calls one service or selector, and writes the
answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    inline_serializer,
)
from rest_framework import serializers as fields
from rest_framework.exceptions import UnsupportedMediaType, ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

from brokerages.selectors import connection_brief
from trading import inputs, selectors, serializers
from trading.errors import MissingIdempotencyKey, NotFound
from trading.order_states import OrderStatus
from trading.services import orders
from trading.services.exits import position_exit, positions_exit_all
from trading.services.notifications import notifications_mark_read
from trading.services.portfolio import order_preview, portfolio_overview

_encoder = msgspec.json.Encoder()

MAX_LIMIT = 500

ERROR = inline_serializer(
    "ErrorOutput",
    {
        "error": inline_serializer(
            "ErrorBody",
            {
                "code": fields.CharField(),
                "message": fields.CharField(),
                "detail": fields.JSONField(),
            },
        )
    },
)

_REASONS = {
    400: "A field is missing or wrong; `detail` names it.",
    401: "No valid access token.",
    404: "No such object of yours.",
    409: "The object is not in a state that allows this.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The rules of the market, of the broker or of the platform rule it out; nothing was sent.",
    429: "Too many requests.",
}


def errors(*statuses: int) -> dict[int, OpenApiResponse]:
    """Return the documentation of error answers in the one shape."""
    return {status: OpenApiResponse(ERROR, description=_REASONS[status]) for status in statuses}


def page_of(output: Any) -> Any:
    """Return the documented shape of one page of ``output``."""
    name = output.__name__.removesuffix("Output") + "Page"
    return inline_serializer(
        name, {"results": output(many=True), "next": fields.CharField(allow_null=True)}
    )


LIMIT = OpenApiParameter(
    "limit", OpenApiTypes.INT, description=f"1 to {MAX_LIMIT}; 50 if left out."
)
CURSOR = OpenApiParameter("cursor", OpenApiTypes.STR, description="`next` of the page before.")
SYMBOL = OpenApiParameter(
    "symbol", OpenApiTypes.STR, description="Only this instrument, e.g. NSE:RELIANCE."
)
CONNECTION = OpenApiParameter(
    "connection_id", OpenApiTypes.UUID, description="Only this connection."
)
KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="1 to 64 characters from A-Z a-z 0-9 _ -. A repeated key returns the first order. "
    "Either this or `client_order_id` is required.",
)
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
    "status": "PENDING",
    "status_message": "",
    "status_code": "",
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


def answer(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> HttpResponse:
    """Return JSON without a serializer: the selectors' dicts have their outside shape already."""
    return HttpResponse(
        _encoder.encode(data), status=status, content_type="application/json", headers=headers
    )


def body_of(request: Request) -> bytes:
    """Return the raw body of a JSON request.

    Raises:
        UnsupportedMediaType: it says that it is something else.
    """
    if request.content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType(request.content_type)
    return request._request.body


def user_id(request: Request) -> UUID:
    return request.user.id


def page_query(request: Request, parse: Callable[[str], Any] = UUID) -> dict[str, Any]:
    """Return ``limit`` and ``cursor``.

    Raises:
        ValidationError: one of them is not what a page gave.
    """
    query = request.query_params
    limit, cursor = query.get("limit", "50"), query.get("cursor")
    if not (
        limit.isascii() and limit.isdigit() and len(limit) < 5 and 1 <= int(limit) <= MAX_LIMIT
    ):
        raise ValidationError({"limit": [f"Must be a whole number from 1 to {MAX_LIMIT}."]})
    try:
        return {"limit": int(limit), "cursor": None if cursor is None else str(parse(cursor))}
    except ValueError:
        raise ValidationError({"cursor": ["Must be the `next` of an earlier page."]}) from None


def uuid_query(request: Request, name: str) -> UUID | None:
    text = request.query_params.get(name)
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise ValidationError({name: ["Must be a UUID."]}) from None


def choice_query(request: Request, name: str, choices: set[str]) -> str | None:
    text = request.query_params.get(name)
    if text is not None and text not in choices:
        raise ValidationError({name: [f"Must be one of: {', '.join(sorted(choices))}."]})
    return text


def symbol_query(request: Request) -> str | None:
    text = request.query_params.get("symbol")
    return None if text is None else inputs.instrument(text).key


def sequence(text: str) -> int:
    """Read a numeric cursor."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError(text)
    return int(text)


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
        "Send an Idempotency-Key header or a client_order_id, so that a retry cannot place a second order."
    )


def place(request: Request, body: inputs.OrderPlaceInput, key: str | None = None) -> orders.Placed:
    """Place the order of a decoded body."""
    client_order_id = body.client_order_id
    if client_order_id is not None:
        inputs.key("client_order_id", client_order_id)
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
        description="Accepted orders are sent by a worker within milliseconds; the answer shows the order before that.",
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
        return answer(order_preview(user_id=user_id(request), connection=connection, terms=terms))


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


class HoldingsApi(APIView):
    @extend_schema(
        operation_id="holdings_list",
        tags=["positions"],
        summary="Shares held for delivery, today's purchases included",
        parameters=[CONNECTION],
        responses={
            200: inline_serializer("Holdings", {"results": serializers.HoldingOutput(many=True)}),
            **errors(400, 401),
        },
    )
    def get(self, request: Request) -> HttpResponse:
        connection_id = uuid_query(request, "connection_id")
        return answer(
            {
                "results": selectors.holding_list(
                    user_id=user_id(request), connection_id=connection_id
                )
            }
        )


class FillsApi(APIView):
    @extend_schema(
        operation_id="fills_list",
        tags=["orders"],
        summary="Executions, newest first",
        parameters=[
            OpenApiParameter("order_id", OpenApiTypes.UUID, description="Only this order."),
            SYMBOL,
            LIMIT,
            CURSOR,
        ],
        responses={200: page_of(serializers.FillOutput), **errors(400, 401)},
    )
    def get(self, request: Request) -> HttpResponse:
        results, following = selectors.fill_list(
            user_id=user_id(request),
            order_id=uuid_query(request, "order_id"),
            symbol=symbol_query(request),
            **page_query(request, sequence),
        )
        return answer({"results": results, "next": following})


class TradesApi(APIView):
    @extend_schema(
        operation_id="trades_list",
        tags=["trades"],
        summary="Round trips with their profit and loss, newest first",
        parameters=[
            OpenApiParameter("status", OpenApiTypes.STR, enum=["open", "closed"]),
            LIMIT,
            CURSOR,
        ],
        responses={200: page_of(serializers.TradeOutput), **errors(400, 401)},
    )
    def get(self, request: Request) -> HttpResponse:
        results, following = selectors.trade_list(
            user_id=user_id(request),
            status=choice_query(request, "status", {"open", "closed"}),
            **page_query(request),
        )
        return answer({"results": results, "next": following})


class TradeApi(APIView):
    @extend_schema(
        operation_id="trades_read",
        tags=["trades"],
        summary="One round trip",
        responses={200: serializers.TradeOutput, **errors(401, 404)},
    )
    def get(self, request: Request, trade_id: UUID) -> HttpResponse:
        return answer(selectors.trade_get(user_id=user_id(request), trade_id=trade_id))


class PortfolioApi(APIView):
    @extend_schema(
        operation_id="portfolio_read",
        tags=["portfolio"],
        summary="Funds, positions, holdings, P&L, latest orders and trades, and connections",
        responses={200: serializers.PortfolioOutput, **errors(401)},
    )
    def get(self, request: Request) -> HttpResponse:
        return answer(portfolio_overview(user_id=user_id(request)))


class PnlApi(APIView):
    @extend_schema(
        operation_id="pnl_read",
        tags=["portfolio"],
        summary="Profit and loss over all positions, gross of charges",
        parameters=[CONNECTION],
        responses={200: serializers.PnlOutput, **errors(400, 401)},
    )
    def get(self, request: Request) -> HttpResponse:
        connection_id = uuid_query(request, "connection_id")
        return answer(selectors.pnl_summary(user_id=user_id(request), connection_id=connection_id))


class NotificationsApi(APIView):
    @extend_schema(
        operation_id="notifications_list",
        tags=["notifications"],
        summary="What the user was told, newest first",
        parameters=[
            OpenApiParameter("unread", OpenApiTypes.STR, enum=["true", "false"]),
            LIMIT,
            CURSOR,
        ],
        responses={200: page_of(serializers.NotificationOutput), **errors(400, 401)},
    )
    def get(self, request: Request) -> HttpResponse:
        unread = choice_query(request, "unread", {"true", "false"}) == "true"
        results, following = selectors.notification_list(
            user_id=user_id(request), unread=unread, **page_query(request)
        )
        return answer({"results": results, "next": following})


_MARKED = inline_serializer("NotificationsMarked", {"marked": fields.IntegerField()})


class NotificationsReadApi(APIView):
    @extend_schema(
        operation_id="notifications_read_all",
        tags=["notifications"],
        summary="Mark every notification read",
        request=None,
        responses={200: _MARKED, **errors(401)},
    )
    def post(self, request: Request) -> HttpResponse:
        return answer({"marked": notifications_mark_read(user_id=user_id(request))})


class NotificationReadApi(APIView):
    @extend_schema(
        operation_id="notifications_read_one",
        tags=["notifications"],
        summary="Mark one notification read",
        request=None,
        responses={200: _MARKED, **errors(401, 404)},
    )
    def post(self, request: Request, notification_id: UUID) -> HttpResponse:
        marked = notifications_mark_read(user_id=user_id(request), notification_id=notification_id)
        if not marked and not selectors.notification_exists(
            user_id=user_id(request), notification_id=notification_id
        ):
            raise NotFound("no such notification")
        return answer({"marked": marked})
