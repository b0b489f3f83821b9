"""What lets a request in, and the many things that must not."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
import time_machine
from django.conf import settings as django_settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import tokens, ws_auth
from accounts.errors import InvalidToken
from accounts.models import LoginSession, User
from accounts.services.users import user_deactivate
from tests.accounts.conftest import AUTH, Api, error

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning"),
]
KEY = django_settings.JWT_SIGNING_KEY


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def signed(claims: dict[str, Any], key: str = KEY, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


def test_what_the_tokens_say(api: Api) -> None:
    pair = api.signup()
    access, refresh = claims_of(pair["access_token"]), claims_of(pair["refresh_token"])

    assert set(access) == {"aud", "exp", "iat", "iss", "jti", "sid", "sub", "token_type"}
    assert access["sub"] == refresh["sub"] == str(User.objects.get().pk)
    assert access["sid"] == refresh["sid"] == str(LoginSession.objects.get().pk)
    assert (access["token_type"], refresh["token_type"]) == ("access", "refresh")
    assert access["exp"] - access["iat"] == 10 * 60
    assert refresh["exp"] - refresh["iat"] == 7 * 24 * 3600
    assert jwt.get_unverified_header(pair["access_token"])["alg"] == "HS256"


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(claims: dict[str, Any], algorithm: str) -> str:
    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims)}."


def with_empty_key(claims: dict[str, Any]) -> str:
    message = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}"
    signature = hmac.digest(b"", message.encode(), "sha256")
    return f"{message}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def flipped(token: str) -> str:
    head, body, signature = token.split(".")
    return f"{head}.{body}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def body_changed(token: str) -> str:
    head, _, signature = token.split(".")
    claims = {**claims_of(token), "sub": str(uuid4())}
    body = signed(claims, "another key that is long enough!").split(".")[1]
    return f"{head}.{body}.{signature}"


FORGERIES: dict[str, Callable[[str], str]] = {
    "alg none": lambda t: unsigned(claims_of(t), "none"),
    "alg None": lambda t: unsigned(claims_of(t), "None"),
    "alg RS256": lambda t: unsigned(claims_of(t), "RS256"),
    "another key": lambda t: signed(claims_of(t), "another key that is long enough!"),
    "the key of something else": lambda t: signed(claims_of(t), django_settings.AUDIT_KEY),
    "an empty key": lambda t: with_empty_key(claims_of(t)),
    "HS384 with our key": lambda t: signed(claims_of(t), KEY, "HS384"),
    "one character of the signature": flipped,
    "another body": body_changed,
    "no signature": lambda t: t.rpartition(".")[0] + ".",
    "two parts": lambda t: t.rpartition(".")[0],
    "wrong audience": lambda t: signed({**claims_of(t), "aud": "elsewhere"}),
    "no audience": lambda t: signed({k: v for k, v in claims_of(t).items() if k != "aud"}),
    "wrong issuer": lambda t: signed({**claims_of(t), "iss": "elsewhere"}),
    "no issuer": lambda t: signed({k: v for k, v in claims_of(t).items() if k != "iss"}),
    "wrong type": lambda t: signed({**claims_of(t), "token_type": "sliding"}),
    "no type": lambda t: signed({k: v for k, v in claims_of(t).items() if k != "token_type"}),
    "expired": lambda t: signed({**claims_of(t), "exp": int(time.time()) - 60}),
    "no expiry": lambda t: signed({k: v for k, v in claims_of(t).items() if k != "exp"}),
    "from the future": lambda t: signed({**claims_of(t), "iat": int(time.time()) + 600}),
    "no session": lambda t: signed({k: v for k, v in claims_of(t).items() if k != "sid"}),
    "a session that is none": lambda t: signed({**claims_of(t), "sid": str(uuid4())}),
    "a session that is no id": lambda t: signed({**claims_of(t), "sid": "' OR 1=1"}),
    "another user": lambda t: signed({**claims_of(t), "sub": str(uuid4())}),
    "no user": lambda t: signed({k: v for k, v in claims_of(t).items() if k != "sub"}),
    "no id": lambda t: signed({k: v for k, v in claims_of(t).items() if k != "jti"}),
    "a list for a user": lambda t: signed({**claims_of(t), "sub": ["x"]}),
    "nothing": lambda t: "",
    "a word": lambda t: "token",
    "very long": lambda t: "a" * 5000,
    "not ASCII": lambda t: "töken",
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
def test_forged_access_tokens(api: Api, forgery: Callable[[str], str]) -> None:
    token = forgery(api.signup()["access_token"])
    api.credentials()
    answer = api.get(
        AUTH + "me", headers={"Authorization": f"Bearer {token}".encode().decode("latin-1")}
    )

    assert (answer.status_code, error(answer)) == (401, "invalid_token")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert ws_auth.principal_from_token(token) is None


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
def test_forged_refresh_tokens(api: Api, forgery: Callable[[str], str]) -> None:
    token = forgery(api.signup()["refresh_token"])
    for path in ("refresh", "logout"):
        answer = api.say(path, {"refresh_token": token})

        if path == "logout" and answer.status_code == 204:
            # Genuine, of a session that is not there: nothing to end.
            assert forgery in (FORGERIES["a session that is none"], FORGERIES["another user"])
            continue
        assert answer.status_code == (400 if not token or len(token) > 2048 else 401)
    assert LoginSession.objects.get().revoked_at is None


def test_one_kind_does_not_serve_as_the_other(api: Api) -> None:
    pair = api.signup()

    assert api.me(pair["refresh_token"]).status_code == 401
    assert api.say("refresh", {"refresh_token": pair["access_token"]}).status_code == 401
    assert api.say("logout", {"refresh_token": pair["access_token"]}).status_code == 401
    assert api.me(pair["access_token"]).status_code == 200


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Token abc", "bearer", "Bearer a b"]
)
def test_other_headers_let_nobody_in(api: Api, header: str) -> None:
    answer = api.get(AUTH + "me", headers={"Authorization": header})

    assert answer.status_code == 401
    assert error(answer) in ("not_authenticated", "invalid_token")


def test_the_scheme_is_read_in_any_case(api: Api) -> None:
    token = api.signup()["access_token"]
    api.credentials()

    assert api.get(AUTH + "me", headers={"Authorization": f"bEARER {token}"}).status_code == 200


def test_a_token_in_the_address_counts_for_nothing(api: Api) -> None:
    token = api.signup()["access_token"]
    api.credentials()

    assert api.get(f"{AUTH}me?access_token={token}&token={token}").status_code == 401


def test_access_ends_after_ten_minutes(api: Api) -> None:
    start = timezone.now()
    with time_machine.travel(start, tick=False) as clock:
        token = api.signup()["access_token"]
        clock.move_to(start + timedelta(minutes=9, seconds=59))
        assert api.me(token).status_code == 200
        clock.move_to(start + timedelta(minutes=10, seconds=tokens.LEEWAY_SECONDS + 1))
        assert api.me(token).status_code == 401


def test_deactivation_counts_at_once(api: Api) -> None:
    token = api.signup()["access_token"]
    user_deactivate(user_id=User.objects.get().pk)

    assert api.me(token).status_code == 401
    assert ws_auth.principal_from_token(token) is None


def test_a_user_whose_flag_alone_was_cleared_is_out_too(api: Api) -> None:
    token = api.signup()["access_token"]
    User.objects.update(is_active=False)

    assert api.me(token).status_code == 401


def test_one_query_lets_a_request_in(api: Api) -> None:
    token = api.signup()["access_token"]
    with CaptureQueriesContext(connection) as queries:
        principal = ws_auth.principal_from_token(token)

    assert len(queries) == 1
    assert principal is not None
    assert (principal.id, principal.email) == (User.objects.get().pk, "user@example.com")
    assert (principal.is_authenticated, principal.is_staff, principal.pk) == (
        True,
        False,
        principal.id,
    )
    assert ws_auth.principal_stands(principal)
    LoginSession.objects.update(revoked_at=timezone.now())
    assert not ws_auth.principal_stands(principal)


def test_the_same_arguments_mint_the_same_token() -> None:
    now = timezone.now()
    user, session = uuid4(), uuid4()
    made = {tokens.refresh_mint(user, session, "j", now, now + timedelta(days=7)) for _ in range(3)}

    assert len(made) == 1
    claims = tokens.refresh_read(made.pop())
    assert (claims.user_id, claims.session_id, claims.jti) == (user, session, "j")


def test_children_differ_by_session_and_parent() -> None:
    first, second = UUID(int=1), UUID(int=2)

    assert tokens.child_jti(first, "a") == tokens.child_jti(first, "a")
    assert len({tokens.child_jti(s, p) for s in (first, second) for p in ("a", "b")}) == 4


def test_a_token_signed_with_a_former_key_is_refused(api: Api, settings: Any) -> None:
    token = api.signup()["access_token"]
    settings.JWT_SIGNING_KEY = "a-new-signing-key-of-good-length-81f2"

    with pytest.raises(InvalidToken):
        tokens.access_read(token)
