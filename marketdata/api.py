"""Instruments, their candles and options, and the calendar."""

from __future__ import annotations

from datetime import UTC, datetime

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.views import APIView

from marketdata import selectors, serializers
from marketdata.answers import (
    answer,
    broker_errors,
    errors,
    example,
    unknown_instrument,
    user_id,
)
from marketdata.broker_prices import chart
from marketdata.errors import UnknownInstrument
from marketdata.inputs import cursor_of, offset_of
from marketdata.outputs import (
    calendar_output,
    candle_output,
    instrument_output,
    option_chain_output,
)
from marketdata.sources.base import Listing

INSTRUMENT_EXAMPLE = {
    "symbol": "NSE:RELIANCE",
    "exchange": "NSE",
    "segment": "EQUITY",
    "trading_symbol": "RELIANCE",
    "name": "Reliance Industries Ltd.",
    "kind": "EQ",
    "isin": "INE002A01018",
    "exchange_token": "2885",
    "underlying": "",
    "industry": "Oil Gas & Consumable Fuels",
    "expiry": None,
    "strike": None,
    "tick_size": "0.10",
    "lot_size": 1,
    "freeze_quantity": None,
    "is_tradable": True,
    "is_active": True,
}
OPTION_CHAIN_EXAMPLE = {
    "symbol": "NSE:NIFTY 50",
    "last_price": "25097.75",
    "expiry": "2026-12-29",
    "lot_size": 65,
    "results": [
        {
            "strike": "24800.00",
            "call": {
                "symbol": "NFO:NIFTY26DEC24800CE",
                "last_price": "654.10",
                "bid": "652.15",
                "ask": "654.10",
                "volume": 4782960,
                "open_interest": None,
                "simulated": True,
            },
            "put": None,
        }
    ],
}
CALENDAR_EXAMPLE = {
    "at": "2026-11-23T05:03:22Z",
    "always_open": False,
    "groups": [
        {
            "group": "EQUITY",
            "is_open": True,
            "phase": "NORMAL",
            "known_until": "2026-12-31",
            "next_session": {"opens": "2026-11-23T03:45:00Z", "closes": "2026-11-23T10:00:00Z"},
            "today": [
                {
                    "phase": "NORMAL",
                    "start": "2026-11-23T03:45:00Z",
                    "end": "2026-11-23T10:00:00Z",
                }
            ],
        }
    ],
    "holidays": [{"date": "2026-12-25", "name": "Christmas"}],
}


def _listing(key: str) -> Listing:
    listing = selectors.listing_by_key(key)
    if listing is None:
        raise unknown_instrument(key)
    return listing


class InstrumentsApi(APIView):
    @extend_schema(
        operation_id="instruments_search",
        tags=["market data"],
        summary="Search instruments",
        description="Every word must stand in the symbol or the name, or be the ISIN. Exact ones "
        "are first, then those that begin so; shares and indices before derivatives.",
        parameters=[serializers.InstrumentQuery],
        responses={200: serializers.InstrumentPageOutput, **errors(400, 401)},
        examples=example("One", {"results": [INSTRUMENT_EXAMPLE], "next": None}),
    )
    def get(self, request: Request) -> HttpResponse:
        form = serializers.InstrumentQuery(data=request.query_params.dict())
        form.is_valid(raise_exception=True)
        asked = form.validated_data
        limit, offset = asked["limit"], offset_of(asked["cursor"])
        rows = selectors.instrument_search(
            asked["q"],
            exchange=asked["exchange"],
            kind=asked["kind"],
            limit=limit + 1,
            offset=offset,
        )
        following = cursor_of(offset + limit) if len(rows) > limit else None
        return answer({"results": list(map(instrument_output, rows[:limit])), "next": following})


class InstrumentApi(APIView):
    @extend_schema(
        operation_id="instruments_read",
        tags=["market data"],
        summary="One instrument",
        responses={200: serializers.InstrumentOutput, **errors(401, 404)},
        examples=example("A share", INSTRUMENT_EXAMPLE),
    )
    def get(self, request: Request, key: str) -> HttpResponse:
        try:
            return answer(instrument_output(selectors.instrument_get(key)))
        except UnknownInstrument as e:
            raise unknown_instrument(key) from e


