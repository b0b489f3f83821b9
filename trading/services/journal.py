"""The user's own trade notes. They never move a position."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from audit.services import record
from brokerages.types import Side
from trading.errors import JournalOnly, NotFound
from trading.models import Trade
from trading.outputs import trade_output


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What the user notes: a buy opens a trade, a sell (with what was paid) is its end. Rupees and
    units.
    """

    stock_ticker: str
    side: Side
    quantity: int
    price: Decimal
    buy_price: Decimal
    type: str
    brokerage_charge: Decimal
    mtf_charge: Decimal
    order_ref: str


def trade_create(*, user_id: UUID, entry: JournalEntry) -> dict[str, Any]:
    """Note a trade."""
    with transaction.atomic():
        trade = Trade(user_id=user_id, origin=Trade.Origin.JOURNAL)
        _write(trade, entry)
        trade.save(force_insert=True)
        _record("trade.noted", trade)
    return trade_output(_values(trade))


def trade_update(*, user_id: UUID, trade_id: UUID, entry: JournalEntry) -> dict[str, Any]:
    """Replace the terms of a noted trade; a sell closes it.

    Raises:
        NotFound: no such trade of this user.
        JournalOnly: the trade was made by fills.
    """
    with transaction.atomic():
        trade = (
            Trade.objects.select_for_update(of=("self",), no_key=True)
            .filter(pk=trade_id, user_id=user_id)
            .first()
        )
        if trade is None:
            raise NotFound("no such trade")
        if trade.origin != Trade.Origin.JOURNAL:
            raise JournalOnly("This trade was made by your broker's fills and cannot be edited.")
        _write(trade, entry)
        trade.save()
        _record("trade.edited", trade)
    return trade_output(_values(trade))


def _write(trade: Trade, entry: JournalEntry) -> None:
    trade.stock_ticker, trade.type, trade.side = entry.stock_ticker, entry.type, Side.BUY
    trade.brokerage_charge, trade.mtf_charge, trade.order_ref = (
        entry.brokerage_charge,
        entry.mtf_charge,
        entry.order_ref,
    )
    trade.entry_quantity, trade.entry_value = entry.quantity, entry.quantity * entry.buy_price
    if entry.side is Side.SELL:
        trade.exit_quantity, trade.exit_value = entry.quantity, entry.quantity * entry.price
        trade.status, trade.closed_at = Trade.Status.CLOSED, trade.closed_at or timezone.now()
    else:
        trade.exit_quantity, trade.exit_value = 0, Decimal(0)
        trade.status, trade.closed_at = Trade.Status.OPEN, None


def _values(trade: Trade) -> dict[str, Any]:
    return {field.attname: getattr(trade, field.attname) for field in Trade._meta.concrete_fields}


def _record(action: str, trade: Trade) -> None:
    record(
        action,
        object_type="trade",
        object_id=trade.pk,
        user_id=trade.user_id,
        changes={
            "stock_ticker": trade.stock_ticker,
            "quantity": trade.entry_quantity,
            "entry_value": str(trade.entry_value),
            "exit_value": str(trade.exit_value),
            "status": trade.status,
        },
    )
