"""Logging in at a broker's page: whose login it is, and that its state works once, for them."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest
from django.core import signing
from django.test import Client
from django.utils import timezone

from accounts.models import LoginSession, User
from brokerages.models import BrokerConnection, BrokerLogin, BrokerSession, InboundEvent
from brokerages.services import logins
from tests.brokerages.conftest import Market
from tests.brokerages.test_connections_api import Caller
from tests.emulators.core.server import EmulatorServer
from tests.emulators.upstox import Upstox
from tests.emulators.upstox.dialect import API_KEY as UPSTOX_KEY
from tests.emulators.upstox.dialect import API_SECRET as UPSTOX_SECRET
from tests.emulators.zerodha import App, Zerodha
from trading.services.inbound import event_process

pytestmark = pytest.mark.django_db(transaction=True)

KEY, SECRET = "kitekey000000001", "kitesecret0000000000000000000001"
SITE = "http://sauda.test"
CALLBACK = "/api/v1/connections/callback/zerodha"
BROWSER = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def kite(settings: Any, monkeypatch: pytest.MonkeyPatch, market: Market) -> Iterator[Any]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    settings.PUBLIC_URL = SITE
    with EmulatorServer(Zerodha()) as emulator:
        emulator.dialect.limiter.on = False
        emulator.dialect.apps[KEY] = App(KEY, SECRET, f"{SITE}{CALLBACK}")
        settings.BROKER_ENDPOINTS = {
            "zerodha": {"api": emulator.url, "login": emulator.url, "stream": emulator.ws_url}
        }
        yield emulator


@pytest.fixture
def asha(kite: Any) -> Caller:
    return Caller("asha@example.org")


@pytest.fixture
def connection_id(asha: Caller) -> str:
    body = {"broker": "zerodha", "credentials": {"api_key": KEY, "api_secret": SECRET}}
    made = asha.post("/connections", body)
    assert made.status_code == 201, made.content
    return str(made.json()["id"])


@pytest.fixture
def browser() -> Callable[[str], Client]:
    def one(email: str) -> Client:
        client = Client(headers=BROWSER)
        client.force_login(User.objects.get(email=email))
        return client

    return one


def at_the_broker(url: str) -> str:
    """Log in on the broker's page; return the address that it sends the browser back to."""
    with httpx.Client(trust_env=False, timeout=15) as person:
        page = person.get(url)
        assert page.status_code == 200, page.text
        fields = {
            name: html.unescape(value)
            for name, value in re.findall(r'name="(\w+)"[^>]*?value="([^"]*)"', page.text)
        }
        action = re.search(r'<form[^>]*action="([^"]*)"', page.text)
        assert action is not None
        fields |= {"user_id": "AB1234", "decision": "allow"}
        back = person.post(urljoin(url, html.unescape(action[1])), data=fields)
        for _ in range(4):
            address = urljoin(str(back.url), back.headers["location"])
            if address.startswith(SITE):
                return address.removeprefix(SITE)
            back = person.get(address)
    raise AssertionError(back.text)


def start(asha: Caller, connection_id: str) -> str:
    answer = asha.get(f"/connections/{connection_id}/login-url")
    assert answer.status_code == 200, answer.content
    return str(answer.json()["url"])


def test_a_client_of_the_api_logs_in(asha, connection_id, kite):
    answer = asha.get(f"/connections/{connection_id}/login-url")
    assert answer["Cache-Control"] == "no-store"
    back = at_the_broker(answer.json()["url"])
    query = parse_qs(urlsplit(back).query)
    assert set(query) >= {"request_token", "status", "state"}

    done = Client().get(back)

    assert done.status_code == 200, done.content
    assert (done.json()["id"], done.json()["session"]["state"]) == (connection_id, "ACTIVE")
    assert done.json()["session"]["broker_user_id"] == "AB1234"
    assert done["Referrer-Policy"] == "no-referrer"
    assert asha.get(f"/connections/{connection_id}/profile").status_code == 200
    login = BrokerLogin.objects.get()
    assert query["state"][0] not in login.state_hash
    assert login.used_at is not None
    assert kite.recorder.count("POST /session/token") == 1


