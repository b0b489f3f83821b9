"""A window, not a door: connections change through services, which audit it; secrets never show."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from brokerages.models import (
    BrokerConnection,
    BrokerCredential,
    BrokerSession,
    InboundEvent,
    PaperFill,
    PaperOrder,
    SessionRenewal,
)
from brokerages.problems import NotFound
from brokerages.services.inbox import event_replay


class ReadOnly:
    """Nothing is added, changed or deleted here."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class CredentialInline(ReadOnly, admin.TabularInline):
    model = BrokerCredential
    fields = ("field", "masked", "fingerprint", "key_id", "updated_at")
    readonly_fields = fields


class SessionInline(ReadOnly, admin.StackedInline):
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
    readonly_fields = fields


@admin.register(BrokerConnection)
class ConnectionAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("label", "broker", "user", "is_default", "data_source", "disabled_at")
    list_filter = ("broker", "data_source", "is_default")
    search_fields = ("label", "user__email", "id")
    list_select_related = ("user",)
    inlines = (SessionInline, CredentialInline)


@admin.register(SessionRenewal)
class SessionRenewalAdmin(ReadOnly, admin.ModelAdmin):
    """Which sessions were renewed on a day, and why others were not."""

    list_display = (
        "trade_date", "connection", "state", "attempts", "not_before", "finished_at", "error_code",
        "last_error",
    )  # fmt: skip
    list_filter = ("state", "connection__broker")
    search_fields = ("connection__user__email", "connection__label")
    list_select_related = ("connection",)
    date_hierarchy = "trade_date"
    show_full_result_count = False


class FillInline(ReadOnly, admin.TabularInline):
    model = PaperFill
    fields = ("number", "quantity", "price", "filled_at")
    readonly_fields = fields
    fk_name = "order"


@admin.register(PaperOrder)
class PaperOrderAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "__str__",
        "connection",
        "symbol",
        "order_type",
        "product",
        "price",
        "filled_quantity",
        "placed_at",
    )
    list_filter = ("status", "side", "product", "order_type")
    search_fields = ("client_order_id", "connection__user__email")
    list_select_related = ("connection",)
    show_full_result_count = False
    inlines = (FillInline,)

    @admin.display(description="Symbol")
    def symbol(self, order: PaperOrder) -> str:
        return f"{order.instrument['exchange']}:{order.instrument['symbol']}"


@admin.register(PaperFill)
class PaperFillAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("__str__", "order", "connection", "quantity", "price", "filled_at")
    list_select_related = ("order", "connection")
    show_full_result_count = False


@admin.register(InboundEvent)
class InboundEventAdmin(ReadOnly, admin.ModelAdmin):
    """The inbox of webhooks: those that are DEAD need a person."""

    list_display = (
        "received_at", "source", "kind", "state", "attempts", "subject", "next_at", "error",
    )  # fmt: skip
    list_filter = ("state", "source", "kind", "signed")
    search_fields = ("=subject", "=dedupe_key")
    list_select_related = ("connection",)
    date_hierarchy = "received_at"
    show_full_result_count = False
    fields = (
        "source", "kind", "connection", "subject", "dedupe_key", "signed", "text", "headers",
        "event_at", "received_at", "state", "attempts", "next_at", "settled_at", "error",
    )  # fmt: skip
    readonly_fields = fields
    actions = ("replay",)

    @admin.display(description="Body")
    def text(self, event: InboundEvent) -> str:
        """The body of a signed event. A broker's own is encrypted and stays so."""
        if event.key_id or not event.body:
            return "(encrypted)" if event.body else "(gone)"
        return bytes(event.body).decode("utf-8", "replace")

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return bool(getattr(request.user, "is_superuser", False))

    @admin.action(description="Replay: try again from the first attempt", permissions=["replay"])
    def replay(self, request: HttpRequest, chosen: QuerySet[InboundEvent]) -> None:
        done = 0
        for event_id in chosen.values_list("pk", flat=True):
            try:
                event_replay(event_id=event_id, by=request.user.pk)
                done += 1
            except NotFound:
                continue
        messages.success(request, f"{done} replayed; what was applied already is left as it is.")
