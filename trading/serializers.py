"""Shapes for the API documents, and the bodies of the paths that are not hot."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.serializers import IdField, TextField
from brokerages.serializers import FundsOutput
from brokerages.types import OrderType, Product, Side, Validity
from trading.inputs import AMOUNT
from trading.order_states import OrderStatus
from trading.risk import MAX_LEGS


@extend_schema_field(
    {
        "oneOf": [
            {"type": "number", "minimum": 0},
            {"type": "string", "pattern": f"^{AMOUNT.pattern}$"},
        ]
    }
)
class AmountField(serializers.DecimalField):
    """Rupees as a JSON number or a string, read exactly: no sign, no exponent, four decimals."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_digits=14, decimal_places=4, **kwargs)

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        # DRF takes an empty text for no amount; an order without a price is another order.
        return super(serializers.DecimalField, self).validate_empty_values(data)

    def to_internal_value(self, data: Any) -> Decimal:
        if isinstance(data, bool) or not AMOUNT.fullmatch(str(data)):
            self.fail("invalid")
        return Decimal(str(data))


@extend_schema_field({"oneOf": [{"type": "integer"}, {"type": "string", "maxLength": 64}]})
class ReferenceField(serializers.CharField):
    """A number or a text of the caller's own, kept as text."""


def _choices(enum: Any) -> list[str]:
    return [member.value for member in enum]


