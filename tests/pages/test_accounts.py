"""Signing up, signing in, and looking after an account, through the forms."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.core import mail
from django.test import Client

from accounts.models import LoginSession, User
from accounts.services.mail import mails_sweep
from accounts.views import device_words
from tests.accounts.factories import PASSWORD, UserFactory
from tests.pages.conftest import BROWSER, Visitor

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser() -> Client:
    return Client(headers=BROWSER)


@pytest.fixture
def code() -> Callable[[str], str]:
    def newest(address: str) -> str:
        mails_sweep()
        body = next(str(m.body) for m in reversed(mail.outbox) if m.to == [address])
        found = re.search(r"^    (\d{6})$", body, re.M)
        assert found
        return found[1]

    return newest


@pytest.fixture
def link() -> Callable[[str], str]:
    def newest(address: str) -> str:
        mails_sweep()
        body = next(str(m.body) for m in reversed(mail.outbox) if m.to == [address])
        found = re.search(r"https?://[^/]+(/\S+token=\S+)", body)
        assert found
        return found[1]

    return newest


def sign_up(browser: Client, **fields: str) -> Client:
    body = {"name": "Asha", "email": "asha@example.com", "password": PASSWORD} | fields
    return browser.post("/signup", body)


def test_signing_up_signs_in_and_offers_the_paper_broker(browser: Client) -> None:
    answer = sign_up(browser)
    assert answer["Location"] == "/start"
    assert b"Start with" in browser.get("/start").content
    assert LoginSession.objects.get().method == "SIGNUP"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"password": "short"}, "at least 12"),
        ({"email": "not an address"}, "valid email"),
        ({"email": ""}, "required"),
        ({"password": "passwordpassword"}, ""),
    ],
)
def test_a_sign_up_that_cannot_be_says_why(
    browser: Client, fields: dict[str, str], words: str
) -> None:
    answer = sign_up(browser, **fields)
    if answer.status_code != 302:
        assert answer.status_code == 422
        assert words in answer.content.decode()
        assert 'value="Asha"' in answer.content.decode()  # what was typed is kept
        assert PASSWORD not in answer.content.decode()  # but no password
        assert not User.objects.exists()


def test_an_address_that_is_taken_says_so(browser: Client) -> None:
    UserFactory(email="asha@example.com")
    answer = sign_up(browser, email="ASHA@example.com")
    assert answer.status_code == 422
    assert b"There is an account with this e-mail address" in answer.content


def test_signing_in_leads_where_one_was_going(browser: Client) -> None:
    UserFactory(email="asha@example.com")
    asked = browser.get("/orders?status=all")
    assert asked["Location"] == "/signin?next=%2Forders%3Fstatus%3Dall"
    page = browser.get(asked["Location"]).content.decode()
    assert 'name="next" value="/orders?status=all"' in page
    body = {"email": "asha@example.com", "password": PASSWORD, "next": "/orders?status=all"}
    assert browser.post("/signin", body)["Location"] == "/orders?status=all"


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "javascript:alert(1)"]
)
def test_signing_in_leads_to_no_other_site(browser: Client, target: str) -> None:
    UserFactory(email="asha@example.com")
    body = {"email": "asha@example.com", "password": PASSWORD, "next": target}
    assert browser.post("/signin", body)["Location"] == "/portfolio"


def test_a_wrong_password_is_refused_without_telling_which_part(browser: Client) -> None:
    UserFactory(email="asha@example.com")
    pages = []
    for email in ("asha@example.com", "nobody@example.com"):
        answer = browser.post("/signin", {"email": email, "password": "a wrong password"})
        assert answer.status_code == 422
        pages.append(re.findall(r'class="form-error".*?</p>', answer.content.decode(), re.S))
    assert pages[0] == pages[1] != []


def test_signing_out_ends_the_session(visitor: Visitor) -> None:
    assert visitor.post("/signout")["Location"] == "/signin"
    assert visitor.get("/portfolio").status_code == 302
    assert LoginSession.objects.get().revoked_at is not None


def test_a_code_signs_in_once(browser: Client, code: Callable[[str], str]) -> None:
    UserFactory(email="asha@example.com")
    answer = browser.post("/signin/code", {"email": "asha@example.com", "next": "/orders"})
    assert answer["Location"] == "/signin/code/enter"
    assert b"asha@example.com" in browser.get("/signin/code/enter").content
    wrong = browser.post("/signin/code/enter", {"code": "000000"})
    assert wrong.status_code == 422
    right = code("asha@example.com")
    assert (
        browser.post("/signin/code/enter", {"code": f" {right[:3]} {right[3:]} "})["Location"]
        == "/orders"
    )
    again = Client(headers=BROWSER)
    again.cookies = browser.cookies
    again.logout()
    assert again.get("/signin/code/enter").status_code == 302


def test_an_unknown_address_looks_the_same_when_asking_for_a_code(browser: Client) -> None:
    answer = browser.post("/signin/code", {"email": "nobody@example.com"})
    assert answer["Location"] == "/signin/code/enter"
    assert browser.post("/signin/code/enter", {"code": "123456"}).status_code == 422


def test_a_second_code_has_to_wait(browser: Client) -> None:
    UserFactory(email="asha@example.com")
    browser.post("/signin/code", {"email": "asha@example.com"})
    answer = browser.post("/signin/code", {"email": "asha@example.com"}, follow=True)
    assert b"A code was sent before" in answer.content
    elsewhere = Client(headers=BROWSER).post("/signin/code", {"email": "asha@example.com"})
    assert elsewhere.status_code == 422


def test_the_code_page_needs_an_address_first(browser: Client) -> None:
    assert browser.get("/signin/code/enter")["Location"] == "/signin/code"
    assert browser.get("/reset-password")["Location"] == "/forgot-password"
    browser.cookies["sauda-code"] = "forged"
    assert browser.get("/signin/code/enter")["Location"] == "/signin/code"


def test_a_forgotten_password_is_replaced_by_code(
    browser: Client, code: Callable[[str], str]
) -> None:
    UserFactory(email="asha@example.com")
    assert (
        browser.post("/forgot-password", {"email": "asha@example.com"})["Location"]
        == "/reset-password"
    )
    digits = code("asha@example.com")
    weak = browser.post("/reset-password", {"code": digits, "password": "short"})
    assert weak.status_code == 422
    wrong = browser.post("/reset-password", {"code": "000000", "password": "another fine battery"})
    assert wrong.status_code == 422
    done = browser.post("/reset-password", {"code": digits, "password": "another fine battery"})
    assert done["Location"] == "/signin"
    body = {"email": "asha@example.com", "password": "another fine battery"}
    assert browser.post("/signin", body)["Location"] == "/portfolio"


def test_a_forgotten_password_is_replaced_by_link(
    browser: Client, link: Callable[[str], str]
) -> None:
    UserFactory(email="asha@example.com")
    browser.post("/forgot-password", {"email": "asha@example.com"})
    path = link("asha@example.com")
    assert path.startswith("/reset-password?")
    elsewhere = Client(headers=BROWSER)  # the mail may be read on another device
    assert elsewhere.get(path).status_code == 200
    assert elsewhere.post(path, {"password": "another fine battery"})["Location"] == "/signin"
    used = elsewhere.post(path, {"password": "a third fine battery"})
    assert used.status_code == 422


def test_an_address_is_confirmed_by_code(browser: Client, code: Callable[[str], str]) -> None:
    sign_up(browser)
    assert b"Confirm your e-mail" in browser.get("/connections").content
    assert browser.post("/verify-email", {"code": "000000"}).status_code == 422
    answer = browser.post("/verify-email", {"code": code("asha@example.com")})
    assert answer["Location"] == "/portfolio"
    assert b"Confirm your e-mail" not in browser.get("/connections").content
    assert browser.get("/verify-email")["Location"] == "/account"


def test_an_address_is_confirmed_by_link_and_only_when_pressed(
    browser: Client, link: Callable[[str], str]
) -> None:
    sign_up(browser)
    path = link("asha@example.com")
    elsewhere = Client(headers=BROWSER)
    assert elsewhere.get(path).status_code == 200
    assert not User.objects.get().email_verified  # mail programs look at links
    assert elsewhere.post(path)["Location"] == "/signin"
    assert User.objects.get().email_verified
    assert elsewhere.post(path).status_code == 422


def test_a_new_confirmation_code_can_be_had(browser: Client) -> None:
    sign_up(browser)
    answer = browser.post("/verify-email/resend", follow=True)
    assert answer.status_code == 200
    assert answer.redirect_chain == [("/verify-email", 302)]


def test_the_account_page_lists_devices_and_signs_them_out(visitor: Visitor) -> None:
    other = Client(headers=BROWSER | {"User-Agent": "Mozilla/5.0 (iPhone) Safari/605"})
    other.post("/signin", {"email": visitor.user.email, "password": PASSWORD})
    page = visitor.get("/account").content.decode()
    assert "Safari on iOS" in page
    assert "This one" in page
    session = LoginSession.objects.filter(user_agent__contains="iPhone").get()
    assert visitor.post(f"/account/sessions/{session.pk}").status_code == 302
    assert other.get("/account").status_code == 302
    assert visitor.get("/account").status_code == 200


def test_all_other_devices_are_signed_out_at_once(visitor: Visitor) -> None:
    others = [Client(headers=BROWSER) for _ in range(2)]
    for other in others:
        other.force_login(visitor.user)
    visitor.post("/account/sessions")
    assert [other.get("/account").status_code for other in others] == [302, 302]
    assert visitor.get("/account").status_code == 200


def test_a_password_change_needs_the_current_one(visitor: Visitor) -> None:
    body = {"current_password": "a wrong password", "password": "another fine battery"}
    answer = visitor.post("/account/password", body)
    assert answer.status_code == 422
    assert b"current password is wrong" in answer.content
    body["current_password"] = PASSWORD
    assert visitor.post("/account/password", body | {"password": "short"}).status_code == 422
    assert visitor.post("/account/password", body)["Location"] == "/account"
    assert visitor.get("/account").status_code == 200  # this device goes on


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/126 Safari/537 Edg/126", "Edge on Windows"),
        ("Mozilla/5.0 (Linux; Android 14) Chrome/126 Mobile Safari/537", "Chrome on Android"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Firefox/126", "Firefox on Linux"),
        ("curl/8.5", "App (curl)"),
        ("", "App"),
    ],
)
def test_devices_are_named_as_their_owners_would(user_agent: str, words: str) -> None:
    assert device_words(user_agent, "BROWSER") == words
