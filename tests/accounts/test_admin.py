"""Accounts in the admin site, and what is deleted in time."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import tasks
from accounts.models import EmailOtp, LoginSession, OutgoingMail, ThrottleCounter, User
from accounts.services import sign_in
from accounts.services.cleaning import expired_delete
from accounts.services.mail import mail_enqueue, mails_sweep
from audit.models import AuditEntry
from tests.accounts.conftest import AUTH, Api
from tests.accounts.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
EMAIL = "user@example.com"


@pytest.fixture
def boss(client: Client) -> User:
    user = UserFactory(email="boss@example.com", is_staff=True, is_superuser=True)
    client.force_login(user)
    return user


def change_form(client: Client, user: User, **changes: Any) -> Any:
    fields = {"email": user.email, "name": user.name, "mobile": user.mobile, **changes}
    return client.post(reverse("admin:accounts_user_change", args=[user.pk]), fields)


# --- Signing in -----------------------------------------------------------------------------------


def admin_signin(client: Client, email: str = "boss@example.com", password: str = PASSWORD) -> Any:
    return client.post("/admin/login/?next=/admin/", {"username": email, "password": password})


def test_staff_sign_in_with_a_session_of_ours(client: Client) -> None:
    user = UserFactory(email="boss@example.com", is_staff=True)

    assert admin_signin(client, " BOSS@example.com").status_code == 302
    assert client.get("/admin/").status_code == 200
    assert LoginSession.objects.get(user=user).kind == "BROWSER"
    assert AuditEntry.objects.filter(action="auth.signin", user_id=user.pk).count() == 1


def test_others_do_not(client: Client) -> None:
    UserFactory(email=EMAIL)

    assert b"staff account" in admin_signin(client, EMAIL).content
    assert not LoginSession.objects.exists()


def test_failures_are_counted_and_logged_as_everywhere(client: Client) -> None:
    UserFactory(email="boss@example.com", is_staff=True)
    pages = [admin_signin(client, password="wrong wrong").content for _ in range(6)]

    assert b"is wrong" in pages[4]
    assert b"Too many attempts" in pages[5]
    assert AuditEntry.objects.filter(action="auth.signin_failed").count() == 5
    assert (
        Api().say("login", {"email": "boss@example.com", "password": PASSWORD}).status_code == 429
    )


# --- Users ----------------------------------------------------------------------------------------


def test_the_pages_open(client: Client, boss: User) -> None:
    user = UserFactory(email=EMAIL)
    Api().signin(EMAIL)
    session = LoginSession.objects.get(user=user)
    for address in (
        "/admin/accounts/user/",
        "/admin/accounts/user/?q=user",
        "/admin/accounts/user/add/",
        f"/admin/accounts/user/{user.pk}/change/",
        f"/admin/accounts/user/{user.pk}/password/",
        "/admin/accounts/loginsession/",
        f"/admin/accounts/loginsession/{session.pk}/change/",
    ):
        page = client.get(address)
        assert page.status_code == 200, address
        assert user.password.encode() not in page.content


def test_adding_a_user(client: Client, boss: User) -> None:
    fields = {
        "email": "NEW@example.com", "usable_password": "true", "password1": "a sentence of mine",
        "password2": "a sentence of mine",
    }  # fmt: skip
    answer = client.post("/admin/accounts/user/add/", fields)

    user = User.objects.get(email="new@example.com")
    assert answer.status_code == 302
    entry = AuditEntry.objects.get(action="user.created", object_id=str(user.pk))
    assert (entry.actor_kind, entry.actor_id) == ("admin", boss.pk)
    assert Api().signin("new@example.com", "a sentence of mine")


def test_a_poor_password_is_refused_here_too(client: Client, boss: User) -> None:
    fields = {
        "email": EMAIL, "usable_password": "true", "password1": "zerodha1234!",
        "password2": "zerodha1234!",
    }  # fmt: skip

    assert b"too easy to guess here" in client.post("/admin/accounts/user/add/", fields).content


def test_a_new_address_is_unproved_and_signs_its_user_out(client: Client, boss: User) -> None:
    user = UserFactory(email=EMAIL, email_verified_at=timezone.now())
    api = Api()
    pair = api.signin(EMAIL)

    assert change_form(client, user, email="Other@example.com").status_code == 302
    user.refresh_from_db()
    assert (user.email, user.email_verified_at) == ("other@example.com", None)
    assert api.me(pair["access_token"]).status_code == 401
    entry = AuditEntry.objects.get(action="user.updated", object_id=str(user.pk))
    assert (entry.actor_id, entry.changes) == (boss.pk, {"fields": ["email"]})


def test_a_new_name_leaves_sessions_alone(client: Client, boss: User) -> None:
    user = UserFactory(email=EMAIL)
    api = Api()
    pair = api.signin(EMAIL)
    change_form(client, user, name="Asha Rao")

    assert api.me(pair["access_token"]).json()["name"] == "Asha Rao"


def test_a_new_password_signs_its_user_out(client: Client, boss: User) -> None:
    user = UserFactory(email=EMAIL)
    api = Api()
    pair = api.signin(EMAIL)
    fields = {
        "usable_password": "true",
        "password1": "a sentence of mine",
        "password2": "a sentence of mine",
    }
    client.post(f"/admin/accounts/user/{user.pk}/password/", fields)

    assert api.me(pair["access_token"]).status_code == 401
    assert api.signin(EMAIL, "a sentence of mine")
    entry = AuditEntry.objects.get(action="user.updated", object_id=str(user.pk))
    assert "sentence" not in str(entry.changes)


def test_deactivating_and_reactivating(client: Client, boss: User) -> None:
    user = UserFactory(email=EMAIL)
    api = Api()
    pair = api.signin(EMAIL)
    chosen = {"_selected_action": [str(user.pk), str(boss.pk)]}
    client.post("/admin/accounts/user/", {"action": "deactivate", **chosen})

    assert api.me(pair["access_token"]).status_code == 401
    assert api.say("login", {"email": EMAIL, "password": PASSWORD}).status_code == 401
    assert client.get("/admin/").status_code == 200  # nobody shuts themselves out
    client.post("/admin/accounts/user/", {"action": "reactivate", **chosen})
    assert api.signin(EMAIL)
    actions = AuditEntry.objects.filter(object_id=str(user.pk), actor_kind="admin")
    assert list(actions.order_by("id").values_list("action", flat=True)) == [
        "user.deactivated", "user.reactivated",
    ]  # fmt: skip


def test_users_are_not_deleted(client: Client, boss: User) -> None:
    user = UserFactory()
    answer = client.post(f"/admin/accounts/user/{user.pk}/delete/", {"post": "yes"})

    assert answer.status_code == 403
    assert b"delete_selected" not in client.get("/admin/accounts/user/").content


def test_sessions_are_read_and_ended_only(client: Client, boss: User) -> None:
    UserFactory(email=EMAIL)
    api = Api()
    pair = api.signin(EMAIL)
    session = LoginSession.objects.get(user__email=EMAIL)
    client.post(
        "/admin/accounts/loginsession/",
        {"action": "revoke", "_selected_action": [str(session.pk)]},
    )

    assert api.me(pair["access_token"]).status_code == 401
    assert client.get("/admin/accounts/loginsession/add/").status_code == 403


def test_codes_mails_and_counters_are_not_shown() -> None:
    assert not {EmailOtp, OutgoingMail, ThrottleCounter} & set(site._registry)


def test_the_first_administrator_comes_from_the_command() -> None:
    boss = User.objects.create_superuser("ROOT@example.com", "a sentence of mine")

    assert (boss.email, boss.is_staff, boss.is_superuser) == ("root@example.com", True, True)
    with pytest.raises(ValueError, match="address"):
        User.objects.create_user("")
    assert User.objects.get_by_natural_key(" Root@Example.com ") == boss
    assert (boss.get_short_name(), boss.get_full_name(), str(boss)) == (
        "root", "root@example.com", "root@example.com",
    )  # fmt: skip


# --- Deleting in time -----------------------------------------------------------------------------


def test_what_has_served_its_time_is_deleted(client: Client) -> None:
    now = timezone.now()
    old, recent = UserFactory(email="old@example.com"), UserFactory(email="recent@example.com")
    client.force_login(recent)
    for user, days in ((old, 31), (recent, 29)):
        Api().signin(user.email)
        LoginSession.objects.filter(user=user, kind="API").update(
            expires_at=now - timedelta(days=days)
        )
        Api(REMOTE_ADDR="198.51.100.1").say("request-otp", {"email": user.email})
    EmailOtp.objects.filter(user=old).update(expires_at=now - timedelta(days=2))
    ThrottleCounter.objects.update(expires_at=now - timedelta(seconds=1))
    mails_sweep()
    OutgoingMail.objects.filter(to=old.email).update(created_at=now - timedelta(days=8))
    Session.objects.update(expire_date=now - timedelta(seconds=1))
    counters = ThrottleCounter.objects.count()

    assert expired_delete() == {
        "codes": 1, "counters": counters, "sessions": 1, "browsers": 1, "mails": 1,
    }  # fmt: skip
    assert EmailOtp.objects.get().user == recent
    assert not LoginSession.objects.filter(user=old).exists()
    assert OutgoingMail.objects.get().to == recent.email


def test_mails_that_failed_are_kept_longer() -> None:
    mail_enqueue("login_code", to=EMAIL, values={})
    OutgoingMail.objects.update(state="FAILED", created_at=timezone.now() - timedelta(days=29))
    tasks.delete_expired()
    assert OutgoingMail.objects.count() == 1
    OutgoingMail.objects.update(created_at=timezone.now() - timedelta(days=31))
    tasks.delete_expired()
    assert not OutgoingMail.objects.exists()


def test_mails_that_wait_are_never_deleted() -> None:
    mail_enqueue("login_code", to=EMAIL, values={})
    OutgoingMail.objects.update(created_at=timezone.now() - timedelta(days=400))
    expired_delete()

    assert OutgoingMail.objects.count() == 1
    assert sign_in.BACKEND in ["django.contrib.auth.backends.ModelBackend"]
    assert AUTH
