"""What the SDK does not show of the emulated Upstox: login, codes, notices, words, limits."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import requests
from upstox_client.feeder.proto import MarketDataFeedV3_pb2 as proto
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.emulators.core.accounts import Holding
from tests.emulators.core.clock import IST, Clock
from tests.emulators.core.exchange import Exchange, Latency
from tests.emulators.core.server import EmulatorServer
from tests.emulators.upstox import Upstox
from tests.emulators.upstox.dialect import API_KEY, API_SECRET

MONDAY = datetime(2026, 11, 23, 10, 30, tzinfo=IST)
REDIRECT = "http://127.0.0.1:9/callback"
RELIANCE = "NSE_EQ|INE002A01018"
DIALOG = "/v2/login/authorization/dialog"


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    with EmulatorServer(Upstox(Exchange(clock=Clock(MONDAY)), heartbeat=0.1)) as server:
        server.dialect.limiter.on = False
        yield server


@pytest.fixture
def ask(emulator: EmulatorServer) -> Callable[..., requests.Response]:
    token = emulator.dialect.open_session("4CAB12", API_KEY).access_token

    def send(method: str, path: str, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}", "Api-Version": "2.0"}
        return requests.request(
            method,
            emulator.url + path,
            headers={**headers, **more.pop("headers", {})},
            timeout=5,
            allow_redirects=False,
            proxies={"http": ""},
            **more,
        )

    return send


def place(ask: Any, **fields: Any) -> requests.Response:
    body = {
        "quantity": 10,
        "product": "D",
        "validity": "DAY",
        "price": 95,
        "tag": "t",
        "instrument_token": RELIANCE,
        "order_type": "LIMIT",
        "transaction_type": "BUY",
        "disclosed_quantity": 0,
        "trigger_price": 0,
        "is_amo": False,
    }
    return ask("POST", "/v3/order/place", json={**body, **fields})


def code_of(answer: requests.Response) -> str:
    first = answer.json()["errors"][0]
    assert first["error_code"] == first["errorCode"]
    assert {"propertyPath", "invalidValue", "property_path", "invalid_value"} <= first.keys()
    return str(first["error_code"])


# --- Login ----------------------------------------------------------------------------------------


def dialog(**fields: str) -> dict[str, str]:
    asked = {"response_type": "code", "client_id": API_KEY, "redirect_uri": REDIRECT}
    return {**asked, **fields}


@pytest.mark.parametrize(
    "wrong",
    [{"client_id": "x"}, {"response_type": "token"}, {"redirect_uri": "http://evil.example"}],
)
def test_page_is_only_for_the_app_s_own_address(ask: Any, wrong: dict[str, str]) -> None:
    assert code_of(ask("GET", DIALOG, params=dialog(**wrong))) == "UDAPI100016"


def test_registered_address_has_to_match(emulator: EmulatorServer, ask: Any) -> None:
    emulator.dialect.apps[API_KEY].redirect_url = REDIRECT
    assert ask("GET", DIALOG, params=dialog()).status_code == 200
    assert ask("GET", DIALOG, params=dialog(redirect_uri=REDIRECT + "/")).status_code == 401


def test_page_escapes_what_it_is_given(ask: Any) -> None:
    page = ask("GET", DIALOG, params=dialog(state='"><script>')).text
    assert "<script>" not in page
    assert "&quot;&gt;&lt;script&gt;" in page


def exchange(ask: Any, code: str, **fields: str) -> requests.Response:
    form = {
        "code": code,
        "client_id": API_KEY,
        "client_secret": API_SECRET,
        "redirect_uri": REDIRECT,
        "grant_type": "authorization_code",
    }
    return ask("POST", "/v2/login/authorization/token", data={**form, **fields})


def test_token_has_the_broker_s_shape(emulator: EmulatorServer, ask: Any) -> None:
    answer = exchange(ask, emulator.dialect.code("AB1234", API_KEY, REDIRECT)).json()
    assert "status" not in answer  # the one answer without an envelope
    assert (answer["user_id"], answer["broker"]) == ("AB1234", "UPSTOX")
    payload = answer["access_token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    ends = datetime(2026, 11, 24, 3, 30, tzinfo=IST)
    assert (claims["sub"], claims["exp"]) == ("AB1234", int(ends.timestamp()))


@pytest.mark.parametrize(
    "wrong", [{"client_secret": "x"}, {"redirect_uri": "http://127.0.0.1/"}, {"grant_type": "x"}]
)
def test_code_is_burnt_by_a_failed_exchange(
    emulator: EmulatorServer, ask: Any, wrong: dict[str, str]
) -> None:
    code = emulator.dialect.code("AB1234", API_KEY, REDIRECT)
    assert exchange(ask, code, **wrong).status_code in (400, 401)
    assert code_of(exchange(ask, code)) == "UDAPI100069"


def test_code_grows_old(emulator: EmulatorServer, ask: Any) -> None:
    code = emulator.dialect.code("AB1234", API_KEY, REDIRECT)
    emulator.exchange.clock.advance(301)
    assert exchange(ask, code).status_code == 401


def test_version_header_is_asked_for(ask: Any) -> None:
    answer = ask("GET", "/v2/user/profile", headers={"Api-Version": None})
    assert code_of(answer) == "UDAPI100015"


def test_request_lapses_and_rejection_is_silent(emulator: EmulatorServer, ask: Any) -> None:
    path = f"/v3/login/auth/token/request/{API_KEY}"
    assert ask("POST", path, json={"client_secret": "x"}).status_code == 401
    assert ask("POST", path, json={"client_secret": API_SECRET}).status_code == 200
    emulator.dialect.control("reject", {})
    with pytest.raises(KeyError):
        emulator.dialect.approve("4CAB12", API_KEY)
    ask("POST", path, json={"client_secret": API_SECRET})
    emulator.exchange.clock.set(datetime(2026, 11, 24, 3, 30, tzinfo=IST))
    with pytest.raises(KeyError):
        emulator.dialect.approve("4CAB12", API_KEY)


# --- Orders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"quantity": 0}, "UDAPI1052"),
        ({"quantity": "10"}, "UDAPI100036"),
        ({"instrument_token": ""}, "UDAPI1026"),
        ({"instrument_token": "NSE_EQ|X"}, "UDAPI100011"),
        ({"order_type": ""}, "UDAPI1004"),
        ({"order_type": "STOP"}, "UDAPI1056"),
        ({"validity": None}, "UDAPI1007"),
        ({"validity": "GTC"}, "UDAPI1055"),
        ({"product": "CNC"}, "UDAPI100036"),
        ({"order_type": "MARKET"}, "UDAPI1158"),
        ({"order_type": "MARKET", "market_protection": 26}, "UDAPI1176"),
        ({"order_type": "MARKET", "market_protection": 0.5}, "UDAPI1177"),
        ({"order_type": "SL"}, "UDAPI1036"),
        ({"price": 0}, "UDAPI1029"),
        ({"tag": "x" * 41}, "UDAPI100036"),
        ({"quantity": 46_801, "slice": True, "instrument_token": "NSE_FO|53001"}, "UDAPI1118"),
    ],
    ids=str,
)
def test_terms_that_are_refused_at_once(ask: Any, fields: dict[str, Any], code: str) -> None:
    answer = place(ask, **fields)
    assert answer.status_code == 400
    assert code_of(answer) == code
    assert ask("GET", "/v2/order/retrieve-all").json()["data"] == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"quantity": 5000}, "margin exceeds"),
        ({"transaction_type": "SELL"}, "holdings"),
        ({"price": 95.03}, "tick size"),
        ({"price": 200}, "circuit limits"),
        ({"quantity": 64, "instrument_token": "NSE_FO|54003", "price": 100}, "lot size"),
        ({"quantity": 1820, "instrument_token": "NSE_FO|54003", "price": 100}, "freeze quantity"),
    ],
    ids=str,
)
def test_what_ends_rejected(ask: Any, fields: dict[str, Any], words: str) -> None:
    number = place(ask, **fields).json()["data"]["order_ids"][0]
    row = ask("GET", "/v2/order/details", params={"order_id": number}).json()["data"]
    assert row["status"] == "rejected"
    assert words in row["status_message"]


def test_stages_take_their_time(emulator: EmulatorServer, ask: Any) -> None:
    emulator.exchange.clock.stop()
    emulator.exchange.latency = Latency(received=1, validating=1, sending=1)
    number = place(ask).json()["data"]["order_ids"][0]
    seen = []
    for _ in range(4):
        details = ask("GET", "/v2/order/details", params={"order_id": number}).json()
        seen.append(details["data"]["status"])
        emulator.exchange.pass_time(1)
    assert seen == ["put order req received", "validation pending", "open pending", "open"]


def test_history_by_tag_is_of_every_order_that_carries_it(ask: Any) -> None:
    first, second = (place(ask).json()["data"]["order_ids"][0] for _ in range(2))
    place(ask, tag="other")
    rows = ask("GET", "/v2/order/history", params={"tag": "t"}).json()["data"]
    assert {row["order_id"] for row in rows} == {first, second}
    assert not {"guid", "order_ref_id", "pending_quantity"} & rows[0].keys()
    assert ask("GET", "/v2/order/history", params={"tag": "nobody's"}).json()["data"] == []
    missing = ask("GET", "/v2/order/history", params={"order_id": "1"})
    assert code_of(missing) == "UDAPI100010"


def test_second_version_of_the_calls(ask: Any) -> None:
    body = json.loads(place(ask, quantity=1).request.body)
    number = ask("POST", "/v2/order/place", json=body).json()["data"]["order_id"]
    change = {"order_id": number, "order_type": "LIMIT", "validity": "DAY", "price": 96}
    answer = ask("PUT", "/v2/order/modify", json={**change, "trigger_price": 0})
    assert answer.json()["data"] == {"order_id": number}
    answer = ask("DELETE", "/v2/order/cancel", params={"order_id": number}, json={})
    assert answer.json() == {"status": "success", "data": {"order_id": number}}


def test_exit_leaves_delivery_alone(emulator: EmulatorServer, ask: Any) -> None:
    market = {"order_type": "MARKET", "price": 0, "market_protection": -1}
    place(ask, product="I", **market)
    place(ask, product="D", **market)
    assert len(ask("POST", "/v2/order/positions/exit", json={}).json()["data"]["order_ids"]) == 1
    rows = ask("GET", "/v2/portfolio/short-term-positions").json()["data"]
    assert {row["product"]: row["quantity"] for row in rows} == {"I": 0, "D": 10}
    assert code_of(ask("POST", "/v2/order/positions/exit", json={})) == "UDAPI1111"


def test_holding_of_the_day_before(emulator: EmulatorServer, ask: Any) -> None:
    from decimal import Decimal

    account = emulator.dialect.accounts["4CAB12"]
    share = emulator.exchange.find("NSE:RELIANCE")
    account.holdings[share.key] = Holding(share, 20, Decimal(90), t1=5)
    (row,) = ask("GET", "/v2/portfolio/long-term-holdings").json()["data"]
    assert (row["quantity"], row["t1_quantity"], row["average_price"]) == (25, 5, 90)


def test_night(emulator: EmulatorServer, ask: Any) -> None:
    emulator.dialect.night_closes = True
    emulator.exchange.clock.set(datetime(2026, 11, 24, 2, 0, tzinfo=IST))
    assert code_of(place(ask)) == "UDAPI100074"
    funds = ask("GET", "/v3/user/get-funds-and-margin")
    assert (funds.status_code, code_of(funds)) == (423, "UDAPI100072")
    assert ask("GET", "/v2/order/retrieve-all").status_code == 200


# --- Sockets --------------------------------------------------------------------------------------


def address(ask: Any, feed: bool = True, kinds: str = "order") -> str:
    path = "/v3/feed/market-data-feed" if feed else "/v2/feed/portfolio-stream-feed"
    answer = ask("GET", f"{path}/authorize", params={} if feed else {"update_types": kinds})
    data = answer.json()["data"]
    assert data["authorizedRedirectUri"] == data["authorized_redirect_uri"]
    return str(data["authorized_redirect_uri"])


def dial(url: str) -> ClientConnection:
    return connect(url, proxy=None, open_timeout=5)


def listen(socket: ClientConnection) -> Any:
    return proto.FeedResponse.FromString(socket.recv(timeout=5))


def want(socket: ClientConnection, keys: list[str], mode: str, method: str = "sub") -> None:
    data = {"instrumentKeys": keys, "mode": mode}
    socket.send(json.dumps({"guid": "g", "method": method, "data": data}).encode())


def test_code_opens_one_socket(ask: Any) -> None:
    url = address(ask)
    with dial(url) as socket:
        assert listen(socket).type == proto.market_info
        with pytest.raises(InvalidStatus) as raised:
            dial(url)
    assert raised.value.response.status_code == 403


def test_code_of_one_socket_opens_no_other(ask: Any) -> None:
    url = address(ask, feed=False).replace("portfolio-stream-feeder/v1", "market-data-feeder/v3")
    with pytest.raises(InvalidStatus):
        dial(url)


def test_third_feed_is_refused(ask: Any) -> None:
    with dial(address(ask)), dial(address(ask)):
        with pytest.raises(InvalidStatus) as raised:
            dial(address(ask))
        assert raised.value.response.status_code == 403
        with dial(address(ask, feed=False)):
            pass  # the order stream counts for itself


def test_snapshot_then_changes(emulator: EmulatorServer, ask: Any) -> None:
    with dial(address(ask)) as socket:
        listen(socket)
        want(socket, [RELIANCE, "NSE_EQ|NOBODY"], "full")
        snapshot = listen(socket)
        assert snapshot.type == proto.initial_feed
        assert list(snapshot.feeds) == [RELIANCE]
        assert snapshot.feeds[RELIANCE].requestMode == proto.full_d5
        emulator.exchange.show("NSE:RELIANCE", "101.05")
        change = listen(socket)
        assert change.type == proto.live_feed
        assert change.feeds[RELIANCE].fullFeed.marketFF.ltpc.ltp == 101.05
        assert change.feeds[RELIANCE].fullFeed.marketFF.ltpc.cp == 100


def test_text_and_nonsense_are_not_answered(ask: Any) -> None:
    with dial(address(ask)) as socket:
        listen(socket)
        socket.send(json.dumps({"method": "sub"}))
        for frame in (b"nonsense", b"[]", b'{"method":"sub","data":{"instrumentKeys":[1]}}'):
            socket.send(frame)
        want(socket, [RELIANCE], "ltpc")
        assert listen(socket).feeds[RELIANCE].ltpc.ltp == 100


def test_thirty_levels_are_for_another_plan(ask: Any) -> None:
    with dial(address(ask)) as socket:
        listen(socket)
        want(socket, [RELIANCE], "full_d30")
        with pytest.raises(ConnectionClosed):
            listen(socket)


def test_updates_of_the_chosen_kinds(ask: Any) -> None:
    with (
        dial(address(ask, feed=False)) as orders,
        dial(address(ask, feed=False, kinds="position")) as others,
    ):
        place(ask)
        update = json.loads(orders.recv(timeout=5))
        assert (update["update_type"], update["user_id"]) == ("order", "4CAB12")
        assert update["instrument_key"] == update["instrument_token"] == RELIANCE
        with pytest.raises(TimeoutError):
            others.recv(timeout=0.3)


def test_server_pings_and_ends_a_dead_session(emulator: EmulatorServer, ask: Any) -> None:
    with dial(address(ask, feed=False)) as socket:
        time.sleep(0.25)  # the client has answered pings meanwhile
        emulator.exchange.clock.advance(timedelta(days=1).total_seconds())
        with pytest.raises(ConnectionClosed) as raised:
            socket.recv(timeout=5)
    assert raised.value.rcvd is not None
    assert raised.value.rcvd.code == 1000


def test_redirect_of_a_client_that_dials_the_feed_itself(ask: Any) -> None:
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(b"0" * 16).decode(),
    }
    answer = ask("GET", "/v3/feed/market-data-feed", headers=upgrade)
    assert answer.status_code == 302
    with dial(answer.headers["location"]) as socket:
        assert listen(socket).marketInfo.segmentStatus["NSE_EQ"] == proto.NORMAL_OPEN
    stranger = ask("GET", "/v3/feed/market-data-feed", headers={**upgrade, "Authorization": "x"})
    assert stranger.status_code == 401
