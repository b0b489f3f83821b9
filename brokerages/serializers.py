"""What the connection paths take and give. Secrets go in and never come out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from rest_framework import serializers

from brokerages.base import BrokerAdapter, Pace, SessionRenewal
from brokerages.models import BrokerConnection, BrokerCredential, BrokerSession
from brokerages.services.adapters import redirect_url
from brokerages.types import (
    CandleInterval,
    Exchange,
    OrderType,
    Product,
    QuoteDepth,
    ReportedStatus,
    Side,
    Validity,
)

MAX_LIMIT = 500


def words(enum: Any) -> list[str]:
    return [member.value for member in enum]


class TextInput(serializers.CharField):
    """A string and nothing that could be made one: a number is a mistake of the caller."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class AmountOutput(serializers.CharField):
    """Rupees as a decimal string: at least the paise, more decimals only where there are any."""

    def to_representation(self, value: Any) -> str:
        value = Decimal(value)
        text = format(value.normalize(), "f")
        decimals = len(text.partition(".")[2])
        return text if decimals > 2 else format(value, ".2f")


# --- In -------------------------------------------------------------------------------------------


def _credentials() -> serializers.DictField:
    return serializers.DictField(
        child=TextInput(max_length=4096, trim_whitespace=False, allow_blank=True),
        required=False,
        write_only=True,
        help_text="By the names in `credential_fields` of `/brokers`. Encrypted; never returned.",
    )


class ConnectionCreateInput(serializers.Serializer):
    broker = TextInput(max_length=32, help_text="A name from `/brokers`.")
    label = TextInput(max_length=80, required=False, allow_blank=True)  # type: ignore[assignment]
    data_source = serializers.ChoiceField(
        BrokerConnection.DataSource.values,
        required=False,
        help_text="Where prices come from; the broker itself if left out, for paper `simulated`.",
    )
    credentials = _credentials()


class ConnectionUpdateInput(serializers.Serializer):
    label = TextInput(max_length=80, required=False)  # type: ignore[assignment]
    data_source = serializers.ChoiceField(BrokerConnection.DataSource.values, required=False)
    credentials = _credentials()


class SessionOpenInput(serializers.Serializer):
    grant = TextInput(
        max_length=4096,
        required=False,
        allow_null=True,
        write_only=True,
        help_text="What the broker's login redirect carried, e.g. Kite's request token.",
    )


class BrokerageActivateInput(serializers.Serializer):
    brokerage = TextInput(max_length=32, help_text="A name from `/brokers`.")
    api_url = TextInput(
        max_length=255,
        required=False,
        allow_blank=True,
        default="",
        help_text="Must be the broker's own address; ignored for paper.",
    )
    api_key = TextInput(
        max_length=4096, required=False, allow_blank=True, default="", write_only=True
    )
    api_secret = TextInput(
        max_length=4096, required=False, allow_blank=True, default="", write_only=True
    )
    request_token = TextInput(
        max_length=4096, required=False, allow_blank=True, default="", write_only=True
    )


class PageInput(serializers.Serializer):
    limit = serializers.IntegerField(min_value=1, max_value=MAX_LIMIT, default=50)
    cursor = serializers.RegexField(
        r"^[0-9a-f-]{1,36}$", default=None, help_text="`next` of the page before."
    )


# --- Brokers --------------------------------------------------------------------------------------


class CredentialFieldOutput(serializers.Serializer):
    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    secret = serializers.BooleanField()
    required = serializers.BooleanField()  # type: ignore[assignment]
    help_text = serializers.CharField()  # type: ignore[assignment]


class PaceRuleOutput(serializers.Serializer):
    kinds = serializers.ListField(child=serializers.ChoiceField(words(Pace)))
    limit = serializers.IntegerField(help_text="The most requests of these kinds together.")
    seconds = serializers.IntegerField(help_text="In any window of so many seconds.")
    scope = serializers.ChoiceField(["CONNECTION", "APP", "IP"], help_text="Who shares it.")