def test_a_state_works_once(asha, connection_id, kite):
    back = at_the_broker(start(asha, connection_id))
    assert Client().get(back).status_code == 200
    before = BrokerSession.objects.get().opened_at

    again = Client().get(back)

    assert (again.status_code, again.json()["error"]["code"]) == (400, "invalid_login")
    assert BrokerSession.objects.get().opened_at == before


def test_a_browser_is_led_on_and_its_address_keeps_nothing(asha, connection_id, browser):
    mine = browser("asha@example.org")
    go = mine.get(f"/connections/{connection_id}/login/start")
    assert (go.status_code, go["Referrer-Policy"]) == (302, "no-referrer")

    done = mine.get(at_the_broker(go["Location"]))

    assert (done.status_code, done["Location"]) == (302, "/connections")
    page = mine.get("/connections").content.decode()
    assert "is logged in" in page
    assert "session until" in page


@pytest.mark.parametrize("who", ["nobody", "ravi"])
def test_a_login_of_a_browser_is_finished_there_only(asha, connection_id, browser, who):
    Caller("ravi@example.org")
    mine = browser("asha@example.org")
    back = at_the_broker(mine.get(f"/connections/{connection_id}/login/start")["Location"])
    other = browser("ravi@example.org") if who == "ravi" else Client()

    for headers in ({"Accept": "application/json"}, BROWSER):
        refused = other.get(back, headers=headers)
        assert refused.status_code == (302 if headers is BROWSER else 400)
        assert not BrokerSession.objects.exists()

    assert mine.get(back)["Location"] == "/connections"  # it stayed good for its user
    assert BrokerSession.objects.get().state == "ACTIVE"


def test_a_login_of_a_client_is_refused_to_another_user(asha, connection_id, browser):
    ravi = Caller("ravi@example.org")
    back = at_the_broker(start(asha, connection_id))

    assert Client().get(back, headers=ravi.headers).status_code == 400
    refused = browser("ravi@example.org").get(back, headers={"Accept": "application/json"})

    assert refused.status_code == 400
    assert not BrokerSession.objects.exists()
    assert Client().get(back, headers=asha.headers).status_code == 200


def test_another_account_at_the_broker_does_not_take_the_place(asha, connection_id, kite):
    Client().get(at_the_broker(start(asha, connection_id)))
    BrokerSession.objects.update(broker_user_id="ZZ9999")

    answer = Client().get(at_the_broker(start(asha, connection_id)))

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "other_account")


def test_states_that_are_not_good(asha, connection_id, settings):
    url = start(asha, connection_id)
    params = parse_qs(urlsplit(url).query)["redirect_params"][0]
    good = parse_qs(params)["state"][0]
    forged = signing.TimestampSigner(key="another", salt="brokerages.login.zerodha", sep=".")
    other_broker = f"{SITE}/api/v1/connections/callback/upstox".removeprefix(SITE)
    for state in ("", "x", "\x00", good[:-1], good.upper(), forged.sign("n"), "é" * 50, "y" * 5000):
        answer = Client().get(CALLBACK, {"state": state, "request_token": "t"})
        assert answer.status_code == 400, state
        assert answer.json()["error"]["code"] == "invalid_login"
    assert Client().get(other_broker, {"state": good, "code": "t"}).status_code == 400
    assert Client().get(f"{CALLBACK}x", {"state": good}).status_code == 404
    assert BrokerLogin.objects.filter(used_at__isnull=True).count() == 1


def test_a_state_is_good_for_ten_minutes(asha, connection_id):
    back = at_the_broker(start(asha, connection_id))
    BrokerLogin.objects.update(expires_at=timezone.now())
    assert Client().get(back).status_code == 400
    BrokerLogin.objects.update(expires_at=timezone.now() - logins.KEPT - timedelta(seconds=1))
    assert logins.logins_delete_old() == 1


def test_signing_out_ends_logins_under_way(asha, connection_id):
    back = at_the_broker(start(asha, connection_id))
    LoginSession.objects.update(revoked_at=timezone.now())
    assert Client().get(back).status_code == 400


