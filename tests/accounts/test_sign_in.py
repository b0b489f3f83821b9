"""Signing up and in with a password, in the words of the source systems and of ours."""

import json
import logging
from typing import Any

import pytest
from django.contrib.auth.hashers import identify_hasher
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.models import LoginSession, User
from accounts.passwords import Argon2idHasher
from audit.models import AuditEntry
from tests.accounts.conftest import AUTH, Api, error, statement_shape
from tests.accounts.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
FORM = "application/x-www-form-urlencoded"


def test_signup_as_the_source_system_documents_it() -> None:
    answer = APIClient().generic(
        "POST",
        "/api/v1/auth/signup",
        '{\n  "email": "user@example.com",\n  "password": "securepassword"\n}',
        content_type="application/json",
    )

    assert answer.status_code == 201
    body = answer.json()
    assert list(body) == ["access_token", "token_type", "refresh_token"]
    assert body["token_type"] == "bearer"
    assert body["access_token"].startswith("eyJ")
    user = User.objects.get()
    assert (user.email, user.is_active, user.is_staff, user.email_verified) == (
        "user@example.com", True, False, False,
    )  # fmt: skip


def test_signin_as_the_source_system_documents_it(api: Api) -> None:
    api.say("signup", {"email": "user@example.com", "password": "securepassword"})
    answer = APIClient().generic(
        "POST",
        "/api/v1/auth/signin",
        "username=user@example.com&password=securepassword",
        content_type=FORM,
    )

    assert answer.status_code == 200
    assert list(answer.json()) == ["access_token", "token_type", "refresh_token"]
    assert api.me(answer.json()["access_token"]).json()["email"] == "user@example.com"


@pytest.mark.parametrize(
    "body",
    [
        {"username": "user@example.com", "password": PASSWORD},
        {"email": "user@example.com", "password": PASSWORD},
        {"username": "  USER@Example.COM ", "password": PASSWORD},
    ],
)
def test_aliases(api: Api, body: dict[str, str]) -> None:
    assert (
        api.say("register", {"email": "user@example.com", "password": PASSWORD}).status_code == 201
    )

    assert api.say("login", body).status_code == 200


def test_login_takes_a_form_too(api: Api) -> None:
    UserFactory(email="user@example.com")
    body = "username=user%40example.com&password=correct+horse+battery"

    assert api.generic("POST", AUTH + "login", body, content_type=FORM).status_code == 200


def test_profile(api: Api) -> None:
    api.signup("user@example.com", name="Asha Rao", mobile="+91 98765 43210")

    body = api.me().json()
    user = User.objects.get()
    assert body == {
        "id": str(user.pk), "email": "user@example.com", "name": "Asha Rao",
        "mobile": "+91 98765 43210", "email_verified": False, "is_staff": False,
        "created_at": body["created_at"],
    }  # fmt: skip


def test_profile_can_be_changed_in_name_and_mobile_only(api: Api) -> None:
    api.signup("user@example.com", name="Asha")
    answer = api.patch(
        AUTH + "me", {"name": "Asha Rao", "email": "x@example.com", "is_staff": True}
    )

    assert answer.status_code == 200
    assert (answer.json()["name"], answer.json()["email"]) == ("Asha Rao", "user@example.com")
    user = User.objects.get()
    assert (user.name, user.email, user.is_staff) == ("Asha Rao", "user@example.com", False)
    assert AuditEntry.objects.get(action="user.updated").changes == {"fields": ["name"]}


def test_signup_cannot_set_more_than_it_asks_for(api: Api) -> None:
    api.signup("user@example.com", is_staff=True, is_superuser=True, email_verified_at="2026-01-01")

    user = User.objects.get()
    assert (user.is_staff, user.is_superuser, user.email_verified_at) == (False, False, None)


def test_a_taken_address_is_told(api: Api) -> None:
    UserFactory(email="user@example.com")
    answer = api.say("signup", {"email": "USER@example.com", "password": PASSWORD})

    assert (answer.status_code, error(answer)) == (409, "email_taken")
    assert User.objects.count() == 1
    entry = AuditEntry.objects.get(action="auth.signup_refused")
    assert (entry.user_id, "example.com" in str(entry.changes)) == (None, False)


