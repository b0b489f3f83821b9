"""Prices: conflated for each client, and nobody waits for a slow one."""

import json
import time
from decimal import Decimal

import pytest

from config.stream import Questions
from tests.stream.server import client, stalling_socket, wait_for

SYMBOLS = ["NSE:RELIANCE", "NSE:INFY"]


class NoPrices(Questions):
    """Nothing is known of any price, so that tests see only what they publish."""

    def ticks(self, symbols):
        return {}


@pytest.fixture
def quiet(stream):
    return lambda **limits: stream(NoPrices(), **limits)


def subscribe(socket, *symbols, **more):
    return socket.ask(type="subscribe", channel="quotes", symbols=symbols or SYMBOLS, **more)


def test_the_latest_price_comes_at_once(stream, asha):
    with asha.connected(stream()) as socket:
        assert subscribe(socket) == {"type": "subscribed", "channel": "quotes", "symbols": SYMBOLS}
        quotes = [socket.until("quote", 1), socket.until("quote", 1)]
        assert {quote["symbol"] for quote in quotes} == set(SYMBOLS)
        assert all(Decimal(quote["last_price"]) > 0 for quote in quotes)


def test_ticks_come_to_who_wants_them(quiet, asha, bina, tick):
    server = quiet()
    with asha.connected(server) as one, bina.connected(server) as other:
        subscribe(one)
        subscribe(other, "NSE:TCS")
        tick(RELIANCE="1450.05", TCS="3000", INFY="1500.10")
        assert {q["symbol"]: q["last_price"] for q in (one.receive(), one.receive())} == {
            "NSE:RELIANCE": "1450.05",
            "NSE:INFY": "1500.10",
        }
        assert other.receive() == {"type": "quote", "symbol": "NSE:TCS", "last_price": "3000"}
        assert one.drain() == other.drain() == []


def test_a_second_client_gets_what_the_first_one_has(quiet, asha, bina, tick):
    server = quiet()
    with asha.connected(server) as one, bina.connected(server) as other:
        subscribe(one)
        tick(INFY="1500.10")
        one.until("quote")
        subscribe(other)
        assert other.until("quote", 1)["last_price"] == "1500.10"


def test_of_many_ticks_the_last_counts(quiet, asha, tick):
    with asha.connected(quiet()) as socket:
        subscribe(socket)
        for paise in range(500):
            tick(RELIANCE=f"1450.{paise}", INFY=f"1500.{paise}")
        quotes = socket.drain()
        assert len(quotes) < 100
        last = {quote["symbol"]: quote["last_price"] for quote in quotes}
        assert last == {"NSE:RELIANCE": "1450.499", "NSE:INFY": "1500.499"}


def test_several_in_one_frame_for_who_asks(quiet, asha, tick):
    with asha.connected(quiet()) as socket:
        subscribe(socket, batch=True)
        tick(RELIANCE="1450.05", INFY="1500.10")
        frame = socket.receive()
        assert frame["type"] == "quotes"
        assert {q["symbol"]: q["type"] for q in frame["quotes"]} == dict.fromkeys(SYMBOLS, "quote")


def test_a_stalled_client_delays_nobody_and_gets_the_latest_in_the_end(quiet, asha, bina, valkey):
    server = quiet()
    padding = "x" * 20_000  # fills the stalled one's buffers soon

    def publish(number):
        batch = [[s, {"symbol": s, "last_price": str(number), "padding": padding}] for s in SYMBOLS]
        valkey.publish("sauda:ticks", json.dumps(batch))

    stalled_socket = stalling_socket(server.port)
    with (
        asha.connected(server, sock=stalled_socket, max_queue=1) as stalled,
        bina.connected(server) as reader,
    ):
        subscribe(stalled)
        subscribe(reader)
        late = []
        for number in range(40):
            at = time.monotonic()
            publish(number)
            while reader.until("quote")["last_price"] != str(number):
                pass
            late.append(time.monotonic() - at)
        assert max(late) < 1.0
        (behind,) = [c for slot in server.app.quotes._slots for c in slot if c.dirty]
        assert behind.dirty.keys() == set(SYMBOLS)  # all that is kept for it
        received = [stalled.until("quote") for _ in range(2)]
        while {q["last_price"] for q in received[-2:]} != {"39"}:
            received.append(stalled.until("quote"))
        assert len(received) < 2 * 40  # the rest was conflated


