"""What a broker says of an account at this moment, over HTTP: the same shape for every broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from audit.openapi import errors
from brokerages import selectors, services
from brokerages import serializers as shapes
from brokerages.api import BROKER_ERRORS, OwnApi, read
from brokerages.base import BrokerAdapter

LIVE = ["connections: live"]
FUNDS = OpenApiExample(
    "Funds",
    {"available": "748325.50", "used": "251674.50", "total": "1000000.00"},
    response_only=True,
)


class LiveApi(OwnApi):
    """A path that asks the broker."""

    def adapter(self, request: Request, connection_id: UUID) -> BrokerAdapter:
        """Return the adapter of one of the caller's connections, with its session."""
        return services.adapter_for(
            selectors.connection_get(user_id=self.user_id(request), connection_id=connection_id)
        )


def page(request: Request, rows: Sequence[Any], output: type[Serializer]) -> Response:
    """Return one page of a list that the broker gave as a whole: the cursor is a place in it."""
    query = read(shapes.PageInput, request.query_params.dict())
    start = _whole(query["cursor"])
    end = start + query["limit"]
    return Response(
        {
            "results": output(rows[start:end], many=True).data,
            "next": str(end) if len(rows) > end else None,
        }
    )


def _whole(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isdigit() or len(cursor) > 9:
        raise ValidationError({"cursor": ["Must be the `next` of an earlier page."]})
    return int(cursor)


class ConnectionProfileApi(LiveApi):
    @extend_schema(
        operation_id="connections_profile",
        tags=LIVE,
        summary="The user's profile at the broker",
        responses={200: shapes.BrokerProfileOutput, **errors(401, 404, **BROKER_ERRORS)},
    )
    def get(self, request: Request, connection_id: UUID) -> Response:
        profile = self.adapter(request, connection_id).fetch_profile()
        return Response(shapes.BrokerProfileOutput(profile).data)


class ConnectionFundsApi(LiveApi):
    @extend_schema(
        operation_id="connections_funds",
        tags=LIVE,
        summary="Money at the broker",
        responses={200: shapes.FundsOutput, **errors(401, 404, **BROKER_ERRORS)},
        examples=[FUNDS],
    )
    def get(self, request: Request, connection_id: UUID) -> Response:
        funds = self.adapter(request, connection_id).fetch_funds()
        return Response(shapes.FundsOutput(funds).data)


class ConnectionHoldingsApi(LiveApi):
    @extend_schema(
        operation_id="connections_holdings",
        tags=LIVE,
        summary="Delivery shares at the broker",
        parameters=[shapes.PageInput],
        responses={200: shapes.BrokerHoldingPage, **errors(400, 401, 404, **BROKER_ERRORS)},
    )
    def get(self, request: Request, connection_id: UUID) -> Response:
        holdings = self.adapter(request, connection_id).fetch_holdings()
        return page(request, holdings, shapes.BrokerHoldingOutput)


class ConnectionPositionsApi(LiveApi):
    @extend_schema(
        operation_id="connections_positions",
        tags=LIVE,
        summary="Positions at the broker, as the broker counts them",
        parameters=[shapes.PageInput],
        responses={200: shapes.BrokerPositionPage, **errors(400, 401, 404, **BROKER_ERRORS)},
    )
    def get(self, request: Request, connection_id: UUID) -> Response:
        positions = self.adapter(request, connection_id).fetch_positions()
        return page(request, positions, shapes.BrokerPositionOutput)


class ConnectionOrdersApi(LiveApi):
    @extend_schema(
        operation_id="connections_orders",
        tags=LIVE,
        summary="The broker's order book of today",
        parameters=[shapes.PageInput],
        responses={200: shapes.BrokerOrderPage, **errors(400, 401, 404, **BROKER_ERRORS)},
    )
    def get(self, request: Request, connection_id: UUID) -> Response:
        orders = self.adapter(request, connection_id).fetch_orders()
        return page(request, orders, shapes.BrokerOrderOutput)


class ConnectionTradesApi(LiveApi):
    @extend_schema(
        operation_id="connections_trades",
        tags=LIVE,
        summary="The broker's executions of today",
        parameters=[shapes.PageInput],
        responses={200: shapes.BrokerTradePage, **errors(400, 401, 404, **BROKER_ERRORS)},
    )
    def get(self, request: Request, connection_id: UUID) -> Response:
        trades = self.adapter(request, connection_id).fetch_fills()
        return page(request, trades, shapes.BrokerTradeOutput)
