"""The feed: NATS frames with protobuf at the emulator, losses, and what ends it for good."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import growwapi.common.files
import pytest

from brokerages.adapters.groww import stream as stream_module
from brokerages.adapters.groww.stream import GrowwStream
from brokerages.errors import NotSupported
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
from tests.brokerages.groww.conftest import INDEX, SHARE, order

S = ReportedStatus


class Listening:
    """A stream that is read in a thread of its own."""

    def __init__(self, stream: GrowwStream) -> None:
        self.stream, self.seen = stream, queue.Queue()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        for event in self.stream.events():
            self.seen.put(event)
        self.seen.put(None)

    def next(self, *kinds: type, timeout: float = 5) -> Any:
        """Return the next event of these kinds (of any, without)."""
        ends = time.monotonic() + timeout
        while True:
            event = self.seen.get(timeout=max(ends - time.monotonic(), 0.01))
            if not kinds or isinstance(event, kinds):
                return event

    def nothing(self, seconds: float = 0.3) -> None:
        with pytest.raises(queue.Empty):
            self.seen.get(timeout=seconds)

    def ended(self) -> bool:
        self.thread.join(5)
        return not self.thread.is_alive()


@pytest.fixture
def listen(adapter) -> Iterator[Any]:
    made: list[Listening] = []

    def start(who=adapter, **options) -> Listening:
        options = {"first_delay": 0.05, **options}
        stream = GrowwStream(who.context, who._access_token, **options)
        made.append(Listening(stream))
        return made[-1]

    yield start
    for one in made:
        one.stream.close()
        assert one.ended()


def subjects(emulator, count: int) -> None:
    """Wait until the emulator has ``count`` subscriptions."""
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        if sum(len(one.subjects) for one in list(emulator.dialect.listeners)) == count:
            return
        time.sleep(0.01)
    raise AssertionError("the subscriptions did not arrive")


def test_the_adapter_opens_it(adapter):
    stream = adapter.open_stream()
    assert isinstance(stream, GrowwStream)
    stream.close()
    assert list(stream.events()) == []


def test_order_updates(emulator, adapter, listen):
    emulator.exchange.show("NSE:RELIANCE", "100", asks=[("100", 4)])
    listening = listen()
    assert isinstance(listening.next(), StreamUp)

    number = adapter.place_order(
        order(order_type=OrderType.LIMIT, price=Decimal(100))
    ).broker_order_id

    reports = [listening.next(OrderReport) for _ in range(5)]
    assert {r.broker_order_id for r in reports} == {number}
    assert [r.status for r in reports] == [
        S.RECEIVED,
        S.RECEIVED,
        S.RECEIVED,
        S.OPEN,
        S.PARTIALLY_FILLED,
    ]
    last = reports[-1]
    assert (last.filled_quantity, last.average_price, last.quantity) == (4, Decimal(100), 10)
    assert last.price is None  # terms are not taken from the feed
    assert listening.next() == OrderHint(number, dedupe_key="APPROVED:4")

    adapter.cancel_order(number, order())
    assert listening.next(OrderReport).status is S.PENDING_CANCEL
    assert listening.next(OrderReport).status is S.CANCELLED


def test_the_end_of_an_order_is_told_twice(emulator, adapter, listen):
    """As a report, which may come before our own number of the order does, and as a hint."""
    listening = listen()
    listening.next(StreamUp)
    resting = order(order_type=OrderType.LIMIT, price=Decimal(95))
    number = adapter.place_order(resting).broker_order_id
    emulator.exchange.reject(emulator.dialect.accounts["GR1"], number, "Rejected by the exchange")
    while (report := listening.next(OrderReport)).status is not S.REJECTED:
        pass
    assert report.message == "Rejected by the exchange"
    assert listening.next() == OrderHint(number, dedupe_key="REJECTED:0")


def test_order_updates_of_contracts(emulator, adapter, listen, future):
    emulator.dialect.accounts["GR1"].cash = Decimal(10_000_000)
    listening = listen()
    listening.next(StreamUp)
    adapter.place_order(order(instrument=future, product=Product.NRML, quantity=65))
    while (report := listening.next(OrderReport)).status is not S.FILLED:
        pass
    assert report.average_price == emulator.exchange.book(
        emulator.exchange.find(f"NFO:{future.symbol}")
    ).last + Decimal("0.05")


def test_bursts_are_kept_whole(emulator, adapter, listen):
    listening = listen()
    listening.next(StreamUp)
    numbers = [
        adapter.place_order(order(client_order_id=f"TAG{n:05d}", quantity=1)).broker_order_id
        for n in range(20)
    ]
    filled = {listening.next(OrderHint).broker_order_id for _ in range(20)}
    assert filled == set(numbers)


def test_ticks(emulator, listen):
    listening = listen()
    listening.stream.subscribe([SHARE, INDEX], QuoteDepth.LTP)
    listening.next(StreamUp)
    subjects(emulator, 4)

    emulator.exchange.show("NSE:RELIANCE", "101.05")
    tick = listening.next(Tick)
    assert (tick.instrument_id, tick.last_price, tick.volume) == (SHARE.id, Decimal("101.05"), 0)
    assert tick.quote is None  # Groww fills in only the price: no zero is taken for an open
    assert abs((tick.at - emulator.exchange.clock.now()).total_seconds()) < 2
    emulator.exchange.show("NSE:NIFTY 50", "24910.35")
    assert listening.next(Tick).last_price == Decimal("24910.35")

    listening.stream.unsubscribe([SHARE])
    subjects(emulator, 3)
    emulator.exchange.show("NSE:RELIANCE", "102")
    listening.nothing()


def test_ticks_with_depth(emulator, listen):
    emulator.dialect.levers.full_ticks = True
    listening = listen()
    listening.stream.subscribe([SHARE], QuoteDepth.FULL)
    listening.next(StreamUp)
    subjects(emulator, 4)

    emulator.exchange.show(
        "NSE:RELIANCE", "101", bids=[("100.95", 3), ("100.90", 8)], asks=[("101.05", 4)], volume=9
    )
    first, second = listening.next(Tick), listening.next(Tick)
    assert (first.quote.open, first.quote.high, first.volume) == (Decimal(100), Decimal(101), 9)
    assert [(b.price, b.quantity) for b in second.quote.bids] == [
        (Decimal("100.95"), 3),
        (Decimal("100.9"), 8),
    ]
    assert second.quote.sequence > first.quote.sequence
    assert second.last_price == Decimal(101)


def test_only_the_latest_tick_waits(emulator, adapter):
    stream = GrowwStream(adapter.context, adapter._access_token)
    stream.subscribe([SHARE], QuoteDepth.LTP)
    events = stream.events()
    assert isinstance(next(events), StreamUp)
    subjects(emulator, 3)
    for price in range(90, 110):
        emulator.exchange.show("NSE:RELIANCE", price)
    time.sleep(0.3)
    assert next(events).last_price == 109
    events.close()


def test_a_lost_connection_comes_back_with_its_subscriptions(emulator, listen):
    listening = listen()
    listening.stream.subscribe([SHARE], QuoteDepth.LTP)
    listening.next(StreamUp)
    subjects(emulator, 3)

    emulator.dialect.drop_feeds()
    down = listening.next(StreamDown)
    assert not down.final
    listening.next(StreamUp)
    subjects(emulator, 3)
    emulator.exchange.show("NSE:RELIANCE", "103")
    assert listening.next(Tick).last_price == 103
    # each connection has a token and a key of its own
    bodies = [r.request.json["socketKey"] for r in emulator.recorder.find("POST *socket/token*")]
    assert len(set(bodies)) == len(bodies) == 2


def test_a_frame_that_is_cut(emulator, listen):
    listening = listen()
    listening.stream.subscribe([SHARE], QuoteDepth.LTP)
    listening.next(StreamUp)
    subjects(emulator, 3)
    emulator.faults.add("cut_frame", "SOCKET /")
    emulator.exchange.show("NSE:RELIANCE", "103")
    assert not listening.next(StreamDown).final
    listening.next(StreamUp)


def test_a_handshake_that_fails_is_tried_again(emulator, listen):
    emulator.faults.add("refuse_socket", "SOCKET /", status=502, times=2)
    listening = listen()
    assert not listening.next().final
    assert isinstance(listening.next(), StreamUp)  # the loss is told once


def test_a_broker_that_is_away(emulator, listen):
    emulator.faults.add("status", "POST *socket/token*", status=503, times=2)
    listening = listen()
    assert "503" in listening.next(StreamDown).reason
    listening.next(StreamUp)


def test_an_ended_session_ends_the_stream(emulator, adapter, listen):
    listening = listen()
    listening.next(StreamUp)

    emulator.exchange.clock.advance(20 * 3600)  # past 06:00

    assert not listening.next(StreamDown).final  # the feed says so first; a new token is asked for
    assert listening.next(StreamDown).final
    assert listening.next() is None
    assert listening.ended()


def test_a_feed_that_refuses_fresh_tokens_ends_the_stream(emulator, listen):
    listening = listen()
    listening.next(StreamUp)
    emulator.faults.add("refuse_socket", "SOCKET /", status=403, times=None)
    emulator.dialect.violate()
    listening.next(StreamDown)
    down = listening.next(StreamDown)
    assert down.final
    assert "authorisation" in down.reason


def test_an_account_that_may_not_listen_ends_the_stream(emulator, listen):
    emulator.faults.add("status", "POST *socket/token*", status=403, times=None)
    listening = listen()
    assert not listening.next(StreamDown).final
    assert listening.next(StreamDown).final
    assert listening.ended()


def test_one_violation_is_answered_with_a_fresh_token(emulator, adapter, listen):
    listening = listen()
    listening.next(StreamUp)
    emulator.dialect.violate()
    assert not listening.next(StreamDown).final
    listening.next(StreamUp)


def test_silence_in_market_hours_is_a_loss(emulator, adapter, listen):
    listening = listen(silence=0.5)
    listening.stream.subscribe([SHARE], QuoteDepth.LTP)
    listening.next(StreamUp)
    assert "no data" in listening.next(StreamDown).reason
    listening.next(StreamUp)


def test_silence_of_a_closed_market_is_none(emulator, adapter, listen):
    closed = replace(adapter.context, market_open=lambda instrument, at: False)
    adapter.context = closed
    listening = listen(silence=0.2)
    listening.stream.subscribe([SHARE], QuoteDepth.LTP)
    listening.next(StreamUp)
    listening.nothing(1.0)


def test_the_token_request_is_sent_on(emulator, listen):
    emulator.dialect.levers.redirect_socket_token = True
    listen().next(StreamUp)
    assert emulator.recorder.count("POST *socket/token*") == 2


def test_duplicate_and_reordered_updates_are_passed_on(emulator, adapter, listen):
    listening = listen()
    listening.next(StreamUp)
    emulator.faults.add("duplicate", "EVENT socket", times=1)
    emulator.faults.add("reorder", "EVENT socket", times=1)
    adapter.place_order(order(order_type=OrderType.LIMIT, price=Decimal(95)))
    words = [listening.next(OrderReport).raw["status"] for _ in range(5)]
    assert sorted(words) == ["ACKED", "ACKED", "APPROVED", "NEW", "NEW"]


def test_messages_that_nobody_can_read_are_skipped(emulator, listen, caplog):
    listening = listen()
    listening.stream.subscribe([SHARE], QuoteDepth.LTP)
    listening.next(StreamUp)
    subjects(emulator, 3)
    dialect = emulator.dialect
    own = next(s for s in dialect.listeners[0].subjects.values() if s.startswith("stocks/"))
    for subject in ("/ld/eq/nse/price.2885", own):
        for data in (b"\xff\xff\xff", b""):
            emulator.call(dialect.publish, subject, data, "")
    emulator.exchange.show("NSE:RELIANCE", "104")
    assert listening.next().last_price == 104


def test_two_accounts_in_one_process(emulator, make_adapter, listen, monkeypatch):
    """Each comes back as itself; nothing is written to files that they would share."""

    def never(content):
        raise AssertionError("a secret was written to a file")

    monkeypatch.setattr(growwapi.common.files, "generate_token_file", never)
    monkeypatch.setattr(growwapi.common.files, "generate_seed_file", never)
    first, second = make_adapter("GR5"), make_adapter("GR6")
    listenings = {who: listen(who) for who in (first, second)}
    for listening in listenings.values():
        listening.next(StreamUp)
    threads = [t.name for t in threading.enumerate() if t.name == "groww-feeds"]
    assert len(threads) == 1
    emulator.dialect.drop_feeds()
    for listening in listenings.values():
        listening.next(StreamUp)
    for who, listening in listenings.items():
        number = who.place_order(order()).broker_order_id
        assert listening.next(OrderHint).broker_order_id == number
    for listening in listenings.values():
        listening.nothing(0.1)


def test_what_cannot_be_streamed(adapter):
    stream = adapter.open_stream()
    with pytest.raises(NotSupported):
        stream.subscribe([replace(SHARE, broker_token="", exchange_token="")], QuoteDepth.LTP)
    with pytest.raises(NotSupported):
        stream.subscribe([replace(SHARE, broker_token="> 1")], QuoteDepth.LTP)
    many = [replace(SHARE, id=n, broker_token=f"{n}/X") for n in range(501)]
    with pytest.raises(NotSupported, match="1000"):
        stream.subscribe(many, QuoteDepth.FULL)
    stream.subscribe(many, QuoteDepth.LTP)


def test_closing_twice_from_another_thread(emulator, listen):
    listening = listen()
    listening.next(StreamUp)
    listening.stream.close()
    listening.stream.close()
    assert listening.next() is None
    assert listening.ended()
    ends = time.monotonic() + 5
    while emulator.dialect.listeners and time.monotonic() < ends:
        time.sleep(0.01)
    assert emulator.dialect.listeners == []
    assert stream_module._shared.loop is not None
