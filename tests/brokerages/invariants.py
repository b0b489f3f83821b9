"""What must be true of the paper broker at every moment, asked of its tables."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from django.db.models import Sum

from brokerages.models import (
    PAPER_OPEN,
    PaperAccount,
    PaperBook,
    PaperFill,
    PaperOrder,
    PaperPosition,
)
from brokerages.types import Quote


def total(rows, field: str) -> Decimal:
    return rows.aggregate(total=Sum(field))["total"] or Decimal(0)


def check_accounts(*connection_ids: UUID) -> None:
    """Every rupee is somewhere, every fill belongs to an order, every unit to a position.

    Without ids, for every account.
    """
    some = {"connection_id__in": connection_ids} if connection_ids else {}
    for account in PaperAccount.objects.filter(**some):
        mine = {"connection_id": account.connection_id}
        blocks = total(PaperOrder.objects.filter(**mine, status__in=PAPER_OPEN), "block")
        margins = total(PaperPosition.objects.filter(**mine), "margin")
        assert account.cash >= 0
        assert account.debt >= 0
        assert account.cash == 0 or account.debt == 0
        assert account.cash - account.debt + blocks + margins == (
            account.starting_cash + account.realised
        )
    for order in PaperOrder.objects.filter(**some).prefetch_related("fills"):
        fills = list(order.fills.all())
        assert sum(f.quantity for f in fills) == order.filled_quantity <= order.quantity
        assert sum(f.quantity * f.price for f in fills) == order.filled_value
        open_units = order.quantity - order.filled_quantity - order.closing_quantity
        expected = order.block_unit * open_units if order.status in PAPER_OPEN else 0
        assert order.block == expected >= 0
    for position in PaperPosition.objects.filter(**some):
        fills = PaperFill.objects.filter(
            order__connection_id=position.connection_id,
            order__instrument_id=position.instrument_id,
            order__product=position.product,
        )
        bought = total(fills.filter(order__side="BUY"), "quantity")
        sold = total(fills.filter(order__side="SELL"), "quantity")
        assert position.quantity == bought - sold


def check_book(quote: Quote) -> None:
    """No more was taken from a displayed book than it showed."""
    for book in PaperBook.objects.filter(
        instrument_id=quote.instrument_id, sequence=quote.sequence
    ):
        for side, levels in (("BUY", quote.asks), ("SELL", quote.bids)):
            shown = {level.price: level.quantity for level in levels}
            for price, taken in book.taken.get(side, {}).items():
                assert taken <= shown[Decimal(price)]