class OrderOutput(serializers.Serializer):
    id = serializers.UUIDField()
    client_order_id = serializers.CharField(allow_null=True)
    connection_id = serializers.UUIDField()
    broker = serializers.CharField()
    symbol = serializers.CharField(help_text="Exchange and symbol, e.g. NSE:RELIANCE.")
    side = serializers.ChoiceField(_choices(Side))
    order_type = serializers.ChoiceField(_choices(OrderType))
    product = serializers.ChoiceField(_choices(Product))
    validity = serializers.ChoiceField(_choices(Validity))
    quantity = serializers.IntegerField(help_text="Units, not lots.")
    filled_quantity = serializers.IntegerField()
    pending_quantity = serializers.IntegerField()
    average_price = serializers.CharField(allow_null=True)
    price = serializers.CharField(allow_null=True)
    trigger_price = serializers.CharField(allow_null=True)
    disclosed_quantity = serializers.IntegerField()
    after_market = serializers.BooleanField()
    iceberg_legs = serializers.IntegerField(help_text="0: shown as a whole.")
    market_protection = serializers.CharField(allow_null=True, help_text="Percent.")
    status = serializers.ChoiceField(_choices(OrderStatus))
    status_message = serializers.CharField(allow_blank=True)
    status_code = serializers.CharField(allow_blank=True)
    status_advice = serializers.CharField(
        allow_blank=True, help_text="What can be done about a refusal."
    )
    broker_order_id = serializers.CharField(allow_blank=True)
    exchange_order_id = serializers.CharField(allow_blank=True)
    source = serializers.CharField()  # type: ignore[assignment]
    version = serializers.IntegerField(help_text="Grows with every change; drop an older copy.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class OrderPlaceBody(serializers.Serializer):
    symbol = serializers.CharField(
        max_length=64, help_text="Exchange and symbol, e.g. NSE:RELIANCE."
    )
    side = serializers.ChoiceField(_choices(Side))
    quantity = serializers.IntegerField(
        min_value=1, max_value=10_000_000, help_text="Units, not lots."
    )
    order_type = serializers.ChoiceField(_choices(OrderType), required=False)
    product = serializers.ChoiceField(
        _choices(Product),
        required=False,
        allow_null=True,
        help_text="CNC for shares, NRML for derivatives if left out.",
    )
    validity = serializers.ChoiceField(_choices(Validity), required=False)
    price = AmountField(required=False, allow_null=True, help_text="LIMIT and SL only.")
    trigger_price = AmountField(required=False, allow_null=True, help_text="SL and SL-M only.")
    disclosed_quantity = serializers.IntegerField(min_value=0, max_value=10_000_000, required=False)
    after_market = serializers.BooleanField(
        required=False, help_text="Kept for the next session, where the broker offers it."
    )
    iceberg_legs = serializers.IntegerField(
        min_value=0,
        max_value=MAX_LEGS,
        required=False,
        help_text="Sent in so many parts, where the broker offers it. 0: as a whole.",
    )
    market_protection = AmountField(
        required=False,
        allow_null=True,
        help_text="MARKET and SL-M only: how far from the last price it may fill, in percent.",
    )
    client_order_id = serializers.RegexField(
        r"^[A-Za-z0-9_-]{1,64}$", required=False, allow_null=True
    )
    connection_id = serializers.UUIDField(
        required=False, allow_null=True, help_text="The default connection if left out."
    )


class MarginsBody(serializers.Serializer):
    orders = serializers.ListField(child=OrderPlaceBody(), min_length=1, max_length=20)


class MarginsOutput(serializers.Serializer):
    required = serializers.CharField(help_text="Rupees.")  # type: ignore[assignment]
    charges = serializers.CharField(allow_null=True, help_text="Null where it states none.")


class ConvertBody(serializers.Serializer):
    symbol = serializers.CharField(max_length=64)
    quantity = serializers.IntegerField(min_value=1, max_value=10_000_000)
    old_product = serializers.ChoiceField(_choices(Product))
    new_product = serializers.ChoiceField(_choices(Product))
    side = serializers.ChoiceField(
        _choices(Side), required=False, allow_null=True, help_text="BUY for a long position."
    )
    overnight = serializers.BooleanField(
        required=False, help_text="Carried from an earlier day, not opened today."
    )


class ConvertOutput(serializers.Serializer):
    symbol = serializers.CharField()
    quantity = serializers.IntegerField()
    old_product = serializers.ChoiceField(_choices(Product))
    new_product = serializers.ChoiceField(_choices(Product))
    moved = serializers.IntegerField(help_text="Units of our own position that changed with it.")


class OrderModifyBody(serializers.Serializer):
    quantity = serializers.IntegerField(min_value=1, max_value=10_000_000, required=False)
    order_type = serializers.ChoiceField(_choices(OrderType), required=False)
    validity = serializers.ChoiceField(_choices(Validity), required=False)
    price = AmountField(required=False, allow_null=True)
    trigger_price = AmountField(required=False, allow_null=True)
    disclosed_quantity = serializers.IntegerField(min_value=0, max_value=10_000_000, required=False)


class OrderEventOutput(serializers.Serializer):
    sequence = serializers.IntegerField()
    kind = serializers.CharField()
    status = serializers.ChoiceField(_choices(OrderStatus))
    message = serializers.CharField(allow_blank=True)
    data = serializers.DictField()  # type: ignore[assignment]
    at = serializers.DateTimeField()


class DenialOutput(serializers.Serializer):
    code = serializers.CharField()
    message = serializers.CharField()
    detail = serializers.DictField()


class OrderPreviewOutput(serializers.Serializer):
    symbol = serializers.CharField()
    side = serializers.ChoiceField(_choices(Side))
    quantity = serializers.IntegerField()
    order_type = serializers.ChoiceField(_choices(OrderType))
    product = serializers.ChoiceField(_choices(Product))
    estimated_price = serializers.CharField(allow_null=True)
    estimated_value = serializers.CharField(allow_null=True)
    margin_required = serializers.CharField(allow_null=True)
    charges = serializers.CharField(allow_null=True, help_text="As far as the broker states them.")
    available_funds = serializers.CharField(allow_null=True)
    source = serializers.CharField(  # type: ignore[assignment]
        allow_null=True, help_text="Where the estimated price is from."
    )
    simulated = serializers.BooleanField(allow_null=True)
    denied = DenialOutput(allow_null=True)


class CancelAllBody(serializers.Serializer):
    connection_id = IdField(required=False, allow_null=True)


class FailedOutput(serializers.Serializer):
    id = serializers.UUIDField()
    code = serializers.CharField()
    message = serializers.CharField()


class CancelAllOutput(serializers.Serializer):
    cancelled = serializers.ListField(child=serializers.UUIDField())
    failed = FailedOutput(many=True)


class PositionOutput(serializers.Serializer):
    id = serializers.UUIDField()
    connection_id = serializers.UUIDField()
    broker = serializers.CharField()
    symbol = serializers.CharField()
    name = serializers.CharField()
    product = serializers.ChoiceField(_choices(Product))
    quantity = serializers.IntegerField(help_text="Signed: a short is negative.")
    average_price = serializers.CharField(allow_null=True)
    last_price = serializers.CharField(allow_null=True)
    open_cost = serializers.CharField()
    realised_pnl = serializers.CharField(help_text="Rupees, gross of charges.")
    unrealised_pnl = serializers.CharField(allow_null=True)
    pnl = serializers.CharField(allow_null=True)
    buy_quantity = serializers.IntegerField()
    buy_average = serializers.CharField(allow_null=True)
    sell_quantity = serializers.IntegerField()
    sell_average = serializers.CharField(allow_null=True)
    value = serializers.CharField(allow_null=True)
    simulated = serializers.BooleanField(allow_null=True)
    quote_at = serializers.DateTimeField(allow_null=True)
    updated_at = serializers.DateTimeField()
    version = serializers.IntegerField()


class PositionExitBody(serializers.Serializer):
    quantity = serializers.IntegerField(
        min_value=1, max_value=10_000_000, required=False, allow_null=True
    )


class ExitFailedOutput(serializers.Serializer):
    position_id = serializers.UUIDField()
    code = serializers.CharField()
    message = serializers.CharField()


class ExitAllOutput(serializers.Serializer):
    orders = OrderOutput(many=True)
    failed = ExitFailedOutput(many=True)


class HoldingOutput(serializers.Serializer):
    id = serializers.UUIDField()
    connection_id = serializers.UUIDField()
    broker = serializers.CharField()
    symbol = serializers.CharField()
    name = serializers.CharField()
    isin = serializers.CharField(allow_blank=True)
    product = serializers.ChoiceField(_choices(Product))
    quantity = serializers.IntegerField()
    average_price = serializers.CharField(allow_null=True)
    last_price = serializers.CharField(allow_null=True)
    invested = serializers.CharField()
    value = serializers.CharField(allow_null=True)
    pnl = serializers.CharField(allow_null=True)
    simulated = serializers.BooleanField(allow_null=True)


class FillOutput(serializers.Serializer):
    id = serializers.CharField()
    order_id = serializers.UUIDField()
    connection_id = serializers.UUIDField()
    symbol = serializers.CharField()
    side = serializers.ChoiceField(_choices(Side))
    product = serializers.ChoiceField(_choices(Product))
    quantity = serializers.IntegerField()
    price = serializers.CharField()
    value = serializers.CharField()
    fill_id = serializers.CharField()
    filled_at = serializers.DateTimeField()


class TradeOutput(serializers.Serializer):
    id = serializers.UUIDField()
    origin = serializers.ChoiceField(["BROKER", "JOURNAL"])
    stock_ticker = serializers.CharField()
    type = serializers.ChoiceField(["eq", "mtf"])
    side = serializers.ChoiceField(_choices(Side))
    quantity = serializers.IntegerField()
    closed_quantity = serializers.IntegerField()
    buy_price = serializers.CharField(allow_null=True)
    sell_price = serializers.CharField(allow_null=True)
    capital_used = serializers.CharField()
    status = serializers.ChoiceField(["open", "closed"])
    brokerage_charge = serializers.CharField()
    mtf_charge = serializers.CharField()
    gross_pnl = serializers.CharField(allow_null=True)
    net_pnl = serializers.CharField(allow_null=True)
    order_id = serializers.CharField(allow_null=True)
    order_executed_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)


