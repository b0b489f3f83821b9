"""The order ticket as a form, for browsers without scripts and as the one place of its words."""

from __future__ import annotations

import re
import secrets
from decimal import Decimal
from typing import Any

from django import forms

from brokerages.types import OrderType, Product, Segment, Side, Validity
from marketdata.selectors import ref_by_key
from trading.risk import OrderTerms

KEY = re.compile(r"[A-Za-z0-9_-]{8,64}")
PRODUCT_WORDS = (
    (Product.CNC.value, "Delivery", "CNC: shares you keep"),
    (Product.MIS.value, "Intraday", "MIS: squared off before the close"),
    (Product.NRML.value, "Carry", "NRML: futures and options you keep"),
    (Product.MTF.value, "MTF", "Margin trading facility: delivery with the broker's money"),
)
ORDER_TYPE_WORDS = (
    (OrderType.MARKET.value, "Market", "At the best price there is"),
    (OrderType.LIMIT.value, "Limit", "At your price or better"),
    (OrderType.SL.value, "SL", "Stop-loss: a limit order once the trigger price is reached"),
    (OrderType.SL_M.value, "SL-M", "Stop-loss: a market order once the trigger price is reached"),
)


def new_key() -> str:
    return secrets.token_hex(16)


def _choices(enum: Any) -> list[tuple[str, str]]:
    return [(member.value, member.value) for member in enum]


class TermsForm(forms.Form):
    """The terms that can be changed while an order rests."""

    quantity = forms.IntegerField(min_value=1, max_value=10_000_000, localize=False)
    order_type = forms.ChoiceField(choices=_choices(OrderType), initial=OrderType.MARKET.value)
    validity = forms.ChoiceField(
        choices=_choices(Validity), initial=Validity.DAY.value, required=False
    )
    price = forms.DecimalField(
        required=False, min_value=Decimal("0.0001"), max_digits=14, decimal_places=4
    )
    trigger_price = forms.DecimalField(
        required=False, min_value=Decimal("0.0001"), max_digits=14, decimal_places=4
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if "order_type" not in cleaned:
            return cleaned
        order_type = cleaned["order_type"] = OrderType(cleaned["order_type"])
        cleaned["validity"] = Validity(cleaned.get("validity") or Validity.DAY)
        for name, wanted in (
            ("price", order_type.has_price),
            ("trigger_price", order_type.has_trigger),
        ):
            if not wanted:
                cleaned[name] = None
                self.errors.pop(name, None)
            elif cleaned.get(name) is None and name not in self.errors:
                self.add_error(name, f"{order_type.value} orders need this.")
        return cleaned


class OrderForm(TermsForm):
    """A new order. The key is made with the form, so that sending it twice is one order."""

    idempotency_key = forms.RegexField(KEY, initial=new_key)
    symbol = forms.CharField(max_length=64)
    side = forms.ChoiceField(choices=_choices(Side), initial=Side.BUY.value)
    product = forms.ChoiceField(choices=_choices(Product), initial=Product.CNC.value)
    connection_id = forms.UUIDField(required=False)

    def clean_symbol(self) -> Any:
        ref = ref_by_key(self.cleaned_data["symbol"])
        if ref is None:
            raise forms.ValidationError("There is no such instrument.")
        return ref

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        ref, product = cleaned.get("symbol"), cleaned.get("product")
        if ref is not None and product in (
            Product.CNC,
            Product.NRML,
        ):  # the ticket without scripts offers both
            is_share = ref.segment is Segment.EQUITY
            cleaned["product"] = Product.CNC.value if is_share else Product.NRML.value
        return cleaned

    def take_errors(self, changed: TermsForm) -> None:
        """Show the errors of the terms that can be changed, and no others."""
        self._errors = changed.errors

    def terms(self) -> OrderTerms:
        """Return the terms of a valid form."""
        data = self.cleaned_data
        return OrderTerms(
            instrument=data["symbol"],
            side=Side(data["side"]),
            quantity=data["quantity"],
            order_type=data["order_type"],
            product=Product(data["product"]),
            validity=data["validity"],
            price=data["price"],
            trigger_price=data["trigger_price"],
        )
