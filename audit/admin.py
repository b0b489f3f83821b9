"""The log in the admin site: to read, never to change."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse

from audit.models import AuditEntry, AuditSeal
from audit.selectors import entry_proof
from audit.verification import verify

VERIFY_AT_MOST = 500_000  # seals in one request: some ten seconds


class ReadOnlyAdmin(admin.ModelAdmin):
    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "at",
        "action",
        "object_type",
        "object_id",
        "user_id",
        "actor_kind",
        "actor_id",
        "ip",
    )
    list_filter = ("actor_kind", "object_type")
    search_fields = ("action__exact", "object_id__exact", "request_id__exact")
    search_help_text = "A whole action, object id or request id."
    ordering = ("-id",)
    readonly_fields = ("sealed",)
    exclude = ("mac",)
    change_list_template = "audit/admin/change_list.html"

    @admin.display(description="Seal")
    def sealed(self, entry: AuditEntry) -> str:
        proof = entry_proof(entry.pk)
        if not proof.sealed:
            return "not sealed yet"
        return f"{proof.seq}, {'intact' if proof.recomputed_ok else 'BROKEN'}: {proof.hash}"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.verify_view)
        return [path("verify/", view, name="audit_auditentry_verify"), *super().get_urls()]

    def verify_view(self, request: HttpRequest) -> HttpResponse:
        """Check the newest part of the chain and say what was found."""
        if request.method == "POST" and self.has_view_permission(request):
            self._verify(request)
        return HttpResponseRedirect(reverse("admin:audit_auditentry_changelist"))

    def _verify(self, request: HttpRequest) -> None:
        newest = AuditSeal.objects.order_by("-seq").values_list("seq", flat=True).first() or 0
        first = max(1, newest - VERIFY_AT_MOST)
        result = verify(None if first == 1 else first)
        for finding in result.findings:
            messages.error(request, f"{finding.kind}: {finding.message}")
        if result.ok:
            text = f"{result.checked} entries are intact, {result.unsealed} are not sealed yet."
            messages.success(request, text)


@admin.register(AuditSeal)
class AuditSealAdmin(ReadOnlyAdmin):
    list_display = ("seq", "entry_id", "sealed_at", "key_id")
    search_fields = ("entry_id__exact",)
    ordering = ("-seq",)
    exclude = ("hash", "prev_hash")