def test_a_login_that_was_cancelled_at_the_broker(asha, connection_id, kite):
    params = parse_qs(urlsplit(start(asha, connection_id)).query)["redirect_params"][0]
    state = parse_qs(params)["state"][0]

    answer = Client().get(CALLBACK, {"state": state, "status": "cancelled"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "login_cancelled")
    assert kite.recorder.count("POST /session/token") == 0


def test_a_token_that_the_broker_does_not_take(asha, connection_id):
    params = parse_qs(urlsplit(start(asha, connection_id)).query)["redirect_params"][0]
    state = parse_qs(params)["state"][0]

    answer = Client().get(CALLBACK, {"state": state, "request_token": "canary-not-issued"})

    assert answer.status_code in (409, 422)
    assert "canary" not in answer.content.decode()


def test_a_stranger_starts_no_login(asha, connection_id, browser):
    ravi = Caller("ravi@example.org")
    path = f"/connections/{connection_id}"
    assert ravi.get(f"{path}/login-url").status_code == 404
    assert ravi.post(f"{path}/session/request").status_code == 404
    theirs = browser("ravi@example.org")
    assert theirs.get(f"{path}/login/start").status_code == 404
    assert theirs.post(f"{path}/login/request").status_code == 404
    assert not BrokerLogin.objects.exists()


def test_a_mails_link_asks_to_sign_in_and_leads_back(asha, connection_id):
    answer = Client(headers=BROWSER).get(f"/connections/{connection_id}/login/start")
    assert answer["Location"] == f"/signin?next=%2Fconnections%2F{connection_id}%2Flogin%2Fstart"


def test_a_broker_without_a_login_page(asha):
    made = asha.connect()
    answer = asha.get(f"/connections/{made['id']}/login-url")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "not_supported")
    answer = asha.post(f"/connections/{made['id']}/session/request")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "approval_not_supported")


def test_grants_stay_out_of_logs(asha, connection_id, caplog):
    caplog.set_level("DEBUG")
    back = at_the_broker(start(asha, connection_id))
    Client().get(back)
    Client().get(back)
    query = parse_qs(urlsplit(back).query)
    ours = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith("http"))
    assert query["request_token"][0] not in ours
    assert query["state"][0] not in ours


def test_the_source_systems_example_works_as_written(asha, kite):
    """Verbatim but for the values that the example leaves to its reader."""
    kite.dialect.apps["your-api-key"] = App("your-api-key", "your-api-secret", SITE)
    token = kite.dialect.request_token("AB1234", "your-api-key")
    kite.dialect.request_tokens["your-request-token"] = kite.dialect.request_tokens.pop(token)
    body = {
        "brokerage": "zerodha",
        "api_url": "https://api.kite.trade",
        "api_key": "your-api-key",
        "api_secret": "your-api-secret",
        "request_token": "your-request-token",
    }

    answer = asha.post("/dashboard/activate-brokerage", body)

    assert answer.status_code == 201, answer.content
    assert answer.json()["session"]["state"] == "ACTIVE"
    assert BrokerConnection.objects.get().broker == "zerodha"


def test_a_session_by_approval(asha, settings, live_server):
    """Asked for here, approved in the broker's app, posted to the connection's own address."""
    settings.PUBLIC_URL = live_server.url
    with EmulatorServer(Upstox()) as upstox:
        settings.BROKER_ENDPOINTS = {"upstox": {"api": upstox.url, "login": upstox.url}}
        given = {"api_key": UPSTOX_KEY, "api_secret": UPSTOX_SECRET}
        body = {"broker": "upstox", "credentials": given}
        path = f"/connections/{asha.post('/connections', body).json()['id']}"
        app = upstox.dialect.apps[UPSTOX_KEY]
        app.notifier_url = asha.get(f"{path}/postback").json()["url"]

        asked = asha.post(f"{path}/session/request")
        assert (asked.status_code, bool(asked.json()["expires_at"])) == (202, True)
        assert asha.get(f"{path}/session").status_code == 404  # nobody has approved it yet

        upstox.dialect.approve("4CAB12", UPSTOX_KEY)
        until = time.monotonic() + 20
        while not (ids := InboundEvent.objects.values_list("pk", flat=True)):
            assert time.monotonic() < until, "no notice came"
            time.sleep(0.05)
        for pk in ids:
            event_process(pk)

        session = asha.get(f"{path}/session").json()
        told = list(InboundEvent.objects.values_list("state", "error"))
        assert session.get("state") == "ACTIVE", told
        assert session["broker_user_id"] == "4CAB12"
        assert asha.get(f"{path}/profile").status_code == 200
