"""Order, position and notification events of one Redis subscription to the users' sockets.

Order events are never dropped and never conflated: a socket has a bounded queue, and one that
cannot keep up is told to go. Publishing is a hint that may be lost, so events are read from the
database as well: on a subscription with a number to go on from, after Redis was away, and every
half minute. Positions are conflated by position: the latest is all that counts. Pure asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from marketdata.channels import channel_name
from marketdata.hub import Subscription
from trading.push import CHANNEL, PAUSE

logger = logging.getLogger(__name__)

CHANNELS = frozenset({"orders", "positions", "notifications"})
REPLAY_LIMIT = 1000  # events missed; with more a client does better to load its orders again
READERS = 3  # reads at a time, fewer than there are threads: sign-ins go on beside them
QUEUE_LIMIT = 4 * 1024 * 1024  # characters waiting for one socket
SEEN_LIMIT = 4096
CATCH_UP_SECONDS = 30.0
LOOK_SECONDS = 0.2  # between looks whether somebody's turn has come
# When every publisher has noticed that Redis is back.
AFTERMATH_SECONDS = PAUSE + 1.0
# A read returns events of the last seconds before the number once more, at most so many.
READ_LIMIT = 2 * REPLAY_LIMIT + 1
RETRIES = (0.25, 0.5, 1.0, 2.0, None)  # seconds between tries to read the database

Rows = list[tuple[int, str]]  # sequence and message of order events, oldest first

# Both read the database, in threads: (user) -> latest sequence; (user, sequence, limit) -> rows.
Latest = Callable[[str], Awaitable[int]]
Since = Callable[[str, int, int], Awaitable[Rows]]

_batch = msgspec.json.Decoder(list[tuple[str, str, int, msgspec.Raw]])


class _Position(msgspec.Struct):
    id: str
    version: int = 0


class _PositionPayload(msgspec.Struct):
    position: _Position


_position = msgspec.json.Decoder(_PositionPayload)


def message(kind: str, sequence: int, payload: str) -> str:
    """Return what a socket gets of a payload, which is a JSON object that is not empty."""
    return f'{{"type":"{kind}","sequence":{sequence},{payload[1:]}'


class EventClient:
    """What one socket still has to be told, in order; ``wake`` is called when there is something.

    ``seen`` holds the numbers that need no second delivery: True for delivered ones, False for
    ones that were there before the client asked, which it gets only if they are published now.
    ``read_to`` is the last number read from the database. Published events do not move it: what
    was lost before them is still to be read.
    """

    def __init__(self, user_id: str, wake: Callable[[], None]) -> None:
        self.user_id, self.wake = user_id, wake
        self.channels: set[str] = set()
        self.queue: deque[str] = deque()
        self.waiting = 0  # characters in the queue
        self.overflowed = False
        self.positions: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self.seen: dict[int, bool] = {}
        self.read_to = 0
        self.reading = asyncio.Lock()
        self.held: list[tuple[int, str]] | None = None  # live events during a replay
        self.next_look = 0.0

    def put(self, text: str) -> None:
        """Queue a message that must not be lost."""
        self.waiting += len(text)
        if self.waiting > QUEUE_LIMIT:
            self.overflowed = True
            self.queue.clear()
        if not self.overflowed:
            self.queue.append(text)
        self.wake()

    def take(self) -> str | None:
        """Return the next message, events before positions, or None."""
        if self.queue:
            text = self.queue.popleft()
            self.waiting -= len(text)
            return text
        if self.positions:
            return self.positions.pop(next(iter(self.positions)))
        return None

    def order(self, sequence: int, text: str) -> None:
        """Take a published order event."""
        if self.held is not None:
            self.held.append((sequence, text))
            self.waiting += len(text)
            if self.waiting > QUEUE_LIMIT:
                self.overflowed = True
                self.held.clear()
                self.wake()
        elif not self.seen.get(sequence):
            self._deliver(sequence, text)

    def position(self, position_id: str, version: int, text: str) -> None:
        """Take a published position, unless a newer copy went before it."""
        if version >= self.versions.get(position_id, version):
            self.versions[position_id] = version
            self.positions[position_id] = text
            self.wake()

    def replay(self, rows: Rows) -> bool:
        """Take events from the database, those not delivered yet; False if they are too many."""
        missed = [row for row in rows if row[0] not in self.seen]
        if sum(sequence > self.read_to for sequence, _ in missed) > REPLAY_LIMIT:
            return False
        if sum(len(text) for _, text in missed) > QUEUE_LIMIT // 2:  # it would not fit again later
            return False
        for sequence, text in missed:
            self._deliver(sequence, text)
        self.read_to = max([self.read_to, *(sequence for sequence, _ in rows)])
        return True

    def start_from(self, sequence: int, rows: Rows) -> None:
        """Go on from ``sequence``; what is in the database now is not news."""
        self.read_to = max([sequence, *(known for known, _ in rows)])
        for known, _ in rows:
            self.seen.setdefault(known, False)

    @contextlib.asynccontextmanager
    async def replaying(self) -> AsyncIterator[None]:
        """Hold back what is published meanwhile, and let it follow."""
        async with self.reading:
            self.held = []
            try:
                yield
            finally:
                held, self.held = self.held, None
                for sequence, text in held:
                    self.waiting -= len(text)
                    self.order(sequence, text)

    def _deliver(self, sequence: int, text: str) -> None:
        self.seen[sequence] = True
        if len(self.seen) > SEEN_LIMIT:
            for old in list(itertools.islice(self.seen, SEEN_LIMIT // 4)):
                del self.seen[old]
        self.put(text)


class EventHub:
    """Shares one subscription to the users' events among the clients of this process."""

    def __init__(self, redis_url: str, *, latest: Latest, since: Since) -> None:
        self._url, self._latest, self._since = redis_url, latest, since
        self._users: dict[str, set[EventClient]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._aftermath_at = float("inf")

    def start(self) -> None:
        self._reading = asyncio.Semaphore(READERS)
        self.subscription = Subscription(
            self._url, channel_name(CHANNEL, self._url), self.receive, self._subscribed
        )
        self._run(self.subscription.run())
        self._run(self._look_again())

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def client(self, user_id: str, wake: Callable[[], None]) -> EventClient:
        """Return a client that is subscribed to nothing."""
        client = EventClient(user_id, wake)
        self._users.setdefault(user_id, set()).add(client)
        return client

    def drop(self, client: EventClient) -> None:
        """Forget a client that is gone."""
        clients = self._users.get(client.user_id, set())
        clients.discard(client)
        if not clients:
            self._users.pop(client.user_id, None)

    async def subscribe_orders(self, client: EventClient, since: int | None = None) -> None:
        """Subscribe: a confirmation with the latest sequence, what was missed, then live events.

        Raises:
            Exception: whatever the database raised, after a few tries; nothing is subscribed.
        """
        known = set(client.channels)
        client.channels.add("orders")
        try:
            async with client.replaying():
                latest, rows = await self._read(client.user_id, since)
                client.seen.clear()
                client.put(subscribed("orders", latest))
                client.read_to = latest if since is None else since
                if since is None:
                    client.start_from(latest, rows)
                elif since > latest or not client.replay(rows):
                    await self._start_again(client)
        except BaseException:
            client.channels &= known
            raise
        client.next_look = asyncio.get_running_loop().time() + CATCH_UP_SECONDS

    def receive(self, body: bytes) -> None:
        """Take one batch of events: a JSON array of [user, channel, sequence, payload]."""
        for user_id, channel, sequence, payload in _batch.decode(body):
            if clients := self._users.get(user_id):
                _hand_out(clients, channel, sequence, payload)

    def _subscribed(self) -> None:
        """Redis is back, or there for the first time: what was published meanwhile is lost."""
        now = asyncio.get_running_loop().time()
        for client in self._everyone("orders"):
            client.next_look = now
        if self._users:
            self._aftermath_at = now + AFTERMATH_SECONDS

    async def _look_again(self) -> None:
        """Read the database for every client now and then, and after Redis was away."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = loop.time()
            if now >= self._aftermath_at:
                self._aftermath_at = float("inf")
                self._after_outage(now)
            for client in self._everyone("orders"):
                if now >= client.next_look:
                    client.next_look = now + CATCH_UP_SECONDS
                    self._run(self._catch_up(client))

    def _after_outage(self, now: float) -> None:
        for client in self._everyone("orders"):
            client.next_look = now
        for channel in ("positions", "notifications"):  # not kept by number: load them again
            for client in self._everyone(channel):
                client.put(resync(channel))

    async def _catch_up(self, client: EventClient) -> None:
        """Deliver what the database has and publishing lost."""
        try:
            async with client.replaying():
                while True:
                    async with self._reading:
                        rows = await self._since(client.user_id, client.read_to, READ_LIMIT)
                    if not client.replay(rows):
                        await self._start_again(client)
                        return
                    if len(rows) < READ_LIMIT:
                        return
        except Exception as e:
            logger.warning("events could not be read again (%s)", type(e).__name__)

    async def _start_again(self, client: EventClient) -> None:
        latest, rows = await self._read(client.user_id, None)
        client.put(resync("orders", latest))
        client.start_from(latest, rows)

    async def _read(self, user_id: str, since: int | None) -> tuple[int, Rows]:
        """Return the latest sequence and the events after ``since`` (None: after the latest)."""
        for pause in RETRIES:
            try:
                async with self._reading:
                    latest = await self._latest(user_id)
                    start = latest if since is None else min(since, latest)
                    return latest, await self._since(user_id, start, READ_LIMIT)
            except Exception:
                if pause is None:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError

    def _everyone(self, channel: str) -> list[EventClient]:
        return [
            client
            for clients in self._users.values()
            for client in clients
            if channel in client.channels
        ]

    def _run(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def subscribed(channel: str, sequence: int | None = None) -> str:
    """Return the message that confirms a subscription."""
    number = "" if sequence is None else f',"sequence":{sequence}'
    return f'{{"type":"subscribed","channel":"{channel}"{number}}}'


def resync(channel: str, sequence: int | None = None) -> str:
    """Return the message that tells a client to load the channel's state again."""
    number = "" if sequence is None else f',"sequence":{sequence}'
    return f'{{"type":"resync","channel":"{channel}"{number}}}'


def _hand_out(clients: set[EventClient], channel: str, sequence: int, payload: msgspec.Raw) -> None:
    wanting = [client for client in clients if channel in client.channels]
    if not wanting:
        return
    body = str(payload, "utf-8")
    if channel == "orders":
        text = message("order", sequence, body)
        for client in wanting:
            client.order(sequence, text)
    elif channel == "positions":
        position = _position.decode(payload).position
        text = message("position", sequence, body)
        for client in wanting:
            client.position(position.id, position.version, text)
    elif channel == "notifications":
        text = message("notification", sequence, body)
        for client in wanting:
            client.put(text)
