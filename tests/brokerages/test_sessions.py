"""Sessions and secrets of a broker that asks for a login, played by an adapter of this file."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.core.cache import cache
from django.db import connection as database
from django.test import Client
from django.utils import timezone

from accounts.models import User
from audit.models import AuditEntry
from brokerages import registry
from brokerages.adapters.paper.adapter import PaperAdapter
from brokerages.base import Capabilities, CredentialField, SessionRenewal
from brokerages.errors import NotSent, OutcomeUnknown, SessionExpired
from brokerages.models import BrokerConnection, BrokerCredential, BrokerSession
from brokerages.services import adapter_for, session_check, session_open
from brokerages.types import Exchange, OrderType, Product, SessionToken, Validity
from tests.brokerages.conftest import Market
from tests.brokerages.test_connections_api import Caller

pytestmark = pytest.mark.django_db

KEY, SECRET, TOKEN = "canary-key-0a1b2c3d", "canary-secret-4e5f6a7b", "canary-token-8c9d0e1f"


class BankAdapter(PaperAdapter):
    """A broker with credentials and a daily login. Everything else is as on paper."""

    name = "bank"
    label = "Bank"
    api_hosts = frozenset({"api.bank.test"})
    capabilities = Capabilities(
        order_types=frozenset(OrderType),
        products=frozenset(Product),
        validities=frozenset(Validity),
        exchanges=frozenset(Exchange),
        session_renewal=SessionRenewal.INTERACTIVE,
    )
    credential_fields = (
        CredentialField("api_key", "API key", secret=False),
        CredentialField("api_secret", "API secret"),
        CredentialField("pin", "PIN", required=False),
    )
    calls: ClassVar[list[Any]] = []
    failure: ClassVar[Exception | None] = None

    def open_session(self, grant: str | None) -> SessionToken:
        self.calls.append((grant, dict(self.credentials)))
        if self.failure:
            raise self.failure
        expires_at = timezone.now() + timedelta(hours=8)
        return SessionToken({"access_token": TOKEN}, expires_at, "AB1234")

    def check_session(self) -> None:
        if self.failure:
            raise self.failure

    close_session = check_session


@pytest.fixture
def bank(monkeypatch: pytest.MonkeyPatch, market: Market) -> Iterator[type[BankAdapter]]:
    path = f"{__name__}:BankAdapter"
    monkeypatch.setitem(registry._ADAPTERS, "bank", path)
    monkeypatch.setattr(BankAdapter, "calls", [])
    yield BankAdapter
    registry.adapter_class.cache_clear()


@pytest.fixture
def asha(bank: Any) -> Caller:
    return Caller("asha@example.org")


BODY = {"broker": "bank", "credentials": {"api_key": KEY, "api_secret": SECRET}}
ACTIVATE = {
    "brokerage": "bank",
    "api_url": "https://api.bank.test",
    "api_key": KEY,
    "api_secret": SECRET,
    "request_token": "canary-grant-2a3b4c5d",
}


def test_credentials_go_in_and_never_come_out(asha):
    made = asha.post("/connections", BODY)

    assert made.status_code == 201
    assert made.json()["session"] is None
    shown = {c["field"]: c["masked"] for c in made.json()["credentials"]}
    assert shown == {"api_key": "…2c3d", "api_secret": "…6a7b"}
    path = f"/connections/{made.json()['id']}"
    bodies = [made, asha.get(path), asha.get("/connections"), asha.get("/audit")]
    assert all(word not in b.content.decode() for b in bodies for word in (KEY, SECRET))


def test_session_opens_with_the_grant_and_is_kept_encrypted(asha, bank):
    number = asha.post("/connections", BODY).json()["id"]
    assert asha.get(f"/connections/{number}/session").json()["error"]["code"] == "no_session"
    assert asha.get(f"/connections/{number}/funds").status_code == 409

    answer = asha.post(f"/connections/{number}/session", {"grant": "canary-grant-2a3b4c5d"})

    assert (answer.status_code, answer.json()["broker_user_id"]) == (200, "AB1234")
    assert TOKEN not in answer.content.decode()
    assert bank.calls == [("canary-grant-2a3b4c5d", {"api_key": KEY, "api_secret": SECRET})]
    adapter = adapter_for(BrokerConnection.objects.get())
    assert adapter.token.secrets == {"access_token": TOKEN}
    assert asha.get(f"/connections/{number}/funds").status_code == 200


def test_nothing_secret_is_stored_in_the_clear(asha):
    asha.post("/dashboard/activate-brokerage", ACTIVATE)
    tables = ("brokerages_brokercredential", "brokerages_brokersession", "audit_auditentry")
    with database.cursor() as cursor:
        for table in tables:
            cursor.execute(f"SELECT t::text FROM {table} t")
            text = "".join(row[0] for row in cursor.fetchall())
            assert "canary" not in text
    cache.clear()


def test_open_session_that_fails_keeps_the_older_one(asha, bank):
    connection_id = asha.post("/dashboard/activate-brokerage", ACTIVATE).json()["id"]
    for failure, status in (
        (OutcomeUnknown("no answer", broker="bank"), 502),
        (NotSent("no route", broker="bank"), 503),
        (SessionExpired("token is used", broker="bank"), 409),
    ):
        bank.failure = failure
        answer = asha.post(f"/connections/{connection_id}/session", {"grant": "g"})
        assert answer.status_code == status
        assert answer.json()["error"]["message"] == failure.message
    bank.failure = None
    assert BrokerSession.objects.get().state == "ACTIVE"


def test_ended_session_needs_the_user(asha, bank, monkeypatch):
    asha.post("/dashboard/activate-brokerage", ACTIVATE)
    connection = BrokerConnection.objects.get()
    owner = {"user_id": connection.user_id, "connection_id": connection.pk}
    monkeypatch.setattr(bank, "failure", OutcomeUnknown("no answer", broker="bank"))
    with pytest.raises(OutcomeUnknown):
        session_check(**owner)
    assert BrokerSession.objects.get().state == "ACTIVE"

    monkeypatch.setattr(bank, "failure", SessionExpired("session is over", broker="bank"))
    session = session_check(**owner)

    assert (session.state, session.last_error) == ("LOGIN_NEEDED", "session is over")
    assert session.ciphertext == ""
    assert AuditEntry.objects.filter(action="session.expired").count() == 1
    with pytest.raises(SessionExpired):
        adapter_for(connection)


def test_session_whose_time_is_over_is_not_used(asha):
    asha.post("/dashboard/activate-brokerage", ACTIVATE)
    BrokerSession.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(SessionExpired):
        adapter_for(BrokerConnection.objects.get())


def test_close_destroys_the_token_even_if_the_broker_is_away(asha, bank, monkeypatch):
    number = asha.post("/dashboard/activate-brokerage", ACTIVATE).json()["id"]
    monkeypatch.setattr(bank, "failure", NotSent("no route", broker="bank"))
    assert asha.send("delete", f"/connections/{number}/session").status_code == 204
    session = BrokerSession.objects.get()
    assert (session.state, session.ciphertext) == ("CLOSED", "")


def test_disabling_destroys_the_secrets(asha):
    number = asha.post("/dashboard/activate-brokerage", ACTIVATE).json()["id"]
    assert asha.send("delete", f"/connections/{number}").status_code == 204
    assert not BrokerCredential.objects.exists()
    assert BrokerSession.objects.get().ciphertext == ""


def test_connection_disabled_while_the_broker_is_asked(asha, bank, monkeypatch):
    number = asha.post("/dashboard/activate-brokerage", ACTIVATE).json()["id"]
    connection = BrokerConnection.objects.get()

    def slow_login(self: Any, grant: str | None) -> SessionToken:
        asha.send("delete", f"/connections/{number}")
        return SessionToken({"access_token": TOKEN})

    monkeypatch.setattr(bank, "open_session", slow_login)
    with pytest.raises(Exception, match="No such connection"):
        session_open(user_id=connection.user_id, connection_id=connection.pk)
    assert BrokerSession.objects.get().ciphertext == ""


class TestCredentials:
    def test_missing_ones_are_named(self, asha):
        answer = asha.post("/connections", {"broker": "bank", "credentials": {"api_key": KEY}})
        assert (answer.status_code, answer.json()["error"]["detail"]) == (
            422,
            {"missing": ["api_secret"]},
        )

    def test_unknown_ones_are_named(self, asha):
        body = {"broker": "bank", "credentials": {**BODY["credentials"], "colour": "red"}}
        assert asha.post("/connections", body).json()["error"]["code"] == "unknown_credential"

    def test_one_is_replaced(self, asha, bank):
        number = asha.post("/connections", BODY).json()["id"]
        answer = asha.send(
            "patch", f"/connections/{number}", {"credentials": {"api_secret": "canary-newer-9999"}}
        )
        assert answer.status_code == 200
        asha.post(f"/connections/{number}/session")
        assert bank.calls[0][1] == {"api_key": KEY, "api_secret": "canary-newer-9999"}


class TestApiUrl:
    """Nothing is ever sent to an address that a user gives; it is only compared."""

    @pytest.mark.parametrize(
        "url",
        [
            "https://api.bank.test",
            "https://api.bank.test/",
            "https://api.bank.test:443",
            "https://api.bank.test/v2",
        ],
    )
    def test_own_address(self, asha, url):
        answer = asha.post("/dashboard/activate-brokerage", {**ACTIVATE, "api_url": url})
        assert answer.status_code == 201, answer.content
        assert answer.json()["session"]["state"] == "ACTIVE"

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "http://api.bank.test",
            "https://api.bank.test:8443",
            "https://api.bank.test.evil.test",
            "https://evil.test/api.bank.test",
            "https://evil.test#api.bank.test",
            "https://evil.test?x=api.bank.test",
            "https://api.bank.test@evil.test",
            "https://user:pass@api.bank.test",
            "https://evil.test\\@api.bank.test",
            "https://api.bank.test\\.evil.test",
            "https://API.BANK.TEST.",
            "https://api.bank.test%2eevil.test",
            "https://api。bank.test",
            "https://127.0.0.1",
            "https://[::1]",
            "https://169.254.169.254/latest/meta-data",
            "https://api.bank.test:99999",
            "https://api.bank.test:443:443",
            "https:api.bank.test",
            "//api.bank.test",
            "file:///etc/passwd",
            "gopher://api.bank.test",
            "javascript:alert(1)",
            "https://api.bank.test\t.evil.test",
            " https://api.bank.test?x=1",
        ],
    )
    def test_any_other_address(self, asha, bank, url):
        answer = asha.post("/dashboard/activate-brokerage", {**ACTIVATE, "api_url": url})
        assert answer.status_code == 422, answer.content
        assert answer.json()["error"]["code"] == "api_url_not_allowed"
        assert bank.calls == []
        assert not BrokerConnection.objects.exists()


def test_admin_shows_no_secret(asha):
    asha.post("/dashboard/activate-brokerage", ACTIVATE)
    staff = User.objects.create_superuser(email="root@example.org", password="a long password 99")
    browser = Client()
    browser.force_login(staff)
    number = BrokerConnection.objects.get().pk
    for path in ("", f"{number}/change/"):
        page = browser.get(f"/admin/brokerages/brokerconnection/{path}")
        assert page.status_code == 200
        text = page.content.decode()
        assert all(word not in text for word in (KEY, SECRET, TOKEN, "gAAAA"))
    assert "…2c3d" in text
    assert browser.post(f"/admin/brokerages/brokerconnection/{number}/change/").status_code == 403
