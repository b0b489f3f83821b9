"""Sent once, and judged by what is proved: faults of the network and of the broker.

The emulator's record is the judge of how often a request was sent.
"""

from __future__ import annotations

import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from brokerages.adapters.zerodha import client
from brokerages.adapters.zerodha.adapter import ZerodhaAdapter
from brokerages.base import AdapterContext
from brokerages.errors import BrokerError, NotSent, OutcomeUnknown, RateLimited, SessionExpired
from brokerages.types import (
    OrderChange,
    OrderType,
    PositionConversion,
    Product,
    QuoteDepth,
    SessionToken,
    Side,
    StreamUp,
    Tick,
    Validity,
)
from tests.brokerages.zerodha.conftest import (
    AMPERSAND,
    CREDENTIALS,
    PAYLOADS,
    SHARE,
    limit,
    order,
)
from tests.emulators.core.server import EmulatorServer
from tests.emulators.zerodha import Zerodha
from tests.emulators.zerodha.dialect import API_KEY

# fault, options, whether the broker has the order afterwards, the error
ERROR = '{"status": "error", "error_type": "InputException"}'
PLACES = [
    ("timed_out", {}, False, OutcomeUnknown),
    ("timed_out", {"delay": 0}, True, OutcomeUnknown),
    ("status", {"status": 500}, False, OutcomeUnknown),
    ("status", {"status": 502}, False, OutcomeUnknown),
    ("status", {"status": 403}, False, OutcomeUnknown),  # a page of a proxy, not Kite's words
    ("status", {"status": 429}, False, RateLimited),
    ("keep_then_status", {"status": 500}, True, OutcomeUnknown),
    ("keep_then_status", {"status": 504}, True, OutcomeUnknown),
    ("keep_then_status", {"status": 302, "headers": {"Location": "/orders"}}, True, OutcomeUnknown),
    (
        "keep_then_status",
        {"status": 500, "body": '{"status":"success","data":{"order_id":"1"}}',
         "content_type": "application/json"},
        True,
        OutcomeUnknown,
    ),
    ("drop_before", {}, False, OutcomeUnknown),
    ("drop_after", {}, True, OutcomeUnknown),
    ("cut", {"share": 0.5}, True, OutcomeUnknown),
    ("garbage", {}, True, OutcomeUnknown),
    ("garbage", {"body": "[]"}, True, OutcomeUnknown),
    ("garbage", {"body": "null"}, True, OutcomeUnknown),
    ("garbage", {"body": '{"status": "success"}'}, True, OutcomeUnknown),
    ("garbage", {"body": '{"status": "success", "data": {}}'}, True, OutcomeUnknown),
    ("garbage", {"body": '{"status": "success", "data": {"order_id": ""}}'}, True, OutcomeUnknown),
    ("garbage", {"body": '{"status": "success", "data": {"order_id": NaN}}'}, True, OutcomeUnknown),
    ("garbage", {"body": '{"status": "ok", "data": {"order_id": "../1"}}'}, True, OutcomeUnknown),
    ("garbage", {"body": '{"status": "error", "message": "?"}'}, True, OutcomeUnknown),
    ("garbage", {"body": ERROR}, True, OutcomeUnknown),
    ("garbage", {"body": "[" * 50_000}, True, OutcomeUnknown),
    ("content_type", {"content_type": "text/html"}, True, OutcomeUnknown),
    ("content_type", {"content_type": None}, True, OutcomeUnknown),
    ("content_type", {"content_type": "text/csv"}, True, OutcomeUnknown),
    ("hang", {"acts": True}, True, OutcomeUnknown),
    ("hang", {"acts": False}, False, OutcomeUnknown),
    ("expired", {}, False, SessionExpired),
]  # fmt: skip


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "READ_SECONDS", 0.4)
    monkeypatch.setattr(client, "TOTAL_SECONDS", 0.8)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("fault", "options", "kept", "error"), PLACES)
