"""The emulated Kite on the wire itself, as the broker documents it: bytes, headers, codes."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.emulators.core.market import to_levels
from tests.emulators.core.server import EmulatorServer
from tests.emulators.zerodha.dialect import API_KEY, API_SECRET
from tests.emulators.zerodha.ticker import packet

INFY, RELIANCE, NIFTY = 408065, 738561, 256265


@pytest.fixture
def token(zerodha: EmulatorServer) -> str:
    return str(zerodha.dialect.open_session("AB1234", API_KEY).access_token)


@pytest.fixture
def ask(zerodha: EmulatorServer, token: str) -> Any:
    """Send one request with the headers of the SDK; ``headers`` replaces some."""

    def send(method: str, path: str, headers: Any = None, **how: Any) -> requests.Response:
        given = {"X-Kite-Version": "3", "Authorization": f"token {API_KEY}:{token}"}
        given |= headers or {}
        with requests.Session() as session:
            session.trust_env = False
            url = zerodha.url + path
            return session.request(method, url, headers=given, timeout=5, **how)

    return send


ORDER = {
    "exchange": "NSE",
    "tradingsymbol": "RELIANCE",
    "transaction_type": "BUY",
    "quantity": "10",
    "product": "CNC",
    "order_type": "LIMIT",
    "price": "95",
    "variety": "regular",  # the SDK repeats it
}


def is_error(answer: requests.Response, status: int, kind: str) -> str:
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert (answer.status_code, body["status"], body["data"]) == (status, "error", None)
    assert body["error_type"] == kind
    return str(body["message"])


# --- Requests -------------------------------------------------------------------------------------


def test_success_has_an_envelope(ask):
    answer = ask("GET", "/user/profile")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["status"] == "success"


@pytest.mark.parametrize(
    "header",
    ["", "token x:y", f"token {API_KEY}", f"Bearer {API_KEY}:x", f"token {API_KEY}:"],
)
def test_wrong_authorization(ask, header):
    message = is_error(ask("GET", "/orders", {"Authorization": header}), 403, "TokenException")
    assert message == "Incorrect `api_key` or `access_token`."


def test_version_header(ask):
    is_error(ask("GET", "/orders", {"X-Kite-Version": "2"}), 400, "InputException")


def test_unknown_route(ask):
    is_error(ask("GET", "/nothing"), 404, "GeneralException")


@pytest.mark.parametrize(
    "terms",
    [
        {"quantity": "many"},
        {"quantity": ""},
        {"price": "NaN"},
        {"price": "-1"},
        {"price": "1e400"},
        {"order_type": "FANCY"},
        {"validity": "TTL"},
        {"validity": "TTL", "validity_ttl": "0"},
        {"product": ""},
        {"market_protection": "x", "order_type": "MARKET"},
        {"market_protection": "101", "order_type": "MARKET"},
    ],
)
def test_unreadable_terms(ask, terms):
    is_error(ask("POST", "/orders/regular", data={**ORDER, **terms}), 400, "InputException")
    assert ask("GET", "/orders").json()["data"] == []


def test_unknown_fields_are_ignored(ask):
    answer = ask("POST", "/orders/regular", data={**ORDER, "new_field": "1", "order_id": "x"})
    assert answer.json()["data"].keys() == {"order_id"}


def test_variety_of_a_change_must_be_the_orders(ask):
    number = ask("POST", "/orders/regular", data=ORDER).json()["data"]["order_id"]
    is_error(ask("DELETE", f"/orders/amo/{number}"), 400, "OrderException")
    assert ask("DELETE", f"/orders/regular/{number}").json()["data"] == {"order_id": number}


def test_instruments_come_packed(ask):
    answer = ask("GET", "/instruments/NSE", {"Accept-Encoding": "gzip"}, stream=True)
    assert answer.headers["content-type"] == "text/csv"
    rows = gzip.decompress(answer.raw.read()).decode().splitlines()
    assert rows[0].split(",")[:4] == [
        "instrument_token", "exchange_token", "tradingsymbol", "name",
    ]  # fmt: skip
    assert "738561,2885,RELIANCE,RELIANCE INDUSTRIES,0,,0,0.05,1,EQ,NSE,NSE" in rows


@pytest.mark.parametrize(
    ("path", "most"), [("/quote?i=NSE:INFY", 1), ("/user/profile", 10), ("/trades", 10)]
)
def test_rate_limits(zerodha, ask, path, most):
    zerodha.dialect.limiter.on = True
    codes = [ask("GET", path).status_code for _ in range(most + 1)]
    assert codes == [200] * most + [429]
    is_error(ask("GET", path), 429, "NetworkException")
    time.sleep(1.05)
    assert ask("GET", path).status_code == 200


def test_historical_limit(zerodha, ask):
    zerodha.dialect.limiter.on = True
    path = f"/instruments/historical/{INFY}/day?from=2026-11-16&to=2026-11-20"
    assert [ask("GET", path).status_code for _ in range(4)] == [200] * 3 + [429]


def test_orders_a_minute(zerodha, ask):
    """400 in any minute, whatever the seconds."""
    rules = [rule for rule in zerodha.dialect.limits if "order" in rule.groups]
    assert [(rule.count, rule.seconds) for rule in rules] == [(10, 1), (400, 60), (5000, 86_400)]


# --- Packets --------------------------------------------------------------------------------------


def test_full_packet_of_the_documented_example(zerodha):
    book = zerodha.exchange.books["NSE:INFY"]
    book.last, book.last_quantity, book.volume = Decimal("1573.70"), 7, 1192471
    book.turnover = Decimal("1570.37") * 1192471
    book.open, book.high, book.low = Decimal("1569.15"), Decimal("1575.00"), Decimal("1561.05")
    book.at = datetime(2021, 7, 5, 5, 11, 27, tzinfo=UTC)
    book.bids = to_levels([("1573.40", 256443)])
    book.asks = to_levels([("1573.70", 363009)])
    data = packet(book, "full")
    assert len(data) == 184
    assert struct.unpack(">11I", data[:44]) == (
        408065, 157370, 7, 157037, 1192471, 256443, 363009, 156915, 157500, 156105, 10000,
    )  # fmt: skip
    assert struct.unpack(">5I", data[44:64]) == (1625461887, 0, 0, 0, 1625461887)
    assert struct.unpack(">IIHH", data[64:76]) == (256443, 157340, 1, 0)
    assert struct.unpack(">IIHH", data[76:88]) == (0, 0, 0, 0)
    assert struct.unpack(">IIHH", data[124:136]) == (363009, 157370, 1, 0)


@pytest.mark.parametrize(
    ("key", "mode", "size"),
    [
        ("NSE:INFY", "ltp", 8),
        ("NSE:INFY", "quote", 44),
        ("NSE:INFY", "full", 184),
        ("NSE:NIFTY 50", "ltp", 8),
        ("NSE:NIFTY 50", "quote", 28),
        ("NSE:NIFTY 50", "full", 32),
    ],
)
def test_sizes_of_packets(zerodha, key, mode, size):
    assert len(packet(zerodha.exchange.books[key], mode)) == size


def test_packet_of_an_index_has_an_order_of_its_own(zerodha):
    book = zerodha.exchange.books["NSE:NIFTY 50"]
    book.last, book.open, book.high, book.low = (Decimal(n) for n in (24810, 24790, 24820, 24780))
    values = struct.unpack(">6Ii", packet(book, "quote"))
    assert values == (NIFTY, 2481000, 2482000, 2478000, 2479000, 2480000, 1000)


# --- The ticker -----------------------------------------------------------------------------------


def dial(emulator: EmulatorServer, token: str) -> ClientConnection:
    url = f"{emulator.ws_url}?api_key={API_KEY}&access_token={token}"
    return connect(url, proxy=None, ping_interval=None)


def frames(socket: ClientConnection, seconds: float) -> list[Any]:
    """Return what comes in ``seconds``."""
    end, found = time.monotonic() + seconds, []
    while (left := end - time.monotonic()) > 0:
        try:
            found.append(socket.recv(left))
        except TimeoutError:
            break
    return found


def test_heartbeat_without_subscription(zerodha, token):
    with dial(zerodha, token) as socket:
        beats = frames(socket, 0.7)
    assert len(beats) >= 3
    assert set(beats) == {b"\x00"}


def test_subscription_without_a_mode_is_quote(zerodha, token):
    with dial(zerodha, token) as socket:
        socket.send(json.dumps({"a": "subscribe", "v": [INFY, NIFTY]}))
        (data,) = (f for f in frames(socket, 0.5) if len(f) > 4)
    count, size = struct.unpack(">HH", data[:4])
    assert (count, size) == (2, 28)  # both in one frame
    assert len(data) == 2 + 2 + 28 + 2 + 44


def test_tokens_as_text_bring_no_ticks(zerodha, token):
    with dial(zerodha, token) as socket:
        socket.send(json.dumps({"a": "subscribe", "v": [str(INFY)]}))
        zerodha.exchange.show("NSE:INFY", 101)
        assert set(frames(socket, 0.5)) == {b"\x00"}


def test_nonsense_is_answered_with_an_error_frame(zerodha, token):
    with dial(zerodha, token) as socket:
        for message in ("{", '{"a":"dance","v":[1]}', '{"a":"mode","v":["deep",[408065]]}'):
            socket.send(message)
            (text,) = (f for f in frames(socket, 0.3) if isinstance(f, str))
            assert json.loads(text)["type"] == "error"


def test_three_thousand_instruments(zerodha, token):
    from dataclasses import replace

    dialect = zerodha.dialect
    share = zerodha.exchange.find("NSE:INFY")
    for number in range(3000):
        made = replace(share, symbol=f"X{number}", token=800_000 + number)
        zerodha.exchange.list(made)
        dialect.by_token[made.token * 256 + 1] = made
    tokens = [(800_000 + number) * 256 + 1 for number in range(3000)]
    with dial(zerodha, token) as socket:
        socket.send(json.dumps({"a": "mode", "v": ["ltp", tokens]}))
        socket.send(json.dumps({"a": "subscribe", "v": [INFY]}))
        said = [json.loads(f) for f in frames(socket, 1) if isinstance(f, str)]
    assert [one["type"] for one in said] == ["error"]


def test_three_connections_of_an_app(zerodha, token):
    with dial(zerodha, token), dial(zerodha, token), dial(zerodha, token):
        with pytest.raises(InvalidStatus) as raised:
            dial(zerodha, token).__enter__()
        assert raised.value.response.status_code == 429
    with dial(zerodha, token) as socket:
        assert frames(socket, 0.3)


@pytest.mark.parametrize("query", ["", f"?api_key={API_KEY}", f"?api_key={API_KEY}&access_token=x"])
def test_handshake_needs_a_session(zerodha, token, query):
    with pytest.raises(InvalidStatus) as raised:
        connect(zerodha.ws_url + query, proxy=None)
    assert raised.value.response.status_code == 403


def test_end_of_the_session_ends_the_socket(zerodha, token):
    with dial(zerodha, token) as socket:
        zerodha.dialect.end_session(token)
        with pytest.raises(ConnectionClosed):
            frames(socket, 5)


# --- Postbacks ------------------------------------------------------------------------------------


def posted(zerodha: EmulatorServer, count: int) -> list[dict[str, Any]]:
    end = time.monotonic() + 5
    while len(zerodha.dialect.postbacks) < count and time.monotonic() < end:
        time.sleep(0.01)
    return [json.loads(body) for _, _, body, _ in zerodha.dialect.postbacks]


def test_postback_is_signed_over_id_and_time(zerodha, ask):
    zerodha.dialect.apps[API_KEY].postback_url = "http://127.0.0.1:9/nobody"
    zerodha.exchange.show("NSE:RELIANCE", 100, asks=[(100, 4)])
    number = ask("POST", "/orders/regular", data={**ORDER, "price": "100"}).json()["data"][
        "order_id"
    ]
    ask("PUT", f"/orders/regular/{number}", data={"quantity": "20"})
    ask("DELETE", f"/orders/regular/{number}")
    bodies = posted(zerodha, 3)
    assert [body["status"] for body in bodies] == ["UPDATE", "UPDATE", "CANCELLED"]
    assert [body["unfilled_quantity"] for body in bodies] == [6, 16, 16]
    for body in bodies:
        signed = body["order_id"] + body["order_timestamp"] + API_SECRET
        assert body["checksum"] == hashlib.sha256(signed.encode()).hexdigest()
        assert (body["user_id"], body["order_id"]) == ("AB1234", number)
        assert isinstance(body["app_id"], int)


@pytest.mark.parametrize(
    ("kind", "heard"),
    [
        ("duplicate", "UPDATE UPDATE CANCELLED"),
        ("reorder", "CANCELLED UPDATE"),
        ("lose", "CANCELLED"),
    ],
)
def test_postbacks_twice_disordered_or_never(zerodha, ask, kind, heard):
    zerodha.dialect.apps[API_KEY].postback_url = "http://127.0.0.1:9/nobody"
    zerodha.faults.add(kind, "EVENT postback")
    zerodha.exchange.show("NSE:RELIANCE", 100, asks=[(100, 4)])
    number = ask("POST", "/orders/regular", data={**ORDER, "price": "100"}).json()["data"][
        "order_id"
    ]
    ask("DELETE", f"/orders/regular/{number}")
    told = posted(zerodha, len(heard.split()))
    assert [body["status"] for body in told] == heard.split()
