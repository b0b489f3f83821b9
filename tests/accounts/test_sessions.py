"""Where a user is signed in: devices with tokens, browsers with cookies, sockets with either."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.conf import settings as django_settings
from django.contrib.sessions.models import Session
from django.test import Client, RequestFactory
from django.utils import timezone

from accounts import ws_auth
from accounts.browser_sessions import SessionStore, stored_key
from accounts.errors import InvalidCredentials
from accounts.models import LoginSession, User
from accounts.services import passwords, sessions, sign_in
from audit.models import AuditEntry
from tests.accounts.conftest import AUTH, Api, error
from tests.accounts.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
EMAIL = "user@example.com"
COOKIE = django_settings.SESSION_COOKIE_NAME


# --- The list -------------------------------------------------------------------------------------


def test_the_list_shows_what_stands(api: Api, other_device: Api) -> None:
    UserFactory(email=EMAIL)
    other_device.signin(EMAIL)
    ended = api.signin(EMAIL)
    api.say("logout", {"refresh_token": ended["refresh_token"]})
    api.signin(EMAIL)
    UserFactory(email="bob@example.com")
    Api().signin("bob@example.com")

    body = api.get(AUTH + "sessions").json()
    assert body["next"] is None
    assert [s["current"] for s in body["results"]] == [True, False]
    assert set(body["results"][1]) == {
        "id", "kind", "method", "user_agent", "ip", "created_at", "last_used_at", "expires_at",
        "current",
    }  # fmt: skip
    assert (body["results"][1]["ip"], body["results"][1]["user_agent"]) == (
        "203.0.113.99", "Elsewhere/1.0",
    )  # fmt: skip


def test_one_session_can_be_ended(api: Api, other_device: Api) -> None:
    UserFactory(email=EMAIL)
    there, here = other_device.signin(EMAIL), api.signin(EMAIL)
    session = LoginSession.objects.get(user_agent="Elsewhere/1.0")
    answer = api.delete(f"{AUTH}sessions/{session.pk}")

    assert (answer.status_code, answer.content) == (204, b"")
    assert api.me(there["access_token"]).status_code == 401
    assert api.me(here["access_token"]).status_code == 200
    assert api.delete(f"{AUTH}sessions/{session.pk}").status_code == 204
    assert AuditEntry.objects.filter(action="auth.session_revoked").count() == 1


def test_anothers_session_is_not_there(api: Api) -> None:
    UserFactory(email=EMAIL)
    UserFactory(email="bob@example.com")
    bobs = Api().signin("bob@example.com")
    api.signin(EMAIL)
    session = LoginSession.objects.get(user__email="bob@example.com")
    foreign = api.delete(f"{AUTH}sessions/{session.pk}")
    missing = api.delete(f"{AUTH}sessions/{uuid4()}")

    assert (foreign.status_code, foreign.content) == (404, missing.content)
    assert error(foreign) == "not_found"
    assert api.me(bobs["access_token"]).status_code == 200
    assert api.delete(f"{AUTH}sessions/not-an-id").status_code == 404


@pytest.mark.parametrize(
    ("body", "ended", "me"), [({}, 2, 200), ({"include_current": True}, 3, 401)]
)
def test_all_sessions_can_be_ended(
    api: Api, client: Client, body: Any, ended: int, me: int
) -> None:
    user = UserFactory(email=EMAIL)
    there = Api().signin(EMAIL)
    client.force_login(user)
    here = api.signin(EMAIL)
    answer = api.say("sessions/revoke-all", body)

    assert (answer.status_code, answer.json()) == (200, {"revoked": ended})
    assert api.me(there["access_token"]).status_code == 401
    assert api.me(here["access_token"]).status_code == me
    assert client.get(AUTH + "me").status_code == 401


@pytest.mark.parametrize("path", ["sessions", "me"])
def test_a_login_is_needed(api: Api, path: str) -> None:
    assert error(api.get(AUTH + path)) == "not_authenticated"
    assert api.say("sessions/revoke-all").status_code == 401
    assert api.delete(f"{AUTH}sessions/{uuid4()}").status_code == 401


# --- Browsers -------------------------------------------------------------------------------------


@pytest.fixture
def browser() -> Client:
    """A browser that is checked for CSRF as a real one is."""
    return Client(enforce_csrf_checks=True, headers={"User-Agent": "Browser/1.0"})


def test_a_cookie_reads_the_api(browser: Client) -> None:
    user = UserFactory(email=EMAIL)
    browser.force_login(user)

    assert browser.get(AUTH + "me").json()["email"] == EMAIL
    session = LoginSession.objects.get()
    assert (session.kind, session.user_id) == ("BROWSER", user.pk)


def test_a_cookie_writes_only_with_its_csrf_token(browser: Client) -> None:
    browser.force_login(UserFactory(email=EMAIL))
    change: dict[str, Any] = {"data": {"name": "New"}, "content_type": "application/json"}

    refused = browser.patch(AUTH + "me", **change)
    assert (refused.status_code, error(refused)) == (403, "csrf_failed")
    browser.get("/admin/login/")  # any page with a form sets the cookie
    token = browser.cookies["csrftoken"].value
    forged = browser.patch(AUTH + "me", **change, headers={"X-CSRFToken": "a" * 32})
    assert forged.status_code == 403
    assert browser.patch(AUTH + "me", **change, headers={"X-CSRFToken": token}).status_code == 200
    assert User.objects.get().name == "New"


def test_a_token_needs_no_csrf_token_even_beside_a_cookie(browser: Client) -> None:
    browser.force_login(UserFactory(email="bob@example.com"))
    pair = Api().signup(EMAIL)
    answer = browser.patch(
        AUTH + "me",
        {"name": "New"},
        content_type="application/json",
        headers={"Authorization": f"Bearer {pair['access_token']}"},
    )

    assert answer.json()["email"] == EMAIL


def test_a_cookie_is_hashed_in_the_database(browser: Client) -> None:
    browser.force_login(UserFactory())
    cookie = browser.cookies[COOKIE].value

    assert list(Session.objects.values_list("pk", flat=True)) == [stored_key(cookie)]
    assert LoginSession.objects.get().browser_key_hash == stored_key(cookie)
    assert SessionStore(stored_key(cookie)).load() == {}
    assert ws_auth.principal_from_session_cookie(stored_key(cookie)) is None


def test_signing_in_changes_the_cookie(browser: Client) -> None:
    """Or somebody who planted a cookie before would be signed in with it afterwards."""
    user = UserFactory(email=EMAIL)
    browser.force_login(user)
    planted = browser.cookies[COOKIE].value
    browser.force_login(UserFactory())

    assert browser.cookies[COOKIE].value != planted
    assert not SessionStore().exists(planted)


def test_ending_the_session_empties_the_browser(browser: Client) -> None:
    user = UserFactory(email=EMAIL)
    browser.force_login(user)
    sessions.sessions_revoke_all(user_id=user.pk)

    assert browser.get(AUTH + "me").status_code == 401
    assert not Session.objects.exists()


def test_a_session_marked_as_ended_counts_for_nothing(browser: Client) -> None:
    """Even if the browser's row was left behind."""
    browser.force_login(UserFactory())
    LoginSession.objects.update(revoked_at=timezone.now())

    assert browser.get(AUTH + "me").status_code == 401
    assert not Session.objects.exists()


