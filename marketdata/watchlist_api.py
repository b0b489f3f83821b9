"""The user's watchlists."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

from marketdata import selectors, serializers, services
from marketdata.answers import (
    Conflict,
    answer,
    errors,
    example,
    unknown_instrument,
    user_id,
)
from marketdata.errors import LimitReached, UnknownInstrument, UnknownWatchlist, WatchlistConflict
from marketdata.models import Watchlist
from marketdata.outputs import watchlist_output

WATCHLIST_EXAMPLE = {
    "id": "0198c0de-0000-7000-8000-000000000009",
    "name": "Energy",
    "position": 1,
    "symbols": ["NSE:RELIANCE", "NSE:ONGC"],
    "created_at": "2026-11-23T04:00:00Z",
}


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
        examples=example("One", {"results": [WATCHLIST_EXAMPLE], "next": None}),
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
            *example("Made", WATCHLIST_EXAMPLE),
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
        examples=example("A list", WATCHLIST_EXAMPLE),
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
            *example("The list", WATCHLIST_EXAMPLE),
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
