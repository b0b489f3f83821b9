"""What goes wrong on the wire: each fault is one error class, and one request at the broker."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from brokerages.adapters.groww import client, stream
from brokerages.adapters.groww.adapter import GrowwAdapter
from brokerages.base import AdapterContext
from brokerages.errors import (
    BrokerError,
    NotSent,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    SessionExpired,
    StaticIpRefused,
)
from brokerages.types import OrderChange, OrderType, QuoteDepth, SessionToken, StreamUp, Validity
from tests.brokerages.groww.conftest import SHARE, order
from tests.emulators.core.server import EmulatorServer
from tests.emulators.groww import Groww
from tests.emulators.groww.dialect import LOGIN

CREATE = "POST /v1/order/create"


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Do not wait as long as in production."""
    monkeypatch.setattr(client, "READ_TIMEOUT", 0.5)
    monkeypatch.setattr(client, "DEADLINE", 1.0)


def sent(emulator, pattern=CREATE):
    return emulator.recorder.count(pattern)


def acted(emulator):
    return len(emulator.dialect.accounts["GR1"].orders)


@pytest.mark.parametrize(
    ("fault", "error", "orders"),
    [
        (("rate_limit", {}), RateLimited, 0),
        (("static_ip", {}), StaticIpRefused, 0),
        (("expired", {}), SessionExpired, 0),
        (("timed_out", {"delay": None}), OutcomeUnknown, 0),
        (("timed_out", {"delay": 0.0}), OutcomeUnknown, 1),
        (("status", {"status": 500}), OutcomeUnknown, 0),
        (("status", {"status": 502}), OutcomeUnknown, 0),
        (("status", {"status": 504}), OutcomeUnknown, 0),
        (("status", {"status": 400}), OutcomeUnknown, 0),
        (("status", {"status": 404}), OutcomeUnknown, 0),
        (("status", {"status": 429}), RateLimited, 0),
        (("status", {"status": 403}), PermissionDenied, 0),
        (("status", {"status": 302, "headers": {"Location": "/v1/order/list"}}), OutcomeUnknown, 0),
        (
            ("status", {"status": 307, "headers": {"Location": "/v1/order/create"}}),
            OutcomeUnknown,
            0,
        ),
        (("keep_then_status", {"status": 502}), OutcomeUnknown, 1),
        (("hang", {"acts": True}), OutcomeUnknown, 1),
        (("hang", {"acts": False}), OutcomeUnknown, 0),
        (("drop_before", {}), OutcomeUnknown, 0),
        (("drop_after", {}), OutcomeUnknown, 1),
        (("cut", {}), OutcomeUnknown, 1),
        (("cut", {"share": 0.1}), OutcomeUnknown, 1),
        (("drip", {"seconds": 30, "pieces": 300}), OutcomeUnknown, 1),
        (("garbage", {}), OutcomeUnknown, 1),
        (("garbage", {"body": "[]"}), OutcomeUnknown, 1),
        (("garbage", {"body": "null"}), OutcomeUnknown, 1),
        (("garbage", {"body": '{"status": "FAILURE"}'}), OutcomeUnknown, 1),
        (("garbage", {"body": '{"status": "SUCCESS", "payload": null}'}), OutcomeUnknown, 1),
        (("garbage", {"body": '{"status": "SUCCESS", "payload": []}'}), OutcomeUnknown, 1),
        (("garbage", {"body": '{"status": "SUCCESS", "payload": {}}'}), OutcomeUnknown, 1),
        (("garbage", {"body": '{"payload": {"groww_order_id": 7}}'}), OutcomeUnknown, 1),
    ],
)
def test_a_fault_while_placing(emulator, adapter, fault, error, orders):
    kind, options = fault
    emulator.faults.add(kind, CREATE, **options)
    began = time.monotonic()
    with pytest.raises(BrokerError) as raised:
        adapter.place_order(order())
    assert type(raised.value) is error
    assert time.monotonic() - began < 3
    assert sent(emulator) == 1
    for _ in range(100):  # what was kept may take a moment
        if acted(emulator) == orders:
            break
        time.sleep(0.01)
    assert acted(emulator) == orders
    found = adapter.find_order(order())
    assert (found is not None) == bool(orders)


