"""Groww's positions, holdings, money and account details in our words. Pure Python.

Sources: https://groww.in/trade-api/docs/python-sdk (portfolio, margin, user)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from brokerages.adapters.groww.mapping import (
    EXCHANGES,
    PRODUCTS,
    VENUES,
    ZERO,
    amount,
    optional,
    units,
)
from brokerages.types import (
    Exchange,
    Funds,
    HoldingReport,
    Margin,
    PositionReport,
    Product,
    Profile,
)

logger = logging.getLogger(__name__)

REPORTED_PRODUCTS = {word: ours for ours, word in PRODUCTS.items()} | {"MTF": Product.MTF}
SETTLED = (
    "demat_free_quantity",
    "demat_locked_quantity",
    "groww_locked_quantity",
    "pledge_quantity",
    "repledge_quantity",
)


def parse_position(
    row: Mapping[str, Any],
    last_price: Decimal | None,
    *,
    paise: bool = False,
) -> PositionReport | None:
    """Read a position; None for one of a product or venue that we have no word for. ``paise``: the
    answer states amounts in paise (see `positions.in_paise`).
    """
    venue, product = (row.get("exchange"), row.get("segment")), row.get("product")
    if venue not in EXCHANGES or product not in REPORTED_PRODUCTS:
        logger.error("groww reports a position that we have no word for: %r %.40r", venue, product)
        return None
    unit = Decimal(100) if paise else Decimal(1)
    quantity, average = units(row["quantity"]), (optional(row.get("net_price")) or ZERO) / unit
    realised = optional(row.get("realised_pnl"))
    return PositionReport(
        exchange=EXCHANGES[venue],
        symbol=str(row["trading_symbol"]),
        product=REPORTED_PRODUCTS[product],
        quantity=quantity,
        average_price=average,
        last_price=last_price,
        realised=None if realised is None else realised / unit,
        unrealised=None if last_price is None else (last_price - average) * quantity,
    )


def parse_holding(row: Mapping[str, Any]) -> HoldingReport:
    """Read a holding. Groww names no exchange but, at times, those that it can be traded on.

    Its example leaves what has not settled out of ``quantity``; nothing says so. The row itself
    tells: the settled shares, free, locked or pledged, make up the quantity without them or not.
    """
    traded_on = row.get("tradable_exchanges") or ["NSE"]
    quantity, unsettled = units(row["quantity"]), units(row.get("t1_quantity"))
    settled = sum((optional(row.get(name)) or ZERO for name in SETTLED), ZERO)
    return HoldingReport(
        exchange=Exchange.NSE if "NSE" in traded_on else Exchange.BSE,
        symbol=str(row["trading_symbol"]),
        isin=str(row.get("isin") or ""),
        quantity=quantity + unsettled if quantity == settled else quantity,
        average_price=optional(row.get("average_price")) or ZERO,
        t1_quantity=unsettled,
    )


def parse_funds(payload: Mapping[str, Any]) -> Funds:
    """Read the margins: ``available`` is what can buy shares for delivery."""
    equity = payload.get("equity_margin_details") or {}
    available = optional(equity.get("cnc_balance_available"))
    used = optional(payload.get("net_margin_used")) or ZERO
    if available is None:
        available = amount(payload["clear_cash"])
    return Funds(available=available, used=used, total=available + used)


def parse_profile(payload: Mapping[str, Any]) -> Profile:
    """Read the account's details: Groww tells neither name nor address."""
    segments = payload.get("active_segments") or []
    enabled = {"NSE": payload.get("nse_enabled"), "BSE": payload.get("bse_enabled")}
    return Profile(
        broker_user_id=str(payload.get("ucc") or payload["vendor_user_id"]),
        name="",
        exchanges=frozenset(
            ours
            for ours, (exchange, segment) in VENUES.items()
            if enabled[exchange] and segment in segments
        ),
    )


def parse_margin(payload: Mapping[str, Any]) -> Margin:
    """Read a margin: Groww's total has the charges in it."""
    charges = optional(payload.get("brokerage_and_charges")) or ZERO
    return Margin(required=amount(payload["total_requirement"]) - charges, charges=charges)