class CapabilitiesOutput(serializers.Serializer):
    order_types = serializers.ListField(child=serializers.ChoiceField(words(OrderType)))
    products = serializers.ListField(child=serializers.ChoiceField(words(Product)))
    validities = serializers.ListField(child=serializers.ChoiceField(words(Validity)))
    exchanges = serializers.ListField(child=serializers.ChoiceField(words(Exchange)))
    session_renewal = serializers.ChoiceField(words(SessionRenewal))
    can_modify = serializers.BooleanField()
    after_market_orders = serializers.BooleanField()
    iceberg_orders = serializers.BooleanField()
    market_protection = serializers.BooleanField()
    can_convert_position = serializers.BooleanField()
    pushes_order_updates = serializers.BooleanField()
    streams_ticks = serializers.BooleanField()
    max_stream_instruments = serializers.IntegerField()
    max_streams = serializers.IntegerField()
    quotes = serializers.ListField(child=serializers.ChoiceField(words(QuoteDepth)))
    candle_intervals = serializers.ListField(child=serializers.ChoiceField(words(CandleInterval)))
    lists_instruments = serializers.BooleanField()
    estimates_margin = serializers.BooleanField()
    sends_postbacks = serializers.BooleanField()
    signs_postbacks = serializers.BooleanField()
    opens_by_approval = serializers.BooleanField(
        help_text="The broker asks its user to approve a session, if asked to."
    )
    pace = PaceRuleOutput(many=True)
    orders_per_second = serializers.IntegerField(allow_null=True)
    find_by_client_order_id = serializers.BooleanField()
    client_order_id_max_length = serializers.IntegerField()


class BrokerOutput(serializers.Serializer):
    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    capabilities = CapabilitiesOutput()
    credential_fields = CredentialFieldOutput(many=True)
    redirect_url = serializers.CharField(
        allow_blank=True,
        help_text="To be entered at the broker as the app's redirect address; empty where the "
        "broker has no login page.",
    )


class BrokerPage(serializers.Serializer):
    results = BrokerOutput(many=True)
    next = serializers.CharField(allow_null=True)


def broker_output(adapter: type[BrokerAdapter]) -> dict[str, Any]:
    """Return a broker with its words in a fixed order: sets have none."""
    capabilities = adapter.capabilities
    shown: dict[str, Any] = {
        name: getattr(capabilities, name) for name in CapabilitiesOutput().get_fields()
    }
    for name, enum in (
        ("order_types", OrderType),
        ("products", Product),
        ("validities", Validity),
        ("exchanges", Exchange),
        ("quotes", QuoteDepth),
        ("candle_intervals", CandleInterval),
    ):
        shown[name] = [word for word in words(enum) if word in shown[name]]
    shown["pace"] = [
        {
            "kinds": [word for word in words(Pace) if word in rule.kinds],
            "limit": rule.limit,
            "seconds": rule.seconds,
            "scope": rule.scope,
        }
        for rule in capabilities.pace
    ]
    interactive = capabilities.session_renewal is SessionRenewal.INTERACTIVE
    fields = CredentialFieldOutput(adapter.credential_fields, many=True).data
    return {
        "name": adapter.name,
        "label": adapter.label,
        "capabilities": shown,
        "credential_fields": fields,
        "redirect_url": redirect_url(adapter.name) if interactive else "",
    }


# --- Connections ----------------------------------------------------------------------------------


class BrokerSessionOutput(serializers.ModelSerializer):
    class Meta:
        model = BrokerSession
        fields = (
            "state",
            "broker_user_id",
            "opened_at",
            "checked_at",
            "expires_at",
            "closed_at",
            "last_error",
        )
        read_only_fields = fields


class CredentialOutput(serializers.ModelSerializer):
    masked = serializers.CharField(help_text="The last four characters, where that is safe.")
    fingerprint = serializers.CharField(help_text="Tells whether two secrets are the same.")

    class Meta:
        model = BrokerCredential
        fields = ("field", "masked", "fingerprint", "updated_at")
        read_only_fields = fields


