"""How orders, positions and fills look from outside: one shape for the API, the pages and the live
updates.

Amounts are decimal strings with at least two decimals; times are aware datetimes that the renderer
writes as ISO 8601.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from brokerages.types import Quote
from marketdata.selectors import ref_by_id
from trading.pnl import OpenQuantity, average, unrealised

ORDER_FIELDS = (
    "id", "client_order_id", "connection_id", "connection__broker", "instrument_id", "side",
    "order_type", "product", "validity", "quantity", "filled_quantity", "fill_value", "price",
    "trigger_price", "disclosed_quantity", "after_market", "iceberg_legs", "market_protection",
    "status", "status_message", "status_code", "status_advice", "broker_order_id",
    "exchange_order_id", "source", "version", "created_at", "updated_at",
)  # fmt: skip
"""What `order_output` needs, as ``values()`` names."""

POSITION_FIELDS = (
    "id", "connection_id", "connection__broker", "instrument_id", "product", "quantity",
    "open_cost", "realised_pnl", "buy_quantity", "buy_value", "sell_quantity", "sell_value",
    "last_fill_at", "version",
)  # fmt: skip


def rupees(amount: Decimal | None) -> str | None:
    """Return a price or an amount as a plain decimal string with two to four decimals."""
    if amount is None:
        return None
    text = f"{amount:.4f}"
    return text[:-2] if text.endswith("00") else text


def plain(percent: Decimal | None) -> str | None:
    """Return a percentage as a decimal string without trailing zeros."""
    return None if percent is None else f"{percent.normalize():f}"


def order_output(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outside shape of one order from its ``ORDER_FIELDS``."""
    ref = ref_by_id(row["instrument_id"])
    quantity, filled = row["quantity"], row["filled_quantity"]
    return {
        "id": row["id"],
        "client_order_id": row["client_order_id"],
        "connection_id": row["connection_id"],
        "broker": row["connection__broker"],
        "symbol": ref.key,
        "side": row["side"],
        "order_type": row["order_type"],
        "product": row["product"],
        "validity": row["validity"],
        "quantity": quantity,
        "filled_quantity": filled,
        "pending_quantity": max(quantity - filled, 0),
        "average_price": rupees(average(row["fill_value"], filled)),
        "price": rupees(row["price"]),
        "trigger_price": rupees(row["trigger_price"]),
        "disclosed_quantity": row["disclosed_quantity"],
        "after_market": row["after_market"],
        "iceberg_legs": row["iceberg_legs"],
        "market_protection": plain(row["market_protection"]),
        "status": row["status"],
        "status_message": row["status_message"],
        "status_code": row["status_code"],
        "status_advice": row["status_advice"],
        "broker_order_id": row["broker_order_id"],
        "exchange_order_id": row["exchange_order_id"],
        "source": row["source"],
        "version": row["version"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


def order_event_output(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sequence": row["id"],
        "kind": row["kind"],
        "status": row["status"],
        "message": row["message"],
        "data": row["data"],
        "at": row["at"],
    }


def position_output(row: Mapping[str, Any], quote: Quote | None) -> dict[str, Any]:
    """Return the outside shape of one position; P&L is gross, at the last price if there is one."""
    ref = ref_by_id(row["instrument_id"])
    held = OpenQuantity(row["quantity"], row["open_cost"])
    open_pnl = (
        unrealised(held, quote.last_price) if quote else (Decimal(0) if not held.quantity else None)
    )
    return {
        "id": row["id"],
        "connection_id": row["connection_id"],
        "broker": row["connection__broker"],
        "symbol": ref.key,
        "name": ref.name,
        "product": row["product"],
        "quantity": held.quantity,
        "average_price": rupees(average(held.cost, held.quantity)),
        "last_price": rupees(quote.last_price) if quote else None,
        "open_cost": rupees(held.cost),
        "realised_pnl": rupees(row["realised_pnl"]),
        "unrealised_pnl": rupees(open_pnl),
        "pnl": rupees(row["realised_pnl"] + open_pnl) if open_pnl is not None else None,
        "buy_quantity": row["buy_quantity"],
        "buy_average": rupees(average(row["buy_value"], row["buy_quantity"])),
        "sell_quantity": row["sell_quantity"],
        "sell_average": rupees(average(row["sell_value"], row["sell_quantity"])),
        "value": rupees(held.quantity * quote.last_price) if quote else None,
        "simulated": quote.simulated if quote else None,
        "quote_at": quote.at if quote else None,
        "updated_at": row["last_fill_at"],
        "version": row["version"],
    }


def fill_output(row: Mapping[str, Any]) -> dict[str, Any]:
    ref = ref_by_id(row["instrument_id"])
    return {
        "id": str(row["id"]),
        "order_id": row["order_id"],
        "connection_id": row["connection_id"],
        "symbol": ref.key,
        "side": row["side"],
        "product": row["product"],
        "quantity": row["quantity"],
        "price": rupees(row["price"]),
        "value": rupees(row["price"] * row["quantity"]),
        "fill_id": row["fill_id"],
        "filled_at": row["filled_at"],
    }


def trade_output(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a round trip in the words of the trade API: what was paid, what came back, and the net
    of its charges.
    """
    entry, exited = row["entry_quantity"], row["exit_quantity"]
    entry_price, exit_price = average(row["entry_value"], entry), average(row["exit_value"], exited)
    long = row["side"] == "BUY"
    charges = row["brokerage_charge"] + row["mtf_charge"]
    gross = _round_trip_pnl(row)
    return {
        "id": row["id"],
        "origin": row["origin"],
        "stock_ticker": row["stock_ticker"],
        "type": row["type"],
        "side": row["side"],
        "quantity": entry,
        "closed_quantity": exited,
        "buy_price": rupees(entry_price if long else exit_price),
        "sell_price": rupees(exit_price if long else entry_price),
        "capital_used": rupees(row["entry_value"]),
        "status": row["status"],
        "brokerage_charge": rupees(row["brokerage_charge"]),
        "mtf_charge": rupees(row["mtf_charge"]),
        "gross_pnl": rupees(gross),
        "net_pnl": rupees(gross - charges) if gross is not None else None,
        "order_id": row["order_ref"] or None,
        "order_executed_at": row["opened_at"],
        "closed_at": row["closed_at"],
    }


def _round_trip_pnl(row: Mapping[str, Any]) -> Decimal | None:
    if not row["exit_quantity"]:
        return None
    # the cost of what was closed: all of it, or its share
    share = row["entry_value"] * row["exit_quantity"] / row["entry_quantity"]
    gross: Decimal = row["exit_value"] - share
    return gross if row["side"] == "BUY" else -gross
