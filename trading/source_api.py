"""The trading paths of the source system, as its examples are written: thin aliases over the same
services.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

from brokerages.selectors import connection_brief
from brokerages.types import OrderType, Side
from trading import inputs, selectors, serializers
from trading.answers import CURSOR, KEY, LIMIT, answer, errors, page_of, page_query, user_id
from trading.api import ORDER_EXAMPLE, placed_answer
from trading.risk import OrderTerms
from trading.services.journal import JournalEntry, trade_create, trade_update
from trading.services.orders import order_place
from trading.services.portfolio import portfolio_overview

_ALIAS = "Kept from an earlier system; see "


class DashboardApi(APIView):
    @extend_schema(
        operation_id="dashboard_read",
        tags=["source systems"],
        summary="Portfolio overview",
        description=_ALIAS + "`GET /portfolio`.",
        responses={200: serializers.PortfolioOutput, **errors(401)},
    )
    def get(self, request: Request) -> HttpResponse:
        return answer(portfolio_overview(user_id=user_id(request)))


class TickerOrderApi(APIView):
    """An order by ticker at the default connection: LIMIT with a price, else MARKET."""

    side: Side

    def post(self, request: Request) -> HttpResponse:
        form = serializers.TickerOrderBody(data=request.data)
        form.is_valid(raise_exception=True)
        data = form.validated_data
        said = data.get("order_type", "").lower()
        if said in ("buy", "sell") and said != self.side.lower():
            raise ValidationError(
                {"order_type": [f"This address takes {self.side.lower()} orders."]}
            )
        ref = inputs.instrument(data["stock_ticker"])
        price: Decimal | None = data.get("price") or None
        placed = order_place(
            user_id=user_id(request),
            connection=connection_brief(user_id=user_id(request), connection_id=None),
            terms=OrderTerms(
                instrument=ref,
                side=self.side,
                quantity=data["quantity"],
                order_type=OrderType.LIMIT if price is not None else OrderType.MARKET,
                product=inputs.default_product(ref),
                price=price,
            ),
            idempotency_key=_key(request),
        )
        return placed_answer(placed)


def _key(request: Request) -> str:
    """Return the key given, else a new one: the source system's clients do not know keys."""
    given = request.headers.get("Idempotency-Key")
    return uuid4().hex if given is None else inputs.key("Idempotency-Key", given)


def _ticker_schema(side: str, price: float) -> Any:
    return extend_schema(
        operation_id=f"dashboard_{side}",
        tags=["source systems"],
        summary=f"Place a {side} order by ticker",
        description=_ALIAS
        + "`POST /orders`. Without an `Idempotency-Key` each request is a new order.",
        parameters=[KEY],
        request=serializers.TickerOrderBody,
        responses={201: serializers.OrderOutput, **errors(400, 401, 404, 413, 415, 422)},
        examples=[
            OpenApiExample(
                "By ticker",
                value={
                    "stock_ticker": "RELIANCE",
                    "quantity": 10,
                    "price": price,
                    "order_type": side,
                },
                request_only=True,
            ),
            OpenApiExample(
                "Accepted", value=ORDER_EXAMPLE, response_only=True, status_codes=["201"]
            ),
        ],
    )


class TickerBuyApi(TickerOrderApi):
    side = Side.BUY

    @_ticker_schema("buy", 2500.0)
    def post(self, request: Request) -> HttpResponse:
        return super().post(request)


class TickerSellApi(TickerOrderApi):
    side = Side.SELL

    @_ticker_schema("sell", 2600.0)
    def post(self, request: Request) -> HttpResponse:
        return super().post(request)


class DashboardOrdersApi(APIView):
    @extend_schema(
        operation_id="dashboard_orders",
        tags=["source systems"],
        summary="The user's orders",
        description=_ALIAS + "`GET /orders`.",
        parameters=[LIMIT, CURSOR],
        responses={200: page_of(serializers.OrderOutput), **errors(400, 401)},
    )
    def get(self, request: Request) -> HttpResponse:
        results, following = selectors.order_list(user_id=user_id(request), **page_query(request))
        return answer({"results": results, "next": following})


class _TradesApi(APIView):
    def get(self, request: Request) -> HttpResponse:
        results, following = selectors.trade_list(user_id=user_id(request), **page_query(request))
        return answer({"results": results, "next": following})


def _trades_schema(operation_id: str) -> Any:
    return extend_schema(
        operation_id=operation_id,
        tags=["source systems"],
        summary="The user's round trips",
        description=_ALIAS + "`GET /trades`.",
        parameters=[LIMIT, CURSOR],
        responses={200: page_of(serializers.TradeOutput), **errors(400, 401)},
    )


class DashboardTradesApi(_TradesApi):
    @_trades_schema("dashboard_trades")
    def get(self, request: Request) -> HttpResponse:
        return super().get(request)


class JournalTradeListApi(_TradesApi):
    @_trades_schema("trade_list")
    def get(self, request: Request) -> HttpResponse:
        return super().get(request)


_JOURNAL_EXAMPLE = OpenApiExample(
    "A bought position",
    value={
        "price": 2500.0,
        "quantity": 10,
        "order_id": 1,
        "stock_ticker": "RELIANCE",
        "type": "eq",
        "order_type": "buy",
        "buy_price": 2500.0,
        "brokerage_charge": 20.0,
        "mtf_charge": 0.0,
    },
    request_only=True,
)


def _entry(request: Request) -> JournalEntry:
    form = serializers.JournalTradeBody(data=request.data)
    form.is_valid(raise_exception=True)
    data = form.validated_data
    return JournalEntry(
        stock_ticker=data["stock_ticker"].strip().upper(),
        side=Side(data["order_type"].upper()),
        quantity=data["quantity"],
        price=data["price"],
        buy_price=data["buy_price"],
        type=data["type"],
        brokerage_charge=data["brokerage_charge"],
        mtf_charge=data["mtf_charge"],
        order_ref=data.get("order_id") or "",
    )


class JournalTradesApi(APIView):
    @extend_schema(
        operation_id="trade_create",
        tags=["source systems"],
        summary="Note a trade in the journal",
        description="Kept apart from trades made by fills; it never moves a position.",
        request=serializers.JournalTradeBody,
        responses={201: serializers.TradeOutput, **errors(400, 401, 413, 415)},
        examples=[_JOURNAL_EXAMPLE],
    )
    def post(self, request: Request) -> HttpResponse:
        return answer(trade_create(user_id=user_id(request), entry=_entry(request)), 201)


class JournalTradeApi(APIView):
    @extend_schema(
        operation_id="trade_read",
        tags=["source systems"],
        summary="One round trip",
        description=_ALIAS + "`GET /trades/{id}`.",
        responses={200: serializers.TradeOutput, **errors(401, 404)},
    )
    def get(self, request: Request, trade_id: UUID) -> HttpResponse:
        return answer(selectors.trade_get(user_id=user_id(request), trade_id=trade_id))

    @extend_schema(
        operation_id="trade_update",
        tags=["source systems"],
        summary="Replace the terms of a noted trade; a sell closes it",
        request=serializers.JournalTradeBody,
        responses={200: serializers.TradeOutput, **errors(400, 401, 404, 409, 413, 415)},
        examples=[_JOURNAL_EXAMPLE],
    )
    def put(self, request: Request, trade_id: UUID) -> HttpResponse:
        return answer(
            trade_update(user_id=user_id(request), trade_id=trade_id, entry=_entry(request))
        )
