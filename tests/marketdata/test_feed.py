"""The feed against a real Valkey: what it publishes, one at a time, through restarts."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis

from config import servers
from marketdata import quotes, selectors
from marketdata.feed import CHANNEL, LEASE_KEY, WANTED_KEY, Feed, choose
from marketdata.latest import connect
from marketdata.quotes import quote_latest, quotes_latest, source_current
from marketdata.services import instruments_load
from marketdata.sources.replay import ReplaySource, read_recording
from tests.marketdata.test_replay import PLAIN

pytestmark = pytest.mark.usefixtures("market")


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    client = connect()
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def ticks(client: redis.Redis) -> Iterator[Callable[[], list[Any]]]:
    """Return a function that gives the next batch, or an empty list."""
    with client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(CHANNEL)
        subscription.get_message(timeout=1)

        def following() -> list[Any]:
            message = subscription.get_message(timeout=1)
            return json.loads(message["data"]) if message else []

        yield following


def test_one_message_with_everything_that_moves(ticks):
    feed = Feed()

    count = feed.cycle()
    batch = dict(ticks())

    assert count == len(batch) == feed.published
    shares = [key for key in batch if key.startswith("NSE:")]
    assert len(shares) == 55  # 50 shares and 5 indices of NSE
    assert "BSE:SENSEX" in batch
    assert sum(key.endswith("FUT") for key in batch) == 10
    assert 50 < sum(key.endswith(("CE", "PE")) for key in batch) < 150
    tick = batch["NSE:RELIANCE"]
    assert set(tick) == {
        "symbol", "last_price", "open", "high", "low", "previous_close", "change", "change_percent",
        "volume", "bid", "ask", "at", "source", "simulated",
    }  # fmt: skip
    assert tick["simulated"] is True
    assert Decimal(tick["change"]) == Decimal(tick["last_price"]) - Decimal(tick["previous_close"])
    assert Decimal(tick["bid"]) < Decimal(tick["ask"])
    assert datetime.fromisoformat(tick["at"]).tzinfo
    assert batch["NSE:NIFTY 50"]["bid"] is None


def test_the_same_prices_as_every_process_computes(ticks, monkeypatch):
    at = time.time()
    monkeypatch.setattr(time, "time", lambda: at)
    Feed().cycle()

    tick = dict(ticks())["NSE:INFY"]

    ref = selectors.ref_by_key("NSE:INFY")
    assert tick["last_price"] == str(quote_latest(ref, datetime.fromtimestamp(at, UTC)).last_price)


def test_only_what_changed_goes_out(ticks, monkeypatch):
    at = time.time()
    feed = Feed()
    monkeypatch.setattr(time, "time", lambda: at)
    assert feed.cycle() > 100
    ticks()

    assert feed.cycle() == 0
    assert ticks() == []
    at += 0.25
    assert 0 < feed.cycle() < 150
    assert ticks()


def test_wanted_symbols_are_added_and_forgotten(ticks, client):
    far = next(
        x
        for x in reversed(selectors.listings_active())
        if x.is_option and x.ref.symbol[-2:] == "PE"
    )
    feed = Feed()
    feed.cycle()
    assert far.key not in dict(ticks())
    client.zadd(WANTED_KEY, {far.key: time.time() + 30, "NSE:NOTHING": time.time() + 30})

    feed.cycle()
    assert far.key in dict(ticks())

    client.zadd(WANTED_KEY, {far.key: time.time() - 1})
    time.sleep(1)
    feed.cycle()
    assert far.key not in dict(ticks())


def test_one_feed_publishes_and_another_takes_over(ticks, client):
    first, second = Feed(), Feed()

    assert first.cycle() > 0
    assert second.cycle() == 0
    assert (first.leading, second.leading) == (True, False)
    assert client.pttl(LEASE_KEY) > 0

    client.delete(LEASE_KEY)  # as when the first is gone for three seconds
    assert second.cycle() > 0
    assert first.cycle() == 0


def test_a_stopped_feed_gives_the_lease_back(client):
    feed, stop = Feed(interval=0.02), threading.Event()
    feed.cycle()
    stop.set()

    feed.run(stop)

    assert client.get(LEASE_KEY) is None
    assert Feed().cycle() > 0


def test_it_survives_restarts_of_redis(tmp_path_factory, settings):
    server = servers.Valkey(tmp_path_factory.mktemp("valkey"), durable=False)
    _start(server)
    settings.REDIS_URL = servers.redis_url(server.var)
    source_current()
    selectors.listings_active()  # read here: the thread has a connection of its own
    feed, stop = Feed(source_current(), interval=0.05), threading.Event()
    thread = threading.Thread(target=feed.run, args=(stop,))
    thread.start()
    try:
        _until(lambda: feed.published > 0)
        server.stop()
        time.sleep(0.5)
        before = feed.published
        _start(server)
        started = time.monotonic()
        _until(lambda: feed.published > before + 50)  # everything again, for whoever lost it
        assert time.monotonic() - started < 4
    finally:
        stop.set()
        thread.join(10)
        server.stop()
    assert not thread.is_alive()


def _start(server: servers.Valkey) -> None:
    server.prepare()
    server.start()
    server.wait()


def _until(condition: Callable[[], bool], seconds: float = 8) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def test_a_replay_reaches_other_processes_through_redis(client, settings, tmp_path, monkeypatch):
    settings.DATA_SOURCE = "replay"
    path = tmp_path / "plain.csv"
    path.write_text(PLAIN)
    now = datetime.now(UTC)
    ref = selectors.ref_by_key("NSE:RELIANCE")
    assert quote_latest(ref) is None
    source = ReplaySource(read_recording(path), speed=1, started_at=now - timedelta(seconds=61))

    assert Feed(source).cycle() == 2

    quote = quote_latest(ref)
    assert (quote.source, quote.simulated, quote.last_price) == ("replay", True, Decimal(102))
    assert quotes_latest([ref]) == [quote]
    assert quote.bids
    # too old to trade on, but still shown
    later = quote.at + timedelta(seconds=5.1)
    assert quotes.is_stale(quote, later)
    assert quote_latest(ref, later) is None
    # with Redis away the last one seen is used, as long as it is fresh
    settings.REDIS_URL = "unix:///nonexistent"
    monkeypatch.setattr(quotes._shared, "_client", connect())
    assert quotes_latest([ref]) == [quote]


def test_a_replay_publishes_all_that_it_plays_and_nothing_else(tmp_path):
    option = max(x.key for x in selectors.listings_active() if x.is_option)
    path = tmp_path / "day.csv"
    path.write_text(
        f"symbol,datetime,open,high,low,close\n{option},2025-10-03 09:15,280.05,281,254.6,254.6\n"
    )
    source = ReplaySource(read_recording(path), speed=1, started_at=datetime.now(UTC))

    assert [x.key for x in choose(selectors.listings_active(), source)] == [option]


def test_options_near_the_money_are_of_the_nearest_expiry():
    instruments_load()  # all strikes
    chosen = choose(selectors.listings_active(), source_current())
    calls = [x for x in chosen if x.is_option and x.ref.underlying == "NIFTY"]
    spot = source_current().quote(calls[0].spot, datetime.now(UTC)).last_price

    assert len({x.ref.expiry for x in calls}) == 1
    assert len(calls) == 22
    assert all(abs(x.ref.strike - spot) < 400 for x in calls)


def test_the_command_stops_on_sigterm(tmp_path):
    """In a process of its own, which cannot reach its database: it waits, and ends when told."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "DATABASE_URL": "postgresql:///none?host=/nonexistent",
    }
    child = subprocess.Popen(
        [sys.executable, "manage.py", "run_feed"],
        cwd=Path(__file__).parents[2],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = ""
    for line in child.stdout:
        said += line
        if "lost the database" in line:
            break
    assert "publishing every 250 ms" in said, said

    child.send_signal(signal.SIGTERM)

    assert child.wait(5) == 0
    assert "Feed: stopped." in child.stdout.read()