@pytest.mark.parametrize(
    "password",
    ["short", "elevenchars", "password1234", "user@example.com", "Asha Rao 1234", "zerodha2026!",
     "niftybanknifty1", "x" * 129],
)  # fmt: skip
def test_poor_passwords_are_refused_with_reasons(api: Api, password: str) -> None:
    body = {"email": "user@example.com", "password": password, "name": "Asha Rao"}
    answer = api.say("signup", body)

    assert (answer.status_code, error(answer)) == (400, "validation_error")
    assert list(answer.json()["error"]["detail"]) == ["password"]
    assert not User.objects.exists()


@pytest.mark.parametrize(
    "password", ["securepassword", "twelve chars", "x y" * 42, "पासवर्ड बहुत लंबा", " spaces count "]
)
def test_good_passwords_are_kept_to_the_letter(api: Api, password: str) -> None:
    body = {"email": "user@example.com", "password": password}
    assert api.say("signup", body).status_code == 201

    assert api.say("signin", {"username": body["email"], "password": password}).status_code == 200
    wrong = api.say("signin", {"username": body["email"], "password": password.strip() + "x"})
    assert wrong.status_code == 401


def test_passwords_are_hashed_with_argon2id(api: Api, settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["accounts.passwords.Argon2idHasher"]
    api.signup("user@example.com")

    stored = User.objects.get().password
    assert stored.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
    assert isinstance(identify_hasher(stored), Argon2idHasher)
    assert api.signin("user@example.com")


def test_an_old_hash_is_renewed_at_sign_in(api: Api, settings: Any) -> None:
    user = UserFactory(email="user@example.com")
    assert user.password.startswith("md5$")
    settings.PASSWORD_HASHERS = [
        "accounts.passwords.Argon2idHasher", "django.contrib.auth.hashers.MD5PasswordHasher",
    ]  # fmt: skip

    assert api.signin("user@example.com")
    user.refresh_from_db()
    assert user.password.startswith("argon2$")


# --- Who must not get in --------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["signin", "login"])
def test_wrong_unknown_and_deactivated_look_the_same(api: Api, path: str) -> None:
    UserFactory(email="user@example.com")
    UserFactory(email="gone@example.com", is_active=False)
    answers = [
        api.say(path, {"username": username, "password": password})
        for username, password in [
            ("user@example.com", "not the password"),
            ("nobody@example.com", PASSWORD),
            ("gone@example.com", PASSWORD),
            ("not an address", PASSWORD),
        ]
    ]

    assert {a.status_code for a in answers} == {401}
    assert len({a.content for a in answers}) == 1
    assert error(answers[0]) == "invalid_credentials"
    assert {a.headers["WWW-Authenticate"] for a in answers} == {"Bearer"}
    assert not LoginSession.objects.exists()


def test_unknown_and_wrong_do_the_same_work(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same statements in the same order, and one hash each: so the time tells nothing either."""
    UserFactory(email="user@example.com")
    hashed: list[str] = []
    for method in ("encode", "verify"):
        real = getattr(Argon2idHasher, method)

        def counted(self: Any, *arguments: Any, _real: Any = real) -> Any:
            hashed.append(arguments[0])
            return _real(self, *arguments)

        monkeypatch.setattr(Argon2idHasher, method, counted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "django.conf.settings.PASSWORD_HASHERS", ["accounts.passwords.Argon2idHasher"]
        )
        from django.contrib.auth.hashers import get_hashers, get_hashers_by_algorithm

        get_hashers.cache_clear()
        get_hashers_by_algorithm.cache_clear()
        User.objects.get().set_password(PASSWORD)
        user = User.objects.get()
        user.set_password(PASSWORD)
        user.save()
        hashed.clear()
        shapes = []
        for name in ("user@example.com", "nobody@example.com"):
            with CaptureQueriesContext(
                connection,
            ) as queries:
                api.say("signin", {"username": name, "password": "not the password"})
            shapes.append(([statement_shape(q["sql"]) for q in queries], len(hashed)))
            hashed.clear()
    get_hashers.cache_clear()
    get_hashers_by_algorithm.cache_clear()

    assert shapes[0] == shapes[1]
    assert shapes[0][1] == 1


def test_failures_are_logged_under_a_pseudonym(api: Api) -> None:
    user = UserFactory(email="user@example.com")
    api.say("signin", {"username": "user@example.com", "password": "wrong wrong"})
    api.say("signin", {"username": "nobody@example.com", "password": "wrong wrong"})

    known, unknown = AuditEntry.objects.filter(action="auth.signin_failed").order_by("id")
    assert (known.user_id, known.object_id) == (user.pk, str(user.pk))
    assert (unknown.user_id, unknown.object_id) == (None, "")
    assert known.changes["address"] != unknown.changes["address"]
    assert "example.com" not in json.dumps([known.changes, unknown.changes])


def test_success_is_logged(api: Api) -> None:
    user = UserFactory(email="user@example.com")
    api.signin("user@example.com")

    entry = AuditEntry.objects.get(action="auth.signin")
    session = LoginSession.objects.get()
    assert (entry.user_id, entry.actor_id, entry.session_id) == (user.pk, user.pk, session.pk)
    assert (entry.object_id, entry.changes["method"]) == (str(session.pk), "PASSWORD")


# --- Input ----------------------------------------------------------------------------------------

LONG = "a" * 250 + "@example.com"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"email", "password"}),
        ({"email": "user@example.com"}, {"password"}),
        ({"email": "", "password": ""}, {"email", "password"}),
        ({"email": None, "password": None}, {"email", "password"}),
        ({"email": "no address", "password": PASSWORD}, {"email"}),
        ({"email": "user@", "password": PASSWORD}, {"email"}),
        ({"email": "a b@example.com", "password": PASSWORD}, {"email"}),
        ({"email": "user@example.com\r\nBcc: x@example.com", "password": PASSWORD}, {"email"}),
        ({"email": LONG, "password": PASSWORD}, {"email"}),
        ({"email": 5, "password": 5}, {"email", "password"}),
        ({"email": ["user@example.com"], "password": {"a": 1}}, {"email", "password"}),
        ({"email": "user@example.com", "password": True}, {"password"}),
        ({"email": "user@example.com", "password": PASSWORD, "name": "x" * 151}, {"name"}),
        ({"email": "user@example.com", "password": PASSWORD, "name": 7}, {"name"}),
        ({"email": "user@example.com", "password": PASSWORD, "mobile": "call me"}, {"mobile"}),
        ([], {"non_field_errors"}),
        ("text", {"non_field_errors"}),
    ],
)
def test_malformed_signups_list_their_fields(api: Api, body: Any, fields: set[str]) -> None:
    answer = api.say("signup", body)

    assert (answer.status_code, error(answer)) == (400, "validation_error")
    assert set(answer.json()["error"]["detail"]) == fields
    assert not User.objects.exists()


@pytest.mark.parametrize("field", ["username", "password"])
@pytest.mark.parametrize("value", ["a\x00b", "x" * 300])
def test_malformed_signins_list_their_fields(api: Api, field: str, value: str) -> None:
    body = {"username": "user@example.com", "password": PASSWORD, field: value}
    form = "&".join(f"{k}={v}".replace("\x00", "%00") for k, v in body.items())
    answer = api.generic("POST", AUTH + "signin", form, content_type=FORM)

    assert (answer.status_code, error(answer)) == (400, "validation_error")
    assert list(answer.json()["error"]["detail"]) == [field]


@pytest.mark.parametrize(
    ("raw", "content_type", "status"),
    [
        (b'{"email": ', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"username=\xff", FORM, 400),
        (b"%zz=1", FORM, 400),
        (b"", "application/json", 400),
        (b"<a/>", "application/xml", 415),
        (b"username=" + b"x" * 70_000, FORM, 413),
        (b'"' + b"x" * 70_000 + b'"', "application/json", 413),
    ],
)
def test_bodies_that_are_no_bodies(api: Api, raw: bytes, content_type: str, status: int) -> None:
    answer = api.generic("POST", AUTH + "signin", raw, content_type=content_type)

    assert answer.status_code == status
    assert error(answer)


def test_passwords_never_reach_the_logs(api: Api, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    canary = "canary-5f0c9d7e-password"
    api.say("signup", {"email": "user@example.com", "password": canary})
    api.say("signin", {"username": "user@example.com", "password": canary + "x"})
    api.say("signin", {"username": 5, "password": [canary]})
    api.generic(
        "POST", AUTH + "signin", f'{{"password": "{canary}"', content_type="application/json"
    )

    assert canary not in caplog.text
    assert canary not in json.dumps(list(AuditEntry.objects.values_list("changes", flat=True)))
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(t::text, '') FROM accounts_user t")
        assert canary not in cursor.fetchone()[0]
