# ruff: noqa: F811 - fixtures are imported by their names
"""The search for secrets again, for each real broker: its own SDK, on the emulator, with everything
going wrong that can; what an SDK says of a failure must not tell what it sent.
"""

from __future__ import annotations

import functools
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache

from accounts.clients import Client as Device
from accounts.services.sign_in import user_signup
from brokerages.models import BrokerConnection, InboundEvent
from brokerages.services import adapter_for, adapters, sessions_expire
from brokerages.types import OrderRequest as Request
from brokerages.types import OrderType, Product, Side
from marketdata.instrument_sync import records_load
from tests.brokerages.contract.benches import (
    BENCHES,
    REDIRECT,
    EmulatedBench,
    GrowwBench,
    UpstoxBench,
    ZerodhaBench,
)
from tests.e2e import haystacks
from tests.e2e.canaries import Canaries
from tests.e2e.test_canary import Caller
from tests.emulators.core.orders import Reason
from tests.trading.conftest import Market, _fresh_tables, market, work  # noqa: F401 - fixtures
from trading import tasks
from trading.models import Order
from trading.services import inbound

USER = "AB4711"
READS = ("profile", "funds", "holdings", "positions", "orders", "trades")
# What goes wrong with every kind of request, one after the other.
FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("refuse", {"reason": Reason.TERMS}), ("rate_limit", {}), ("static_ip", {}),
    ("status", {"status": 500}), ("status", {"status": 403}), ("status", {"status": 400}),
    ("drop_before", {}), ("drop_after", {}), ("cut", {}), ("garbage", {}),
    ("content_type", {"content_type": "text/x"}), ("timed_out", {}), ("expired", {}),
]  # fmt: skip


def enter(bench: EmulatedBench, canaries: Canaries) -> dict[str, str]:
    """Let the broker know an app with our secrets; return what a user enters on the platform."""
    if isinstance(bench, GrowwBench):
        from tests.emulators.groww.sessions import Login

        login = Login(
            USER, canaries.new("totp_token"), canaries.new("totp_secret", "base32"),
            canaries.new("api_key"), canaries.new("api_secret"),
        )  # fmt: skip
        bench.dialect.account(USER)
        bench.dialect.admit(login)
        return {"totp_token": login.totp_token, "totp_secret": login.totp_secret}
    assert isinstance(bench, ZerodhaBench | UpstoxBench)
    bench.enroll(USER)
    known = next(iter(bench.dialect.apps.values()))
    app = type(known)(canaries.new("api_key"), canaries.new("api_secret"), REDIRECT)
    bench.dialect.apps[app.api_key] = app
    return {"api_key": app.api_key, "api_secret": app.api_secret}


