"""Accounts in the admin site. What needs more than a form goes through services, which log it."""

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.clients import client_of
from accounts.errors import AccountsError
from accounts.managers import normal_email
from accounts.models import LoginSession, User
from accounts.services import sessions, sign_in, users


class SigninForm(AdminAuthenticationForm):
    """The admin site's sign-in, counted, slowed down and logged as every other."""

    def clean(self) -> dict[str, Any]:
        email, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if email and password:
            try:
                user = sign_in.credentials_check(
                    email=email,
                    password=password,
                    client=client_of(cast(HttpRequest, self.request)),
                )
            except AccountsError as e:
                raise ValidationError(e.message, code=e.code) from None
            user.backend = sign_in.BACKEND  # login() asks for it
            self.user_cache = user
            self.confirm_login_allowed(user)
        return self.cleaned_data


admin.site.login_form = SigninForm
admin.site.site_header = admin.site.site_title = "Sauda administration"


class LowerEmailMixin:
    cleaned_data: dict[str, Any]

    def clean_email(self) -> str:
        return normal_email(self.cleaned_data["email"])


class UserAddForm(LowerEmailMixin, AdminUserCreationForm):
    class Meta:
        model = User
        fields = ("email", "name", "mobile")
        field_classes = {"email": forms.EmailField}


class UserEditForm(LowerEmailMixin, UserChangeForm):
    class Meta:
        model = User
        fields = "__all__"


@admin.register(User)
class UserAdmin(DjangoUserAdmin):
    """Users are shut out, not deleted: what they did refers to them."""

    form = UserEditForm
    add_form = UserAddForm
    list_display = ("email", "name", "is_active", "is_staff", "email_verified_at", "created_at")
    list_filter = ("is_active", "is_staff")
    search_fields = ("email", "name")
    ordering = ("-created_at",)
    readonly_fields = ("id", "is_active", "email_verified_at", "created_at")
    actions = ("deactivate", "reactivate")
    fieldsets = (
        (None, {"fields": ("id", "email", "password", "name", "mobile")}),
        (
            "Access",
            {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")},
        ),
        ("Times", {"fields": ("email_verified_at", "created_at")}),
    )
    add_fieldsets = (
        (
            None,
            {
                "classes": ("wide",),
                "fields": ("email", "name", "mobile", "usable_password", "password1", "password2"),
            },
        ),
    )

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Save and log; a new address is unproved, and a lost right ends every session."""
        with transaction.atomic():
            fields = [str(name) for name in form.changed_data]
            if change and "email" in fields:
                obj.email_verified_at = None
            super().save_model(request, obj, form, change)
            users.user_admin_changed(user=obj, created=not change, fields=fields)
            if change and {"email", "is_staff", "is_superuser", "groups"} & set(fields):
                sessions.sessions_revoke_all(user_id=obj.pk, reason="changed_by_admin")

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> Any:
        """Django's page; a new password signs out everyone who knew the old one."""
        before = User.objects.filter(pk=id).values_list("password", flat=True).first()
        answer = super().user_change_password(request, id, form_url)
        user = User.objects.filter(pk=id).first()
        if user is not None and user.password != before:
            with transaction.atomic():
                users.user_admin_changed(user=user, created=False, fields=["password"])
                keep = getattr(request, "principal", None)
                own = keep.session_id if keep is not None and keep.id == user.pk else None
                sessions.sessions_revoke_all(user_id=user.pk, keep=own, reason="changed_by_admin")
        return answer

    @admin.action(description="Deactivate: sign out everywhere and shut out")
    def deactivate(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        for user in chosen.exclude(email=str(request.user)):
            users.user_deactivate(user_id=user.pk, reason="by an administrator")
        messages.success(request, "Deactivated. You cannot deactivate yourself.")

    @admin.action(description="Reactivate")
    def reactivate(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        for user in chosen:
            users.user_reactivate(user_id=user.pk, reason="by an administrator")
        messages.success(request, "Reactivated.")


@admin.register(LoginSession)
class LoginSessionAdmin(admin.ModelAdmin):
    list_display = (
        "user",
        "kind",
        "method",
        "ip",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
        "revoked_reason",
    )
    list_filter = ("kind", "method")
    search_fields = ("user__email",)
    list_select_related = ("user",)
    date_hierarchy = "created_at"
    fields = (
        "id", "user", "kind", "method", "user_agent", "ip", "created_at", "last_used_at",
        "expires_at", "rotated_at", "revoked_at", "revoked_reason",
    )  # fmt: skip
    actions = ("revoke",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: LoginSession | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: LoginSession | None = None) -> bool:
        return False

    @admin.action(description="Revoke", permissions=["view"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[LoginSession]) -> None:
        for session in chosen:
            sessions.session_revoke(
                user_id=session.user_id, session_id=session.pk, reason="by_admin"
            )
        messages.success(request, f"{len(chosen)} ended.")
