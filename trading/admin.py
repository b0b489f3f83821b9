"""Windows on orders and what came of them: read-only, since every change goes through services."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest

from trading.models import Fill, Notification, Order, OrderCommand, OrderEvent, Position, Trade


class ReadOnly:
    """No adding, changing or deleting through the admin."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class _Inline(ReadOnly, admin.TabularInline):
    extra = 0
    can_delete = False


class FillInline(_Inline):
    model = Fill
    fields = ("filled_at", "side", "quantity", "price", "fill_id")


class CommandInline(_Inline):
    model = OrderCommand
    fields = (
        "kind",
        "state",
        "sends",
        "attempts",
        "created_at",
        "claimed_at",
        "settled_at",
        "error_message",
    )


class EventInline(_Inline):
    model = OrderEvent
    fields = ("at", "kind", "status", "message", "data")


@admin.register(Order)
class OrderAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "created_at", "user", "instrument", "side", "quantity", "filled_quantity", "order_type",
        "status", "broker_order_id",
    )  # fmt: skip
    list_filter = ("status", "connection__broker", "side", "order_type", "product", "source")
    search_fields = (
        "=tag",
        "=broker_order_id",
        "=client_order_id",
        "instrument__symbol",
        "user__email",
    )
    list_select_related = ("user", "instrument")
    date_hierarchy = "created_at"
    inlines: ClassVar = [FillInline, CommandInline, EventInline]


@admin.register(OrderCommand)
class OrderCommandAdmin(ReadOnly, admin.ModelAdmin):
    """What is owed to brokers: rows that stay UNKNOWN need a person."""

    list_display = (
        "id",
        "kind",
        "state",
        "order",
        "sends",
        "attempts",
        "created_at",
        "claimed_at",
        "error_code",
    )
    list_filter = ("state", "kind")
    list_select_related = ("order",)
    raw_id_fields = ("order",)


@admin.register(Position)
class PositionAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "user",
        "instrument",
        "product",
        "quantity",
        "open_cost",
        "realised_pnl",
        "last_fill_at",
    )
    list_filter = ("product", "connection__broker")
    search_fields = ("instrument__symbol", "user__email")
    list_select_related = ("user", "instrument")


@admin.register(Fill)
class FillAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("filled_at", "instrument", "side", "quantity", "price", "fill_id", "order")
    list_filter = ("side", "product", "exchange")
    search_fields = ("=fill_id", "instrument__symbol")
    list_select_related = ("instrument", "order")


@admin.register(Trade)
class TradeAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "opened_at",
        "user",
        "stock_ticker",
        "origin",
        "status",
        "entry_quantity",
        "exit_quantity",
    )
    list_filter = ("origin", "status", "type")
    search_fields = ("stock_ticker", "user__email")
    list_select_related = ("user",)


@admin.register(Notification)
class NotificationAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("created_at", "user_id", "kind", "title", "read_at")
    list_filter = ("kind",)
