"""Signing in with a mailed code."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
import time_machine
from django.core import mail
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import otp
from accounts.models import EmailOtp, LoginSession, OutgoingMail, User
from accounts.services import codes
from accounts.services.mail import mails_sweep
from audit.models import AuditEntry
from tests.accounts.conftest import Api, error, statement_shape
from tests.accounts.factories import PASSWORD, UserFactory

EMAIL = "user@example.com"
Code = Callable[[str], str]


def ask(api: Api, email: str = EMAIL) -> Any:
    return api.say("request-otp", {"email": email})


def answer(api: Api, code: str, email: str = EMAIL, **more: Any) -> Any:
    return api.say("otp-login", {"email": email, "otp": code, **more})


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06d}"


@pytest.mark.django_db
def test_as_the_source_system_documents_it(api: Api, code: Code) -> None:
    user = UserFactory(email=EMAIL)
    asked = ask(api)

    assert asked.status_code == 202
    assert list(asked.json()) == ["message", "challenge_id"]
    answered = answer(api, code(EMAIL))
    assert answered.status_code == 200
    assert list(answered.json()) == ["access_token", "token_type", "refresh_token"]
    assert api.me(answered.json()["access_token"]).json()["email_verified"] is True
    assert LoginSession.objects.get().method == "OTP"
    assert EmailOtp.objects.get().user_id == user.pk


@pytest.mark.django_db
def test_known_unknown_and_deactivated_look_the_same(api: Api) -> None:
    UserFactory(email=EMAIL)
    UserFactory(email="gone@example.com", is_active=False)
    answers = [ask(api, e) for e in (EMAIL, "nobody@example.com", "gone@example.com")]

    assert {a.status_code for a in answers} == {202}
    assert len({a.json()["message"] for a in answers}) == 1
    assert {UUID(a.json()["challenge_id"]).version for a in answers} == {7}
    assert len({tuple(sorted(set(a.headers) - {"X-Request-ID"})) for a in answers}) == 1
    mails_sweep()
    assert [m.to for m in mail.outbox] == [[EMAIL]]


@pytest.mark.django_db
def test_known_and_unknown_do_the_same_work(api: Api) -> None:
    UserFactory(email=EMAIL)
    shapes = []
    for email in (EMAIL, "nobody@example.com"):
        with CaptureQueriesContext(connection) as queries:
            ask(api, email)
        shapes.append([statement_shape(q["sql"]) for q in queries])

    assert shapes[0] == shapes[1]
    assert len(shapes[0]) > 5
    assert OutgoingMail.objects.count() == 2


@pytest.mark.django_db
def test_wrong_answers_look_the_same_for_known_and_unknown(api: Api, code: Code) -> None:
    UserFactory(email=EMAIL)
    ask(api)
    ask(api, "nobody@example.com")
    good = code(EMAIL)
    answers = [
        answer(api, wrong(good)),
        answer(api, good, "nobody@example.com"),
        answer(api, good, "never-asked@example.com"),
    ]

    assert {(a.status_code, a.content) for a in answers} == {(401, answers[0].content)}
    assert error(answers[0]) == "invalid_otp"


@pytest.mark.django_db
def test_a_code_works_once(api: Api, code: Code) -> None:
    UserFactory(email=EMAIL)
    ask(api)
    good = code(EMAIL)

    assert answer(api, good).status_code == 200
    assert error(answer(api, good)) == "invalid_otp"


@pytest.mark.django_db
@pytest.mark.parametrize(("seconds", "status"), [(299, 200), (301, 401)])
def test_a_code_lives_five_minutes(api: Api, code: Code, seconds: int, status: int) -> None:
    UserFactory(email=EMAIL)
    start = timezone.now()
    with time_machine.travel(start, tick=False) as clock:
        ask(api)
        good = code(EMAIL)
        clock.move_to(start + timedelta(seconds=seconds))
        assert answer(api, good).status_code == status


@pytest.mark.django_db
def test_a_new_code_replaces_the_old_one(api: Api, code: Code) -> None:
    UserFactory(email=EMAIL)
    start = timezone.now()
    with time_machine.travel(start, tick=False) as clock:
        first_challenge = ask(api).json()["challenge_id"]
        first = code(EMAIL)
        clock.move_to(start + timedelta(seconds=31))
        ask(api)
        second = code(EMAIL)
        assert answer(api, first, challenge_id=first_challenge).status_code == 401
        assert answer(api, second).status_code == 200


@pytest.mark.django_db
def test_a_code_is_bound_to_the_request_it_was_mailed_for(api: Api, code: Code) -> None:
    UserFactory(email=EMAIL)
    challenge = ask(api).json()["challenge_id"]
    good = code(EMAIL)

    assert answer(api, good, challenge_id=str(uuid4())).status_code == 401
    assert answer(api, good, "other@example.com", challenge_id=challenge).status_code == 401
    assert answer(api, good, challenge_id=challenge).status_code == 200


@pytest.mark.django_db
def test_a_code_for_one_purpose_does_not_serve_another(api: Api, code: Code) -> None:
    UserFactory(email=EMAIL)
    reset = api.say("password/reset", {"email": EMAIL}).json()["challenge_id"]
    good = code(EMAIL)

    assert answer(api, good).status_code == 401
    assert answer(api, good, challenge_id=reset).status_code == 401


@pytest.mark.django_db
def test_the_right_code_after_five_wrong_ones_is_too_late(api: Api, code: Code) -> None:
    UserFactory(email=EMAIL)
    ask(api)
    good = code(EMAIL)
    for _ in range(5):
        assert answer(api, wrong(good)).status_code == 401

    assert answer(api, good).status_code == 401
    assert EmailOtp.objects.get().attempts == 5


@pytest.mark.django_db
def test_the_right_code_at_the_fifth_try_is_in_time(api: Api, code: Code) -> None:
    UserFactory(email=EMAIL)
    ask(api)
    good = code(EMAIL)
    for _ in range(4):
        answer(api, wrong(good))

    assert answer(api, good).status_code == 200


@pytest.mark.django_db
def test_guessing_right_for_an_unknown_address_lets_nobody_in(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otp, "new_code", lambda: "424242")
    ask(api, "nobody@example.com")

    assert answer(api, "424242", "nobody@example.com").status_code == 401
    assert not LoginSession.objects.exists()


@pytest.mark.django_db
def test_a_user_deactivated_in_between_stays_out(api: Api, code: Code) -> None:
    UserFactory(email=EMAIL)
    ask(api)
    good = code(EMAIL)
    User.objects.update(is_active=False)

    assert error(answer(api, good)) == "invalid_otp"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": EMAIL}, "otp"),
        ({"email": EMAIL, "otp": "12345"}, "otp"),
        ({"email": EMAIL, "otp": "1234567"}, "otp"),
        ({"email": EMAIL, "otp": "12345a"}, "otp"),
        ({"email": EMAIL, "otp": "१२३४५६"}, "otp"),
        ({"email": EMAIL, "otp": "123456\n"}, "otp"),
        ({"email": EMAIL, "otp": ["123456"]}, "otp"),
        ({"otp": "123456"}, "email"),
        ({"email": EMAIL, "otp": "123456", "challenge_id": "x"}, "challenge_id"),
    ],
)
def test_malformed_answers_count_as_no_try(api: Api, body: Any, field: str) -> None:
    ask(api)
    refused = api.say("otp-login", body)

    if body.get("otp") == "123456\n":  # trimmed, as a pasted code is
        assert refused.status_code == 401
        return
    assert (refused.status_code, list(refused.json()["error"]["detail"])) == (400, [field])
    assert EmailOtp.objects.get().attempts == 0


@pytest.mark.django_db
def test_neither_database_nor_log_holds_the_code(api: Api, code: Code) -> None:
    UserFactory(email=EMAIL)
    ask(api)
    before = dump()
    good = code(EMAIL)
    answer(api, good)

    assert good.encode().hex() not in before + dump()
    assert f'"{good}"' not in before + dump()


def dump() -> str:
    """Return every row that the flow has written, as text."""
    tables = [
        "accounts_emailotp",
        "accounts_outgoingmail",
        "audit_auditentry",
        "accounts_loginsession",
    ]
    with connection.cursor() as cursor:
        text = ""
        for table in tables:
            cursor.execute(f"SELECT string_agg(t::text, '') FROM {table} t")
            text += cursor.fetchone()[0] or ""
    return text


@pytest.mark.django_db(transaction=True)
def test_sixty_four_guessers_get_five_tries(api: Api, code: Code) -> None:
    UserFactory(email=EMAIL)
    ask(api)
    good = code(EMAIL)
    together = Barrier(64)
    guesses = [f"{(int(good) + n + 1) % 10**6:06d}" for n in range(63)]
    guesses.insert(40, good)

    def guess(value: str) -> int:
        try:
            client = Api()
            together.wait(30)
            return int(answer(client, value).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(64) as pool:
        statuses = list(pool.map(guess, guesses))

    challenge = EmailOtp.objects.get()
    assert challenge.attempts <= 5
    assert statuses.count(200) == (1 if challenge.used_at else 0)
    assert set(statuses) <= {200, 401, 429}
    assert statuses.count(429) == 64 - 30  # the account's tries of a day
    assert answer(api, good).status_code in (401, 429)


@pytest.mark.django_db(transaction=True)
def test_one_right_code_lets_one_in(api: Api, code: Code) -> None:
    UserFactory(email=EMAIL)
    ask(api)
    good = code(EMAIL)
    together = Barrier(20)

    def use(_: int) -> int:
        try:
            client = Api()
            together.wait(30)
            return int(answer(client, good).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(use, range(20)))

    assert statuses.count(200) == 1
    assert LoginSession.objects.count() == 1


# --- Somebody else's address ----------------------------------------------------------------------


@pytest.mark.django_db
def test_who_signed_up_with_my_address_loses_it_to_me(
    api: Api, other_device: Api, code: Code
) -> None:
    """An account made in advance, to wait for its owner, is taken over by the owner alone."""
    squatter = other_device.signup(EMAIL)
    ask(api)
    mine = answer(api, code(EMAIL)).json()

    assert api.me(mine["access_token"]).status_code == 200
    assert other_device.me(squatter["access_token"]).status_code == 401
    assert other_device.say("login", {"email": EMAIL, "password": PASSWORD}).status_code == 401
    mails_sweep()
    assert "first password was removed" in mail.outbox[-1].body
    assert AuditEntry.objects.get(action="user.email_verified").changes["by"] == "otp"


@pytest.mark.django_db
def test_my_own_device_keeps_password_and_session(api: Api, code: Code) -> None:
    first = api.signup(EMAIL)
    ask(api)

    assert answer(api, code(EMAIL)).status_code == 200
    assert api.me(first["access_token"]).status_code == 200
    assert api.signin(EMAIL)


@pytest.mark.django_db
def test_a_verified_account_keeps_its_password_on_a_new_device(
    api: Api, other_device: Api, code: Code
) -> None:
    first = api.signup(EMAIL)
    User.objects.update(email_verified_at=timezone.now())
    ask(other_device)

    assert answer(other_device, code(EMAIL)).status_code == 200
    assert api.me(first["access_token"]).status_code == 200
    assert api.signin(EMAIL)


# --- The pure rules -------------------------------------------------------------------------------


def test_codes_are_six_digits_and_spread() -> None:
    made = {otp.new_code() for _ in range(2000)}

    assert all(len(c) == 6 and c.isdecimal() for c in made)
    assert len(made) > 1980
    assert any(c[0] == "0" for c in made)


def test_a_hash_is_good_for_one_key_purpose_address_and_challenge() -> None:
    base = {"key": "k", "purpose": "LOGIN", "email": EMAIL, "nonce": b"n" * 16, "code": "123456"}
    others = {
        "key": "x",
        "purpose": "RESET",
        "email": "a@b.c",
        "nonce": b"m" * 16,
        "code": "123457",
    }
    hashes = {otp.code_hash(**{**base, name: value}) for name, value in others.items()}

    assert len(hashes | {otp.code_hash(**base)}) == 6


def test_link_tokens() -> None:
    challenge, nonce = uuid4(), otp.new_nonce()
    token = otp.link_token("k", "RESET", challenge, nonce)

    assert otp.challenge_of_link(token) == challenge
    assert otp.link_is_genuine("k", "RESET", challenge, nonce, token)
    for key, purpose, number in [
        ("x", "RESET", challenge),
        ("k", "LOGIN", challenge),
        ("k", "RESET", uuid4()),
    ]:
        assert not otp.link_is_genuine(key, purpose, number, nonce, token)
    assert not otp.link_is_genuine("k", "RESET", challenge, nonce, token[:-1] + "ü")


@pytest.mark.parametrize(
    "token", ["", ".", "x.y", "a" * 32, "z" * 32 + "." + "0" * 64, "0" * 32 + "."]
)
def test_what_is_no_link_token(token: str) -> None:
    assert otp.challenge_of_link(token) is None


def test_every_purpose_has_its_mail() -> None:
    assert set(codes.TEMPLATES) == set(EmailOtp.Purpose)
