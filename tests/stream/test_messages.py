"""Whatever a client sends, it gets an answer or a close code, and the others notice nothing."""

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from tests.stream.server import client


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad_message"),
        ("{", "bad_message"),
        ("null", "bad_message"),
        ("[]", "bad_message"),
        ('"ping"', "bad_message"),
        ("{}", "bad_message"),
        ('{"type": 1}', "bad_message"),
        ('{"type": "\\ud800"}', "bad_message"),
        ('{"type": "subscribe", "channel": "quotes", "symbols": "NSE:INFY"}', "bad_message"),
        ('{"type": "subscribe", "channel": "quotes", "symbols": [1]}', "bad_message"),
        ('{"type": "subscribe", "channel": "orders", "since": "1"}', "bad_message"),
        ('{"type": "subscribe", "channel": "orders", "since": -1}', "bad_message"),
        ('{"type": "subscribe", "channel": "orders", "since": 9223372036854775808}', "bad_message"),
        ('{"type": "subscribe", "channel": "orders", "since": 1.5}', "bad_message"),
        ('{"x": %s}' % ("[" * 20_000), "bad_message"),
        (b"\x00\xff", "bad_message"),
        ('{"type": "subscribe"}', "unknown_channel"),
        ('{"type": "subscribe", "channel": "everything"}', "unknown_channel"),
        ('{"type": "unsubscribe", "channel": "\\u0000"}', "unknown_channel"),
        ('{"type": "buy"}', "unknown_type"),
        ('{"type": ""}', "unknown_type"),
    ],
)
def test_what_is_not_understood_is_named(stream, asha, text, code):
    with asha.connected(stream()) as socket:
        socket.connection.send(text)
        error = socket.receive()
        assert (error["type"], error["code"]) == ("error", code)
        assert error["message"]
        assert socket.ask(type="ping") == {"type": "pong"}


def test_more_than_is_asked_for_is_overlooked(stream, asha):
    with asha.connected(stream()) as socket:
        assert socket.ask(type="ping", more={"than": ["asked"]}) == {"type": "pong"}


def test_a_big_message_ends_the_socket(stream, asha):
    with asha.connected(stream()) as socket:
        socket.send(type="ping", padding="x" * 33_000)
        assert socket.close_code() == 1009


def test_many_messages_end_the_socket(stream, asha, bina):
    server = stream(message_burst=20, messages_per_second=1)
    with asha.connected(server) as socket, bina.connected(server) as other:
        for _ in range(20):
            assert socket.ask(type="ping") == {"type": "pong"}
        socket.send(type="ping")
        socket.send(type="ping")
        assert socket.close_code() == 1008
        assert other.ask(type="ping") == {"type": "pong"}


def test_what_is_dear_counts_for_more(stream, asha):
    server = stream(message_burst=100, messages_per_second=1)
    with asha.connected(server) as socket:
        for _ in range(2):
            assert socket.ask(type="subscribe", channel="orders")["type"] == "subscribed"
        socket.send(type="subscribe", channel="orders")
        assert socket.close_code() == 1008
    with asha.connected(server) as socket:
        symbols = [f"NSE:NOPE{number}" for number in range(400)]
        for _ in range(7):
            socket.send(type="subscribe", channel="quotes", symbols=symbols)
        assert socket.close_code() == 1008


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
words = st.sampled_from(
    ["ping", "subscribe", "unsubscribe", "quotes", "orders", "positions", "notifications"]
)
messages = st.fixed_dictionaries(
    {"type": words | values},
    optional={
        "channel": words | values,
        "symbols": st.lists(st.text(max_size=8) | st.just("NSE:INFY")) | values,
        "since": st.integers(-1, 2**64) | values,
        "batch": values,
    },
).map(json.dumps) | st.text(max_size=20)


def test_nonsense_breaks_nothing(stream, asha):
    """Every message is answered, or ends its socket with a code of ours; the server lives on."""
    server = stream(messages_per_second=1e9, message_burst=1e9)

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(messages, max_size=20))
    def check(texts):
        with client(server.url) as socket:
            socket.send(type="auth", token=token)
            socket.receive()
            with contextlib.suppress(ConnectionClosed):
                for text in texts:
                    socket.connection.send(text)
                socket.send(type="ping")
                socket.until("pong")
                return
            assert socket.close_code() in {4401, 4429}

    token = asha.token()
    check()
    with client(server.url) as socket:
        assert socket.ask(type="auth", token=token) == {"type": "ready"}
