"""Every path that changes something leaves an entry; the API itself lists the paths."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import LoginSession, User
from audit.models import AuditEntry
from tests.accounts.conftest import AUTH, Api
from tests.accounts.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
EMAIL = "user@example.com"
NEW = "an entirely new sentence"


class Scene:
    """A user who is signed in twice, and a mailbox."""

    def __init__(self, code: Callable[[str], str]) -> None:
        self.user = UserFactory(email=EMAIL)
        self.code = code
        self.other = Api(headers={"User-Agent": "Other/1.0"})
        self.other.signin(EMAIL)
        self.api = Api()
        self.pair = self.api.signin(EMAIL)

    def coded(self, ask: str, then: str, **more: Any) -> Any:
        self.api.say(ask, {"email": EMAIL})
        return self.api.say(then, {"email": EMAIL, "otp": self.code(EMAIL), **more})


new_user = {"email": "new@example.com", "password": PASSWORD}
CHANGES: dict[str, tuple[Callable[[Scene], Any], str]] = {
    "auth_signup": (lambda s: s.api.say("signup", new_user), "auth.signup"),
    "auth_register": (lambda s: s.api.say("register", new_user), "user.created"),
    "auth_signin": (
        lambda s: s.api.say("signin", {"username": EMAIL, "password": PASSWORD}),
        "auth.signin",
    ),
    "auth_login": (
        lambda s: s.api.say("login", {"email": EMAIL, "password": "wrong wrong"}),
        "auth.signin_failed",
    ),
    "auth_request_otp": (
        lambda s: s.api.say("request-otp", {"email": EMAIL}),
        "auth.code_requested",
    ),
    "auth_otp_login": (lambda s: s.coded("request-otp", "otp-login"), "auth.signin"),
    "auth_refresh": (
        lambda s: s.api.say("refresh", {"refresh_token": s.pair["refresh_token"]}),
        "auth.refreshed",
    ),
    "auth_logout": (
        lambda s: s.api.say("logout", {"refresh_token": s.pair["refresh_token"]}),
        "auth.signout",
    ),
    "auth_me_update": (
        lambda s: s.api.patch(AUTH + "me", {"mobile": "+911234567"}),
        "user.updated",
    ),
    "auth_password_change": (
        lambda s: s.api.say("password/change", {"current_password": PASSWORD, "new_password": NEW}),
        "auth.password_changed",
    ),
    "auth_password_reset": (
        lambda s: s.api.say("password/reset", {"email": EMAIL}),
        "auth.code_requested",
    ),
    "auth_password_reset_confirm": (
        lambda s: s.coded("password/reset", "password/reset/confirm", new_password=NEW),
        "auth.password_reset",
    ),
    "auth_email_verify": (lambda s: s.api.say("email/verify"), "auth.code_requested"),
    "auth_email_verify_confirm": (
        lambda s: s.coded("email/verify", "email/verify/confirm"),
        "user.email_verified",
    ),
    "auth_session_revoke": (
        lambda s: s.api.delete(
            f"{AUTH}sessions/{LoginSession.objects.get(user_agent='Other/1.0').pk}"
        ),
        "auth.session_revoked",
    ),
    "auth_sessions_revoke_all": (
        lambda s: s.api.say("sessions/revoke-all"),
        "auth.session_revoked",
    ),
}


def operations(api: Api) -> dict[str, dict[str, Any]]:
    """Return the auth operations of the API's own description by id."""
    paths = api.get("/openapi.json").json()["paths"]
    return {
        operation["operationId"]: {**operation, "method": method, "path": path}
        for path, methods in paths.items()
        if path.startswith(AUTH)
        for method, operation in methods.items()
        if isinstance(operation, dict) and "operationId" in operation
    }


def test_no_change_is_left_out(api: Api) -> None:
    changing = {name for name, o in operations(api).items() if o["method"] != "get"}

    assert changing == set(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_logged_without_secrets(name: str, code: Callable[[str], str]) -> None:
    scene = Scene(code)
    before = AuditEntry.objects.count()
    call, action = CHANGES[name]
    answer = call(scene)

    assert answer.status_code < 300 or action == "auth.signin_failed"
    entries = list(AuditEntry.objects.order_by("id")[before:])
    entry = next(e for e in entries if e.action == action)
    owner = (
        User.objects.get(email="new@example.com")
        if "new@" in str(answer.wsgi_request.body)
        else scene.user
    )
    assert entry.user_id == owner.pk
    assert entry.request_id
    assert entry.ip == "127.0.0.1"
    text = " ".join(f"{e.changes} {e.reason} {e.object_id}" for e in entries)
    for secret in (PASSWORD, NEW, EMAIL, scene.pair["refresh_token"], scene.pair["access_token"]):
        assert secret not in text


def test_signed_in_users_are_the_actors(code: Callable[[str], str]) -> None:
    scene = Scene(code)
    scene.api.patch(AUTH + "me", {"name": "New"})
    entry = AuditEntry.objects.get(action="user.updated")
    session = LoginSession.objects.get(user_agent="")

    assert (entry.actor_kind, entry.actor_id, entry.session_id) == (
        "user",
        scene.user.pk,
        session.pk,
    )


def test_a_browsers_changes_bear_its_session(client: Client) -> None:
    user = UserFactory(email=EMAIL)
    client.force_login(user)
    client.patch(AUTH + "me", {"name": "New"}, content_type="application/json")
    entry = AuditEntry.objects.get(action="user.updated")

    assert (entry.actor_id, entry.session_id) == (user.pk, LoginSession.objects.get().pk)


# --- The description of the paths -----------------------------------------------------------------


def test_every_operation_is_described(api: Api) -> None:
    found = operations(api)

    assert len(found) == len(CHANGES) + 2  # and two that only read
    for name, operation in found.items():
        assert operation["tags"] == ["auth"], name
        assert operation["summary"], name
        statuses = set(operation["responses"])
        assert any(s.startswith("2") for s in statuses), name
        body = operation.get("requestBody")
        assert ({"400", "413", "415"} <= statuses) == bool(body), name
        for status in statuses - {"200", "201", "202", "204"}:
            schema = operation["responses"][status]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorOutput"}, name


def test_open_paths_ask_for_no_login_and_the_others_do(api: Api) -> None:
    own = {
        "auth_me", "auth_me_update", "auth_password_change", "auth_email_verify", "auth_sessions",
        "auth_session_revoke", "auth_sessions_revoke_all",
    }  # fmt: skip
    for name, operation in operations(api).items():
        schemes = {s for entry in operation.get("security", []) for s in entry}
        assert ("accessToken" in schemes) == (name in own), name
        assert ("browserSession" in schemes) == (name in own - {"auth_password_change"}), name
