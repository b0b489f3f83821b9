import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from rest_framework.test import APIClient

from accounts.services.mail import mails_sweep
from tests.accounts.factories import PASSWORD

AUTH = "/api/v1/auth/"


class Api(APIClient):
    """Speaks to the account paths by their last part; keeps the access token it was given."""

    def say(self, path: str, body: Any = None, **more: Any) -> Any:
        return self.post(AUTH + path, body if body is not None else {}, **more)

    def signup(self, email: str = "user@example.com", **more: Any) -> dict[str, str]:
        answer = self.say("signup", {"email": email, "password": PASSWORD, **more})
        assert answer.status_code == 201, answer.content
        return self.use(answer.json())

    def signin(self, email: str, password: str = PASSWORD) -> dict[str, str]:
        answer = self.say("login", {"email": email, "password": password})
        assert answer.status_code == 200, answer.content
        return self.use(answer.json())

    def use(self, tokens: dict[str, str]) -> dict[str, str]:
        self.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens['access_token']}")
        return tokens

    def me(self, access_token: str | None = None) -> Any:
        if access_token is None:
            return self.get(AUTH + "me")
        return APIClient().get(AUTH + "me", headers={"Authorization": f"Bearer {access_token}"})


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def other_device() -> Api:
    return Api(REMOTE_ADDR="203.0.113.99", headers={"User-Agent": "Elsewhere/1.0"})


@pytest.fixture
def mailed() -> Callable[[str], str]:
    """Deliver what is owed and return the newest text that an address got."""

    def newest(address: str) -> str:
        mails_sweep()
        return next(str(m.body) for m in reversed(mail.outbox) if m.to == [address])

    return newest


@pytest.fixture
def code(mailed: Callable[[str], str]) -> Callable[[str], str]:
    """Deliver what is owed and return the newest code that an address got."""

    def newest(address: str) -> str:
        found = re.search(r"^    (\d{6})$", mailed(address), re.M)
        assert found, "no code in the mail"
        return found[1]

    return newest


def error(answer: Any) -> str:
    """Return the code of an error, having checked its shape."""
    body = answer.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["code", "message", "detail"]
    return str(body["error"]["code"])


def statement_shape(sql: str) -> str:
    """Return what kind of work a statement is, without its values."""
    words = sql.split("SAVEPOINT", maxsplit=1)[0].replace("(", " ").split()
    return " ".join(words[:3]) if words else "SAVEPOINT"
