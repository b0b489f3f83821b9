"""Shapes for the API documents, and the bodies and queries of the paths that are not hot."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from brokerages.types import Exchange, InstrumentKind
from marketdata.history_inputs import WORDS
from marketdata.sources.base import INTERVALS

PRICE = "Rupees, a decimal string."


class TextField(serializers.CharField):
    """A string, and nothing that could be made one."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class WholeField(serializers.IntegerField):
    """A JSON number without a fraction."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return int(super().to_internal_value(data))


def _choices(enum: Any) -> list[str]:
    return [member.value for member in enum]


class QuoteReasonOutput(serializers.Serializer):
    code = serializers.CharField(
        help_text="`unknown_instrument`, `no_quote`, `instrument_not_at_broker`, "
        "`instruments_not_loaded`, or the broker's own."
    )
    message = serializers.CharField()


class QuoteErrorOutput(serializers.Serializer):
    """Why there is no quote of one instrument; the others are answered."""

    error = QuoteReasonOutput()


class LtpOutput(serializers.Serializer):
    symbol = serializers.CharField()
    exchange = serializers.CharField()
    exchange_token = serializers.CharField()
    last_price = serializers.CharField(help_text=PRICE)
    at = serializers.DateTimeField(help_text="When the market was in this state.")
    age_ms = serializers.IntegerField()
    stale = serializers.BooleanField(help_text="Too old to trade on.")
    source = serializers.CharField()  # type: ignore[assignment]
    simulated = serializers.BooleanField(help_text="Not a price of a real market.")


class OhlcOutput(LtpOutput):
    open = serializers.CharField(allow_null=True)
    high = serializers.CharField(allow_null=True)
    low = serializers.CharField(allow_null=True)
    previous_close = serializers.CharField(allow_null=True)
    volume = serializers.IntegerField(help_text="Units traded today.")


class BookLevelOutput(serializers.Serializer):
    price = serializers.CharField()
    quantity = serializers.IntegerField()
    orders = serializers.IntegerField()


class BookOutput(serializers.Serializer):
    buy = BookLevelOutput(many=True)
    sell = BookLevelOutput(many=True)


class FullQuoteOutput(OhlcOutput):
    change = serializers.CharField(allow_null=True)
    change_percent = serializers.CharField(allow_null=True)
    open_interest = serializers.IntegerField(allow_null=True)
    lower_circuit = serializers.CharField(allow_null=True)
    upper_circuit = serializers.CharField(allow_null=True)
    depth = BookOutput(help_text="Best first, at most five levels a side.")


class InstrumentOutput(serializers.Serializer):
    symbol = serializers.CharField(help_text="The key used everywhere, e.g. NSE:RELIANCE.")
    exchange = serializers.CharField()
    segment = serializers.CharField()
    trading_symbol = serializers.CharField()
    name = serializers.CharField()
    kind = serializers.ChoiceField(_choices(InstrumentKind))
    isin = serializers.CharField(allow_blank=True)
    exchange_token = serializers.CharField(allow_blank=True)
    underlying = serializers.CharField(allow_blank=True)
    industry = serializers.CharField(allow_blank=True)
    expiry = serializers.DateField(allow_null=True)
    strike = serializers.CharField(allow_null=True)
    tick_size = serializers.CharField(help_text="Rupees.")
    lot_size = serializers.IntegerField(help_text="Units.")
    freeze_quantity = serializers.IntegerField(allow_null=True, help_text="Units.")
    is_tradable = serializers.BooleanField()
    is_active = serializers.BooleanField(help_text="False: expired or delisted.")


class InstrumentPageOutput(serializers.Serializer):
    results = InstrumentOutput(many=True)
    next = serializers.CharField(allow_null=True)


class InstrumentQuery(serializers.Serializer):
    q = serializers.CharField(
        max_length=60, default="", allow_blank=True, help_text="Words of symbol, name or ISIN."
    )
    exchange = serializers.ChoiceField(_choices(Exchange), default="", allow_blank=True)
    kind = serializers.ChoiceField(_choices(InstrumentKind), default="", allow_blank=True)
    limit = serializers.IntegerField(min_value=1, max_value=100, default=20)
    cursor = serializers.CharField(
        max_length=40, default="", help_text="`next` of the page before."
    )


class CandleOutput(serializers.Serializer):
    start = serializers.DateTimeField(help_text="Inclusive.")
    open = serializers.CharField()
    high = serializers.CharField()
    low = serializers.CharField()
    close = serializers.CharField()
    volume = serializers.IntegerField(help_text="Units.")


class CandleListOutput(serializers.Serializer):
    symbol = serializers.CharField()
    interval = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]
    simulated = serializers.BooleanField()
    results = CandleOutput(many=True)


class CandleQuery(serializers.Serializer):
    interval = serializers.ChoiceField(list(INTERVALS), default="5m")
    limit = serializers.IntegerField(min_value=1, max_value=400, default=100)


class ExpiriesOutput(serializers.Serializer):
    symbol = serializers.CharField(help_text="The share or index.")
    results = serializers.ListField(child=serializers.DateField())


class OptionOutput(serializers.Serializer):
    symbol = serializers.CharField()
    last_price = serializers.CharField(allow_null=True)
    bid = serializers.CharField(allow_null=True)
    ask = serializers.CharField(allow_null=True)
    volume = serializers.IntegerField(allow_null=True)
    open_interest = serializers.IntegerField(allow_null=True)
    simulated = serializers.BooleanField(allow_null=True)


class StrikeOutput(serializers.Serializer):
    strike = serializers.CharField()
    call = OptionOutput(allow_null=True)
    put = OptionOutput(allow_null=True)


class OptionChainOutput(serializers.Serializer):
    symbol = serializers.CharField(help_text="The share or index.")
    last_price = serializers.CharField(allow_null=True)
    expiry = serializers.DateField()
    lot_size = serializers.IntegerField(allow_null=True)
    results = StrikeOutput(many=True)


class OptionChainQuery(serializers.Serializer):
    expiry = serializers.DateField(required=False, help_text="The nearest if left out.")
    strikes = serializers.IntegerField(
        min_value=1, max_value=500, required=False, help_text="On each side of the money; or all."
    )


class SpanOutput(serializers.Serializer):
    phase = serializers.CharField()
    start = serializers.DateTimeField(help_text="Inclusive.")
    end = serializers.DateTimeField(help_text="Exclusive.")


class NextSessionOutput(serializers.Serializer):
    opens = serializers.DateTimeField()
    closes = serializers.DateTimeField()


class SessionGroupOutput(serializers.Serializer):
    group = serializers.CharField(help_text="Instruments that share their hours.")
    is_open = serializers.BooleanField(help_text="Orders match continuously now.")
    phase = serializers.CharField()
    known_until = serializers.DateField(allow_null=True, help_text="Days after it count as closed.")
    next_session = NextSessionOutput(allow_null=True)
    today = SpanOutput(many=True)


class HolidayOutput(serializers.Serializer):
    date = serializers.DateField()
    name = serializers.CharField()


class CalendarOutput(serializers.Serializer):
    at = serializers.DateTimeField()
    always_open = serializers.BooleanField(help_text="Simulated markets that never close.")
    groups = SessionGroupOutput(many=True)
    holidays = HolidayOutput(many=True)


class WatchlistOutput(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    position = serializers.IntegerField()
    symbols = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()


class WatchlistPageOutput(serializers.Serializer):
    results = WatchlistOutput(many=True)
    next = serializers.CharField(allow_null=True, help_text="Always null: all are in one page.")


class WatchlistCreateInput(serializers.Serializer):
    name = TextField(max_length=60)
    symbols = serializers.ListField(child=TextField(max_length=60), required=False, max_length=250)


class WatchlistUpdateInput(serializers.Serializer):
    name = TextField(max_length=60, required=False)
    position = WholeField(min_value=0, max_value=10_000, required=False)


class WatchlistItemInput(serializers.Serializer):
    position = WholeField(min_value=0, max_value=10_000, required=False)


class MasterRowOutput(serializers.Serializer):
    symbol = serializers.CharField(help_text="The key used everywhere, e.g. NSE:RELIANCE.")
    exchange = serializers.CharField()
    segment = serializers.CharField()
    trading_symbol = serializers.CharField()
    exchange_token = serializers.CharField(allow_blank=True)
    instrument_type = serializers.CharField(help_text="EQ, INDEX, FUT, CE or PE.")
    name = serializers.CharField()
    isin = serializers.CharField(allow_blank=True)
    underlying = serializers.CharField(allow_blank=True)
    expiry = serializers.DateField(allow_null=True)
    strike = serializers.CharField(allow_null=True)
    tick_size = serializers.CharField(help_text="Rupees, at this broker.")
    lot_size = serializers.IntegerField(help_text="Units, at this broker.")
    freeze_quantity = serializers.IntegerField(allow_null=True, help_text="Units.")
    broker_symbol = serializers.CharField(help_text="The broker's own name for it.")
    broker_token = serializers.CharField(allow_blank=True, help_text="The broker's own number.")


class MasterDataOutput(serializers.Serializer):
    status = serializers.CharField()
    data = MasterRowOutput(many=True)  # type: ignore[assignment]


class HistoryCandleOutput(serializers.Serializer):
    datetime = serializers.DateTimeField(help_text="When it begins, in Indian time.")
    open = serializers.CharField(help_text=PRICE)
    high = serializers.CharField()
    low = serializers.CharField()
    close = serializers.CharField()
    volume = serializers.IntegerField(help_text="Units.")
    oi = serializers.IntegerField(allow_null=True, help_text="Open interest, where there is any.")


@extend_schema_field({"oneOf": [{"type": "string", "maxLength": 60}, {"type": "integer"}]})
class NumberField(serializers.CharField):
    """An exchange's own number, as text or as a number."""


class HistoryBody(serializers.Serializer):
    """For the API documents; read by `marketdata.history_inputs`."""

    exchange = serializers.ChoiceField(_choices(Exchange), required=False)
    exchange_token = NumberField(required=False, help_text="With `exchange`; or give `symbol`.")
    instrument_type = serializers.CharField(max_length=60, required=False)
    symbol = serializers.CharField(max_length=60, required=False, help_text="E.g. NSE:RELIANCE.")
    interval = serializers.CharField(help_text=f"One of {', '.join(WORDS)}.")
    from_date = serializers.CharField(max_length=60, help_text="2025-01-01 or 2025-01-01 09:15:00.")
    to_date = serializers.CharField(max_length=60)
