"""Changing a password, resetting a forgotten one, and how many are hashed at once."""

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core import mail
from django.utils import timezone

from accounts import passwords
from accounts.errors import Busy, InvalidInput
from accounts.models import EmailOtp, LoginSession, User
from accounts.passwords import Argon2idHasher, hashing_slot, password_judge
from accounts.services import codes
from accounts.services.mail import mails_sweep
from audit.models import AuditEntry
from tests.accounts.conftest import Api, error
from tests.accounts.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
EMAIL = "user@example.com"
NEW = "an entirely new sentence"
Mailed = Callable[[str], str]


def change(api: Api, current: str = PASSWORD, new: str = NEW) -> Any:
    return api.say("password/change", {"current_password": current, "new_password": new})


def reset(api: Api, **body: Any) -> Any:
    return api.say("password/reset/confirm", {"new_password": NEW, **body})


# --- Change ---------------------------------------------------------------------------------------


def test_change_ends_every_other_session_at_once(api: Api, other_device: Api) -> None:
    UserFactory(email=EMAIL)
    there, here = other_device.signin(EMAIL), api.signin(EMAIL)
    answer = change(api)

    assert answer.status_code == 200
    assert list(answer.json()) == ["access_token", "token_type", "refresh_token"]
    assert api.me(answer.json()["access_token"]).status_code == 200
    assert api.me(there["access_token"]).status_code == 401
    assert api.me(here["access_token"]).status_code == 401
    assert error(api.say("refresh", {"refresh_token": there["refresh_token"]})) == "invalid_token"
    assert api.say("login", {"email": EMAIL, "password": PASSWORD}).status_code == 401
    assert api.signin(EMAIL, NEW)
    assert AuditEntry.objects.filter(action="auth.password_changed").count() == 1
    mails_sweep()
    assert [m.subject for m in mail.outbox if m.to == [EMAIL]] == ["Your password was changed"]


def test_change_needs_the_current_password(api: Api) -> None:
    UserFactory(email=EMAIL)
    pair = api.signin(EMAIL)
    answer = change(api, current="not my password")

    assert (answer.status_code, error(answer)) == (403, "wrong_password")
    assert api.me(pair["access_token"]).status_code == 200
    assert User.objects.get().check_password(PASSWORD)
    assert AuditEntry.objects.filter(action="auth.password_refused").count() == 1


def test_guessing_the_current_password_is_slowed_down(api: Api) -> None:
    UserFactory(email=EMAIL)
    api.signin(EMAIL)
    statuses = [change(api, current=f"guess number {n}").status_code for n in range(7)]

    assert statuses == [403] * 5 + [429] * 2


@pytest.mark.parametrize("new", ["short", "password1234", EMAIL])
def test_change_to_a_poor_password(api: Api, new: str) -> None:
    UserFactory(email=EMAIL)
    pair = api.signin(EMAIL)
    answer = change(api, new=new)

    assert (answer.status_code, error(answer)) == (400, "validation_error")
    assert list(answer.json()["error"]["detail"]) == ["new_password"]
    assert api.me(pair["access_token"]).status_code == 200


def test_change_is_for_tokens_not_for_cookies(api: Api) -> None:
    api.force_login(UserFactory(email=EMAIL))

    assert change(api).status_code == 401


# --- Reset ----------------------------------------------------------------------------------------


def ask(api: Api, email: str = EMAIL) -> Any:
    return api.say("password/reset", {"email": email})


def test_reset_with_the_mailed_code(api: Api, other_device: Api, code: Mailed) -> None:
    UserFactory(email=EMAIL)
    before = other_device.signin(EMAIL)
    challenge = ask(api).json()["challenge_id"]
    answer = reset(api, email=EMAIL, otp=code(EMAIL), challenge_id=challenge)

    assert (answer.status_code, answer.content) == (204, b"")
    assert api.me(before["access_token"]).status_code == 401
    assert api.say("login", {"email": EMAIL, "password": PASSWORD}).status_code == 401
    assert api.signin(EMAIL, NEW)
    assert api.me().json()["email_verified"] is True
    assert AuditEntry.objects.filter(action="auth.password_reset").count() == 1
    mails_sweep()
    assert mail.outbox[-1].subject == "Your password was changed"


