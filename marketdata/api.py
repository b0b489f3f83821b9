"""Instruments, candles, the calendar and watchlists."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

from marketdata import selectors, serializers, services
from marketdata.answers import Conflict, answer, errors, unknown_instrument, user_id
from marketdata.errors import LimitReached, UnknownInstrument, UnknownWatchlist, WatchlistConflict
from marketdata.inputs import cursor_of, offset_of
from marketdata.models import Watchlist
from marketdata.outputs import (
    calendar_output,
    candle_output,
    instrument_output,
    watchlist_output,
)
from marketdata.quotes import candles_latest, source_current

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
WATCHLIST_EXAMPLE = {
    "id": "0198c0de-0000-7000-8000-000000000009",
    "name": "Energy",
    "position": 1,
    "symbols": ["NSE:RELIANCE", "NSE:ONGC"],
    "created_at": "2026-11-23T04:00:00Z",
}


def _example(name: str, value: Any) -> list[OpenApiExample]:
    return [OpenApiExample(name, value=value, response_only=True)]


# instruments


class InstrumentsApi(APIView):
    @extend_schema(
        operation_id="instruments_search",
        tags=["market data"],
        summary="Search instruments",
        description="Every word must stand in the symbol or the name, or be the ISIN. Exact ones "
        "are first, then those that begin so; shares and indices before derivatives.",
        parameters=[serializers.InstrumentQuery],
        responses={200: serializers.InstrumentPageOutput, **errors(400, 401)},
        examples=_example("One", {"results": [INSTRUMENT_EXAMPLE], "next": None}),
    )
    def get(self, request: Request) -> HttpResponse:
        form = serializers.InstrumentQuery(data=request.query_params)
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
        examples=_example("A share", INSTRUMENT_EXAMPLE),
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
        description="The last one may still be growing. Empty where the source keeps no candles.",
        parameters=[serializers.CandleQuery],
        responses={200: serializers.CandleListOutput, **errors(400, 401, 404)},
        examples=_example(
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
        form = serializers.CandleQuery(data=request.query_params)
        form.is_valid(raise_exception=True)
        ref = selectors.ref_by_key(key)
        if ref is None:
            raise unknown_instrument(key)
        interval = form.validated_data["interval"]
        candles = candles_latest(ref, interval, form.validated_data["limit"])
        source = source_current()
        return answer(
            {
                "symbol": ref.key,
                "interval": interval,
                "source": source.name if source else settings.DATA_SOURCE,
                "simulated": source.simulated if source else True,
                "results": [candle_output(candle) for candle in candles],
            }
        )


class CalendarApi(APIView):
    @extend_schema(
        operation_id="calendar_read",
        tags=["market data"],
        summary="What is open now, today's sessions, and the year's holidays",
        description="Shares with derivatives (EQUITY_FNO) leave continuous trading for the closing "
        "auction before other shares do.",
        responses={200: serializers.CalendarOutput, **errors(401)},
    )
    def get(self, request: Request) -> HttpResponse:
        return answer(
            calendar_output(
                selectors.calendar_current(),
                always_open=settings.SIMULATED_SESSION == "always",
                now=datetime.now(UTC),
            )
        )


# watchlists


def _watchlist(request: Request, watchlist_id: UUID) -> Watchlist:
    try:
        return selectors.watchlist_get(user_id=user_id(request), watchlist_id=watchlist_id)
    except UnknownWatchlist as e:
        raise NotFound("There is no such watchlist.") from e


def _shown(watchlist: Watchlist, status: int = 200) -> HttpResponse:
    symbols = selectors.watchlist_symbols([watchlist.id]).get(watchlist.id, [])
    return answer(watchlist_output(watchlist, symbols), status)


class WatchlistsApi(APIView):
    @extend_schema(
        operation_id="watchlists_list",
        tags=["watchlists"],
        summary="The user's watchlists",
        responses={200: serializers.WatchlistPageOutput, **errors(401)},
        examples=_example("One", {"results": [WATCHLIST_EXAMPLE], "next": None}),
    )
    def get(self, request: Request) -> HttpResponse:
        lists = list(selectors.watchlist_list(user_id=user_id(request)))
        symbols = selectors.watchlist_symbols(watchlist.id for watchlist in lists)
        results = [watchlist_output(x, symbols.get(x.id, [])) for x in lists]
        return answer({"results": results, "next": None})

    @extend_schema(
        operation_id="watchlists_create",
        tags=["watchlists"],
        summary="Make a watchlist",
        request=serializers.WatchlistCreateInput,
        responses={201: serializers.WatchlistOutput, **errors(400, 401, 409, 413, 415)},
        examples=[
            OpenApiExample(
                "With two shares",
                value={"name": "Energy", "symbols": ["NSE:RELIANCE", "NSE:ONGC"]},
                request_only=True,
            ),
            *_example("Made", WATCHLIST_EXAMPLE),
        ],
    )
    def post(self, request: Request) -> HttpResponse:
        form = serializers.WatchlistCreateInput(data=request.data)
        form.is_valid(raise_exception=True)
        try:
            made = services.watchlist_create(
                user_id=user_id(request),
                name=form.validated_data["name"],
                symbols=form.validated_data.get("symbols", ()),
            )
        except UnknownInstrument as e:
            raise ValidationError({"symbols": [f"There is no instrument {e}."]}) from e
        except (WatchlistConflict, LimitReached) as e:
            raise _conflict(e) from e
        return _shown(made, 201)


class WatchlistApi(APIView):
    @extend_schema(
        operation_id="watchlists_read",
        tags=["watchlists"],
        summary="One watchlist",
        responses={200: serializers.WatchlistOutput, **errors(401, 404)},
        examples=_example("A list", WATCHLIST_EXAMPLE),
    )
    def get(self, request: Request, watchlist_id: UUID) -> HttpResponse:
        return _shown(_watchlist(request, watchlist_id))

    @extend_schema(
        operation_id="watchlists_update",
        tags=["watchlists"],
        summary="Rename or move a watchlist",
        request=serializers.WatchlistUpdateInput,
        responses={200: serializers.WatchlistOutput, **errors(400, 401, 404, 409, 413, 415)},
        examples=[OpenApiExample("Rename", value={"name": "Oil"}, request_only=True)],
    )
    def patch(self, request: Request, watchlist_id: UUID) -> HttpResponse:
        form = serializers.WatchlistUpdateInput(data=request.data)
        form.is_valid(raise_exception=True)
        watchlist = _watchlist(request, watchlist_id)
        try:
            return _shown(services.watchlist_update(watchlist=watchlist, **form.validated_data))
        except WatchlistConflict as e:
            raise _conflict(e) from e

    @extend_schema(
        operation_id="watchlists_delete",
        tags=["watchlists"],
        summary="Delete a watchlist",
        responses={204: None, **errors(401, 404)},
    )
    def delete(self, request: Request, watchlist_id: UUID) -> HttpResponse:
        services.watchlist_delete(watchlist=_watchlist(request, watchlist_id))
        return HttpResponse(status=204)


class WatchlistItemApi(APIView):
    @extend_schema(
        operation_id="watchlists_item_put",
        tags=["watchlists"],
        summary="Put an instrument on a watchlist",
        description="One that is there already only moves, when a position is given.",
        request=serializers.WatchlistItemInput,
        responses={200: serializers.WatchlistOutput, **errors(400, 401, 404, 409, 413, 415)},
        examples=[
            OpenApiExample("Last", value={}, request_only=True),
            *_example("The list", WATCHLIST_EXAMPLE),
        ],
    )
    def put(self, request: Request, watchlist_id: UUID, symbol: str) -> HttpResponse:
        form = serializers.WatchlistItemInput(data=request.data)
        form.is_valid(raise_exception=True)
        watchlist = _watchlist(request, watchlist_id)
        try:
            services.watchlist_item_add(
                watchlist=watchlist, symbol=symbol, position=form.validated_data.get("position")
            )
        except UnknownInstrument as e:
            raise unknown_instrument(symbol) from e
        except LimitReached as e:
            raise _conflict(e) from e
        return _shown(watchlist)

    @extend_schema(
        operation_id="watchlists_item_delete",
        tags=["watchlists"],
        summary="Take an instrument off a watchlist",
        description="One that is not on the list is no error.",
        responses={204: None, **errors(401, 404)},
    )
    def delete(self, request: Request, watchlist_id: UUID, symbol: str) -> HttpResponse:
        watchlist = _watchlist(request, watchlist_id)
        services.watchlist_item_remove(watchlist=watchlist, symbol=symbol)
        return HttpResponse(status=204)


def _conflict(e: Exception) -> Conflict:
    if isinstance(e, WatchlistConflict):
        return Conflict("You have a watchlist of this name.", code="watchlist_exists")
    return Conflict(str(e), code="limit_reached")
