"""A refresh token works once; a second use ends the session, except for a device's own repeat."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import jwt
import pytest
import time_machine
from django.core import mail
from django.db import connections
from django.utils import timezone

from accounts.models import LoginSession, User
from accounts.services.mail import mails_sweep
from audit.models import AuditEntry
from tests.accounts.conftest import Api, error
from tests.accounts.factories import UserFactory


def refresh(api: Api, pair: dict[str, str]) -> Any:
    return api.say("refresh", {"refresh_token": pair["refresh_token"]})


@pytest.mark.django_db
def test_each_exchange_gives_the_next_pair(api: Api) -> None:
    pair = api.signup()
    seen = {pair["refresh_token"]}
    for _ in range(5):
        answer = refresh(api, pair)
        assert answer.status_code == 200
        assert list(answer.json()) == ["access_token", "token_type", "refresh_token"]
        pair = answer.json()
        seen.add(pair["refresh_token"])
        assert api.me(pair["access_token"]).status_code == 200

    assert len(seen) == 6
    assert LoginSession.objects.count() == 1
    assert AuditEntry.objects.filter(action="auth.refreshed").count() == 5


@pytest.mark.django_db
def test_a_former_access_token_lives_on_until_it_expires(api: Api) -> None:
    pair = api.signup()
    refresh(api, pair)

    assert api.me(pair["access_token"]).status_code == 200


@pytest.mark.django_db
def test_a_second_use_ends_the_session_for_everyone(api: Api, other_device: Api) -> None:
    stolen = api.signup()
    mine = refresh(api, stolen).json()
    answer = refresh(other_device, stolen)

    assert (answer.status_code, error(answer)) == (401, "token_reused")
    assert api.me(mine["access_token"]).status_code == 401
    assert error(refresh(api, mine)) == "invalid_token"
    session = LoginSession.objects.get()
    assert (session.revoked_reason, session.revoked_at is not None) == ("token_reused", True)
    entry = AuditEntry.objects.get(action="auth.token_reused")
    assert (entry.user_id, entry.object_id) == (User.objects.get().pk, str(session.pk))
    mails_sweep()
    assert mail.outbox[-1].to == ["user@example.com"]
    assert "was used a second time from 203.0.113.99" in mail.outbox[-1].body
    assert "Elsewhere/1.0" in mail.outbox[-1].body


@pytest.mark.django_db
def test_a_token_from_further_back_ends_it_too(api: Api) -> None:
    first = api.signup()
    second = refresh(api, first).json()
    third = refresh(api, second).json()

    assert error(refresh(api, first)) == "token_reused"  # the same device, within five seconds
    assert api.me(third["access_token"]).status_code == 401


@pytest.mark.django_db
def test_a_devices_own_repeat_gets_the_same_child(api: Api) -> None:
    pair = api.signup()
    first, again = refresh(api, pair), refresh(api, pair)

    assert again.status_code == 200
    assert again.json()["refresh_token"] == first.json()["refresh_token"]
    assert refresh(api, again.json()).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize(("seconds", "status"), [(4, 200), (6, 401)])
def test_a_repeat_is_forgiven_for_five_seconds(api: Api, seconds: int, status: int) -> None:
    start = timezone.now()
    with time_machine.travel(start, tick=False) as clock:
        pair = api.signup()
        refresh(api, pair)
        clock.move_to(start + timedelta(seconds=seconds))
        assert refresh(api, pair).status_code == status


@pytest.mark.django_db
@pytest.mark.parametrize(
    "headers", [{"User-Agent": "Other/2.0"}, {"X-Forwarded-For": "198.51.100.1"}, {}]
)
def test_only_the_same_device_is_forgiven(api: Api, headers: dict[str, str]) -> None:
    pair = api.signup()
    first = refresh(api, pair).json()
    address = "127.0.0.1" if headers else "198.51.100.7"
    again = Api(REMOTE_ADDR=address, headers=headers).say(
        "refresh", {"refresh_token": pair["refresh_token"]}
    )

    same_device = "X-Forwarded-For" in headers  # which nobody here believes
    assert again.status_code == (200 if same_device else 401)
    assert api.me(first["access_token"]).status_code == (200 if same_device else 401)


@pytest.mark.django_db
@pytest.mark.parametrize(("hours", "status"), [(23, 200), (25, 401)])
def test_a_session_ends_when_idle_for_a_day(api: Api, hours: int, status: int) -> None:
    start = timezone.now()
    with time_machine.travel(start, tick=False) as clock:
        pair = api.signup()
        clock.move_to(start + timedelta(hours=hours))
        assert refresh(api, pair).status_code == status


@pytest.mark.django_db
def test_a_session_ends_after_seven_days_however_busy(api: Api) -> None:
    start = timezone.now()
    with time_machine.travel(start, tick=False) as clock:
        pair = api.signup()
        for hours in range(12, 7 * 24, 12):
            clock.move_to(start + timedelta(hours=hours))
            pair = refresh(api, pair).json()
        assert jwt.decode(pair["refresh_token"], options={"verify_signature": False})["exp"] == int(
            (start + timedelta(days=7)).timestamp()
        )
        clock.move_to(start + timedelta(days=7, seconds=10))
        assert refresh(api, pair).status_code == 401
        assert not AuditEntry.objects.filter(action="auth.token_reused").exists()


@pytest.mark.django_db
def test_logout_ends_the_family_at_once(api: Api) -> None:
    pair = api.signup()
    answer = api.say("logout", {"refresh_token": pair["refresh_token"]})

    assert (answer.status_code, answer.content) == (204, b"")
    assert api.me(pair["access_token"]).status_code == 401
    assert error(refresh(api, pair)) == "invalid_token"
    assert AuditEntry.objects.filter(action="auth.signout").count() == 1
    assert api.say("logout", {"refresh_token": pair["refresh_token"]}).status_code == 204
    assert AuditEntry.objects.filter(action="auth.signout").count() == 1


@pytest.mark.django_db
def test_logout_with_a_former_token_ends_it_too(api: Api) -> None:
    pair = api.signup()
    child = refresh(api, pair).json()

    assert api.say("logout", {"refresh_token": pair["refresh_token"]}).status_code == 204
    assert api.me(child["access_token"]).status_code == 401


@pytest.mark.django_db
def test_logout_leaves_other_sessions_alone(api: Api, other_device: Api) -> None:
    UserFactory(email="user@example.com")
    here, there = api.signin("user@example.com"), other_device.signin("user@example.com")
    api.say("logout", {"refresh_token": here["refresh_token"]})

    assert api.me(there["access_token"]).status_code == 200


@pytest.mark.django_db
def test_a_deactivated_user_gets_no_tokens(api: Api) -> None:
    pair = api.signup()
    User.objects.update(is_active=False)

    assert error(refresh(api, pair)) == "invalid_token"
    assert not AuditEntry.objects.filter(action="auth.token_reused").exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "body", [{}, {"refresh_token": None}, {"refresh_token": 5}, [], {"refresh_token": "\x00"}]
)
def test_malformed_bodies(api: Api, body: Any) -> None:
    for path in ("refresh", "logout"):
        assert api.say(path, body).status_code == 400


@pytest.mark.django_db
def test_the_database_holds_no_token(api: Api) -> None:
    pair = api.signup()
    pair = refresh(api, pair).json()
    session = LoginSession.objects.get()
    jti = jwt.decode(pair["refresh_token"], options={"verify_signature": False})["jti"]

    stored = "".join(str(v) for v in vars(session).values())
    assert jti not in stored
    assert pair["refresh_token"] not in stored


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", range(3))
def test_fifty_at_once_make_one_child(api: Api, turn: int) -> None:
    pair = api.signup()
    together = Barrier(50)

    def go(_: int) -> Any:
        try:
            client = Api()
            together.wait(20)
            return refresh(client, pair)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(go, range(50)))

    assert {a.status_code for a in answers} == {200}
    assert len({a.json()["refresh_token"] for a in answers}) == 1
    assert AuditEntry.objects.filter(action="auth.refreshed").count() == 1
    assert LoginSession.objects.get().revoked_at is None


@pytest.mark.django_db(transaction=True)
def test_two_devices_at_once_end_the_session(api: Api) -> None:
    """However a thief's request and the owner's interleave, both lose the session."""
    pair = api.signup()
    together = Barrier(20)

    def go(number: int) -> int:
        try:
            client = Api(headers={"User-Agent": f"Device/{number}"})
            together.wait(20)
            return int(refresh(client, pair).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(go, range(20)))

    assert statuses.count(200) == 1
    assert statuses.count(401) == 19
    assert LoginSession.objects.get().revoked_reason == "token_reused"
    assert AuditEntry.objects.filter(action="auth.token_reused").count() == 1
