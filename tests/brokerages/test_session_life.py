"""The life of a session: found over by any call, told once, never used again; and addresses that
users give, to which nothing is ever sent.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.core import mail
from django.utils import timezone

from accounts.models import OutgoingMail
from accounts.services.mail import mails_sweep
from audit.models import AuditEntry
from brokerages import registry
from brokerages.adapters.paper.adapter import PaperAdapter
from brokerages.base import CredentialField, SessionRenewal
from brokerages.errors import Refused, SessionExpired
from brokerages.models import BrokerConnection, BrokerSession
from brokerages.services import adapter_for, sessions_expire
from brokerages.types import Funds, Profile, SessionToken
from config.env import Environment, InvalidVariable
from tests.brokerages.conftest import REQUEST, Market
from tests.brokerages.test_connections_api import Caller
from trading.models import Notification

pytestmark = pytest.mark.django_db

TOKEN = "canary-token-8c9d0e1f"


class DailyAdapter(PaperAdapter):
    """A broker with a login a day, whose session can be ended."""

    name, label = "daily", "Daily"
    api_hosts = frozenset({"api.daily.test"})
    capabilities = replace(PaperAdapter.capabilities, session_renewal=SessionRenewal.INTERACTIVE)
    credential_fields = (CredentialField("api_key", "API key"),)
    dead: ClassVar[bool] = False
    calls: ClassVar[list[str]] = []

    def open_session(self, grant: str | None) -> SessionToken:
        expires_at = timezone.now() + timedelta(hours=8)
        return SessionToken({"access_token": TOKEN}, expires_at, "D1")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.dead:
            raise SessionExpired("Log in again, says Daily.", broker=self.name, code="403")

    def check_session(self) -> None:
        self._call("check")

    def close_session(self) -> None: ...

    def fetch_funds(self) -> Funds:
        self._call("funds")
        return super().fetch_funds()

    def fetch_profile(self) -> Profile:
        self._call("profile")
        return super().fetch_profile()

    def fetch_orders(self) -> Any:
        self._call("orders")
        return []

    def place_order(self, request: Any) -> Any:
        self._call("place")
        raise Refused("no", broker=self.name)


@pytest.fixture
def daily(monkeypatch: pytest.MonkeyPatch, market: Market) -> Iterator[type[DailyAdapter]]:
    monkeypatch.setitem(registry._ADAPTERS, "daily", f"{__name__}:DailyAdapter")
    monkeypatch.setattr(DailyAdapter, "calls", [])
    monkeypatch.setattr(DailyAdapter, "dead", False)
    yield DailyAdapter
    registry.adapter_class.cache_clear()


@pytest.fixture
def asha(daily: Any) -> Caller:
    return Caller("asha@example.org")


@pytest.fixture
def path(asha: Caller) -> str:
    body = {"broker": "daily", "credentials": {"api_key": "canary-key-0a1b2c3d"}}
    path = f"/connections/{asha.post('/connections', body).json()['id']}"
    assert asha.post(f"{path}/session", {"grant": "g"}).status_code == 200
    mails_sweep()
    mail.outbox.clear()
    return path


CALLS: dict[str, Callable[[Any], Any]] = {
    "funds": lambda adapter: adapter.fetch_funds(),
    "profile": lambda adapter: adapter.fetch_profile(),
    "orders": lambda adapter: adapter.fetch_orders(),
    "one order": lambda adapter: adapter.fetch_order("X1", REQUEST),
    "place": lambda adapter: adapter.place_order(REQUEST),
    "check": lambda adapter: adapter.check_session(),
}


@pytest.mark.parametrize("call", CALLS)
def test_any_call_that_finds_it_over_ends_it_at_once(daily, path, monkeypatch, call):
    adapter = adapter_for(BrokerConnection.objects.get())
    monkeypatch.setattr(daily, "dead", True)

    with pytest.raises(SessionExpired, match="says Daily"):
        CALLS[call](adapter)

    session = BrokerSession.objects.get()
    assert (session.state, session.ciphertext) == ("LOGIN_NEEDED", "")
    assert session.last_error == "Log in again, says Daily."
    assert AuditEntry.objects.filter(action="session.expired").count() == 1


def test_a_dead_token_is_not_sent_again(asha, daily, path, monkeypatch):
    adapter = adapter_for(BrokerConnection.objects.get())
    monkeypatch.setattr(daily, "dead", True)
    for _ in range(3):
        for call in CALLS.values():
            with pytest.raises(SessionExpired):
                call(adapter)
    for _ in range(3):
        answer = asha.get(f"{path}/funds")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "no_session")
        assert asha.post(f"{path}/session/check").json()["state"] == "LOGIN_NEEDED"

    assert daily.calls == ["funds"]  # one request in all


def test_over_http_the_user_is_told_once_with_a_link(asha, daily, path, monkeypatch):
    monkeypatch.setattr(daily, "dead", True)
    answer = asha.get(f"{path}/funds")
    assert answer.status_code == 409
    assert answer.json()["error"]["detail"]["advice"] == "Log in at the broker again."
    asha.get(f"{path}/funds")
    sessions_expire()

    notice = Notification.objects.get()
    assert (notice.kind, notice.title) == ("broker_login_needed", "Log in again: Daily")
    told = "The session at Daily has ended. Orders are rejected until you log in there again."
    assert notice.body == told
    shown = asha.get("/notifications").json()["results"]
    assert shown[0]["data"] == {"connection_id": path.rpartition("/")[2]}
    mails_sweep()
    (sent,) = mail.outbox
    assert f"{path}/login/start" in sent.body
    assert told in sent.body
    assert told in sent.alternatives[0][0]
    assert "canary" not in sent.body + str(sent.alternatives)
    assert asha.get(f"{path}/session").json()["state"] == "LOGIN_NEEDED"


def test_a_session_that_was_opened_meanwhile_stands(asha, daily, path, monkeypatch):
    older = adapter_for(BrokerConnection.objects.get())
    asha.post(f"{path}/session", {"grant": "another"})
    monkeypatch.setattr(daily, "dead", True)

    with pytest.raises(SessionExpired):
        older.fetch_funds()

    assert BrokerSession.objects.get().state == "ACTIVE"
    assert not Notification.objects.exists()


def test_closing_a_session_that_is_over_already_tells_nobody(asha, daily, path, monkeypatch):
    def close(self: Any) -> None:
        raise SessionExpired("it was over", broker="daily")

    monkeypatch.setattr(daily, "close_session", close)

    assert asha.send("delete", f"{path}/session").status_code == 204

    assert BrokerSession.objects.get().state == "CLOSED"
    assert not Notification.objects.exists()


def test_its_end_is_known_in_advance(asha, daily, path):
    assert asha.get(path).json()["session"]["expires_at"] is not None
    BrokerSession.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    answer = asha.get(f"{path}/funds")

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "session_expired")
    assert BrokerSession.objects.get().state == "LOGIN_NEEDED"  # without waiting for a job
    assert daily.calls == []
    assert sessions_expire() == 0
    assert OutgoingMail.objects.filter(template="broker_login_needed").count() == 1


def test_live_orders_are_held_back_where_they_are_off(daily, path, settings):
    connection = BrokerConnection.objects.get()
    settings.LIVE_TRADING_ENABLED = False

    with pytest.raises(Refused) as refused:
        adapter_for(connection).place_order(REQUEST)
    assert refused.value.code == "live_trading_disabled"
    assert daily.calls == []
    adapter_for(connection).fetch_funds()  # reads go on

    settings.BROKER_ENDPOINTS = {"daily": {"api": "http://127.0.0.1:9"}}
    with pytest.raises(Refused, match="no"):  # an emulator's own answer
        adapter_for(connection).place_order(REQUEST)


def test_the_paper_path_stays_one_statement(asha, django_assert_num_queries):
    asha.connect()
    number = BrokerConnection.objects.get(broker="paper").pk
    with django_assert_num_queries(1):
        adapter_for(number)


# --- Addresses ------------------------------------------------------------------------------------

HOST = "api.daily.test"
VECTORS = [
    "http://169.254.169.254", "http://169.254.169.254/latest/meta-data", "https://169.254.169.254",
    "http://127.0.0.1", "https://127.0.0.1", "http://127.0.0.1:9001", "http://[::1]",
    "https://[::1]", "http://0x7f000001", "https://0x7f000001", "http://2130706433",
    "https://2130706433", "http://127.1", "https://127.1", "http://localhost.", "https://localhost",
    "https://0.0.0.0", "https://[::ffff:127.0.0.1]", f"https://{HOST}@evil.test",
    f"https://{HOST}.evil.test", f"https://evil.test#{HOST}", f"https://evil.test?{HOST}",
    f"https://evil.test/{HOST}", f"https://u:p@{HOST}", "https://api。daily。test",
    "https://api\uff0edaily.test", "https://аpi.daily.test", f"https://{HOST}\r\nX: y",
    f"https://{HOST}%0d%0a", f"https://{HOST}\\@evil.test", "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_INFO", "ftp://api.daily.test", "dict://127.0.0.1:11211/",
    f"http://{HOST}", f"https://{HOST}:8443", f"https://{HOST}:0443x", f"//{HOST}", HOST,
    f"https://{HOST}?next=http://127.0.0.1", "https://rebind.daily.test", "javascript:alert(1)",
    "https://", "https://[", f"https://{HOST}\x00", " ", "https://evil.test/redirect?to=127.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("url", VECTORS)
def test_an_address_of_somebody_else_opens_no_socket(asha, daily, monkeypatch, url):
    opened: list[Any] = []
    for name in ("connect", "connect_ex"):
        real = getattr(socket.socket, name)

        def noted(self: Any, address: Any, real: Any = real) -> Any:
            if self.family != socket.AF_UNIX:  # the tests' own servers
                opened.append(address)
            return real(self, address)

        monkeypatch.setattr(socket.socket, name, noted)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: opened.append(a) or [])
    monkeypatch.setattr(socket, "gethostbyname", lambda *a: opened.append(a) or "127.0.0.1")
    body = {"brokerage": "daily", "api_url": url, "api_key": "canary-key-0a1b2c3d"}

    answer = asha.post("/dashboard/activate-brokerage", body)

    assert answer.status_code in (400, 422), answer.content
    assert opened == []
    assert daily.calls == []
    assert not BrokerConnection.objects.exists()


def test_the_emulators_address_is_taken_where_one_is_configured(asha, settings):
    body = {"brokerage": "daily", "api_key": "canary-key-0a1b2c3d", "request_token": "t"}
    url = "http://127.0.0.1:9001"
    assert asha.post("/dashboard/activate-brokerage", {**body, "api_url": url}).status_code == 422

    settings.BROKER_ENDPOINTS = {"daily": {"api": url}, "zerodha": {"api": "http://127.0.0.1:9002"}}

    for other in ("http://127.0.0.1:9002", "http://127.0.0.1:9001@evil.test", f"{url}/x"):
        again = asha.post("/dashboard/activate-brokerage", {**body, "api_url": other})
        assert again.status_code == 422, other
    assert asha.post("/dashboard/activate-brokerage", {**body, "api_url": url}).status_code == 201


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("x", "must be JSON"),
        ("[]", "must be an object"),
        ('{"zerodha": "http://127.0.0.1"}', "must be an object"),
        ('{"zerodha": {"web": "http://127.0.0.1"}}', "has a key other than"),
        ('{"zerodha": {"api": 5}}', "must be text"),
        ('{"zerodha": {"api": "http://10.0.0.5:9001"}}', "must be on this machine"),
        ('{"zerodha": {"api": "https://api.kite.trade"}}', "must be on this machine"),
        ('{"zerodha": {"api": "http://127.0.0.1.evil.test"}}', "must be on this machine"),
        ('{"zerodha": {"api": "http://127.0.0.1@evil.test"}}', "must be an origin"),
        ('{"zerodha": {"api": "http://127.0.0.1:9001/path"}}', "must be an origin"),
        ('{"zerodha": {"api": "ws://127.0.0.1:9001"}}', "must be an origin"),
        ('{"zerodha": {"stream": "http://127.0.0.1:9001"}}', "must be an origin"),
        ('{"zerodha": {"api": "http://127.0.0.1:x"}}', "is not an address"),
    ],
)
def test_emulators_elsewhere_stop_the_start(value, reason):
    env = Environment({"BROKER_ENDPOINTS": value})
    env.endpoints("BROKER_ENDPOINTS")

    with pytest.raises(InvalidVariable, match=f"BROKER_ENDPOINTS .*{reason}"):
        env.finish()


def test_emulators_here_are_taken():
    value = '{"zerodha": {"api": "http://127.0.0.1:9001/", "stream": "ws://[::1]:9001"}}'
    assert Environment({"BROKER_ENDPOINTS": value}).endpoints("BROKER_ENDPOINTS") == {
        "zerodha": {"api": "http://127.0.0.1:9001", "stream": "ws://[::1]:9001"}
    }
