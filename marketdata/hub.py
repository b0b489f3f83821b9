"""Ticks of one Redis subscription to every client of this process, conflated. Pure asyncio.

A tick is turned into JSON once, whoever wants it. Each client keeps only the names of the symbols
that changed since its last frame, so a slow or dead one costs a bounded amount of memory and never
delays another: it gets the latest price when it reads again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from marketdata.channels import channel_name

logger = logging.getLogger(__name__)

TICKS = "sauda:ticks"
WANTED = "sauda:wanted"  # sorted set: symbol -> until when (Unix seconds) somebody wants its ticks
WANTED_SECONDS = 30.0
REFRESH_SECONDS = 10.0
FLUSH_SECONDS = 0.1
SLOTS = 10

QUIET_SECONDS = 10.0  # without a message before the connection is tried
PONG_SECONDS = 5.0
LONGEST_BACKOFF = 2.0

_batch = msgspec.json.Decoder(list[tuple[str, msgspec.Raw]])


class Subscription:
    """Keeps one Redis channel subscribed, through restarts of Redis, until it is cancelled.

    ``on_subscribed`` is called after every subscription, the first one included: whatever was
    published before that moment may have been missed.
    """

    def __init__(
        self,
        url: str,
        channel: str,
        on_message: Callable[[bytes], None],
        on_subscribed: Callable[[], None] = lambda: None,
    ) -> None:
        self.channel, self.on_message, self.on_subscribed = channel, on_message, on_subscribed
        self.subscribed = asyncio.Event()
        self._pool = ConnectionPool.from_url(
            url, retry=Retry(NoBackoff(), 0), protocol=2, driver_info=None
        )

    async def run(self) -> None:
        """Deliver messages for ever. A lost Redis is asked again after a growing, random pause."""
        pause = 0.0
        while True:
            connection = self._pool.make_connection()
            try:
                await connection.connect()
                await connection.send_command("SUBSCRIBE", self.channel)
                await connection.read_response()
                pause = 0.0
                self.subscribed.set()
                self.on_subscribed()
                await self._deliver(connection)
            except (RedisError, OSError) as e:
                if self.subscribed.is_set():
                    logger.warning("%s: lost Redis (%s)", self.channel, type(e).__name__)
            finally:
                self.subscribed.clear()
                with contextlib.suppress(RedisError, OSError):
                    await connection.disconnect(nowait=True)
            pause = min(max(2 * pause, 0.05), LONGEST_BACKOFF)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311

    async def _deliver(self, connection: AbstractConnection) -> None:
        while True:
            answer = await connection.read_response(timeout=QUIET_SECONDS)
            if answer is None:
                await connection.send_command("PING")
                answer = await connection.read_response(timeout=PONG_SECONDS)
                if answer is None:
                    raise TimeoutError("no answer to a ping")
            if answer[0] != b"message":
                continue
            try:
                self.on_message(answer[2])
            except Exception:
                logger.exception("%s: a message could not be used", self.channel)


class QuoteClient:
    """What one socket still has to be told about prices."""

    __slots__ = ("dirty", "due", "hub", "slot", "symbols", "wake")

    def __init__(self, hub: QuoteHub, slot: int, wake: Callable[[], None]) -> None:
        self.hub, self.slot, self.wake = hub, slot, wake
        self.symbols: set[str] = set()
        self.dirty: dict[str, None] = {}  # symbols with news, in the order of their first news
        self.due = False

    def take(self) -> list[str]:
        """Return the latest message of each symbol that changed, if it is time to send them."""
        if not self.due:
            return []
        self.due = False
        latest = self.hub.latest
        messages = [latest[symbol] for symbol in self.dirty if symbol in latest]
        self.dirty.clear()
        return messages


class QuoteHub:
    """Shares one subscription to the ticks among the clients of this process."""

    def __init__(self, redis_url: str, *, flush_seconds: float = FLUSH_SECONDS) -> None:
        self.latest: dict[str, str] = {}  # symbol -> its message, while somebody here wants it
        self._url, self._step = redis_url, flush_seconds / SLOTS
        self._wanting: dict[str, set[QuoteClient]] = {}
        self._slots: list[set[QuoteClient]] = [set() for _ in range(SLOTS)]
        self._fresh: set[str] = set()  # wanted, and not announced yet
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._busy, self._news = asyncio.Event(), asyncio.Event()
        self.subscription = Subscription(self._url, channel_name(TICKS, self._url), self.receive)
        self._tasks = [
            asyncio.create_task(work)
            for work in (self.subscription.run(), self._flush(), self._announce())
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def client(self, wake: Callable[[], None]) -> QuoteClient:
        """Return a client without symbols; ``wake`` is called when it has something to take."""
        slot = min(range(SLOTS), key=lambda i: len(self._slots[i]))
        client = QuoteClient(self, slot, wake)
        self._slots[slot].add(client)
        self._busy.set()
        return client

    def add(self, client: QuoteClient, symbols: Iterable[str]) -> list[str]:
        """Let the client have these symbols. Return those whose latest price is not known here."""
        unknown = []
        for symbol in symbols:
            client.symbols.add(symbol)
            wanting = self._wanting.get(symbol)
            if wanting is None:
                wanting = self._wanting[symbol] = set()
                self._fresh.add(symbol)
            wanting.add(client)
            if symbol in self.latest:
                client.dirty[symbol] = None
            else:
                unknown.append(symbol)
        if client.dirty:
            client.due = True
            client.wake()
        if self._fresh:
            self._news.set()
        return unknown

    def seed(self, symbol: str, tick: bytes) -> None:
        """Give the latest known price, unless a tick came meanwhile."""
        if symbol in self.latest or symbol not in self._wanting:
            return
        self._publish(symbol, tick)
        for client in self._wanting[symbol]:
            client.due = True
            client.wake()

    def remove(self, client: QuoteClient, symbols: Iterable[str]) -> None:
        for symbol in symbols:
            client.symbols.discard(symbol)
            client.dirty.pop(symbol, None)
            wanting = self._wanting.get(symbol, set())
            wanting.discard(client)
            if not wanting:
                self._wanting.pop(symbol, None)
                self._fresh.discard(symbol)
                self.latest.pop(symbol, None)  # without ticks it would grow old unnoticed

    def drop(self, client: QuoteClient) -> None:
        """Forget a client that is gone."""
        self.remove(client, list(client.symbols))
        self._slots[client.slot].discard(client)
        if not any(self._slots):
            self._busy.clear()

    def receive(self, body: bytes) -> None:
        """Take one batch of ticks: a JSON array of [symbol, tick] pairs."""
        wanting = self._wanting
        for symbol, tick in _batch.decode(body):
            if symbol in wanting:
                self._publish(symbol, tick)

    def _publish(self, symbol: str, tick: Any) -> None:
        self.latest[symbol] = f'{{"type":"quote",{str(tick, "utf-8")[1:]}'
        for client in self._wanting[symbol]:
            client.dirty[symbol] = None

    async def _flush(self) -> None:
        """Wake the clients that have news, a tenth of them at a time."""
        loop = asyncio.get_running_loop()
        at, turn = loop.time(), 0
        while True:
            if not self._busy.is_set():
                await self._busy.wait()
            at = max(at + self._step, loop.time())
            await asyncio.sleep(at - loop.time())
            for client in self._slots[turn]:
                if client.dirty and not client.due:
                    client.due = True
                    client.wake()
            turn = (turn + 1) % SLOTS

    async def _announce(self) -> None:
        """Keep the feed informed of what is wanted, new symbols at once."""
        redis = Redis.from_url(self._url, socket_timeout=1.0, socket_connect_timeout=1.0)
        refresh_at = 0.0
        async with redis:
            while True:
                if time.monotonic() >= refresh_at:
                    symbols = list(self._wanting)
                    refresh_at = time.monotonic() + REFRESH_SECONDS
                else:
                    symbols = list(self._fresh)
                self._fresh.clear()
                self._news.clear()
                try:
                    await _want(redis, symbols)
                except (RedisError, OSError):
                    refresh_at = time.monotonic() + 1.0
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(
                        asyncio.get_running_loop().time() + refresh_at - time.monotonic()
                    ):
                        await self._news.wait()


async def _want(redis: Redis, symbols: list[str]) -> None:
    if symbols:
        now = time.time()
        await redis.zadd(WANTED, dict.fromkeys(symbols, now + WANTED_SECONDS))
        await redis.zremrangebyscore(WANTED, "-inf", now)
