"""Instruments and the calendar in the admin."""

from django.contrib import admin
from django.http import HttpRequest

from marketdata.models import Instrument, TradingSession


@admin.register(Instrument)
class InstrumentAdmin(admin.ModelAdmin):
    """Read-only: instruments come from the bundled data and the brokers' lists."""

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
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Instrument | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Instrument | None = None) -> bool:
        return False


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
