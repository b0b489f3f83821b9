"""The stream at the emulated Kite's ticker: true binary and text frames over a real socket."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest

from brokerages.adapters.zerodha.adapter import ZerodhaAdapter
from brokerages.adapters.zerodha.stream import KiteStream, order_event
from brokerages.base import AdapterContext
from brokerages.errors import NotSupported
from brokerages.types import (
    OrderHint,
    OrderReport,
    Product,
    QuoteDepth,
    ReportedStatus,
    SessionToken,
    StreamDown,
    StreamUp,
    Tick,
)
from tests.brokerages.zerodha.conftest import (
    AMPERSAND,
    CREDENTIALS,
    FUTURE,
    INDEX,
    SHARE,
    TAG,
    limit,
    order,
    payload,
)
from tests.emulators.core.server import EmulatorServer
from tests.emulators.zerodha.dialect import API_KEY

S = ReportedStatus
SECONDS = 12.0  # the longest that anything here may take on a busy machine


@dataclass
class Listener:
    """A stream, listened to in a thread as the order-stream process does."""

    stream: KiteStream
    heard: queue.Queue[Any] = field(default_factory=queue.Queue)
    done: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Listener:
        def listen() -> None:
            for event in self.stream.events():
                self.heard.put(event)
            self.done.set()

        threading.Thread(target=listen, daemon=True).start()
        return self

    def next(self, kind: type | tuple[type, ...], where: Callable[[Any], bool] = bool) -> Any:
        """Return the next event of a kind, leaving out others."""
        deadline = time.monotonic() + SECONDS
        while (left := deadline - time.monotonic()) > 0:
            try:
                event = self.heard.get(timeout=left)
            except queue.Empty:
                break
            if isinstance(event, kind) and where(event):
                return event
        raise AssertionError(f"no {kind} came")

    def quiet(self, kind: type, seconds: float = 0.6) -> bool:
        """Return whether no event of a kind comes for a while."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                if isinstance(self.heard.get(timeout=left), kind):
                    return False
            except queue.Empty:
                return True
        return True


@pytest.fixture
def listen(adapter: ZerodhaAdapter) -> Iterator[Callable[..., Listener]]:
    opened = []

    def start(of: ZerodhaAdapter = adapter, **terms: Any) -> Listener:
        stream = of.open_stream()
        assert isinstance(stream, KiteStream)
        for name, value in terms.items():
            setattr(stream, name, value)
        listener = Listener(stream)
        opened.append(listener)
        return listener

    yield start
    for listener in opened:
        listener.stream.close()


def at(price: str) -> Callable[[Tick], bool]:
    return lambda tick: tick.last_price == Decimal(price)


def sockets(kite: EmulatorServer, count: int) -> None:
    """Wait until the emulator has ``count`` sockets."""
    deadline = time.monotonic() + SECONDS
    while len(kite.dialect.sockets) != count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(kite.dialect.sockets) == count


# --- Ticks ----------------------------------------------------------------------------------------


def test_ticks_of_each_depth_are_exact(kite: EmulatorServer, listen: Callable[..., Listener]):
    listener = listen()
    listener.stream.subscribe([SHARE], QuoteDepth.FULL)
    listener.stream.subscribe([AMPERSAND], QuoteDepth.OHLC)
    listener.stream.subscribe([INDEX], QuoteDepth.LTP)
    listener.start()
    assert isinstance(listener.next(object), StreamUp)

    kite.exchange.show("NSE:RELIANCE", "101.35", volume=7)
    full = listener.next(Tick, at("101.35"))
    assert (full.instrument_id, full.source, str(full.last_price)) == (1, "zerodha", "101.35")
    assert (full.volume, len(full.quote.bids), len(full.quote.asks)) == (7, 5, 5)
    assert full.quote.high == Decimal("101.35")
    assert abs((full.at - kite.dialect.clock.now()).total_seconds()) < 10
    assert full.at.tzinfo is not None

    kite.exchange.show("NSE:M&M", "99.95", volume=3)
    quote = listener.next(Tick, at("99.95"))
    assert (quote.instrument_id, quote.volume, quote.quote.bids) == (2, 3, ())
    assert quote.quote.previous_close == 100

    kite.exchange.show("NSE:NIFTY 50", "24812.65")
    last = listener.next(Tick, at("24812.65"))
    assert (last.instrument_id, last.volume, last.quote) == (4, 0, None)


def test_index_and_contract_in_full(kite: EmulatorServer, listen: Callable[..., Listener]):
    listener = listen()
    listener.stream.subscribe([INDEX, FUTURE], QuoteDepth.FULL)
    listener.start()
    kite.exchange.show("NSE:NIFTY 50", "24700")
    kite.exchange.show("NSE:NIFTY 50", "24900")
    index = listener.next(Tick, at("24900")).quote
    assert (index.open, index.high, index.low) == (24800, 24900, 24700)
    kite.exchange.show("NFO:NIFTY26NOVFUT", "24851")
    assert listener.next(Tick, at("24851")).quote.open_interest == 6_500_000


