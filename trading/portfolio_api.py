"""What the user has and was told: holdings, fills, trades, P&L and notifications over HTTP."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers as fields
from rest_framework.request import Request
from rest_framework.views import APIView

from trading import selectors, serializers
from trading.answers import (
    CONNECTION,
    CURSOR,
    LIMIT,
    SYMBOL,
    answer,
    choice_query,
    errors,
    page_of,
    page_query,
    sequence,
    symbol_query,
    user_id,
    uuid_query,
)
from trading.errors import NotFound
from trading.services.notifications import notifications_mark_read
from trading.services.portfolio import portfolio_overview


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