@pytest.fixture
def link_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mail links whether or not this build serves the pages they lead to."""
    monkeypatch.setattr(codes, "_link_page", codes.LINK_PAGES.get)


def link_token(text: str) -> str:
    found = re.search(r"http\S+\?token=(\S+)", text)
    assert found, "no link in the mail"
    return found[1]


@pytest.mark.usefixtures("link_pages")
def test_reset_with_the_mailed_link(api: Api, mailed: Mailed, settings: Any) -> None:
    settings.PUBLIC_URL = "https://trade.example.com"
    UserFactory(email=EMAIL)
    ask(api)
    text = mailed(EMAIL)

    assert "https://trade.example.com/reset-password?token=" in text
    token = link_token(text)
    assert reset(api, token=token).status_code == 204
    assert api.signin(EMAIL, NEW)
    assert error(reset(api, token=token)) == "invalid_code"


@pytest.mark.usefixtures("link_pages")
@pytest.mark.parametrize(
    ("minutes", "by_code", "by_link"), [(9, 204, 204), (11, 400, 204), (31, 400, 400)]
)
def test_how_long_code_and_link_live(
    api: Api, mailed: Mailed, minutes: int, by_code: int, by_link: int
) -> None:
    for way, status in (("code", by_code), ("link", by_link)):
        email = f"{way}@example.com"
        UserFactory(email=email)
        start = timezone.now()
        with time_machine.travel(start, tick=False) as clock:
            ask(api, email)
            text = mailed(email)
            clock.move_to(start + timedelta(minutes=minutes))
            if way == "link":
                answer = reset(api, token=link_token(text))
            else:
                found = re.search(r"^    (\d{6})$", text, re.M)
                assert found
                answer = reset(api, email=email, otp=found[1])
            assert answer.status_code == status, way


@pytest.mark.usefixtures("link_pages")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t[:-1] + ("0" if t[-1] != "0" else "1"),
        lambda t: "0" * 32 + t[32:],
        lambda t: t[:40],
        lambda t: t.upper(),
        lambda t: t + "0",
        lambda t: "x",
    ],
)
def test_a_spoilt_link(api: Api, mailed: Mailed, spoil: Callable[[str], str]) -> None:
    UserFactory(email=EMAIL)
    ask(api)
    token = link_token(mailed(EMAIL))

    assert error(reset(api, token=spoil(token))) == "invalid_code"
    assert User.objects.get().check_password(PASSWORD)
    assert reset(api, token=token).status_code == 204


@pytest.mark.usefixtures("link_pages")
def test_a_link_for_one_purpose_does_not_serve_another(api: Api, mailed: Mailed) -> None:
    api.signup(EMAIL)
    token = link_token(mailed(EMAIL))  # of the mail that verifies the address

    assert error(reset(api, token=token)) == "invalid_code"


def test_known_and_unknown_look_the_same(api: Api) -> None:
    UserFactory(email=EMAIL)
    answers = [ask(api), ask(api, "nobody@example.com")]

    assert [a.status_code for a in answers] == [202, 202]
    assert len({a.json()["message"] for a in answers}) == 1
    mails_sweep()
    assert [m.to for m in mail.outbox] == [[EMAIL]]
    refused = [
        reset(api, email=e, otp="000000") for e in (EMAIL, "nobody@example.com", "new@example.com")
    ]
    assert {(a.status_code, a.content) for a in refused} == {(400, refused[0].content)}


def test_a_poor_password_does_not_use_the_code_up(api: Api, code: Mailed) -> None:
    UserFactory(email=EMAIL)
    ask(api)
    good = code(EMAIL)
    poor = reset(api, email=EMAIL, otp=good, new_password="password1234")

    assert (poor.status_code, error(poor)) == (400, "validation_error")
    assert reset(api, email=EMAIL, otp=good).status_code == 204


def test_a_reset_code_has_five_tries(api: Api, code: Mailed) -> None:
    UserFactory(email=EMAIL)
    ask(api)
    good = code(EMAIL)
    for _ in range(5):
        assert (
            error(reset(api, email=EMAIL, otp=f"{(int(good) + 1) % 10**6:06d}")) == "invalid_code"
        )

    assert error(reset(api, email=EMAIL, otp=good)) == "invalid_code"
    assert EmailOtp.objects.get().attempts == 5


def test_reset_lifts_the_wait_after_failures(api: Api, code: Mailed) -> None:
    UserFactory(email=EMAIL)
    for _ in range(6):
        api.say("login", {"email": EMAIL, "password": "wrong wrong wrong"})
    assert api.say("login", {"email": EMAIL, "password": PASSWORD}).status_code == 429
    ask(api)
    reset(api, email=EMAIL, otp=code(EMAIL))

    assert api.signin(EMAIL, NEW)


def test_a_deactivated_user_cannot_reset(api: Api, code: Mailed) -> None:
    UserFactory(email=EMAIL)
    ask(api)
    good = code(EMAIL)
    User.objects.update(is_active=False)

    assert error(reset(api, email=EMAIL, otp=good)) == "invalid_code"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"email", "otp"}),
        ({"email": EMAIL}, {"otp"}),
        ({"otp": "123456"}, {"email"}),
        ({"token": ""}, {"token"}),
        ({"token": "x" * 201}, {"token"}),
        ({"email": EMAIL, "otp": "123456", "new_password": 7}, {"new_password"}),
    ],
)
def test_malformed_resets(api: Api, body: Any, fields: set[str]) -> None:
    answer = reset(api, **body)

    assert (answer.status_code, error(answer)) == (400, "validation_error")
    assert set(answer.json()["error"]["detail"]) == fields


# --- Confirming the address -----------------------------------------------------------------------


def test_signing_up_mails_a_code_that_confirms_the_address(api: Api, code: Mailed) -> None:
    api.signup(EMAIL)
    assert api.me().json()["email_verified"] is False
    answer = api.say("email/verify/confirm", {"email": EMAIL, "otp": code(EMAIL)})

    assert (answer.status_code, answer.content) == (204, b"")
    assert api.me().json()["email_verified"] is True
    assert AuditEntry.objects.get(action="user.email_verified").changes == {"by": "code"}


def test_another_mail_can_be_asked_for(api: Api, code: Mailed) -> None:
    api.signup(EMAIL)
    first = code(EMAIL)
    asked = api.say("email/verify")

    assert (asked.status_code, asked.json()["message"]) == (202, "A mail is on its way.")
    assert error(api.say("email/verify/confirm", {"email": EMAIL, "otp": first})) == "invalid_code"
    challenge = asked.json()["challenge_id"]
    body = {"email": EMAIL, "otp": code(EMAIL), "challenge_id": challenge}
    assert api.say("email/verify/confirm", body).status_code == 204
    again = api.say("email/verify")
    assert (again.status_code, again.json()["challenge_id"]) == (202, None)


@pytest.mark.usefixtures("link_pages")
def test_the_mailed_link_confirms_without_a_login(api: Api, mailed: Mailed) -> None:
    api.signup(EMAIL)
    token = link_token(mailed(EMAIL))

    assert Api().say("email/verify/confirm", {"token": token}).status_code == 204
    assert User.objects.get().email_verified
    assert error(Api().say("email/verify/confirm", {"token": token})) == "invalid_code"


@pytest.mark.usefixtures("link_pages")
def test_a_link_for_a_former_address_confirms_nothing(api: Api, mailed: Mailed) -> None:
    api.signup(EMAIL)
    token = link_token(mailed(EMAIL))
    User.objects.update(email="new@example.com")

    assert error(api.say("email/verify/confirm", {"token": token})) == "invalid_code"
    assert not User.objects.get().email_verified


def test_asking_needs_a_login(api: Api) -> None:
    assert api.say("email/verify").status_code == 401


def test_links_are_left_out_where_no_page_serves_them(
    api: Api, mailed: Mailed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "LINK_PAGES", dict.fromkeys(codes.LINK_PAGES, "/no/such/page"))
    api.signup(EMAIL)

    assert "token=" not in mailed(EMAIL)


# --- Hashing --------------------------------------------------------------------------------------


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Every place for hashing is taken, and nobody waits long."""
    settings.PASSWORD_HASHERS = ["accounts.passwords.Argon2idHasher"]
    settings.PASSWORD_WAIT_SECONDS = 0.05
    full = threading.BoundedSemaphore(1)
    full.acquire()
    monkeypatch.setattr(passwords, "_slots", full)