def test_placing(
    kite: EmulatorServer,
    adapter: ZerodhaAdapter,
    *,
    fault: str,
    options: dict[str, object],
    kept: bool,
    error: type[BrokerError],
):
    kite.faults.add(fault, "POST /orders/*", **options)

    with pytest.raises(BrokerError) as raised:
        adapter.place_order(limit("95"))

    assert type(raised.value) is error
    assert raised.value.message
    assert kite.recorder.count("POST /orders/*") == 1
    assert kite.recorder.count() == 1  # no redirect was followed either
    assert raised.value.__context__ is None
    time.sleep(0.05)  # what is accepted later
    assert (adapter.find_order(limit("95")) is not None) is kept


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", ["drop_after", "keep_then_status", "garbage", "timed_out"])
def test_changing_and_cancelling_are_sent_once(
    kite: EmulatorServer, adapter: ZerodhaAdapter, fault: str
):
    number = adapter.place_order(limit("95")).broker_order_id
    change = OrderChange(20, OrderType.LIMIT, Validity.DAY, limit("96").price)
    kite.faults.add(fault, "PUT /orders/*")
    kite.faults.add(fault, "DELETE /orders/*")
    with pytest.raises(OutcomeUnknown):
        adapter.modify_order(number, change, limit("95"))
    with pytest.raises(OutcomeUnknown):
        adapter.cancel_order(number, limit("95"))
    assert kite.recorder.count("PUT *") == kite.recorder.count("DELETE *") == 1


def test_answer_that_drips_has_an_end(
    kite: EmulatorServer, adapter: ZerodhaAdapter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client, "TOTAL_SECONDS", 0.5)
    kite.faults.add("drip", "POST /orders/*", seconds=8, pieces=40)
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        adapter.place_order(order())
    assert time.monotonic() - began < 2
    assert kite.recorder.count("POST /orders/*") == 1


def test_nobody_listens(context: AdapterContext):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    away = replace(context, endpoints={"api": f"http://127.0.0.1:{port}"})
    adapter = ZerodhaAdapter(away, CREDENTIALS, SessionToken({"access_token": "t"}))
    with pytest.raises(NotSent):
        adapter.place_order(order())


def test_nobody_accepts(context: AdapterContext, monkeypatch: pytest.MonkeyPatch):
    """A listener whose queue is full does not answer a SYN: a connect timeout proves NotSent."""
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.3)
    with full_listener() as port:
        away = replace(context, endpoints={"api": f"http://127.0.0.1:{port}"})
        adapter = ZerodhaAdapter(away, CREDENTIALS, SessionToken({"access_token": "t"}))
        with pytest.raises(NotSent):
            adapter.place_order(order())