class PnlOutput(serializers.Serializer):
    realised_pnl = serializers.CharField()
    unrealised_pnl = serializers.CharField()
    pnl = serializers.CharField()
    invested = serializers.CharField()
    value = serializers.CharField()
    unpriced = serializers.IntegerField()


class ConnectionSessionOutput(serializers.Serializer):
    state = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)


class PortfolioConnectionOutput(serializers.Serializer):
    id = serializers.UUIDField()
    broker = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    is_default = serializers.BooleanField()
    session = ConnectionSessionOutput()
    available = serializers.CharField(allow_null=True)


class PortfolioErrorOutput(serializers.Serializer):
    connection_id = serializers.UUIDField()
    code = serializers.CharField()
    message = serializers.CharField()


class PortfolioOutput(PnlOutput):
    funds = FundsOutput()
    positions = PositionOutput(many=True)
    holdings = HoldingOutput(many=True)
    recent_orders = OrderOutput(many=True)
    recent_trades = TradeOutput(many=True)
    connections = PortfolioConnectionOutput(many=True)
    errors = PortfolioErrorOutput(many=True)  # type: ignore[assignment]


class NotificationOutput(serializers.Serializer):
    id = serializers.UUIDField()
    kind = serializers.CharField()
    title = serializers.CharField()
    body = serializers.CharField(allow_blank=True)
    data = serializers.DictField()  # type: ignore[assignment]
    created_at = serializers.DateTimeField()
    read_at = serializers.DateTimeField(allow_null=True)


class TickerOrderBody(serializers.Serializer):
    """The order body of the source system: LIMIT if it has a price, else MARKET."""

    stock_ticker = TextField(max_length=64)
    quantity = serializers.IntegerField(min_value=1, max_value=10_000_000)
    price = AmountField(required=False, allow_null=True)
    order_type = TextField(max_length=16, required=False, allow_blank=True)


class JournalTradeBody(serializers.Serializer):
    """A trade that the user notes down. It never moves a position."""

    price = AmountField(help_text="Of this order, rupees per unit.")
    quantity = serializers.IntegerField(min_value=1, max_value=10_000_000)
    order_id = ReferenceField(max_length=64, required=False, allow_null=True, allow_blank=True)
    stock_ticker = TextField(max_length=64)
    type = serializers.ChoiceField(["eq", "mtf"])
    order_type = serializers.ChoiceField(["buy", "sell"])
    buy_price = AmountField()
    brokerage_charge = AmountField(required=False, default=Decimal(0))
    mtf_charge = AmountField(required=False, default=Decimal(0))