def test_a_deactivated_user_is_out(browser: Client) -> None:
    browser.force_login(UserFactory())
    User.objects.update(is_active=False)

    assert browser.get(AUTH + "me").status_code == 401


def test_a_cookie_without_a_login_session_counts_for_nothing(browser: Client) -> None:
    browser.force_login(UserFactory())
    LoginSession.objects.all().delete()

    assert browser.get(AUTH + "me").status_code == 401


def test_a_browser_is_signed_out_when_idle_for_a_day_and_after_seven_days(browser: Client) -> None:
    start = timezone.now()
    with time_machine.travel(start, tick=False) as clock:
        browser.force_login(UserFactory())
        for hours in range(12, 7 * 24, 12):
            clock.move_to(start + timedelta(hours=hours))
            assert browser.get(AUTH + "me").status_code == 200
        clock.move_to(start + timedelta(days=7, seconds=1))
        assert browser.get(AUTH + "me").status_code == 401
        browser.force_login(UserFactory())
        clock.shift(timedelta(hours=24, seconds=1))
        assert browser.get(AUTH + "me").status_code == 401


def test_use_is_noted_every_five_minutes(browser: Client) -> None:
    start = timezone.now()
    noted = []
    with time_machine.travel(start, tick=False) as clock:
        browser.force_login(UserFactory())
        for minutes in (1, 4, 5, 8, 11):
            clock.move_to(start + timedelta(minutes=minutes))
            browser.get(AUTH + "me")
            noted.append(round((LoginSession.objects.get().last_used_at - start).seconds / 60))

    assert noted == [0, 0, 5, 5, 11]