def test_name_that_does_not_resolve(adapter: ZerodhaAdapter, monkeypatch: pytest.MonkeyPatch):
    def nowhere(*arguments: object, **named: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(NotSent):
        adapter.check_session()


def test_token_that_cannot_be_a_header_is_not_sent(kite: EmulatorServer, context: AdapterContext):
    adapter = ZerodhaAdapter(context, CREDENTIALS, SessionToken({"access_token": "a\nb"}))
    with pytest.raises(NotSent):
        adapter.place_order(order())
    assert kite.recorder.count() == 0


def test_proxies_of_the_environment_are_not_used(
    kite: EmulatorServer, adapter: ZerodhaAdapter, monkeypatch: pytest.MonkeyPatch
):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    adapter.check_session()


@pytest.mark.parametrize("times", [1, 3])
def test_reads_are_not_repeated_either(kite: EmulatorServer, adapter: ZerodhaAdapter, times: int):
    kite.faults.add("status", "GET /orders", status=503, times=times)
    with pytest.raises(OutcomeUnknown):
        adapter.find_order(order())
    assert kite.recorder.count("GET /orders") == 1


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("garbage", {}),
        ("garbage", {"body": '{"status": "success", "data": null}'}),
        ("garbage", {"body": '{"status": "success", "data": {}}'}),
        ("garbage", {"body": '{"status": "success", "data": [1]}'}),
        ("garbage", {"body": '{"status": "success", "data": [{}]}'}),
        ("content_type", {"content_type": "text/html"}),
        ("cut", {"share": 0.7}),
        ("drop_after", {}),
    ],
)
def test_no_read_passes_something_else_on(
    kite: EmulatorServer, adapter: ZerodhaAdapter, fault: str, options: dict[str, object]
):
    adapter.place_order(order())
    now = kite.dialect.clock.now()
    reads: list[Callable[[], object]] = [
        adapter.fetch_orders,
        adapter.fetch_fills,
        adapter.fetch_positions,
        adapter.fetch_holdings,
        adapter.fetch_funds,
        adapter.fetch_profile,
        lambda: adapter.fetch_quotes([SHARE], QuoteDepth.FULL),
        lambda: adapter.fetch_candles(SHARE, "1d", now - timedelta(days=5), now),
        lambda: adapter.estimate_margin([order()]),
        lambda: list(adapter.fetch_instruments()),
    ]
    for number, read in enumerate(reads):
        kite.faults.add(fault, "*", **options)
        failure, value = outcome(read)
        if failure is None:  # an empty object can be the quotes of nothing
            assert (value, options) == ([], {"body": '{"status": "success", "data": {}}'}), number
        else:
            assert type(failure) is OutcomeUnknown, number
        kite.faults.clear()


def outcome(call: Callable[[], object]) -> tuple[BrokerError | None, object]:
    try:
        return None, call()
    except BrokerError as e:
        return e, None


def test_book_that_misses_an_order_says_none_and_a_stale_one_the_past(
    kite: EmulatorServer, adapter: ZerodhaAdapter
):
    """Why one look without the order proves nothing: it is the reconciliation that waits."""
    adapter.place_order(limit("95"))
    kite.faults.add("partial_book", "GET /orders")
    assert adapter.find_order(limit("95")) is None
    assert adapter.find_order(limit("95")) is not None


def test_quote_that_makes_no_sense_hides_no_other(kite: EmulatorServer, adapter: ZerodhaAdapter):
    rows = {"NSE:RELIANCE": {"last_price": 101.05}, "NSE:M&M": {"last_price": "?"}}
    body = json.dumps({"status": "success", "data": rows})
    kite.faults.add("garbage", "GET /quote/ltp", body=body)
    (quote,) = adapter.fetch_quotes([AMPERSAND, SHARE], QuoteDepth.LTP)
    assert str(quote.last_price) == "101.05"


@pytest.mark.parametrize("data", ["null", "{}", "[]", '"ok"'])
def test_session_is_not_good_because_something_answered(
    kite: EmulatorServer, adapter: ZerodhaAdapter, data: str
):
    body = f'{{"status": "success", "data": {data}}}'
    kite.faults.add("garbage", "GET /user/profile", body=body)
    with pytest.raises(OutcomeUnknown):
        adapter.check_session()


def test_conversion_that_is_neither_done_nor_refused(kite: EmulatorServer, adapter: ZerodhaAdapter):
    adapter.place_order(order(product=Product.MIS))
    kite.faults.add("garbage", "PUT *", body='{"status": "success", "data": false}')
    with pytest.raises(OutcomeUnknown):
        adapter.convert_position(PositionConversion(SHARE, Side.BUY, 4, Product.MIS, Product.CNC))


def test_unread_row_may_be_the_one_that_is_looked_for(
    kite: EmulatorServer, adapter: ZerodhaAdapter
):
    """A book with a row that makes no sense proves presence, never absence."""
    number = adapter.place_order(limit("95")).broker_order_id
    fine = json.loads((PAYLOADS / "orders.json").read_text(encoding="utf-8"))
    fine["data"][0]["quantity"] = "ten"
    body = json.dumps(fine)

    def looked_up(tag: str) -> tuple[BrokerError | None, object]:
        kite.faults.add("garbage", "GET /orders", body=body)
        return outcome(lambda: adapter.find_order(limit("95", tag)))

    failure, _ = looked_up("ABCDEFGHJK0000000009")
    assert type(failure) is OutcomeUnknown
    _, found = looked_up("ABCDEFGHJK0000000002")
    assert found is not None
    kite.faults.add("garbage", "GET /orders", body=body)
    failure, _ = outcome(lambda: adapter.fetch_order(number, limit("95")))
    assert type(failure) is OutcomeUnknown
    kite.faults.add("garbage", "GET /orders", body=body)
    assert len(adapter.fetch_orders()) == 6


