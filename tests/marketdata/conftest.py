"""Markets for the tests of this app: the bundled instruments, loaded as the command does."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from django.test import Client

from marketdata import contracts, selectors
from marketdata.services import instruments_load


def signed_up(email: str) -> Client:
    """Return a client that sends the access token of a new user."""
    answer = Client().post(
        "/api/v1/auth/signup",
        {"email": email, "password": "correct horse battery"},
        content_type="application/json",
    )
    assert answer.status_code == 201, answer.content
    return Client(headers={"Authorization": f"Bearer {answer.json()['access_token']}"})


@pytest.fixture(autouse=True)
def _fresh_tables() -> Iterator[None]:
    """Rows of a test are rolled back; what the process keeps of them must go too."""
    selectors.clear_tables()
    yield
    selectors.clear_tables()


@pytest.fixture
def market(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bundled share and index, and today's contracts; fewer strikes, which is quicker."""
    with monkeypatch.context() as patch:
        patch.setattr(contracts, "STRIKE_REACH", Decimal("0.02"))
        instruments_load()


@pytest.fixture
def api(db: None) -> Client:
    return signed_up("trader@example.com")


@pytest.fixture
def other_api(db: None) -> Client:
    return signed_up("other@example.com")