def test_a_wrong_content_type_is_no_fault(emulator, adapter):
    emulator.faults.add("content_type", CREATE)
    assert adapter.place_order(order()).broker_order_id


def test_a_slow_answer_in_time_is_no_fault(emulator, adapter):
    emulator.faults.add("drip", CREATE, seconds=0.4, pieces=50)
    assert adapter.place_order(order()).broker_order_id


def test_a_limit_that_says_when(emulator, adapter):
    emulator.faults.add("status", CREATE, status=429, headers={"Retry-After": "7"})
    with pytest.raises(RateLimited) as raised:
        adapter.place_order(order())
    assert raised.value.retry_after == 7


@pytest.mark.parametrize("text", [False, True])
def test_the_brokers_own_limit(emulator, adapter, text):
    emulator.dialect.limiter.on = True
    emulator.dialect.levers.text_limit = text

    def hurry_on():
        for count in range(30):
            adapter.place_order(order(client_order_id=f"HURRY{count:05d}", quantity=1))

    with pytest.raises(RateLimited):
        hurry_on()
    assert acted(emulator) == 10


@pytest.mark.parametrize("bare", [False, True])
def test_an_address_that_is_not_registered(emulator, adapter, bare):
    emulator.dialect.allowed_ips = {"10.0.0.1"}
    emulator.dialect.levers.bare_errors = bare
    with pytest.raises(PermissionDenied if bare else StaticIpRefused) as raised:
        adapter.place_order(order())
    assert raised.value.advice
    adapter.fetch_funds()  # reads come from everywhere


def test_refusals_under_http_200(emulator, adapter):
    emulator.dialect.levers.failures_as_200 = True
    with pytest.raises(BrokerError, match="Insufficient balance"):
        adapter.place_order(order(quantity=5000))


@pytest.mark.parametrize("pattern", ["POST /v1/order/modify", "POST /v1/order/cancel"])
@pytest.mark.parametrize("kind", ["drop_after", "garbage", "keep_then_status", "drop_before"])
def test_changes_and_cancels_are_sent_once(emulator, adapter, pattern, kind):
    resting = order(order_type=OrderType.LIMIT, price=Decimal(95))
    number = adapter.place_order(resting).broker_order_id
    emulator.faults.add(kind, pattern)
    change = OrderChange(20, OrderType.LIMIT, Validity.DAY, Decimal(96))
    calls = {
        "POST /v1/order/modify": lambda: adapter.modify_order(number, change, resting),
        "POST /v1/order/cancel": lambda: adapter.cancel_order(number, resting),
    }
    with pytest.raises(OutcomeUnknown):
        calls[pattern]()
    assert sent(emulator, pattern) == 1


def test_nobody_listens():
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = AdapterContext(
        "c0ffee",
        quote=lambda ref: None,
        now=lambda: None,
        endpoints={"api": f"http://127.0.0.1:{port}"},
    )
    adapter = GrowwAdapter(context, {}, SessionToken({"access_token": "t"}))
    with pytest.raises(NotSent):
        adapter.place_order(order())