class ConnectionOutput(serializers.ModelSerializer):
    session = BrokerSessionOutput(allow_null=True)
    credentials = CredentialOutput(many=True)

    class Meta:
        model = BrokerConnection
        fields = (
            "id",
            "broker",
            "label",
            "is_default",
            "data_source",
            "created_at",
            "session",
            "credentials",
        )
        read_only_fields = fields

    def to_representation(self, instance: BrokerConnection) -> dict[str, Any]:
        body = super().to_representation(instance)
        body.setdefault("session", None)  # the field leaves out a row that does not exist
        return body


class ConnectionPage(serializers.Serializer):
    results = ConnectionOutput(many=True)
    next = serializers.CharField(allow_null=True)


# --- Live from the broker -------------------------------------------------------------------------


class BrokerProfileOutput(serializers.Serializer):
    broker_user_id = serializers.CharField()
    name = serializers.CharField()
    email = serializers.CharField(allow_blank=True)
    exchanges = serializers.SerializerMethodField()

    def get_exchanges(self, profile: Any) -> list[str]:
        return sorted(profile.exchanges)


class FundsOutput(serializers.Serializer):
    available = AmountOutput(help_text="Rupees that can back a new order.")
    used = AmountOutput(help_text="Rupees blocked by open orders and positions.")
    total = AmountOutput()


class BrokerHoldingOutput(serializers.Serializer):
    exchange = serializers.ChoiceField(words(Exchange))
    symbol = serializers.CharField()
    isin = serializers.CharField(allow_blank=True)
    quantity = serializers.IntegerField()
    t1_quantity = serializers.IntegerField(help_text="Bought but not settled; part of `quantity`.")
    average_price = AmountOutput()
    last_price = AmountOutput(allow_null=True)


class BrokerPositionOutput(serializers.Serializer):
    exchange = serializers.ChoiceField(words(Exchange))
    symbol = serializers.CharField()
    product = serializers.ChoiceField(words(Product))
    quantity = serializers.IntegerField(help_text="Negative when short.")
    average_price = AmountOutput()
    last_price = AmountOutput(allow_null=True)
    realised = AmountOutput(allow_null=True)
    unrealised = AmountOutput(allow_null=True)


class BrokerOrderOutput(serializers.Serializer):
    broker_order_id = serializers.CharField()
    client_order_id = serializers.CharField(allow_blank=True)
    exchange_order_id = serializers.CharField(allow_blank=True)
    status = serializers.ChoiceField(words(ReportedStatus))
    message = serializers.CharField(allow_blank=True)
    quantity = serializers.IntegerField(allow_null=True)
    filled_quantity = serializers.IntegerField()
    average_price = AmountOutput(allow_null=True)
    price = AmountOutput(allow_null=True)
    trigger_price = AmountOutput(allow_null=True)
    reported_at = serializers.DateTimeField()


class BrokerTradeOutput(serializers.Serializer):
    fill_id = serializers.CharField()
    broker_order_id = serializers.CharField()
    client_order_id = serializers.CharField(allow_blank=True)
    exchange = serializers.ChoiceField(words(Exchange))
    side = serializers.ChoiceField(words(Side))
    quantity = serializers.IntegerField()
    price = AmountOutput()
    filled_at = serializers.DateTimeField()


class BrokerHoldingPage(serializers.Serializer):
    results = BrokerHoldingOutput(many=True)
    next = serializers.CharField(allow_null=True)


class BrokerPositionPage(serializers.Serializer):
    results = BrokerPositionOutput(many=True)
    next = serializers.CharField(allow_null=True)


class BrokerOrderPage(serializers.Serializer):
    results = BrokerOrderOutput(many=True)
    next = serializers.CharField(allow_null=True)


class BrokerTradePage(serializers.Serializer):
    results = BrokerTradeOutput(many=True)
    next = serializers.CharField(allow_null=True)
