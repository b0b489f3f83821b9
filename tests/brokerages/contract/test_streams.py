"""The stream: order updates and ticks, losses and returns, and its end."""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal

import pytest

from brokerages.errors import NotSupported
from brokerages.types import (
    OrderHint,
    OrderReport,
    QuoteDepth,
    ReportedStatus,
    StreamDown,
    StreamUp,
    Tick,
)
from tests.brokerages.contract.conftest import limit, order, until

S = ReportedStatus


@pytest.fixture
def up(bench, adapter, listen, monkeypatch):
    """A connected stream of the adapter."""
    if not adapter.capabilities.pushes_order_updates:
        pytest.skip(f"{adapter.name} has no stream (pushes_order_updates)")
    bench.hurry(monkeypatch)
    listener = listen(bench.with_token(adapter, adapter.token).open_stream())
    listener.wait(StreamUp)
    return listener


def said(listener, number):
    """Return the events of one order."""
    told = listener.of(OrderReport) + listener.of(OrderHint)
    return [event for event in told if event.broker_order_id == number]


def test_order_updates(bench, adapter, up):
    bench.show("100", asks=[(100, 4)])
    number = adapter.place_order(limit(bench, "100")).broker_order_id
    bench.show("100", asks=[(100, 100)])
    events = until(lambda: [e for e in said(up, number) if done(e)] or None)
    for event in events:
        if isinstance(event, OrderReport):
            assert (event.filled_quantity, event.quantity) == (10, 10)


def done(event):
    return isinstance(event, OrderHint) or event.status is S.FILLED


def test_updates_of_a_cancel(bench, adapter, up):
    request = limit(bench, "95")
    number = adapter.place_order(request).broker_order_id
    adapter.cancel_order(number, request)
    until(
        lambda: [
            e for e in said(up, number)
            if isinstance(e, OrderHint) or e.status is S.CANCELLED
        ]
    )  # fmt: skip


def test_updates_are_of_the_account(bench, adapter, up):
    other = bench.adapter()
    number = other.place_order(order(bench)).broker_order_id
    mine = adapter.place_order(order(bench)).broker_order_id
    until(lambda: said(up, mine))
    assert said(up, number) == []


def test_doubled_and_disordered_updates(bench, adapter, up):
    """They are told as they come: whoever applies them must not mind, and the stream goes on."""
    bench.server.faults.add("duplicate", "EVENT socket", times=3)
    bench.server.faults.add("reorder", "EVENT socket", times=2)
    number = adapter.place_order(order(bench)).broker_order_id
    until(lambda: said(up, number))
    later = adapter.place_order(order(bench, "LATER000000000000001")).broker_order_id
    until(lambda: said(up, later))
    assert not up.ended.is_set()


def need_ticks(adapter):
    if not adapter.capabilities.streams_ticks:
        pytest.skip(f"{adapter.name} streams no ticks (streams_ticks)")


@pytest.mark.parametrize("depth", list(QuoteDepth), ids=str)
def test_ticks(bench, adapter, up, depth):
    need_ticks(adapter)
    up.stream.subscribe([bench.share], depth)
    bench.show("101.05")
    tick = until(lambda: showing(bench, up, bench.share, "101.05"))
    assert tick.instrument_id == bench.share.id
    assert tick.at.tzinfo is not None
    if tick.quote and tick.quote.bids:
        assert tick.quote.bids[0].price == Decimal("101.05")


def showing(bench, listener, instrument, price):
    """Show the price again until the stream tells it; return the tick."""
    bench.show(price, instrument=instrument)
    ticks = [
        tick for tick in listener.of(Tick)
        if tick.instrument_id == instrument.id and tick.last_price == Decimal(price)
    ]  # fmt: skip
    if not ticks:
        time.sleep(0.1)
    return ticks[-1] if ticks else None


def test_ticks_of_an_index_and_a_contract(bench, adapter, up):
    need_ticks(adapter)
    up.stream.subscribe([bench.index, bench.call], QuoteDepth.LTP)
    until(lambda: showing(bench, up, bench.index, "24805"))
    until(lambda: showing(bench, up, bench.call, "123.45"))


def test_unsubscribed_is_silent(bench, adapter, up):
    need_ticks(adapter)
    up.stream.subscribe([bench.share, bench.other], QuoteDepth.LTP)
    until(lambda: showing(bench, up, bench.share, "101"))
    up.stream.unsubscribe([bench.share])
    until(lambda: showing(bench, up, bench.other, "102"))
    time.sleep(0.2)
    bench.show("103")
    until(lambda: showing(bench, up, bench.other, "103.05"))
    prices = {t.last_price for t in up.of(Tick) if t.instrument_id == bench.share.id}
    assert Decimal(103) not in prices