@pytest.mark.usefixtures("no_room")
def test_too_many_at_once_are_told_to_come_back(api: Api) -> None:
    answers = [
        api.say("login", {"email": EMAIL, "password": PASSWORD}),
        api.say("signup", {"email": EMAIL, "password": PASSWORD}),
    ]

    assert [(a.status_code, error(a)) for a in answers] == [(503, "busy")] * 2
    assert {a.headers["Retry-After"] for a in answers} == {"1"}
    assert not User.objects.exists()


@pytest.mark.usefixtures("no_room")
def test_being_too_busy_is_not_counted_as_a_failure(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(8):
        assert api.say("login", {"email": EMAIL, "password": PASSWORD}).status_code == 503
    monkeypatch.setattr(passwords, "_slots", threading.BoundedSemaphore(1))
    UserFactory(email=EMAIL)

    assert api.signin(EMAIL)


def test_as_many_hashes_at_once_as_there_are_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_slots", threading.BoundedSemaphore(2))
    inside, most = 0, 0
    lock, gate = threading.Lock(), threading.Event()

    def hold() -> None:
        nonlocal inside, most
        with hashing_slot():
            with lock:
                inside += 1
                most = max(most, inside)
            gate.wait(1)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=hold) for _ in range(6)]
    for thread in threads:
        thread.start()
    gate.wait(0.2)
    gate.set()
    for thread in threads:
        thread.join(5)
    assert most == 2


def test_a_failure_gives_the_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_slots", threading.BoundedSemaphore(1))
    for _ in range(3):
        with pytest.raises(ValueError, match="inside"), hashing_slot():
            raise ValueError("inside")

    with hashing_slot():
        pass


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.PASSWORD_WAIT_SECONDS = 0.01
    monkeypatch.setattr(passwords, "_slots", threading.BoundedSemaphore(1))
    with hashing_slot(), pytest.raises(Busy), hashing_slot():
        pass


def test_the_hash_is_what_owasp_lists() -> None:
    encoded = Argon2idHasher().encode("a password of mine", "saltsaltsaltsalt")

    assert encoded.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
    assert Argon2idHasher().verify("a password of mine", encoded)
    assert not Argon2idHasher().verify("a password of yours", encoded)


@pytest.mark.parametrize("password", ["upstox12345!", "SENSEX-2026-", "groww groww groww"])
def test_words_of_the_trade_are_no_passwords(password: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        password_judge(password, User(email=EMAIL))
    assert any("easy to guess here" in reason for reason in refused.value.detail["password"])


def test_a_word_of_the_trade_in_a_sentence_is_fine() -> None:
    password_judge("my nifty little secret", User(email=EMAIL))
    assert not LoginSession.objects.exists()