class CandlesApi(APIView):
    @extend_schema(
        operation_id="instruments_candles",
        tags=["market data"],
        summary="The latest candles of an instrument, oldest first",
        description="From the broker of the user's default connection, or the platform's own "
        "source; `source` says which. The last one may still be growing. Empty where the source "
        "keeps no candles.",
        parameters=[serializers.CandleQuery],
        responses={200: serializers.CandleListOutput, **broker_errors(400, 401, 404)},
        examples=example(
            "One",
            {
                "symbol": "NSE:RELIANCE",
                "interval": "5m",
                "source": "simulated",
                "simulated": True,
                "results": [
                    {
                        "start": "2026-11-23T04:55:00Z",
                        "open": "1408.70",
                        "high": "1409.90",
                        "low": "1407.20",
                        "close": "1408.10",
                        "volume": 4120,
                    }
                ],
            },
        ),
    )
    def get(self, request: Request, key: str) -> HttpResponse:
        form = serializers.CandleQuery(data=request.query_params.dict())
        form.is_valid(raise_exception=True)
        ref = _listing(key).ref
        interval = form.validated_data["interval"]
        found = chart(user_id(request), ref, interval, form.validated_data["limit"])
        return answer(
            {
                "symbol": ref.key,
                "interval": interval,
                "source": found.source,
                "simulated": found.simulated,
                "results": [candle_output(candle) for candle in found.candles],
            }
        )


class ExpiriesApi(APIView):
    @extend_schema(
        operation_id="instruments_expiries",
        tags=["market data"],
        summary="The listed expiries of a share or an index",
        responses={200: serializers.ExpiriesOutput, **errors(401, 404)},
        examples=example(
            "Weeks and months",
            {"symbol": "NSE:NIFTY 50", "results": ["2026-12-01", "2026-12-08", "2026-12-29"]},
        ),
    )
    def get(self, request: Request, key: str) -> HttpResponse:
        listing = _listing(key)
        spot = listing.spot or listing
        return answer({"symbol": spot.key, "results": selectors.expiries_of(spot)})


class OptionChainApi(APIView):
    @extend_schema(
        operation_id="instruments_option_chain",
        tags=["market data"],
        summary="The options on a share or an index, by strike",
        parameters=[serializers.OptionChainQuery],
        responses={200: serializers.OptionChainOutput, **errors(400, 401, 404)},
        examples=example("One strike", OPTION_CHAIN_EXAMPLE),
    )
    def get(self, request: Request, key: str) -> HttpResponse:
        form = serializers.OptionChainQuery(data=request.query_params.dict())
        form.is_valid(raise_exception=True)
        listing = _listing(key)
        spot = listing.spot or listing
        expiries = selectors.expiries_of(spot)
        expiry = form.validated_data.get("expiry") or next(iter(expiries), None)
        if expiry not in expiries:
            raise NotFound("There are no options of this expiry.", code="unknown_expiry")
        options = selectors.options_of(spot, expiry)
        return answer(
            option_chain_output(spot, expiry, options, strikes=form.validated_data.get("strikes"))
        )


class CalendarApi(APIView):
    @extend_schema(
        operation_id="calendar_read",
        tags=["market data"],
        summary="What is open now, today's sessions, and the year's holidays",
        description="Shares with derivatives (EQUITY_FNO) leave continuous trading for the closing "
        "auction before other shares do.",
        responses={200: serializers.CalendarOutput, **errors(401)},
        examples=example("One group", CALENDAR_EXAMPLE),
    )
    def get(self, request: Request) -> HttpResponse:
        return answer(
            calendar_output(
                selectors.calendar_current(),
                always_open=settings.SIMULATED_SESSION == "always",
                now=datetime.now(UTC),
            )
        )