def test_too_many_instruments(bench, adapter, up):
    need_ticks(adapter)
    most = adapter.capabilities.max_stream_instruments
    many = [
        replace(bench.share, id=n, broker_token=token_like(bench, n), exchange_token=str(10**6 + n))
        for n in range(most + 1)
    ]
    with pytest.raises(NotSupported):
        up.stream.subscribe(many, QuoteDepth.FULL)


def token_like(bench, number):
    if bench.name == "upstox":
        return f"NSE_EQ|INE{number:06d}010"
    return str((10**6 + number) * 256 + 1)


def test_returns_after_a_loss(bench, adapter, up):
    """Down is told, up again is told, and the subscriptions are back."""
    need_ticks(adapter)
    up.stream.subscribe([bench.share], QuoteDepth.LTP)
    until(lambda: showing(bench, up, bench.share, "101"))
    ups = len(up.of(StreamUp))
    bench.cut_sockets()
    up.wait(StreamDown)
    up.wait(StreamUp, ups + 1)
    assert not any(event.final for event in up.of(StreamDown))
    until(lambda: showing(bench, up, bench.share, "102"), 15)
    number = adapter.place_order(order(bench)).broker_order_id
    until(lambda: said(up, number))


def test_frame_that_is_cut_in_the_middle(bench, adapter, up):
    need_ticks(adapter)
    up.stream.subscribe([bench.share], QuoteDepth.LTP)
    until(lambda: showing(bench, up, bench.share, "101"))
    ups = len(up.of(StreamUp))
    bench.server.faults.add("cut_frame", "SOCKET *")
    bench.show("104")
    up.wait(StreamUp, ups + 1, 20)
    until(lambda: showing(bench, up, bench.share, "105"), 15)


def test_silence_is_noticed(bench, adapter, listen, monkeypatch):
    """A socket that is open and says nothing any more is dead: it is connected anew."""
    need_ticks(adapter)
    bench.hurry(monkeypatch)
    bench.doubt(monkeypatch)
    stream = bench.with_token(adapter, adapter.token).open_stream()
    stream.subscribe([bench.share], QuoteDepth.LTP)
    up = listen(stream)
    up.wait(StreamUp)
    until(lambda: showing(bench, up, bench.share, "101"))
    ups = len(up.of(StreamUp))
    bench.server.faults.add("silence", "SOCKET *", times=None)
    up.wait(StreamDown, 1, 20)
    bench.server.faults.clear()
    up.wait(StreamUp, ups + 1, 20)


def test_dead_session_ends_the_stream(bench, adapter, up):
    """It would knock for ever: told as final, and the events end."""
    bench.end_session(adapter)
    bench.cut_sockets()
    until(lambda: any(event.final for event in up.of(StreamDown)), 30)
    assert up.ended.wait(10)
    assert isinstance(up.events[-1], StreamDown)


def test_stream_with_a_dead_session_never_comes_up(bench, adapter, listen):
    if not adapter.capabilities.pushes_order_updates:
        pytest.skip(f"{adapter.name} has no stream (pushes_order_updates)")
    bench.end_session(adapter)
    listener = listen(adapter.open_stream())
    until(lambda: any(event.final for event in listener.of(StreamDown)), 30)
    assert listener.ended.wait(10)
    assert listener.of(StreamUp) == []


def test_closing(bench, adapter, up):
    up.stream.close()
    assert up.ended.wait(10)
    up.stream.close()
    ups = len(up.of(StreamUp))
    time.sleep(0.3)
    assert len(up.of(StreamUp)) == ups


def test_closing_before_it_began(bench, adapter):
    if not adapter.capabilities.pushes_order_updates:
        pytest.skip(f"{adapter.name} has no stream (pushes_order_updates)")
    stream = adapter.open_stream()
    stream.close()
    assert list(stream.events()) == []


def test_two_accounts_in_one_process(bench, adapter, up, listen):
    other = bench.adapter()
    second = listen(other.open_stream())
    second.wait(StreamUp)
    number = other.place_order(order(bench)).broker_order_id
    until(lambda: said(second, number))
    mine = adapter.place_order(order(bench)).broker_order_id
    until(lambda: said(up, mine))
    assert said(up, number) == []
