"""What one broker lists, and its history: paths kept from an earlier system."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from brokerages.problems import NoConnection
from brokerages.selectors import connection_for_prices
from marketdata import inputs, serializers
from marketdata.answers import answer, broker_errors, errors, unknown_instrument, user_id
from marketdata.broker_prices import candles_fetch, prices_from
from marketdata.history_inputs import history_asked
from marketdata.master import master_csv, master_json, require_list
from marketdata.outputs import history_output
from marketdata.quote_api import BROKER_TYPE
from marketdata.quotes import candles_between, source_current

CSV = "text/csv"
_OURS = {"1m": "1m", "3m": "3m", "5m": "5m", "15m": "15m", "30m": "30m", "60m": "1h", "1d": "1d"}
_ROW: dict[str, Any] = {
    "symbol": "NSE:RELIANCE",
    "exchange": "NSE",
    "segment": "EQUITY",
    "trading_symbol": "RELIANCE",
    "exchange_token": "2885",
    "instrument_type": "EQ",
    "name": "Reliance Industries Ltd.",
    "isin": "INE002A01018",
    "underlying": "",
    "expiry": None,
    "strike": None,
    "tick_size": "0.10",
    "lot_size": 1,
    "freeze_quantity": None,
    "broker_symbol": "RELIANCE",
    "broker_token": "738561",
}


class MasterDataApi(APIView):
    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Answer errors as JSON, whatever is accepted for the list itself."""
        renderer = self.get_renderers()[0]
        return renderer, renderer.media_type

    @extend_schema(
        operation_id="master_data",
        tags=["market data"],
        summary="All that a broker lists, in the platform's words and its own",
        description="Streamed, as JSON or, by `Accept: text/csv`, as CSV with the same columns. "
        "For paper it is what comes with the platform.",
        parameters=[BROKER_TYPE],
        responses={
            (200, "application/json"): serializers.MasterDataOutput,
            (200, CSV): OpenApiResponse(
                OpenApiTypes.STR,
                "A line with the names of the columns, then one for each instrument.",
                examples=[
                    OpenApiExample(
                        "CSV",
                        ",".join(_ROW) + "\r\nNSE:RELIANCE,NSE,EQUITY,...",
                        media_type=CSV,
                        response_only=True,
                    )
                ],
            ),
            **errors(400, 401),
            409: broker_errors()[409],
        },
        examples=[
            OpenApiExample(
                "One row",
                {"status": "success", "data": [_ROW]},
                response_only=True,
                status_codes=["200"],
                media_type="application/json",
            )
        ],
    )
    def get(self, request: Request) -> HttpResponseBase:
        broker = inputs.broker_type(request.query_params) or _default_broker(request)
        require_list(broker)
        if CSV in request.headers.get("Accept", ""):
            answered = StreamingHttpResponse(
                master_csv(broker), content_type=f"{CSV}; charset=utf-8"
            )
            answered["Content-Disposition"] = f'attachment; filename="{broker}-instruments.csv"'
        else:
            answered = StreamingHttpResponse(master_json(broker), content_type="application/json")
        answered["Vary"] = "Accept"
        return answered


def _default_broker(request: Request) -> str:
    try:
        return connection_for_prices(user_id=user_id(request), broker=None)[0].broker
    except NoConnection:
        return "paper"


class HistoricalDataApi(APIView):
    @extend_schema(
        operation_id="historical_data",
        tags=["market data"],
        summary="Candles of a span, oldest first",
        description="Dates are whole days in India, and both belong to the span; times without an "
        "offset are Indian. Long spans are fetched in parts, at the broker's pace. The headers "
        "`X-Data-Source` and `X-Data-Simulated` say where the prices are from.",
        parameters=[BROKER_TYPE],
        request=serializers.HistoryBody,
        responses={
            200: serializers.HistoryCandleOutput(many=True),
            **broker_errors(400, 401, 404, 413, 415),
        },
        examples=[
            OpenApiExample(
                "A month of days",
                value={
                    "exchange": "NSE",
                    "exchange_token": "2885",
                    "instrument_type": "EQ",
                    "interval": "day",
                    "from_date": "2025-01-01",
                    "to_date": "2025-01-29",
                },
                request_only=True,
            ),
            OpenApiExample(
                "One",
                value={
                    "datetime": "2025-01-01T00:00:00+05:30",
                    "open": "1215.10",
                    "high": "1224.00",
                    "low": "1211.45",
                    "close": "1221.25",
                    "volume": 5892547,
                    "oi": None,
                },
                response_only=True,
                status_codes=["200"],
            ),
        ],
    )
    def post(self, request: Request) -> HttpResponse:
        broker = inputs.broker_type(request.query_params)
        asked = history_asked(request.data, datetime.now(UTC))
        connection = prices_from(user_id(request), broker)
        if asked.listing is None:
            raise unknown_instrument(asked.name)
        ref, start, end = asked.listing.ref, asked.start, asked.end
        if connection is not None:
            candles = candles_fetch(connection, ref.id, asked.interval, start, end)
            source, simulated = connection.broker, False
        else:
            ours = source_current()
            candles = candles_between(ref, _OURS.get(asked.interval, asked.interval), start, end)
            source, simulated = (ours.name, ours.simulated) if ours else ("", True)
        answered = answer([history_output(candle) for candle in candles])
        answered["X-Data-Source"] = source
        answered["X-Data-Simulated"] = "true" if simulated else "false"
        return answered