def test_subscriptions_change_while_it_runs(kite: EmulatorServer, listen: Callable[..., Listener]):
    listener = listen().start()
    listener.next(StreamUp)
    listener.stream.subscribe([SHARE], QuoteDepth.LTP)
    assert listener.next(Tick).quote is None

    listener.stream.subscribe([SHARE], QuoteDepth.FULL)
    assert listener.next(Tick, lambda tick: tick.quote is not None).quote.bids

    listener.stream.unsubscribe([SHARE])
    (socket,) = kite.dialect.sockets
    deadline = time.monotonic() + SECONDS
    while socket.state["modes"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert listener.quiet(Tick, 0.2)
    kite.exchange.show("NSE:RELIANCE", "101")
    assert listener.quiet(Tick)


def test_only_the_newest_tick_waits(kite: EmulatorServer, listen: Callable[..., Listener]):
    """A slow listener gets the present, not a queue of the past."""
    listener = listen()
    listener.stream.subscribe([SHARE], QuoteDepth.LTP)
    events = listener.stream.events()
    assert isinstance(next(events), StreamUp)
    for step in range(1, 6):
        kite.exchange.show("NSE:RELIANCE", f"10{step}")
        time.sleep(0.1)
    time.sleep(0.3)
    assert next(events).last_price == 105


def test_more_than_the_limit_is_refused_before_it_is_sent(adapter: ZerodhaAdapter):
    stream = adapter.open_stream()
    many = [replace(SHARE, id=n, broker_token=str(n)) for n in range(1, 3001)]
    stream.subscribe(many, QuoteDepth.LTP)
    stream.subscribe(many[:5], QuoteDepth.FULL)  # known ones cost nothing
    with pytest.raises(NotSupported):
        stream.subscribe([replace(SHARE, broker_token="3001")], QuoteDepth.LTP)
    stream.unsubscribe(many[:1])
    stream.subscribe([replace(SHARE, broker_token="3001")], QuoteDepth.LTP)
    stream.close()


# --- Orders ---------------------------------------------------------------------------------------


def test_order_updates_come_without_a_subscription(
    kite: EmulatorServer, adapter: ZerodhaAdapter, listen: Callable[..., Listener]
):
    listener = listen().start()
    listener.next(StreamUp)
    kite.exchange.show("NSE:RELIANCE", "100", bids=[], asks=[("100", 4)])

    number = adapter.place_order(limit("100")).broker_order_id
    opened = listener.next(OrderReport)
    assert (opened.broker_order_id, opened.client_order_id, opened.status) == (number, TAG, S.OPEN)
    part = listener.next(OrderReport)
    assert (part.status, part.filled_quantity) == (S.PARTIALLY_FILLED, 4)

    kite.exchange.show("NSE:RELIANCE", "100", bids=[], asks=[("100", 40)])
    done = listener.next(OrderReport)
    assert (done.status, done.filled_quantity, str(done.average_price)) == (S.FILLED, 10, "100.00")
    assert done.reported_at.tzinfo is not None


def test_legs_of_an_iceberg_are_hints(adapter: ZerodhaAdapter, listen: Callable[..., Listener]):
    listener = listen().start()
    listener.next(StreamUp)
    request = limit("100.05", quantity=100, product=Product.MIS, iceberg_legs=2)
    adapter.place_order(request)
    hint = listener.next((OrderHint, OrderReport))
    assert isinstance(hint, OrderHint)
    assert hint.client_order_id == TAG


@pytest.mark.parametrize(
    "row", [None, 5, [], {}, {"exchange": "NSE"}, {"exchange": "NSE", "order_id": 1.5}]
)
def test_updates_that_make_no_sense_are_left_out(row: Any):
    assert order_event(row, None) is None  # type: ignore[arg-type]


def test_updates_of_exchanges_that_count_lots_are_left_out():
    (row,) = [row for row in payload("orders.json") if row["exchange"] == "MCX"]
    assert order_event(row, None) is None  # type: ignore[arg-type]


# --- Losses ---------------------------------------------------------------------------------------


def test_cut_connection_comes_back_with_its_subscriptions(
    kite: EmulatorServer, listen: Callable[..., Listener]
):
    listener = listen()
    listener.stream.subscribe([SHARE], QuoteDepth.FULL)
    listener.start()
    listener.next(Tick)

    kite.faults.add("cut_frame", "SOCKET *")
    kite.exchange.show("NSE:RELIANCE", "101")

    down = listener.next(StreamDown)
    assert not down.final
    listener.stream.subscribe([AMPERSAND], QuoteDepth.LTP)  # asked for while it is down
    listener.next(StreamUp)
    kite.exchange.show("NSE:RELIANCE", "102.05")
    assert listener.next(Tick, at("102.05")).quote.bids
    kite.exchange.show("NSE:M&M", "98")
    assert listener.next(Tick, at("98")).instrument_id == 2
    assert kite.recorder.count() == 2


def test_silence_is_noticed(kite: EmulatorServer, listen: Callable[..., Listener]):
    """A connection that died without a word: the SDK itself would wait for ever."""
    listener = listen(_silence=1.0)
    listener.stream.subscribe([SHARE], QuoteDepth.LTP)
    listener.start()
    listener.next(StreamUp)
    assert listener.quiet(StreamDown, 2.5)  # heartbeats count

    fault = kite.faults.add("silence", "*", times=None)
    listener.next(StreamDown)
    kite.faults.clear()
    assert fault is not None
    listener.next(StreamUp)
    kite.exchange.show("NSE:RELIANCE", "103")
    listener.next(Tick, at("103"))


def test_dead_session_ends_it(
    kite: EmulatorServer, context: AdapterContext, listen: Callable[..., Listener]
):
    adapter = ZerodhaAdapter(context, CREDENTIALS, SessionToken({"access_token": "dead"}))
    listener = listen(adapter).start()
    down = listener.next((StreamUp, StreamDown))
    assert isinstance(down, StreamDown)
    assert down.final
    assert listener.done.wait(SECONDS)
    time.sleep(3)
    assert kite.recorder.count() == 1  # a dead token is not tried again
    assert list(listener.stream.events()) == []


def test_session_that_ends_on_the_way(kite: EmulatorServer, listen: Callable[..., Listener]):
    listener = listen().start()
    listener.next(StreamUp)
    kite.dialect.sessions.clear()
    assert listener.next(StreamDown, lambda down: down.final)
    assert listener.done.wait(SECONDS)


def test_nobody_listens_until_later(
    kite: EmulatorServer, context: AdapterContext, listen: Callable[..., Listener]
):
    kite.faults.add("refuse_socket", "*", status=503, times=2)
    listener = listen().start()
    down = listener.next((StreamUp, StreamDown))
    assert isinstance(down, StreamDown)
    assert not down.final
    listener.next(StreamUp)


@pytest.mark.parametrize(
    "frame",
    [b"\x00\x01", b"\x00\x01\x00\x08\x00", b"\xff" * 50, b"\x00\x02\x00\x08\x00\x0b\x45\x01",
     "", "[]", "null", '"order"', '{"type": "order"}', '{"type": "order", "data": 5}',
     '{"type": "order", "data": {"order_id": "1"}}', '{"type": "error", "data": "403 nothing"}',
     '{"type": "message", "data": "hello"}', "{"],
)  # fmt: skip
def test_frames_that_make_no_sense_do_not_end_it(
    kite: EmulatorServer, listen: Callable[..., Listener], frame: bytes | str
):
    listener = listen()
    listener.stream.subscribe([SHARE], QuoteDepth.LTP)
    listener.start()
    listener.next(Tick)
    (socket,) = kite.dialect.sockets
    kite.call(socket.send, frame)
    time.sleep(0.1)
    deadline = time.monotonic() + SECONDS
    price = 100
    while time.monotonic() < deadline:
        price = 101 if price == 102 else 102
        kite.exchange.show("NSE:RELIANCE", str(price))
        try:
            event = listener.heard.get(timeout=0.3)
        except queue.Empty:
            continue
        assert not getattr(event, "final", False)
        if isinstance(event, Tick) and event.last_price > 100:
            return
    raise AssertionError("no tick came any more")


# --- Ends -----------------------------------------------------------------------------------------


def test_close_from_another_thread(kite: EmulatorServer, listen: Callable[..., Listener]):
    listener = listen().start()
    listener.next(StreamUp)
    listener.stream.close()
    listener.stream.close()
    assert listener.done.wait(SECONDS)
    sockets(kite, 0)
    time.sleep(1.5)
    assert len(kite.dialect.sockets) == 0  # it does not come back


def test_close_before_it_began(kite: EmulatorServer, adapter: ZerodhaAdapter):
    stream = adapter.open_stream()
    stream.close()
    assert list(stream.events()) == []
    assert kite.recorder.count() == 0


def test_close_while_it_tries_to_connect(kite: EmulatorServer, listen: Callable[..., Listener]):
    kite.faults.add("refuse_socket", "*", status=503, times=None)
    listener = listen().start()
    listener.next(StreamDown)
    listener.stream.close()
    assert listener.done.wait(SECONDS)
    seen = kite.recorder.count()
    time.sleep(3)
    assert kite.recorder.count() <= seen + 1


def test_many_streams_share_a_process(
    kite: EmulatorServer, context: AdapterContext, listen: Callable[..., Listener]
):
    listeners = []
    for number in range(3):
        token = kite.dialect.open_session(f"AB000{number}", API_KEY).access_token
        adapter = ZerodhaAdapter(context, CREDENTIALS, SessionToken({"access_token": token}))
        listeners.append((adapter, listen(adapter).start()))
    for _, listener in listeners:
        listener.next(StreamUp)
    adapter, listener = listeners[1]
    adapter.place_order(order())
    assert listener.next(OrderReport).client_order_id == TAG
    assert listeners[0][1].quiet(OrderReport, 0.3)
    assert listeners[2][1].quiet(OrderReport, 0.3)
    listeners[0][1].stream.close()
    adapter.place_order(order("ANOTHER0000000000001"))
    assert listener.next(OrderReport, lambda r: r.client_order_id != TAG)
