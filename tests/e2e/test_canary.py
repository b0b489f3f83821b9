# ruff: noqa: F811 - fixtures are imported by their names
"""Secrets of every kind go in and are used, rightly and wrongly; then everything that the platform
leaves behind is searched for them in every form: no hits.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from django.contrib import admin
from django.core import mail
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client

from accounts.models import User
from accounts.services.mail import mails_sweep
from brokerages import registry, views, webhooks
from brokerages.base import CredentialField
from brokerages.errors import OutcomeUnknown, Refused, SessionExpired
from brokerages.models import BrokerConnection, InboundEvent
from brokerages.services import adapter_for, connections
from brokerages.types import OrderAck, OrderRequest, SessionToken
from tests.brokerages import fake_broker
from tests.contract.operations import operations
from tests.e2e import haystacks
from tests.e2e.canaries import Canaries, forms
from tests.trading.conftest import Market, _fresh_tables, market, work  # noqa: F401 - fixtures
from trading import tasks
from trading.services import inbound

PAGES = (
    "/", "/portfolio", "/watchlist", "/orders", "/orders?status=all", "/orders/new", "/positions",
    "/holdings", "/trades", "/notifications", "/connections", "/connections/new/canary", "/start",
    "/audit", "/account",
)  # fmt: skip
NAMES = (
    "api_key", "api_secret", "access_token", "broker_password", "request_token", "password",
    "new_password", "webhook", "webhook_other", "approved_token", "stray",
)  # fmt: skip


class CanaryBroker(fake_broker.SilentBroker):
    """Asks for every kind of secret, and repeats what it was sent in all its errors."""

    name, label = "canary", "Canary broker"
    credential_fields = (
        CredentialField("api_key", "API key", secret=False),
        CredentialField("api_secret", "API secret"),
        CredentialField("totp_secret", "TOTP secret"),
        CredentialField("pin", "PIN"),
        CredentialField("broker_password", "Password"),
    )
    capabilities = replace(fake_broker.SilentBroker.capabilities, signs_postbacks=True)
    token_today: ClassVar[str] = ""
    failing: ClassVar[list[str]] = []

    @classmethod
    def verify_postback(cls, headers: Any, body: bytes, secret: str) -> bool:
        return b'"checksum"' not in body or fake_broker.SigningBroker.verify_postback(
            headers, body, secret
        )

    def open_session(self, grant: str | None) -> SessionToken:
        self._fail(f"request_token={grant}")
        return SessionToken({"access_token": self.token_today}, broker_user_id="S1")

    def check_session(self) -> None:
        self._fail("check")

    def fetch_profile(self) -> Any:
        self._fail("profile")
        return super().fetch_profile()

    def place_order(self, request: OrderRequest) -> OrderAck:
        self._fail("place")
        return super().place_order(request)

    def _fail(self, what: str) -> None:
        told = {**self.credentials, **(self.token.secrets if self.token else {})}
        echo = f"{what} {json.dumps(told)} {' '.join(told.values())}"
        kind = self.failing.pop(0) if self.failing else ""
        if kind == "refused":
            raise Refused(echo, broker=self.name)
        if kind == "unknown":
            try:
                raise ConnectionError(f"GET https://broker/session?{echo}")
            except ConnectionError as e:
                raise OutcomeUnknown(f"no answer to {echo}", broker=self.name) from e
        if kind == "expired":
            raise SessionExpired(echo, broker=self.name)
        if kind == "bug":  # an SDK fails in its own words
            raise RuntimeError(
                f"POST /session/token?api_key={self.credentials['api_key']}&totp="
                f"{self.credentials['totp_secret']} headers={{'Authorization': 'token "
                f"{self.credentials['api_key']}:{told.get('access_token', '')}'}} "
                f"body={{'api_secret': '{self.credentials['api_secret']}', "
                f"'pin': '{self.credentials['pin']}', "
                f"'password': '{self.credentials['broker_password']}'}}"
            )


class Caller:
    """Asks as clients do, and keeps every answer with what it may hold."""

    def __init__(self, canaries: Canaries) -> None:
        self.canaries, self.answers = canaries, []
        self.browser = Client(raise_request_exception=False)
        self.token = ""

    def api(
        self, method: str, path: str, body: Any = None, *, may_hold: tuple[str, ...] = (),
        content_type: str = "application/json", token: str | None = None, **headers: str,
    ) -> Any:  # fmt: skip
        raw = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        token = self.token if token is None else token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        answer = Client(raise_request_exception=False).generic(
            method, f"/api/v1{path}", raw, content_type, headers=headers
        )
        return self.keep(f"{method} {path}", answer, may_hold)

    def page(
        self, path: str, data: Any = None, *, may_hold: tuple[str, ...] = (), **more: Any
    ) -> Any:
        method = self.browser.get if data is None else self.browser.post
        answer = method(path, data, headers={"Accept": "text/html"}, **more)
        return self.keep(f"page {path}", answer, may_hold)

    def keep(self, what: str, answer: Any, may_hold: tuple[str, ...]) -> Any:
        headers = "\n".join(f"{k}: {v}" for k, v in answer.items()).encode()
        cookies = str(answer.cookies).encode()
        body = b"".join(answer) if answer.streaming else answer.content
        self.answers.append((what, answer.status_code, headers + cookies + body, may_hold))
        return answer

    def leaks(self) -> list[str]:
        return [
            f"{what} ({status}): {name}"
            for what, status, hay, may_hold in self.answers
            for name in self.canaries.found_in(hay, allowed=may_hold)
        ]


@pytest.fixture
def canaries() -> Canaries:
    made = Canaries()
    for name in NAMES:
        made.new(name)
    made.new("totp_secret", "base32")
    made.new("pin", "digits")
    made.new("wrong_password", "awkward")
    return made


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch, canaries: Canaries) -> type[CanaryBroker]:
    fake_broker.install(monkeypatch)
    monkeypatch.setitem(registry._ADAPTERS, "canary", f"{__name__}:CanaryBroker")
    for module in (webhooks, connections, views):
        monkeypatch.setattr(module, "BROKER_NAMES", (*module.BROKER_NAMES, "canary"))
    CanaryBroker.token_today = canaries["access_token"]
    CanaryBroker.failing.clear()
    return CanaryBroker


@pytest.mark.parametrize("kind", ["text", "base32", "digits", "awkward"])
def test_the_search_finds_every_form(kind):
    """Or no hits would prove nothing."""
    canaries = Canaries()
    value = canaries.new("it", kind)

    assert len(value) == 40
    for form in forms(value):
        assert list(canaries.found_in(b"before" + form + b"after")) == ["it"], form
    for shift in range(9):
        inside = base64.b64encode(b"x" * shift + value.encode() + b"and more")
        assert list(canaries.found_in(inside)) == ["it"]
    assert list(canaries.found_in(b"nothing here")) == []
    assert list(canaries.found_in(value.encode(), allowed=("it",))) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(300)
def test_no_secret_is_left_anywhere(  # noqa: PLR0917
    canaries: Canaries,
    broker: type[CanaryBroker],
    market: Market,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    settings.WAKE_WORKERS = True  # messages go to the queue, and nobody takes them out
    settings.BROKER_WEBHOOK_SECRET = canaries["webhook"]
    settings.BROKER_WEBHOOK_ADDITIONAL_SECRETS = [canaries["webhook_other"]]
    cache.clear()
    with haystacks.Published() as published, haystacks.logs() as log:
        caller = Caller(canaries)
        _sign_in_and_fail_to(caller)
        connection = _connect_and_fail_to(caller, broker)
        _trade(caller, broker, connection)
        _receive_webhooks(caller, connection)
        _break_things(caller, broker, connection, monkeypatch)
        commands = _run_commands(settings)
        _look_everywhere(caller, connection)
        _renew_and_sign_out(caller)

    hay = {
        "database": haystacks.database(),
        "redis": haystacks.redis_content(),
        "published": published.content,
        "log as JSON": log[0].getvalue().encode(),
        "log as text": log[1].getvalue().encode(),
        "commands": commands.encode(),
    }
    out = capfd.readouterr()
    hay["console"] = f"{out.out}{out.err}".encode()

    # the search had something to search
    assert b"connection.created" in hay["database"]
    assert len(hay["database"]) > 100_000
    assert b"trading.dispatch_lane" in hay["redis"]
    assert b"orders" in hay["published"]
    assert b"boom" in hay["log as JSON"]
    assert len(caller.answers) > 100
    assert {status for _, status, *_ in caller.answers} >= {200, 201, 302, 400, 401, 404, 422, 500}
    assert len(mail.outbox) >= 3

    found = [f"{where}: {name}" for where, text in hay.items() for name in canaries.found_in(text)]
    for message in mail.outbox:
        text = message.message().as_bytes()
        found += [f"mail: {n}" for n in canaries.found_in(text, allowed=("link",))]
    found += caller.leaks()
    assert found == []


# --- What happens ---------------------------------------------------------------------------------

EMAIL = "canary@example.com"


def _sign_in_and_fail_to(caller: Caller) -> None:
    c = caller.canaries
    tokens = ("access_jwt", "refresh_jwt")
    made = caller.api(
        "POST", "/auth/signup", {"email": EMAIL, "password": c["password"]}, may_hold=tokens
    ).json()
    _learn_tokens(c, made, "signup")
    form = f"username={EMAIL}&password={c['password']}".encode()
    signed_in = caller.api(
        "POST", "/auth/signin", form, may_hold=tokens,
        content_type="application/x-www-form-urlencoded",
    ).json()  # fmt: skip
    _learn_tokens(c, signed_in, "signin")
    caller.token = signed_in["access_token"]
    wrong = c["wrong_password"]
    for body in (
        {"email": EMAIL, "password": wrong},
        {"email": EMAIL, "password": [c["password"]]},
        {"email": EMAIL, "password": c["password"] * 10},
        {"email": EMAIL, "password": c["password"], "name": {"password": c["stray"]}},
        {"email": [c["stray"]], "password": wrong},
        {"username": c["stray"], "password": wrong},  # the password in the wrong field
        {"email": f"{c['stray']}@example.com", "password": wrong},
    ):
        caller.api("POST", "/auth/login", body)
        caller.api("POST", "/auth/signup", body)
    caller.api("POST", "/auth/login", f'{{"password": "{c["password"]}", '.encode())
    caller.api("POST", "/auth/login", f"password={c['password']}".encode())
    for path in (f"/me?access_token={c['stray']}", f"/sessions?password={c['stray']}"):
        caller.api("GET", f"/auth{path}")
    caller.api("GET", "/auth/me", token=c["stray"])
    caller.api("GET", "/auth/me", token=f"{caller.token}{c['stray']}")
    caller.api("POST", "/auth/refresh", {"refresh_token": c["stray"]})
    caller.api("POST", "/auth/logout", {"refresh_token": c["stray"]})
    changed = caller.api(
        "POST", "/auth/password/change",
        {"current_password": c["password"], "new_password": c["new_password"]}, may_hold=tokens,
    )  # fmt: skip
    assert changed.status_code in (200, 204), changed.content
    caller.api(
        "POST", "/auth/password/change",
        {"current_password": wrong, "new_password": c["stray"]},
    )  # fmt: skip
    caller.api("POST", "/auth/request-otp", {"email": EMAIL})
    caller.api("POST", "/auth/password/reset", {"email": EMAIL})
    caller.api("POST", "/auth/otp-login", {"email": EMAIL, "otp": "000000"})
    caller.api(
        "POST", "/auth/password/reset/confirm", {"token": c["stray"], "new_password": c["stray"]}
    )
    mails_sweep()
    for number, message in enumerate(mail.outbox):
        for word in str(message.body).split():
            token = word.rpartition("=")[2] if "token=" in word else ""
            if len(token) >= 20:
                c.learn(f"link_{number}", token)
    again = caller.api(
        "POST", "/auth/login", {"email": EMAIL, "password": c["new_password"]}, may_hold=tokens
    ).json()
    _learn_tokens(c, again, "login")
    caller.token = again["access_token"]
    page = {"email": EMAIL, "username": EMAIL, "password": wrong}
    caller.page("/signin", page)
    caller.page("/signin", page | {"password": c["new_password"]}, may_hold=("session_cookie",))
    caller.page("/signup", {"email": EMAIL, "password": c["password"]})
    caller.page("/signup", {"email": "x", "password": c["stray"]})
    caller.page("/account/password", {"current_password": wrong, "new_password": c["stray"]})
    c.learn("session_cookie", caller.browser.cookies["sessionid"].value)


def _learn_tokens(canaries: Canaries, pair: dict[str, str], when: str) -> None:
    # the signature is what makes a token: the rest of it is not secret
    canaries.learn(f"access_jwt_{when}", pair["access_token"].rpartition(".")[2])
    canaries.learn(f"refresh_jwt_{when}", pair["refresh_token"].rpartition(".")[2])


def _connect_and_fail_to(caller: Caller, broker: type[CanaryBroker]) -> BrokerConnection:
    c = caller.canaries
    fields = ("api_key", "api_secret", "totp_secret", "pin", "broker_password")
    right = {name: c[name] for name in fields}
    for wrong in (
        {"unknown_field": c["stray"]},
        {**right, "api_secret": [c["api_secret"]]},
        {**right, "api_secret": c["api_secret"] * 200},
        {**right, c["stray"][:20]: c["pin"]},
        {"api_key": c["api_key"], "api_secret": c["api_secret"]},
        [c["api_secret"]],
        c["api_secret"],
    ):
        if isinstance(wrong, dict) and c["stray"][:20] in wrong:
            continue  # the name of a field is not secret
        caller.api("POST", "/connections", {"broker": "canary", "credentials": wrong})
    caller.api("POST", "/connections", {"broker": "nosuch", "credentials": right})
    raw = json.dumps({"broker": "canary", "credentials": right}).encode()
    caller.api("POST", "/connections", raw[:-3])
    caller.api("POST", "/connections", raw + b" " * 70_000)
    answer = caller.api("POST", "/connections", {"broker": "canary", "credentials": right})
    assert answer.status_code == 201, answer.content
    connection = BrokerConnection.objects.get(pk=answer.json()["id"])
    path = f"/connections/{connection.pk}"
    address = caller.api("GET", f"{path}/postback", may_hold=("postback",)).json()["url"]
    c.learn("postback", address.rpartition("/")[2])
    for kind in ("refused", "unknown", "bug", "expired", ""):
        broker.failing[:] = [kind] if kind else []
        caller.api("POST", f"{path}/session", {"grant": c["request_token"]})
    assert adapter_for(connection).token is not None
    for kind in ("refused", "unknown", "bug", ""):
        broker.failing[:] = [kind] if kind else []
        caller.api("GET", f"{path}/profile")
        broker.failing[:] = [kind] if kind else []
        caller.api("POST", f"{path}/session/check")
    caller.api("PATCH", path, {"credentials": {"pin": c["pin"]}})
    caller.api("PATCH", path, {"credentials": {"pin": {"a": c["pin"]}}})
    for url in (f"https://{c['stray']}.example", "https://evil.example/?x=" + c["stray"]):
        caller.api(
            "POST", "/dashboard/activate-brokerage",
            {"brokerage": "canary", "api_url": url, "api_key": c["api_key"],
             "api_secret": c["api_secret"], "request_token": c["request_token"]},
        )  # fmt: skip
    secret_fields = {f"credential-{name}": c[name] for name in fields}
    caller.page(
        "/connections/new/canary", secret_fields | {"label": "x" * 500}, may_hold=("api_key",)
    )
    caller.page(f"/connections/{connection.pk}/login", {"grant": c["request_token"]})
    broker.failing[:] = ["refused"]
    caller.page(f"/connections/{connection.pk}/login", {"grant": c["request_token"]})
    broker.failing.clear()
    return connection


def _trade(caller: Caller, broker: type[CanaryBroker], connection: BrokerConnection) -> None:
    terms = {"symbol": "NSE:RELIANCE", "side": "BUY", "quantity": 1, "order_type": "LIMIT",
             "price": "2450.00", "connection_id": str(connection.pk)}  # fmt: skip
    for number, kind in enumerate(("", "refused", "unknown", "bug")):
        caller.api("POST", "/orders", terms, **{"Idempotency-Key": f"canary-{number}"})
        broker.failing[:] = [kind] if kind else []
        try:
            work()
        except RuntimeError:
            assert kind == "bug"
    broker.failing.clear()
    caller.api("GET", "/orders")
    caller.api("GET", f"/orders/{connection.pk}")


def _receive_webhooks(caller: Caller, connection: BrokerConnection) -> None:
    c = caller.canaries
    event = json.dumps({"type": "ping", "event_id": "c-1"}).encode()

    def signed(body: bytes, secret: str) -> str:
        return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()

    for secret in (c["webhook"], c["webhook_other"], c["stray"]):
        header = {"X-Broker-Signature": signed(event, secret)}
        caller.api("POST", "/webhooks/events", event, token="", **header)
    caller.api("POST", "/webhooks/events", event, token="", **{"X-Broker-Signature": c["webhook"]})
    caller.api("POST", "/webhooks/events", event, token=c["webhook"])
    path = f"/webhooks/canary/{c['postback']}"
    told = {"order_id": "B1", "order_timestamp": "2026-11-23 09:30:00"}
    told["checksum"] = fake_broker.checksum(told, c["api_secret"])
    notice = {"message_type": "access_token", "client_id": c["api_key"], "user_id": "S1",
              "access_token": c["approved_token"]}  # fmt: skip
    for body in (told, told | {"checksum": c["api_secret"]}, notice, {"secret": c["stray"]}):
        caller.api("POST", path, body, token="")
    caller.api("POST", path, c["stray"].encode(), token="")
    caller.api("POST", path[:-1], told, token="")
    caller.api("GET", path, token="")
    for event_id in InboundEvent.objects.values_list("pk", flat=True):
        inbound.event_process(event_id)
    connection.refresh_from_db()
    token = adapter_for(connection).token
    assert token is not None
    assert token.secrets["access_token"] == c["approved_token"]


def _break_things(
    caller: Caller, broker: type[CanaryBroker], connection: BrokerConnection, monkeypatch: Any
) -> None:
    """Errors that nobody foresaw: their tracebacks go to the log."""
    c = caller.canaries
    text = (
        f"boom: POST https://api.broker/session/token?api_key={c['api_key']}&request_token="
        f"{c['request_token']} {{'api_secret': '{c['api_secret']}', 'access_token': "
        f"'{c['access_token']}', 'totp': '{c['totp_secret']}', \"password\": \"{c['password']}\"}} "
        f"Authorization: token {c['api_key']}:{c['access_token']}"
    )

    def boom(*_: Any, **__: Any) -> Any:
        raise RuntimeError(text)

    with monkeypatch.context() as broken:
        broken.setattr("brokerages.services.connection_update", boom)
        answer = caller.api("PATCH", f"/connections/{connection.pk}", {"label": "new"})
        assert answer.status_code == 500
        broken.setattr("brokerages.selectors.connection_list", boom)
        assert caller.page("/connections").status_code == 500
        broken.setattr("trading.services.execution.lane_drain", boom)
        done = tasks.dispatch_lane.apply(args=["a-lane"])
        assert done.failed()
        broken.setattr("trading.services.inbound.event_process", boom)
        assert tasks.apply_inbound_event.apply(args=[1]).failed()


def _run_commands(settings: Any) -> str:
    out = io.StringIO()
    settings.CREDENTIAL_KEYS = [
        "Y2FuYXJ5LXJ1bi1uZXcta2V5LTMyLWJ5dGVzLWxvbmc=", *settings.CREDENTIAL_KEYS,
    ]  # fmt: skip
    call_command("rotate_credentials", stdout=out, stderr=out)
    call_command("seal_audit", stdout=out, stderr=out)
    call_command("verify_audit", stdout=out, stderr=out)
    return out.getvalue()


def _look_everywhere(caller: Caller, connection: BrokerConnection) -> None:
    """Every page and every read of the API, as the user and as an administrator."""
    for path in (
        *PAGES,
        f"/connections/{connection.pk}/login",
    ):
        caller.page(path, may_hold=("api_key",) if "/login" in path else ())
    caller.page(f"/connections/{connection.pk}/postback", may_hold=("postback",))
    for operation in operations():
        if operation.method == "GET" and set(operation.parameters) <= {"connection_id"}:
            path = operation.at({"connection_id": str(connection.pk)}).removeprefix("/api/v1")
            held = ("postback",) if path.endswith("/postback") else ()
            caller.api("GET", path, may_hold=held)
    for path in ("/health", "/readyz", "/metrics", "/openapi.json"):
        caller.page(path)
    user = User.objects.create_superuser(email="root@example.com", password="one more phrase 77")
    root = Caller(caller.canaries)
    root.answers = caller.answers
    root.browser.force_login(user)
    seen = 0
    for model, shown in admin.site._registry.items():
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        root.page(base)
        for pk in model._default_manager.values_list("pk", flat=True)[:20]:
            seen += 1
            root.page(f"{base}{pk}/change/")
        assert shown is not None
    assert seen > 30


def _renew_and_sign_out(caller: Caller) -> None:
    c = caller.canaries
    pair = caller.api(
        "POST", "/auth/login", {"email": EMAIL, "password": c["new_password"]},
        may_hold=("access_jwt", "refresh_jwt"),
    ).json()  # fmt: skip
    _learn_tokens(c, pair, "last")
    renewed = caller.api(
        "POST", "/auth/refresh", {"refresh_token": pair["refresh_token"]},
        may_hold=("access_jwt", "refresh_jwt"),
    ).json()  # fmt: skip
    _learn_tokens(c, renewed, "renewed")
    caller.api("POST", "/auth/logout", {"refresh_token": renewed["refresh_token"]})
    caller.api("POST", "/auth/refresh", {"refresh_token": renewed["refresh_token"]})
    caller.page("/signout", {})