def test_api_clients_cost_no_session_query(api: Api, django_assert_num_queries: Any) -> None:
    pair = api.signup()
    with django_assert_num_queries(2):  # who asks, and their profile
        assert api.me(pair["access_token"]).status_code == 200


# --- What the pages call --------------------------------------------------------------------------


def page_request(**meta: Any) -> Any:
    request = RequestFactory(**meta).post("/signin")
    request.session = SessionStore()
    return request


def test_signing_a_browser_in_and_out() -> None:
    user = UserFactory(email=EMAIL)
    request = page_request(REMOTE_ADDR="192.0.2.5", HTTP_USER_AGENT="Browser/1.0")

    assert sign_in.browser_signin(request, email=EMAIL, password=PASSWORD) == user
    session = LoginSession.objects.get()
    assert (session.kind, session.method, session.ip, session.user_agent) == (
        "BROWSER", "PASSWORD", "192.0.2.5", "Browser/1.0",
    )  # fmt: skip
    request.session.save()
    cookie = request.session.session_key
    principal = ws_auth.principal_from_session_cookie(cookie)
    assert principal is not None
    assert (principal.id, principal.session_id) == (user.pk, session.pk)
    sign_in.browser_signout(request)
    session.refresh_from_db()
    assert session.revoked_reason == "logout"
    assert ws_auth.principal_from_session_cookie(cookie) is None
    assert AuditEntry.objects.filter(action="auth.signout", actor_id=user.pk).count() == 1


def test_a_browser_gets_nothing_for_a_wrong_password() -> None:
    UserFactory(email=EMAIL)
    request = page_request()
    with pytest.raises(InvalidCredentials):
        sign_in.browser_signin(request, email=EMAIL, password="wrong wrong")

    assert request.session.is_empty()
    assert not LoginSession.objects.exists()


def test_a_browser_signs_in_with_a_mailed_code(api: Api, code: Any) -> None:
    UserFactory(email=EMAIL)
    request = page_request()
    api.say("request-otp", {"email": EMAIL})
    sign_in.browser_signin_otp(request, email=EMAIL, code=code(EMAIL))

    assert LoginSession.objects.get().method == "OTP"


def test_a_browser_goes_on_after_changing_the_password(api: Api) -> None:
    user = UserFactory(email=EMAIL)
    pair = api.signin(EMAIL)
    request = page_request()
    sign_in.browser_signin(request, email=EMAIL, password=PASSWORD)
    request.session.save()
    before = request.session.session_key
    passwords.browser_password_change(
        request, user_id=user.pk, current=PASSWORD, new="an entirely new sentence"
    )
    request.session.save()

    assert api.me(pair["access_token"]).status_code == 401
    assert ws_auth.principal_from_session_cookie(before) is None
    assert ws_auth.principal_from_session_cookie(request.session.session_key) is not None


def test_a_password_changed_in_between_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old password was right when it was checked, but not when the session opens."""
    user = UserFactory(email=EMAIL)
    real = sign_in.credentials_check

    def slow(**arguments: Any) -> User:
        found = real(**arguments)
        changed = User.objects.get(pk=user.pk)
        changed.set_password("an entirely new sentence")
        changed.save()
        return found

    monkeypatch.setattr(sign_in, "credentials_check", slow)
    refused = Api().say("login", {"email": EMAIL, "password": PASSWORD})
    request = page_request()
    with pytest.raises(InvalidCredentials):
        sign_in.browser_signin(request, email=EMAIL, password=PASSWORD)

    assert error(refused) == "invalid_credentials"
    assert not LoginSession.objects.exists()
    assert request.session.is_empty()


# --- Sockets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "x", "a" * 32, "a" * 500, "' OR 1=1", "\x00", "ü"])
def test_cookies_that_are_none(value: str) -> None:
    assert ws_auth.principal_from_session_cookie(value) is None


def test_one_kind_of_session_does_not_serve_as_the_other(browser: Client) -> None:
    from accounts.tokens import access_mint

    user = UserFactory()
    browser.force_login(user)
    session = LoginSession.objects.get()

    assert ws_auth.principal_from_token(access_mint(user.pk, session.pk)) is None


def test_the_store_is_synchronous_only() -> None:
    """Django's own asynchronous half would write plain keys."""
    import asyncio

    for call in (
        lambda: SessionStore("x").aload(),
        lambda: SessionStore().aexists("x"),
        lambda: SessionStore().acreate_model_instance({}),
        lambda: SessionStore("x").adelete(),
    ):
        with pytest.raises(NotImplementedError):
            asyncio.run(call())