@pytest.fixture
def bench(
    request: pytest.FixtureRequest, broker: str, monkeypatch: pytest.MonkeyPatch
) -> EmulatedBench:
    made = BENCHES[broker](request)
    assert isinstance(made, EmulatedBench)
    made.hurry(monkeypatch)
    given = made.context()
    real = adapters.AdapterContext

    @functools.wraps(real)
    def context(*args: Any, **named: Any) -> Any:
        ours = {"endpoints": given.endpoints, "redirect_url": REDIRECT, "now": given.now}
        return real(*args, **(named | ours))

    monkeypatch.setattr(adapters, "AdapterContext", context)
    # tokens end by the emulator's clock
    monkeypatch.setattr(adapters.timezone, "now", given.now)
    return made


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("broker", ["zerodha", "upstox", "groww"])
def test_no_secret_of_a_broker_is_left_anywhere(
    broker: str, bench: EmulatedBench, market: Market, settings: Any,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    settings.WAKE_WORKERS = True
    cache.clear()
    canaries = Canaries()
    credentials = enter(bench, canaries)
    caller = Caller(canaries)
    caller.token = user_signup(
        email="canary@example.com", password="a rather long phrase 4", client=Device("127.0.0.1")
    ).access_token
    with haystacks.Published() as published, haystacks.logs() as log:
        connection = connect(caller, bench, broker, credentials)
        use(caller, bench, connection)
        if broker != "groww":
            post_back(caller, bench, connection)
        trade(caller, bench, connection)
        tasks.reconcile_connections.apply()
        tasks.reconcile_commands.apply()
        bench.end_session(adapter_for(connection))
        caller.api("GET", f"/connections/{connection.pk}/funds")
        caller.api("POST", f"/connections/{connection.pk}/session/check")
        caller.api("GET", f"/connections/{connection.pk}")
        caller.api("GET", "/connections")
        caller.api("GET", "/audit")
        sessions_expire()
    hay = {
        "database": haystacks.database(),
        "redis": haystacks.redis_content(),
        "published": published.content,
        "log as JSON": log[0].getvalue().encode(),
        "log as text": log[1].getvalue().encode(),
    }
    out = capfd.readouterr()
    hay["console"] = f"{out.out}{out.err}".encode()

    # the secrets were really used, and it did go wrong
    sent = repr([record.request for record in bench.server.recorder.find()])
    used = [name for name, value in canaries.values.items() if value in sent]
    assert any(name.startswith("token") for name in used), used
    assert {status for _, status, *_ in caller.answers} >= {200, 201, 422, 502}
    found = [f"{where}: {name}" for where, text in hay.items() for name in canaries.found_in(text)]
    found += caller.leaks()
    assert found == []


def connect(
    caller: Caller, bench: EmulatedBench, broker: str, credentials: dict[str, str]
) -> BrokerConnection:
    answer = caller.api("POST", "/connections", {"broker": broker, "credentials": credentials})
    assert answer.status_code == 201, answer.content
    connection = BrokerConnection.objects.get(pk=answer.json()["id"])
    path = f"/connections/{connection.pk}/session"
    for number, (kind, options) in enumerate(FAULTS):
        bench.server.faults.clear()
        bench.fault(kind, "mint", times=None, **options)
        caller.api("POST", path, grant(caller, bench, credentials, number))
    bench.server.faults.clear()
    caller.api("POST", path, {"grant": caller.canaries.new("wrong_grant")})
    opened = caller.api("POST", path, grant(caller, bench, credentials, "last"))
    assert opened.status_code in (200, 201), opened.content
    learn_session(caller, connection)
    return connection


def grant(
    caller: Caller, bench: EmulatedBench, credentials: dict[str, str], name: Any
) -> dict[str, str]:
    """Return the body that opens a session: with what a login's redirect brings, if anything."""
    known: Any = SimpleNamespace(credentials=credentials)
    made = bench.grant(known, USER)
    if made is None:
        return {}
    if len(made) >= 20:  # Upstox's codes are short, and good once
        caller.canaries.learn(f"grant_{name}", made)
    return {"grant": made}


def learn_session(caller: Caller, connection: BrokerConnection) -> None:
    token = adapter_for(connection).token
    assert token is not None
    for name, value in token.secrets.items():
        if len(value) >= 20:
            caller.canaries.learn(f"token_{name}", value)
    assert any(name.startswith("token_") for name in caller.canaries.values)


def use(caller: Caller, bench: EmulatedBench, connection: BrokerConnection) -> None:
    path = f"/connections/{connection.pk}"
    for read in READS:
        caller.api("GET", f"{path}/{read}")
    for kind, options in FAULTS[:-1]:
        bench.server.faults.clear()
        bench.fault(kind, "GET *", times=None, **options)
        for read in READS[:3]:
            caller.api("GET", f"{path}/{read}")
    bench.server.faults.clear()
    caller.api("POST", f"{path}/session/check")


def trade(caller: Caller, bench: EmulatedBench, connection: BrokerConnection) -> None:
    """Through the API, and with the adapter, whose errors nobody else has cleaned."""
    records_load(connection.broker, list(adapter_for(connection).fetch_instruments()))
    terms = {"symbol": "NSE:RELIANCE", "side": "BUY", "quantity": 1, "order_type": "LIMIT",
             "price": "100.00", "connection_id": str(connection.pk)}  # fmt: skip
    for kind, options in [("", {}), *FAULTS[:-1]]:
        bench.server.faults.clear()
        if kind:
            bench.fault(kind, "place", times=1, **options)
        key = f"canary-{kind}-{options.get('status', '')}"
        caller.api("POST", "/orders", terms, **{"Idempotency-Key": key})
        work()
        adapter = adapter_for(connection)
        tag = f"T{abs(hash(key)) % 10**18:018d}A"
        request = Request(tag, bench.share, Side.BUY, 1, OrderType.LIMIT, Product.CNC, price=None)
        try:
            adapter.place_order(request)
        except Exception as e:
            leaks = list(caller.canaries.found_in(f"{e!r} {e.__cause__!r}".encode()))
            assert leaks == [], f"{kind}: {leaks}"
    bench.server.faults.clear()
    assert Order.objects.exclude(broker_order_id="").exists()
    caller.api("GET", "/orders")
    caller.api("GET", "/notifications")


def post_back(caller: Caller, bench: EmulatedBench, connection: BrokerConnection) -> None:
    asked = caller.api("GET", f"/connections/{connection.pk}/postback", may_hold=("postback",))
    address = asked.json()["url"]
    caller.canaries.learn("postback", address.rpartition("/")[2])
    path = address.partition("/api/v1")[2]
    told = {"order_id": "1", "order_timestamp": "2026-11-23 10:30:00", "status": "complete",
            "update_type": "order"}  # fmt: skip
    for body in (told, told | {"checksum": caller.canaries["api_secret"]}, {}):
        caller.api("POST", path, body, token="")
    if isinstance(bench, UpstoxBench):
        session = bench.dialect.open_session(USER, caller.canaries["api_key"])
        token = caller.canaries.learn("token_approved", session.access_token)
        notice = {
            "client_id": caller.canaries["api_key"], "user_id": USER, "access_token": token,
            "token_type": "Bearer", "message_type": "access_token",
            "issued_at": millis(bench.venue.clock.now()), "expires_at": millis(session.ends_at),
        }  # fmt: skip
        answer = caller.api("POST", path, notice, token="")
        assert answer.json()["status"] == "QUEUED"
    for event_id in InboundEvent.objects.values_list("pk", flat=True):
        inbound.event_process(event_id)
    if isinstance(bench, UpstoxBench):
        now = adapter_for(connection).token
        assert now is not None
        assert now.secrets["access_token"] == caller.canaries["token_approved"]


def millis(at: datetime) -> str:
    return str(int(at.timestamp() * 1000))
