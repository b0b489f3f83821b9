"""Kite's positions, holdings, money and margins in our words. Pure.

Source: https://kite.trade/docs/connect/v3/portfolio/, user/ and margins/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from brokerages.adapters.zerodha.mapping import listed_symbol, order_form
from brokerages.adapters.zerodha.values import (
    each,
    exact,
    money,
    money_down,
    money_up,
    price,
    price_or_none,
    whole,
)
from brokerages.types import (
    ZERO,
    Exchange,
    Funds,
    HoldingReport,
    Margin,
    OrderRequest,
    PositionReport,
    Product,
    Profile,
)

_EXCHANGES = frozenset(Exchange)
_PRODUCTS = frozenset(Product)
_MARGIN_FIELDS = (
    "exchange",
    "tradingsymbol",
    "transaction_type",
    "variety",
    "product",
    "order_type",
    "quantity",
)


def position_reports(data: Mapping[str, Any]) -> tuple[list[PositionReport], int]:
    """Read ``net`` of ``GET /portfolio/positions``: carried and today's together, flat ones too.

    Kite counts lots where ``multiplier`` is not 1; ours are units. Kite states the whole profit as
    unrealised, also of a flat position, where nothing is left to realise: there it is realised.
    Products that only Kite has (CO, BO) are left out. Returns also how many rows made no sense.
    """

    def read(row: Mapping[str, Any]) -> PositionReport | None:
        if row["exchange"] not in _EXCHANGES or row["product"] not in _PRODUCTS:
            return None
        units = exact(row["quantity"]) * exact(row.get("multiplier") or 1)
        realised, unrealised = money(row["realised"]), money(row["unrealised"])
        if not units:
            realised, unrealised = money(row["pnl"]), money(0)
        exchange = Exchange(row["exchange"])
        return PositionReport(
            exchange=exchange,
            symbol=listed_symbol(exchange, str(row["tradingsymbol"])),
            product=Product(row["product"]),
            quantity=whole(units),
            average_price=price(row["average_price"]),
            last_price=price_or_none(row.get("last_price")),
            realised=realised,
            unrealised=unrealised,
        )

    return each(data["net"], read)


def holding_reports(rows: Any) -> tuple[list[HoldingReport], int]:
    """Read ``GET /portfolio/holdings``. Kite keeps shares that are not delivered yet (T1) and
    shares bought on margin (MTF) apart from ``quantity``; ours counts T1 in, and MTF shares are a
    row of their own. Returns also how many rows made no sense.
    """

    def read(row: Mapping[str, Any]) -> list[HoldingReport] | None:
        if row["exchange"] not in _EXCHANGES:
            return None
        t1, mtf = whole(row.get("t1_quantity") or 0), row.get("mtf") or {}
        parts = [
            (whole(row["quantity"]) + t1, t1, row["average_price"]),
            (whole(mtf.get("quantity") or 0), 0, mtf.get("average_price") or 0),
        ]
        exchange = Exchange(row["exchange"])
        return [
            HoldingReport(
                exchange=exchange,
                symbol=listed_symbol(exchange, str(row["tradingsymbol"])),
                isin=str(row.get("isin") or ""),
                quantity=quantity,
                average_price=price(average),
                t1_quantity=not_delivered,
                last_price=price_or_none(row.get("last_price")),
            )
            for quantity, not_delivered, average in parts
            if quantity
        ]

    found, unread = each(rows, read)
    return [report for reports in found for report in reports], unread


def funds(data: Mapping[str, Any]) -> Funds:
    """Read ``GET /user/margins/equity``: ``net`` backs new orders, ``debits`` are in use. A day's
    profit can turn debits negative: then nothing is.
    """
    available = money_down(data["net"])
    used = max(money_up(data["utilised"]["debits"]), ZERO)
    return Funds(available=available, used=used, total=available + used)


def profile(data: Mapping[str, Any]) -> Profile:
    """Read ``GET /user/profile``."""
    words = [w for w in data.get("exchanges") or () if w in _EXCHANGES]
    return Profile(
        broker_user_id=str(data["user_id"]),
        name=str(data.get("user_name") or ""),
        email=str(data.get("email") or ""),
        exchanges=frozenset(Exchange(word) for word in words),
    )


def margin_order(request: OrderRequest) -> dict[str, Any]:
    """Return one order of a margin question. Prices are Decimals: 0 stands for the market's."""
    form = order_form(request)
    return {name: form[name] for name in _MARGIN_FIELDS} | {
        "price": request.price or ZERO,
        "trigger_price": request.trigger_price or ZERO,
    }


def margin_of_order(data: Sequence[Mapping[str, Any]]) -> Margin:
    """Read the answer of ``POST /margins/orders`` to one order."""
    (row,) = data
    charges = (row.get("charges") or {}).get("total")
    return Margin(money_up(row["total"]), None if charges is None else money_up(charges))


def margin_of_basket(data: Mapping[str, Any]) -> Margin:
    """Read the answer of ``POST /margins/basket``. ``final`` counts what the orders hedge."""
    charges = (data.get("charges") or {}).get("total")
    if charges is None:
        parts = [(row.get("charges") or {}).get("total") for row in data.get("orders") or ()]
        if parts and None not in parts:
            charges = sum((exact(part) for part in parts), ZERO)
    return Margin(
        money_up(data["final"]["total"]), None if charges is None else money_up(charges)
    )  # fmt: skip