def test_session_without_a_login_time_is_open_all_the_same(
    kite: EmulatorServer, context: AdapterContext
):
    body = '{"status": "success", "data": {"access_token": "abc", "user_id": "AB1234"}}'
    kite.faults.add("garbage", "POST /session/token", body=body)
    grant = kite.dialect.request_token("AB1234", API_KEY)
    token = ZerodhaAdapter(context, CREDENTIALS).open_session(grant)
    assert (token.secrets, token.broker_user_id) == ({"access_token": "abc"}, "AB1234")


@pytest.mark.parametrize(
    "data", ["{}", "null", "[]", '{"access_token": ""}', '{"access_token": 5, "user_id": "A"}',
             '{"access_token": "abc", "login_time": null}']
)  # fmt: skip
def test_session_that_cannot_be_read_is_none(
    kite: EmulatorServer, context: AdapterContext, data: str
):
    body = f'{{"status": "success", "data": {data}}}'
    kite.faults.add("garbage", "POST /session/token", body=body)
    grant = kite.dialect.request_token("AB1234", API_KEY)
    with pytest.raises(OutcomeUnknown):
        ZerodhaAdapter(context, CREDENTIALS).open_session(grant)


# --- Secrets --------------------------------------------------------------------------------------


def test_no_secret_in_errors_or_logs(
    kite: EmulatorServer,
    context: AdapterContext,
    session: Callable[[], SessionToken],
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.DEBUG)
    token = session()
    secrets = [token.secrets["access_token"], CREDENTIALS["api_secret"], "theonetimegrant"]
    adapter = ZerodhaAdapter(context, CREDENTIALS, token)
    said = []
    for fault in ("drop_after", "garbage", "status", "keep_then_status", "timed_out", "expired"):
        calls = (
            lambda: adapter.place_order(order()),
            adapter.close_session,
            lambda: adapter.open_session("theonetimegrant"),
        )
        for call in calls:
            kite.faults.add(fault, "*")
            e, _ = outcome(call)
            if e is not None:
                said += [repr(e), str(e), e.message, repr(e.__context__), repr(e.__cause__)]
            kite.faults.clear()
    told = {"error_type": "InputException", "message": f"Bad token {secrets[0]} of {API_KEY}."}
    failure = failure_with(adapter, kite, told)
    assert failure.message == "Bad token [redacted] of [redacted]."
    said.append(repr(failure))

    from config.redaction import RedactionFilter  # what the platform puts before every handler

    for record in caplog.records:
        RedactionFilter().filter(record)
        said += [record.getMessage(), record.exc_text or ""]
    for secret in secrets:
        assert not [text for text in said if secret in text]


def failure_with(
    adapter: ZerodhaAdapter, kite: EmulatorServer, body: dict[str, str]
) -> BrokerError:
    kite.faults.add(
        "status",
        "POST /orders/*",
        status=400,
        body=json.dumps(body),
        content_type="application/json",
    )
    with pytest.raises(BrokerError) as raised:
        adapter.place_order(order())
    return raised.value


# --- Encryption -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Identity:
    """A server's certificate, which is its own authority, and what speaks with it."""

    pem: Path
    server: ssl.SSLContext


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    both, public = tmp_path / "server.pem", tmp_path / "authorities.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    both.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + public.read_bytes()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return Identity(public, context)


