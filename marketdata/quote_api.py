"""Quotes, hot: what is asked is looked up in memory and computed, or read from Redis in one go."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    PolymorphicProxySerializer,
    extend_schema,
    extend_schema_field,
    inline_serializer,
)
from rest_framework import serializers as fields
from rest_framework.request import Request
from rest_framework.views import APIView

from brokerages.types import QuoteDepth
from marketdata import inputs, serializers
from marketdata.answers import answer, broker_errors, user_id
from marketdata.broker_prices import prices_from, quotes_fetch
from marketdata.outputs import quotes_output

BROKER_TYPE = OpenApiParameter(
    "broker_type",
    OpenApiTypes.STR,
    description="A broker's name; the user's default connection if left out. Prices come through "
    "the user's own session there, unless the connection takes its prices from elsewhere; for paper"
    " they are the platform's own.",
)
_LTP: dict[str, Any] = {
    "symbol": "NSE:RELIANCE",
    "exchange": "NSE",
    "exchange_token": "2885",
    "last_price": "1408.70",
    "at": "2026-11-23T05:03:22.489000Z",
    "age_ms": 212,
    "stale": False,
    "source": "simulated",
    "simulated": True,
}
_OHLC = {
    **_LTP,
    "open": "1406.70",
    "high": "1422.70",
    "low": "1403.70",
    "previous_close": "1406.70",
    "volume": 1521353,
}
_FULL = {
    **_OHLC,
    "change": "2.00",
    "change_percent": "0.14",
    "open_interest": None,
    "lower_circuit": "1266.10",
    "upper_circuit": "1547.30",
    "depth": {
        "buy": [{"price": "1408.70", "quantity": 484, "orders": 11}],
        "sell": [{"price": "1408.80", "quantity": 359, "orders": 10}],
    },
}
_UNKNOWN = {"error": {"code": "unknown_instrument", "message": "There is no such instrument."}}


@cache
def _data(output: type[fields.Serializer]) -> Any:
    """Return the shape of an answer: by name, a quote or why there is none."""
    name = output.__name__.removesuffix("Output")
    either = PolymorphicProxySerializer(
        component_name=f"{name}OrError",
        serializers=[output, serializers.QuoteErrorOutput],
        resource_type_field_name=None,
    )

    @extend_schema_field(either)
    class EitherField(fields.Field):
        pass

    return inline_serializer(
        f"{name}Answer",
        {"status": fields.CharField(), "data": fields.DictField(child=EitherField())},
    )


class _QuoteApi(APIView):
    depth: ClassVar[QuoteDepth]

    def post(self, request: Request) -> HttpResponse:
        broker = inputs.broker_type(request.query_params)
        return _answer(request, inputs.quote_items(request.data), self.depth, broker)


def _answer(
    request: Request, asked: Any, depth: QuoteDepth, broker: str | None = None
) -> HttpResponse:
    connection, answers = prices_from(user_id(request), broker), None
    if connection is not None:
        known = [listing.ref.id for listing in asked.values() if listing is not None]
        answers = quotes_fetch(connection, known, depth)
    data = quotes_output(asked, depth, datetime.now(UTC), answers)
    return answer({"status": "success", "data": data})


def _schema(operation_id: str, summary: str, output: type[fields.Serializer], example: Any) -> Any:
    return extend_schema(
        operation_id=operation_id,
        tags=["market data"],
        summary=summary,
        description="Answers by the `exchange_token` or `symbol` that was asked. An instrument "
        "that is not known, or has no quote, has an `error` there instead; the rest is answered.",
        parameters=[BROKER_TYPE],
        request={"application/json": inputs.QUOTE_ITEMS},
        responses={200: _data(output), **broker_errors(400, 401, 413, 415)},
        examples=[
            OpenApiExample(
                "By exchange token",
                value=[{"exchange_token": "2885", "exchange": "NSE", "instrument_type": "EQ"}],
                request_only=True,
            ),
            OpenApiExample("By symbol", value=[{"symbol": "NSE:RELIANCE"}], request_only=True),
            OpenApiExample(
                "Found",
                value={"status": "success", "data": {"2885": example}},
                response_only=True,
                status_codes=["200"],
            ),
            OpenApiExample(
                "Not known",
                value={"status": "success", "data": {"99": _UNKNOWN}},
                response_only=True,
                status_codes=["200"],
            ),
        ],
    )


class LtpQuoteApi(_QuoteApi):
    depth = QuoteDepth.LTP

    @_schema("quotes_ltp", "Last prices", serializers.LtpOutput, _LTP)
    def post(self, request: Request) -> HttpResponse:
        return super().post(request)


class OhlcQuoteApi(_QuoteApi):
    depth = QuoteDepth.OHLC

    @_schema("quotes_ohlc", "Last prices with the day's range", serializers.OhlcOutput, _OHLC)
    def post(self, request: Request) -> HttpResponse:
        return super().post(request)


class FullQuoteApi(_QuoteApi):
    depth = QuoteDepth.FULL

    @_schema("quotes_full", "Full market quotes with depth", serializers.FullQuoteOutput, _FULL)
    def post(self, request: Request) -> HttpResponse:
        return super().post(request)


class QuotesApi(APIView):
    @extend_schema(
        operation_id="quotes_read",
        tags=["market data"],
        summary="Full quotes by symbol",
        parameters=[
            OpenApiParameter(
                "symbols",
                OpenApiTypes.STR,
                required=True,
                description="1 to 500, separated by commas, e.g. NSE:RELIANCE,NSE:INFY.",
            )
        ],
        responses={200: _data(serializers.FullQuoteOutput), **broker_errors(400, 401)},
        examples=[
            OpenApiExample(
                "Found",
                value={"status": "success", "data": {"NSE:RELIANCE": _FULL}},
                response_only=True,
            )
        ],
    )
    def get(self, request: Request) -> HttpResponse:
        asked = inputs.symbols(request.query_params.get("symbols", ""))
        return _answer(request, asked, QuoteDepth.FULL)
