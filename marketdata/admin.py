"""Instruments and the calendar in the admin."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from marketdata.models import BrokerInstrument, Instrument, InstrumentSync, TradingSession


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows that come from elsewhere: to be looked at."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Instrument)
class InstrumentAdmin(ReadOnlyAdmin):
    """Instruments come from the bundled data and the brokers' lists."""

    list_display = [
        "symbol",
        "exchange",
        "kind",
        "name",
        "expiry",
        "strike",
        "lot_size",
        "is_active",
    ]
    list_filter = ["exchange", "kind", "is_active", "underlying"]
    search_fields = ["symbol", "name", "isin", "exchange_token"]
    ordering = ["exchange", "symbol"]


@admin.register(BrokerInstrument)
class BrokerInstrumentAdmin(ReadOnlyAdmin):
    """What each broker calls an instrument."""

    list_display = ["broker", "instrument", "broker_symbol", "broker_token", "is_active", "seen_at"]
    list_filter = ["broker", "is_active"]
    list_select_related = ["instrument"]
    search_fields = ["broker_symbol", "broker_token", "instrument__symbol"]
    ordering = ["broker", "instrument_id"]
    raw_id_fields = ["instrument"]


@admin.register(InstrumentSync)
class InstrumentSyncAdmin(ReadOnlyAdmin):
    """Each reading of a broker's list: what was new, and what could not be used."""

    list_display = [
        "broker", "state", "started_at", "rows", "matched", "created", "changed", "retired",
        "error",
    ]  # fmt: skip
    list_filter = ["broker", "state"]
    ordering = ["-id"]


@admin.register(TradingSession)
class TradingSessionAdmin(admin.ModelAdmin):
    """Rows can be added when an exchange announces a day; bundled ones stay as they came."""

    list_display = [
        "valid_from",
        "valid_to",
        "group",
        "phase",
        "opens",
        "closes",
        "special",
        "note",
    ]
    list_filter = ["group", "phase", "special", "bundled"]
    search_fields = ["note", "source"]
    date_hierarchy = "valid_from"

    def has_change_permission(
        self, request: HttpRequest, obj: TradingSession | None = None
    ) -> bool:
        return (obj is None or not obj.bundled) and super().has_change_permission(request, obj)

    def has_delete_permission(
        self, request: HttpRequest, obj: TradingSession | None = None
    ) -> bool:
        return (obj is None or not obj.bundled) and super().has_delete_permission(request, obj)
