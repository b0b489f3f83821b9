"""A socket gets its user's prices: a broker's where the user's connection says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from brokerages.models import BrokerConnection
from config.stream import Questions
from marketdata import broker_prices
from tests.stream.conftest import Trader


class NoPrices(Questions):
    """Nothing is known of any price, so that tests see only what they publish."""

    def ticks(self, symbols: Any) -> dict[str, bytes]:
        return {}


@pytest.fixture(autouse=True)
def _forget() -> Any:
    broker_prices.forget()
    yield
    broker_prices.forget()


def at_broker(trader: Trader, **fields: Any) -> BrokerConnection:
    return BrokerConnection.objects.create(
        user=trader.user,
        broker="zerodha",
        label="Zerodha",
        is_default=True,
        **{"data_source": "broker"} | fields,
    )


def publish(valkey: Any, name: str, price: str) -> None:
    tick = {"symbol": name.rpartition("|")[2], "last_price": price}
    valkey.publish("sauda:ticks", json.dumps([[name, tick]]))


def test_each_user_gets_prices_from_their_own_source(stream, asha, bina, valkey):
    at_broker(asha)
    server = stream(NoPrices())
    with asha.connected(server) as one, bina.connected(server) as other:
        for socket in (one, other):
            answer = socket.ask(type="subscribe", channel="quotes", symbols=["NSE:RELIANCE"])
            assert answer["symbols"] == ["NSE:RELIANCE"]
        publish(valkey, "NSE:RELIANCE", "1000")
        publish(valkey, "zerodha|NSE:RELIANCE", "2000")

        quote = {"type": "quote", "symbol": "NSE:RELIANCE"}
        assert one.receive() == quote | {"last_price": "2000"}
        assert other.receive() == quote | {"last_price": "1000"}
        assert one.drain() == other.drain() == []

        answer = one.ask(type="unsubscribe", channel="quotes", symbols=["NSE:RELIANCE", "NSE:TCS"])
        assert answer["symbols"] == ["NSE:RELIANCE"]
        publish(valkey, "zerodha|NSE:RELIANCE", "2001")
        assert one.drain() == []


def test_the_feed_is_told_whose_price_is_wanted(stream, asha, valkey):
    at_broker(asha)
    valkey.delete("sauda:wanted")
    with asha.connected(stream(NoPrices())) as socket:
        socket.ask(type="subscribe", channel="quotes", symbols=["NSE:RELIANCE"])
        socket.drain()

        assert valkey.zrange("sauda:wanted", 0, -1) == [b"zerodha|NSE:RELIANCE"]


def test_a_connection_with_simulated_prices_has_the_platforms(stream, asha, valkey):
    at_broker(asha, data_source="simulated")
    with asha.connected(stream(NoPrices())) as socket:
        socket.ask(type="subscribe", channel="quotes", symbols=["NSE:RELIANCE"])
        publish(valkey, "NSE:RELIANCE", "1000")

        assert socket.receive()["last_price"] == "1000"


def test_a_broker_cannot_be_named_by_the_client(stream, asha):
    with asha.connected(stream(NoPrices())) as socket:
        socket.send(type="subscribe", channel="quotes", symbols=["zerodha|NSE:RELIANCE"])
        assert socket.receive()["symbols"] == []
        assert socket.receive()["code"] == "unknown_symbol"


def test_after_a_change_of_the_source_a_new_subscription_moves(stream, asha, valkey):
    with asha.connected(stream(NoPrices())) as socket:
        socket.ask(type="subscribe", channel="quotes", symbols=["NSE:RELIANCE"])
        at_broker(asha)
        broker_prices.forget()
        socket.ask(type="subscribe", channel="quotes", symbols=["NSE:RELIANCE"])
        publish(valkey, "NSE:RELIANCE", "1000")
        publish(valkey, "zerodha|NSE:RELIANCE", "2000")

        assert socket.receive()["last_price"] == "2000"
        assert socket.drain() == []