def test_a_client_that_takes_nothing_is_let_go(quiet, asha, valkey):
    server = quiet(stall_seconds=0.5, close_seconds=0.2)
    with asha.connected(server, sock=stalling_socket(server.port), max_queue=1) as stalled:
        subscribe(stalled)
        for _ in range(400):
            batch = [[s, {"symbol": s, "padding": "x" * 30_000}] for s in SYMBOLS]
            valkey.publish("sauda:ticks", json.dumps(batch))
            time.sleep(0.01)
            if not server.app.sockets:
                break
        wait_for(lambda: not server.app.sockets)
        assert not any(server.app.quotes._slots)
        assert not server.app.quotes._wanting


def test_unknown_symbols_are_named_and_the_others_subscribed(quiet, asha, tick):
    with asha.connected(quiet()) as socket:
        unknown = ["NSE:NOPE", "", "nse:infy", "NSE:INFY\x00", "🎉"]
        assert subscribe(socket, "NSE:INFY", *unknown)["symbols"] == ["NSE:INFY"]
        error = socket.receive()
        assert (error["type"], error["code"], error["symbols"]) == (
            "error",
            "unknown_symbol",
            unknown,
        )
        tick(INFY="1500.10")
        assert socket.receive()["last_price"] == "1500.10"


def test_after_unsubscribing_nothing_comes(quiet, asha, tick):
    server = quiet()
    with asha.connected(server) as socket:
        subscribe(socket)
        answer = socket.ask(type="unsubscribe", channel="quotes", symbols=["NSE:INFY", "NSE:TCS"])
        assert answer == {"type": "unsubscribed", "channel": "quotes", "symbols": ["NSE:INFY"]}
        tick(RELIANCE="1450.05", INFY="1500.10")
        assert [q["symbol"] for q in socket.drain()] == ["NSE:RELIANCE"]
        assert socket.ask(type="unsubscribe", channel="quotes")["symbols"] == ["NSE:RELIANCE"]
        assert not server.app.quotes.latest
        assert not server.app.quotes._wanting


def test_too_many_symbols_end_the_socket(quiet, asha):
    with asha.connected(quiet(symbols=2)) as socket:
        assert subscribe(socket)["type"] == "subscribed"
        assert subscribe(socket)["type"] == "subscribed"  # the same ones again
        socket.send(type="subscribe", channel="quotes", symbols=["NSE:TCS"])
        assert socket.close_code() == 4429


def test_the_feed_is_told_what_is_wanted(quiet, asha, valkey):
    valkey.delete("sauda:wanted")
    valkey.zadd("sauda:wanted", {"NSE:OLD": 1})
    with asha.connected(quiet()) as socket:
        subscribe(socket)
        wait_for(lambda: valkey.zcard("sauda:wanted") == 2, 1)
        wanted = dict(valkey.zrange("sauda:wanted", 0, -1, withscores=True))
    assert set(wanted) == {symbol.encode() for symbol in SYMBOLS}
    assert all(20 < until - time.time() <= 30 for until in wanted.values())


def test_a_batch_that_is_not_one_does_no_harm(quiet, asha, tick, valkey):
    with asha.connected(quiet()) as socket:
        subscribe(socket)
        for body in ("", "no json", "{}", '[["NSE:INFY"]]', "[[1, {}]]"):
            valkey.publish("sauda:ticks", body)
        tick(INFY="1500.10")
        assert socket.receive()["last_price"] == "1500.10"


def test_a_hub_forgets_clients_that_are_gone(quiet, asha, tick):
    server = quiet()
    with asha.connected(server) as socket:
        subscribe(socket)
    wait_for(lambda: not server.app.sockets)
    tick(INFY="1")
    assert not server.app.quotes._wanting
    with client(server.url) as socket:
        assert socket.ask(type="auth", token=asha.token()) == {"type": "ready"}


def test_a_tick_is_not_undone_by_an_older_price(stream, asha, tick):
    class Slow(Questions):
        def ticks(self, symbols):
            time.sleep(0.4)
            return dict.fromkeys(symbols, b'{"last_price":"1"}')

    with asha.connected(stream(Slow())) as socket:
        subscribe(socket)
        tick(INFY="1500.10")
        prices = [quote["last_price"] for quote in socket.drain()]
        assert sorted(prices) == ["1", "1500.10"]  # the older one is of the other symbol