def test_server_that_proves_who_it_is(
    context: AdapterContext, identity: Identity, monkeypatch: pytest.MonkeyPatch
):
    """As at the real addresses, but that the authority is ours."""
    monkeypatch.setattr(certifi, "where", lambda: str(identity.pem))
    with EmulatorServer(Zerodha(heartbeat=0.2), tls=identity.server) as emulator:
        endpoints = {"api": emulator.url, "stream": emulator.ws_url}
        assert all(url.startswith(("https:", "wss:")) for url in endpoints.values())
        token = emulator.dialect.open_session("AB1234", API_KEY).access_token
        adapter = ZerodhaAdapter(
            replace(context, endpoints=endpoints),
            CREDENTIALS,
            SessionToken({"access_token": token}),
        )
        adapter.place_order(order())
        stream = adapter.open_stream()
        stream.subscribe([SHARE], QuoteDepth.FULL)
        timer = threading.Timer(10, stream.close)
        timer.start()
        events = stream.events()
        assert isinstance(next(events), StreamUp)
        assert isinstance(next(events), Tick)
        stream.close()
        assert list(events) == []
        timer.cancel()


def test_server_of_another_name_gets_nothing(
    context: AdapterContext, identity: Identity, monkeypatch: pytest.MonkeyPatch
):
    """A good certificate, but not of the host that was asked for."""
    monkeypatch.setattr(certifi, "where", lambda: str(identity.pem))
    with EmulatorServer(Zerodha(), tls=identity.server) as other:
        endpoints = {
            "api": other.url.replace("127.0.0.1", "localhost"),
            "stream": other.ws_url.replace("127.0.0.1", "localhost"),
        }
        adapter = ZerodhaAdapter(
            replace(context, endpoints=endpoints),
            CREDENTIALS,
            SessionToken({"access_token": "t"}),
        )
        with pytest.raises(NotSent):
            adapter.place_order(order())
        stream = adapter.open_stream()
        timer = threading.Timer(1.5, stream.close)
        timer.start()
        assert not [event for event in stream.events() if isinstance(event, StreamUp)]
        timer.join()
        assert other.recorder.count() == 0


def test_many_answers_over_one_connection_that_is_encrypted_and_slow(
    context: AdapterContext, identity: Identity, monkeypatch: pytest.MonkeyPatch
):
    """The time limit cuts an encrypted connection as well, and the next call opens another."""
    monkeypatch.setattr(certifi, "where", lambda: str(identity.pem))
    monkeypatch.setattr(client, "TOTAL_SECONDS", 0.6)
    with EmulatorServer(Zerodha(), tls=identity.server) as emulator:
        token = emulator.dialect.open_session("AB1234", API_KEY).access_token
        adapter = ZerodhaAdapter(
            replace(context, endpoints={"api": emulator.url}),
            CREDENTIALS,
            SessionToken({"access_token": token}),
        )
        adapter.check_session()
        emulator.faults.add("drip", "POST /orders/*", seconds=8, pieces=40)
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            adapter.place_order(order())
        assert time.monotonic() - began < 2
        assert adapter.find_order(order()) is not None


def test_server_that_cannot_prove_who_it_is_gets_nothing(
    context: AdapterContext, identity: Identity
):
    with EmulatorServer(Zerodha(), tls=identity.server) as impostor:
        away = replace(context, endpoints={"api": impostor.url, "stream": impostor.ws_url})
        adapter = ZerodhaAdapter(away, CREDENTIALS, SessionToken({"access_token": "t"}))
        with pytest.raises(NotSent):
            adapter.place_order(order())

        stream = adapter.open_stream()
        timer = threading.Timer(1.5, stream.close)
        timer.start()
        events = list(stream.events())
        timer.join()

        assert impostor.recorder.count() == 0
    assert {type(event).__name__ for event in events} <= {"StreamDown"}


@contextmanager
def full_listener() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        try:
            for _ in range(4):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
                waiting.append(one)
            time.sleep(0.1)
            yield port
        finally:
            for one in waiting:
                one.close()
