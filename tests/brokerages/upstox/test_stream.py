"""The two sockets at the emulator: what they bring, how they come back, when they end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest

from brokerages.adapters.upstox import stream as module
from brokerages.adapters.upstox.stream import Patience, UpstoxStream
from brokerages.errors import NotSupported, SessionExpired
from brokerages.types import (
    OrderHint,
    OrderReport,
    OrderType,
    Product,
    QuoteDepth,
    ReportedStatus,
    StreamDown,
    StreamUp,
    Tick,
)
from tests.brokerages.contract.conftest import Listener, until
from tests.brokerages.upstox.conftest import INDEX, SHARE, order

S = ReportedStatus
FEED_SOCKET, UPDATES_SOCKET = "SOCKET /market-data*", "SOCKET /portfolio*"
QUICK = Patience(first_delay=0.05, most_delay=0.4, beat=0.3, silence=0.5, opening=2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Patience", lambda: QUICK)


@pytest.fixture
def listen() -> Iterator[Callable[[UpstoxStream], Listener]]:
    made: list[Listener] = []

    def start(stream: UpstoxStream) -> Listener:
        made.append(Listener(stream))
        return made[-1]

    yield start
    for listener in made:
        listener.close()


@pytest.fixture
def up(adapter, listen) -> Listener:
    listener = listen(adapter.open_stream())
    listener.wait(StreamUp)
    return listener


def sockets(desk, feed):
    return [s for s in list(desk.upstox.sockets) if s.state["feed"] is feed]


def modes(desk):
    return [s.state["modes"] for s in sockets(desk, feed=True)]


def test_all_statuses_of_a_life(desk, adapter, up):
    desk.venue.show("NSE:RELIANCE", 100, asks=[(100, 4)])
    number = adapter.place_order(order(price=100)).broker_order_id
    until(lambda: any(r.filled_quantity == 4 for r in up.of(OrderReport)))
    adapter.cancel_order(number, order())
    until(lambda: any(r.status is S.CANCELLED for r in up.of(OrderReport)))
    seen = [report.raw["status"] for report in up.of(OrderReport)]
    assert seen == [
        "put order req received",
        "validation pending",
        "open pending",
        "open",
        "open",
        "cancel pending",
        "cancelled",
    ]
    partial = next(r for r in up.of(OrderReport) if r.filled_quantity)
    assert (partial.status, partial.broker_order_id) == (S.PARTIALLY_FILLED, number)
    assert partial.average_price == 100


def test_slice_alone_is_a_hint(desk, adapter, up):
    account = desk.account(adapter)
    account.cash = Decimal(10**9)
    from tests.brokerages.upstox.conftest import FUTURE

    adapter.place_order(order(instrument=FUTURE, product=Product.NRML, quantity=1820, price=24900))
    hint = up.wait(OrderHint)[0]
    assert (hint.broker_order_id, hint.client_order_id) == ("", "ABCDEFGHJK0123456789")
    assert up.of(OrderReport) == []


def test_feed_is_connected_only_when_asked_for(desk, adapter, up):
    assert sockets(desk, feed=True) == []
    up.stream.subscribe([SHARE], QuoteDepth.FULL)
    tick = up.wait(Tick)[0]
    assert (tick.instrument_id, tick.last_price) == (SHARE.id, 100)
    assert len(tick.quote.bids) == 5
    assert len(up.of(StreamUp)) == 2


def test_modes(desk, adapter, up):
    up.stream.subscribe([SHARE], QuoteDepth.LTP)
    up.stream.subscribe([INDEX], QuoteDepth.FULL)
    share, index = "NSE_EQ|INE002A01018", "NSE_INDEX|Nifty 50"
    until(lambda: modes(desk) == [{share: "ltpc", index: "full"}])
    up.stream.subscribe([SHARE], QuoteDepth.FULL)  # another depth replaces the first
    until(lambda: modes(desk) == [{share: "full", index: "full"}])
    up.stream.unsubscribe([INDEX])
    until(lambda: modes(desk) == [{share: "full"}])


def test_subscriptions_come_back(desk, adapter, up):
    up.stream.subscribe([SHARE], QuoteDepth.FULL)
    up.stream.subscribe([INDEX], QuoteDepth.LTP)
    up.wait(Tick, 2)
    before = up.stream  # the same stream goes on
    desk.server.call(sockets(desk, feed=True)[0].abort)
    up.wait(StreamDown)
    until(lambda: modes(desk) and len(modes(desk)[0]) == 2)
    assert modes(desk)[0] == {"NSE_EQ|INE002A01018": "full", "NSE_INDEX|Nifty 50": "ltpc"}
    assert before is up.stream
    assert len(sockets(desk, feed=False)) == 1  # the other socket was not touched


def test_polite_close_is_no_end(desk, adapter, up):
    """The server closes with 1000, as it does at times: the stream comes back."""
    desk.server.call(sockets(desk, feed=False)[0].close)
    up.wait(StreamUp, 2)
    assert [event.final for event in up.of(StreamDown)] == [False]
    adapter.place_order(order())
    up.wait(OrderReport)


def test_each_connection_has_a_code_of_its_own(desk, adapter, up):
    desk.server.call(sockets(desk, feed=False)[0].abort)
    up.wait(StreamUp, 2)
    records = desk.server.recorder.find("GET /portfolio-stream-feeder/*")
    codes = [record.request.query["code"] for record in records]
    assert len(set(codes)) == len(codes) == 2
    assert all("authorization" not in record.request.headers for record in records)
    asked = desk.server.recorder.find("GET /v2/feed/portfolio-stream-feed/authorize")
    assert [record.request.query["update_types"] for record in asked] == ["order", "order"]


def test_refused_handshakes_stop_it(desk, adapter, listen):
    desk.server.faults.add("refuse_socket", UPDATES_SOCKET, status=403, times=None)
    listener = listen(adapter.open_stream())
    assert listener.ended.wait(10)
    assert [event.final for event in listener.of(StreamDown)] == [False, True]
    assert "403" in listener.events[-1].reason
    tries = desk.server.recorder.count("GET /portfolio-stream-feeder/*")
    time.sleep(0.5)
    assert desk.server.recorder.count("GET /portfolio-stream-feeder/*") == tries == 2


def test_one_refused_handshake_is_tried_again(desk, adapter, listen):
    desk.server.faults.add("refuse_socket", UPDATES_SOCKET, status=403)
    listener = listen(adapter.open_stream())
    listener.wait(StreamUp)
    assert [event.final for event in listener.of(StreamDown)] == [False]


def test_server_error_is_tried_again(desk, adapter, listen):
    desk.server.faults.add("status", "GET /v2/feed/*", status=503, times=3)
    listener = listen(adapter.open_stream())
    listener.wait(StreamUp)
    assert len(listener.of(StreamDown)) == 3
    assert not any(event.final for event in listener.of(StreamDown))


def test_waits_grow(desk, adapter, listen):
    desk.server.faults.add("status", "GET /v2/feed/*", status=503, times=5)
    listener = listen(adapter.open_stream())
    listener.wait(StreamUp, 1, 20)
    times = [record.at for record in desk.server.recorder.find("GET /v2/feed/*")]
    waits = [b - a for a, b in pairwise(times)]
    assert len(waits) == 5
    assert waits[0] < 0.2 < waits[3]
    assert waits[4] < 1  # the longest is 0.4 and a quarter


def test_third_feed_of_a_user_is_refused_by_the_broker(desk, adapter, listen):
    streams = [adapter.open_stream() for _ in range(3)]
    for stream in streams:
        stream.subscribe([SHARE], QuoteDepth.LTP)
    first, second = (listen(stream) for stream in streams[:2])
    first.wait(Tick), second.wait(Tick)
    third = listen(streams[2])
    assert third.ended.wait(10)
    assert third.events[-1].final
    assert third.of(Tick) == []


def test_limits_by_mode(adapter):
    def many(count, start=10):
        return [replace(SHARE, id=n, isin=f"INE{n:06d}010") for n in range(start, start + count)]

    stream = adapter.open_stream()
    stream.subscribe(many(5000), QuoteDepth.LTP)
    with pytest.raises(NotSupported):
        stream.subscribe(many(1, 9000), QuoteDepth.LTP)
    with pytest.raises(NotSupported):  # mixed, less is allowed
        stream.subscribe(many(1, 9000), QuoteDepth.FULL)
    stream.unsubscribe(many(3000))
    stream.subscribe(many(1500, 9000), QuoteDepth.FULL)
    with pytest.raises(NotSupported):
        stream.subscribe(many(1, 20_000), QuoteDepth.FULL)
    stream.close()


def test_many_instruments_are_asked_for_in_parts(desk, adapter, up):
    listed = [replace(SHARE, id=n, isin=f"INE{n:06d}010") for n in range(10, 1300)]
    up.stream.subscribe([*listed, SHARE], QuoteDepth.LTP)
    up.wait(Tick)


def test_unreadable_frames_are_passed_over(desk, adapter, up):
    up.stream.subscribe([SHARE], QuoteDepth.LTP)
    up.wait(Tick)
    feed, updates = sockets(desk, feed=True)[0], sockets(desk, feed=False)[0]
    for frame in (b"\xff\xff\xff", "text", b""):
        desk.server.call(feed.send, frame)
    for frame in ("not json", "[]", '{"update_type": "order"}', json.dumps({"update_type": "x"})):
        desk.server.call(updates.send, frame)
    desk.venue.show("NSE:RELIANCE", 101)
    until(lambda: any(tick.last_price == 101 for tick in up.of(Tick)))
    adapter.place_order(order(order_type=OrderType.LIMIT))
    up.wait(OrderReport)
    assert up.of(StreamDown) == []


def test_update_that_cannot_be_read_is_a_hint(desk, adapter, up):
    text = json.dumps({"update_type": "order", "order_id": "7", "status": "open", "quantity": []})
    desk.server.call(sockets(desk, feed=False)[0].send, text)
    assert up.wait(OrderHint)[0].broker_order_id == "7"


def test_quiet_server_that_never_pings_is_left_alone(desk, adapter, listen):
    """Its pongs prove the connection: silence is counted only against a server that pings."""
    desk.upstox.heartbeat = 60
    listener = listen(adapter.open_stream())
    listener.wait(StreamUp)
    time.sleep(QUICK.silence * 3)
    assert listener.of(StreamDown) == []


def test_address_that_is_not_safe_is_not_dialled(desk, listen):
    asked = []

    def authorize() -> str:
        asked.append(1)
        return desk.server.ws_url + "/portfolio-stream-feeder/v1/upstox-developer-api/feeds"

    listener = listen(UpstoxStream(authorize, authorize, desk.venue.clock.now))
    assert listener.ended.wait(5)
    assert listener.events[-1].final
    assert len(asked) == 1
    assert desk.server.recorder.count() == 0


def test_session_that_is_over_is_the_end(desk, listen):
    def authorize() -> str:
        raise SessionExpired("Invalid token", broker="upstox", code="UDAPI100050")

    listener = listen(UpstoxStream(authorize, authorize, desk.venue.clock.now))
    assert listener.ended.wait(5)
    assert listener.events == [StreamDown("Invalid token", final=True)]


def test_reasons_hold_no_code(desk, adapter, up):
    """An address of a connection opens it: it stands in no event."""
    desk.server.faults.add("refuse_socket", UPDATES_SOCKET, status=500)
    desk.server.call(sockets(desk, feed=False)[0].abort)
    up.wait(StreamUp, 2)
    codes = [
        record.request.query["code"]
        for record in desk.server.recorder.find("GET /portfolio-stream-feeder/*")
    ]
    said = " ".join(event.reason for event in up.of(StreamDown))
    assert codes
    assert not any(code in said for code in codes)