@pytest.fixture
def certificate(tmp_path):
    """A certificate for 127.0.0.1 that signed itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "emulated broker")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(path)


def test_the_certificate_is_checked_before_anything_is_sent(certificate, monkeypatch):
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(certificate)
    with EmulatorServer(Groww(), tls=secure) as emulator:
        endpoints = {"api": emulator.url, "stream": emulator.ws_url}
        context = AdapterContext(
            "c", lambda ref: None, emulator.exchange.clock.now, endpoints=endpoints
        )
        token = SessionToken({"access_token": emulator.dialect.open_session(LOGIN.user_id)})
        with pytest.raises(NotSent, match="certificate"):
            GrowwAdapter(context, {}, token).place_order(order())
        assert emulator.recorder.count() == 0

        trusting = client._session

        def trust(patience):
            session = trusting(patience)
            session.verify = certificate
            return session

        monkeypatch.setattr(client, "_session", trust)
        monkeypatch.setattr(stream.certifi, "where", lambda: certificate)
        adapter = GrowwAdapter(context, {}, token)
        assert adapter.place_order(order()).broker_order_id
        events = adapter.open_stream().events()
        assert isinstance(next(events), StreamUp)
        events.close()


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("chunked", [False, True])
def test_compressed_and_chunked_answers(coding, chunked):
    """As servers behind a load balancer send them; and one that breaks off is no answer."""
    content = json.dumps(
        {"status": "SUCCESS", "payload": {"ucc": "GR1", "pad": [n * 0.7 for n in range(9000)]}}
    ).encode()
    content = gzip.compress(content, 1) if coding == "gzip" else content
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nConnection: close\r\n".encode()
    head += b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(content)
    parts = [content[at : at + 1000] for at in range(0, len(content), 1000)]
    if chunked:
        parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts] + [b"0\r\n\r\n"]

    def serve(listener, most):
        peer, _ = listener.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(head + b"\r\n\r\n" + b"".join(parts[:most]))

    for most, whole in ((len(parts), True), (len(parts) // 2, False)):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=serve, args=(listener, most))
            thread.start()
            api = f"http://127.0.0.1:{listener.getsockname()[1]}"
            asked = client.Client("token", api=api)
            if whole:
                assert asked.get_user_profile()["pad"][3] == Decimal("2.0999999999999996")
            else:
                with pytest.raises(OutcomeUnknown):
                    asked.get_user_profile()
            thread.join(5)


def test_a_proxy_in_the_environment_is_not_used(emulator, adapter, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    adapter.place_order(order())
    assert sent(emulator) == 1


def test_a_permit_that_is_not_given_sends_nothing(emulator, make_adapter):
    adapter = make_adapter()

    def no(kind):
        raise RateLimited("Not now.", broker="groww")

    adapter.context = AdapterContext("c", lambda r: None, lambda: None, pace=no,
                                     endpoints=adapter.context.endpoints)  # fmt: skip
    with pytest.raises(RateLimited):
        adapter.place_order(order())
    assert sent(emulator) == 0


# --- Reads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["status", "garbage", "drop_after", "cut", "hang"])
def test_a_book_that_is_not_read_whole_is_no_book(emulator, adapter, kind):
    adapter.place_order(order())
    for pattern, call in (
        ("GET /v1/order/list", adapter.fetch_orders),
        ("GET /v1/order/trades/*", adapter.fetch_fills),
        ("GET /v1/order/status/reference/*", lambda: adapter.find_order(order())),
        ("GET /v1/order/detail/*", lambda: adapter.find_order(order())),
        ("GET /v1/positions/user", adapter.fetch_positions),
        ("GET /v1/holdings/user", adapter.fetch_holdings),
        ("GET /v1/margins/detail/user", adapter.fetch_funds),
        ("GET /v1/live-data/ltp", lambda: adapter.fetch_quotes([SHARE], QuoteDepth.LTP)),
    ):
        emulator.faults.add(kind, pattern)
        with pytest.raises(OutcomeUnknown):
            call()
        call()  # and the next time it works


def test_a_second_page_that_fails_fails_the_book(emulator, adapter):
    for count in range(30):
        adapter.place_order(order(client_order_id=f"TAG{count:05d}", quantity=1))
    emulator.faults.add("status", "GET /v1/order/list", after=1)
    with pytest.raises(OutcomeUnknown):
        adapter.fetch_orders()


def test_an_answer_without_its_list_is_not_an_empty_book(emulator, adapter):
    emulator.faults.add("garbage", "GET /v1/order/list", body='{"status":"SUCCESS","payload":{}}')
    with pytest.raises(OutcomeUnknown):
        adapter.fetch_orders()


def test_a_bare_404_does_not_say_that_an_order_is_absent(emulator, adapter):
    emulator.faults.add("status", "GET /v1/order/status/reference/*", status=404)
    with pytest.raises(OutcomeUnknown):
        adapter.find_order(order())


def _refuse_derivatives(emulator, segments):
    emulator.faults.add("status", "GET /v1/order/list", after=1, status=403, times=1)
    body = json.dumps({"status": "SUCCESS", "payload": {"ucc": "GR1", **segments}})
    emulator.faults.add("garbage", "GET /v1/user/detail", body=body, times=1)


def test_a_derivatives_book_that_is_not_active(emulator, adapter):
    adapter.place_order(order())
    _refuse_derivatives(emulator, {"active_segments": ["CASH"]})
    assert len(adapter.fetch_orders()) == 1
    emulator.faults.add("status", "GET /v1/order/list", after=1, status=403, times=1)
    assert len(adapter.fetch_orders()) == 1
    assert emulator.recorder.count("GET /v1/user/detail") == 1  # remembered
    emulator.faults.add("status", "GET /v1/order/list", status=403, times=1)
    with pytest.raises(PermissionDenied):
        adapter.fetch_orders()


@pytest.mark.parametrize(
    "segments",
    [
        {"active_segments": ["CASH", "FNO"]},
        {"active_segments": []},
        {"active_segments": None},
        {"active_segments": "CASH"},
        {},
    ],
)
def test_a_refused_derivatives_book_is_no_empty_one(emulator, adapter, segments):
    adapter.place_order(order())
    _refuse_derivatives(emulator, segments)
    with pytest.raises(PermissionDenied):
        adapter.fetch_orders()


def test_a_refused_derivatives_book_of_an_account_that_cannot_be_read(emulator, adapter):
    emulator.faults.add("status", "GET /v1/order/list", after=1, status=403, times=1)
    emulator.faults.add("status", "GET /v1/user/detail", status=502, times=1)
    with pytest.raises(OutcomeUnknown):
        adapter.fetch_orders()


@pytest.mark.parametrize("code", ["GA001", "GA006"])
def test_a_used_reference_under_a_general_code_is_no_refusal(emulator, adapter, code):
    error = {"code": code, "message": "Order reference id already used"}
    body = json.dumps({"status": "FAILURE", "error": error})
    emulator.faults.add("status", CREATE, status=400, body=body)
    with pytest.raises(OutcomeUnknown) as raised:
        adapter.place_order(order())
    assert raised.value.code == code
    assert sent(emulator) == 1


def test_a_duplicate_whose_order_cannot_be_found_stays_unknown(emulator, adapter):
    adapter.place_order(order())
    emulator.faults.add("status", "GET /v1/order/status/*", status=502)
    with pytest.raises(OutcomeUnknown) as raised:
        adapter.place_order(order())
    assert raised.value.code == "GA007"


# --- The mint and the list ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        ("status", {"status": 500}, OutcomeUnknown),
        ("garbage", {}, OutcomeUnknown),
        ("garbage", {"body": "{}"}, OutcomeUnknown),
        ("garbage", {"body": '{"token": ""}'}, OutcomeUnknown),
        ("rate_limit", {}, RateLimited),
        ("hang", {}, OutcomeUnknown),
    ],
)
def test_a_mint_that_fails(emulator, context, kind, options, error):
    login = emulator.dialect.enroll("GR9")
    emulator.faults.add(kind, "POST /v1/token/api/access", **options)
    with pytest.raises(error):
        GrowwAdapter(context, dict(login)).open_session(None)
    assert sent(emulator, "POST /v1/token/api/access") == 1


def test_a_profile_that_fails_does_not_lose_the_session(emulator, context):
    login = emulator.dialect.enroll("GR9")
    adapter = GrowwAdapter(context, dict(login))
    first = adapter.open_session(None)
    emulator.faults.add("status", "GET /v1/user/detail", status=502, times=2)
    assert adapter.open_session(None).broker_user_id == ""
    renewed = adapter.renew_session(first)
    assert renewed.broker_user_id == "GR9"
    assert renewed.secrets != first.secrets


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("status", {"status": 503}),
        ("garbage", {"body": "<html></html>"}),
        ("cut", {"share": 0.7}),
    ],
)
def test_a_list_that_breaks_off(emulator, adapter, kind, options):
    emulator.faults.add(kind, "GET /instruments/*", **options)
    with pytest.raises(OutcomeUnknown):
        list(adapter.fetch_instruments())
    assert list(adapter.fetch_instruments())


def test_nothing_secret_is_told(emulator, context, caplog):
    login = emulator.dialect.enroll("GR9")
    emulator.faults.add("garbage", "POST /v1/token/api/access", body='{"token": ["leak"]}')
    with pytest.raises(OutcomeUnknown) as raised:
        GrowwAdapter(context, dict(login)).open_session(None)
    told = f"{raised.value!r} {raised.value.message} {caplog.text}"
    assert not any(value in told for value in dict(login).values())
    assert "leak" not in told
