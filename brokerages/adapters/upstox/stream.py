"""Upstox's two sockets as one stream: order updates as JSON text, ticks as protobuf.

The SDK's own streamers are not used. They dial fixed hosts, switch the checks of certificates off
and yet send the token there, take a normal close for the end, give up after five refusals, and do
not notice a connection that has died silently. This stream asks the SDK's authorize calls for an
address with a single-use code before each connection, as the broker documents for clients of one's
own, and reads the feed with the SDK's protobuf classes: so it follows the `endpoints` of the
context, and every connection is made with a token that has just been found good.

The sockets connect, fail and return each for itself: every (re)connection of either is a
`StreamUp`, every loss a `StreamDown`. The feed is connected only once something is subscribed.
"""

from __future__ import annotations

import logging
import queue
import random
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from brokerages.adapters.upstox import mapping, market
from brokerages.adapters.upstox.refusals import BROKER
from brokerages.adapters.upstox.values import read_json, record
from brokerages.base import BrokerStream
from brokerages.errors import BrokerError, NotSupported, RateLimited, Refused
from brokerages.types import (
    InstrumentRef,
    QuoteDepth,
    StreamDown,
    StreamEvent,
    StreamUp,
)

logger = logging.getLogger(__name__)

MOST_ALONE = {"ltpc": 5000, "full": 2000}  # instruments of one mode, if there is only that one
MOST_MIXED = {"ltpc": 2000, "full": 1500}
MOST_IN_FRAME = 500
MOST_WAITING = 20_000  # events that nobody has taken yet; then the sockets wait too
REFUSALS_BEFORE_END = 2  # handshakes that a fresh code did not open


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. ``first_delay`` doubles up to ``most_delay`` while connecting fails. ``beat`` is how
    often and how long a pong is waited for; ``silence`` is how long a server that has pinged may
    say nothing.
    """

    first_delay: float = 1.0
    most_delay: float = 60.0
    beat: float = 10.0
    silence: float = 45.0
    opening: float = 10.0


class UpstoxStream(BrokerStream):
    """``authorize_feed`` and ``authorize_updates`` return the address of one connection each."""

    def __init__(
        self,
        authorize_feed: Callable[[], str],
        authorize_updates: Callable[[], str],
        now: Callable[[], datetime],
        *,
        plain: bool = False,
        patience: Patience | None = None,
    ) -> None:
        self._now, self._closed = now, threading.Event()
        self._events: queue.Queue[StreamEvent | None] = queue.Queue(MOST_WAITING)
        self._lock = threading.Lock()
        self._wanted: dict[str, tuple[InstrumentRef, str]] = {}  # key: instrument, mode
        self._running = False
        shared: dict[str, Any] = {
            "put": self._put,
            "closed": self._closed,
            "plain": plain,
            "patience": patience or Patience(),
        }
        self._updates = _Line("updates", authorize_updates, self._read_update, **shared)
        self._feed = _Line("feed", authorize_feed, self._read_feed, **shared, opened=self._resume)

    def subscribe(self, instruments: Sequence[InstrumentRef], depth: QuoteDepth) -> None:
        mode = market.MODES[depth]
        added = {mapping.instrument_key(i): (i, mode) for i in instruments}
        with self._lock:
            wanted = self._wanted | added
            _check_limits(wanted)
            changed = {
                key: "change_mode" if key in self._wanted else "sub"
                for key, value in added.items()
                if self._wanted.get(key, (None, ""))[1] != value[1]
            }
            self._wanted = wanted
            for method in ("sub", "change_mode"):
                self._ask(method, [key for key, how in changed.items() if how == method], mode)
        if self._running:
            self._feed.start()

    def unsubscribe(self, instruments: Sequence[InstrumentRef]) -> None:
        with self._lock:
            keys = [mapping.instrument_key(i) for i in instruments]
            gone = [key for key in keys if self._wanted.pop(key, None)]
            self._ask("unsub", gone, "")

    def events(self) -> Iterator[StreamEvent]:
        self._running = True
        self._updates.start()
        if self._wanted:
            self._feed.start()
        while (event := self._events.get()) is not None:
            yield event
            if isinstance(event, StreamDown) and event.final:
                break
        self.close()

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        self._updates.close()
        self._feed.close()
        try:
            self._events.put_nowait(None)
        except queue.Full:  # whoever reads finds room for it
            threading.Thread(target=self._events.put, args=(None,), daemon=True).start()

    # --- Inside -----------------------------------------------------------------------------------

    def _put(self, event: StreamEvent) -> None:
        while not self._closed.is_set():
            try:
                return self._events.put(event, timeout=0.5)
            except queue.Full:
                continue

    def _resume(self) -> None:
        with self._lock:
            for mode in MOST_ALONE:
                self._ask("sub", [k for k, (_, m) in self._wanted.items() if m == mode], mode)

    def _ask(self, method: str, keys: Sequence[str], mode: str) -> None:
        for start in range(0, len(keys), MOST_IN_FRAME):
            part = keys[start : start + MOST_IN_FRAME]
            self._feed.send(market.feed_request(method, part, str(uuid.uuid4()), mode))

    def _read_update(self, frame: str | bytes) -> Iterable[StreamEvent]:
        event = mapping.parse_update(record(read_json(frame)), self._now())
        return [] if event is None else [event]

    def _read_feed(self, frame: str | bytes) -> Iterable[StreamEvent]:
        from google.protobuf.message import DecodeError
        from upstox_client.feeder.proto import MarketDataFeedV3_pb2 as proto

        if not isinstance(frame, bytes):
            raise ValueError("a text frame in the feed")
        try:
            message = proto.FeedResponse.FromString(frame)
        except DecodeError as e:
            raise ValueError("not a frame of the feed") from e
        with self._lock:
            wanted = {key: instrument for key, (instrument, _) in self._wanted.items()}
        return market.parse_feed(message, wanted)


class _Line:
    """One socket that comes back after every loss. ``read`` turns a frame into events; ``opened``
    is called after each connection.
    """

    def __init__(
        self,
        name: str,
        authorize: Callable[[], str],
        read: Callable[[str | bytes], Iterable[StreamEvent]],
        *,
        put: Callable[[StreamEvent], None],
        closed: threading.Event,
        plain: bool,
        patience: Patience,
        opened: Callable[[], None] = lambda: None,
    ) -> None:
        self._name, self._authorize, self._read, self._put = name, authorize, read, put
        self._closed, self._patience, self._opened = closed, patience, opened
        self._schemes = ("wss", "ws") if plain else ("wss",)
        self._thread: threading.Thread | None = None
        self._socket: Any = None

    def start(self) -> None:
        """Connect, unless that is under way."""
        if self._thread is None and not self._closed.is_set():
            self._thread = threading.Thread(
                target=self._run, name=f"upstox-{self._name}", daemon=True
            )
            self._thread.start()

    def send(self, frame: bytes) -> None:
        """Send if connected; what is lost here is sent by ``opened`` after the next connection."""
        if (socket := self._socket) is not None:
            try:
                socket.send(frame)
            except Exception as e:  # the thread of the socket sees and tells the loss itself
                logger.debug("upstox %s: a frame was not sent: %s", self._name, type(e).__name__)

    def close(self) -> None:
        if (socket := self._socket) is not None:
            threading.Thread(target=socket.close, daemon=True).start()

    def _run(self) -> None:
        refused, delay = 0, self._patience.first_delay
        while not self._closed.is_set():
            began = time.monotonic()
            try:
                reason, status = self._connection()
            except RateLimited as e:
                reason, status, delay = e.message, 0, max(delay, e.retry_after)
            except Refused as e:
                self._put(StreamDown(e.message, final=True))
                return
            except BrokerError as e:
                reason, status = e.message, 0
            except Exception as e:  # a bug here must not end the stream without a word
                logger.exception("upstox %s failed", self._name)
                reason, status = f"failed: {type(e).__name__}", 0
            if self._closed.is_set():
                return
            refused = refused + 1 if status in (401, 403) else 0
            if refused >= REFUSALS_BEFORE_END:
                self._put(StreamDown(f"Upstox refuses the connection: {reason}.", final=True))
                return
            self._put(StreamDown(reason))
            if time.monotonic() - began > self._patience.most_delay:
                delay = self._patience.first_delay  # it had held
            self._closed.wait(delay * random.uniform(0.75, 1.25))  # noqa: S311 - no secret
            delay = min(delay * 2, self._patience.most_delay)

    def _connection(self) -> tuple[str, int]:
        """Connect and read until the connection is over; return why, and the HTTP status of a
        refused handshake.
        """
        from websockets.exceptions import InvalidStatus, WebSocketException

        address = self._authorize()
        if urlsplit(address).scheme not in self._schemes:
            raise Refused("Upstox named no safe address.", broker=BROKER, code="socket_address")
        try:
            with _connect(address, self._patience) as socket:
                self._socket = socket
                try:
                    self._put(StreamUp())
                    self._opened()
                    return self._read_all(socket), 0
                finally:
                    self._socket = None
        except InvalidStatus as e:
            return f"HTTP {e.response.status_code}", e.response.status_code
        except (WebSocketException, OSError) as e:  # their texts may hold the address and its code
            return f"The connection was lost ({type(e).__name__}).", 0

    def _read_all(self, socket: Any) -> str:
        step = min(1.0, self._patience.silence / 4)
        while not self._closed.is_set():
            try:
                frame = socket.recv(timeout=step)
            except TimeoutError:
                if socket.pinged and time.monotonic() - socket.heard_at > self._patience.silence:
                    return "The connection has gone silent."
                continue
            try:
                events = self._read(frame)
            except (ValueError, KeyError, TypeError) as e:
                logger.warning("upstox %s: unreadable frame (%s)", self._name, type(e).__name__)
                continue
            for event in events:
                self._put(event)
        return "closed"


def _connect(address: str, patience: Patience) -> Any:
    """Connect, with pings of our own: a connection without pongs is dead. Certificates are checked
    against the authorities that the SDK's requests go by.
    """
    import certifi
    from websockets.frames import Frame, Opcode
    from websockets.sync.client import ClientConnection, connect

    class Connection(ClientConnection):
        """Knows when the server last said something by itself, its pings included."""

        pinged, heard_at = False, 0.0

        def process_event(self, event: Any) -> None:
            if not isinstance(event, Frame) or event.opcode is not Opcode.PONG:
                self.heard_at = time.monotonic()
                self.pinged |= isinstance(event, Frame) and event.opcode is Opcode.PING
            super().process_event(event)

    safe = address.startswith("wss:")
    return connect(
        address,
        ssl=ssl.create_default_context(cafile=certifi.where()) if safe else None,
        open_timeout=patience.opening,
        ping_interval=patience.beat,
        ping_timeout=patience.beat,
        close_timeout=2,
        max_size=16 * 1024 * 1024,
        proxy=None,
        create_connection=Connection,
    )


def _check_limits(wanted: Mapping[str, tuple[InstrumentRef, str]]) -> None:
    counts: dict[str, int] = {}
    for _, mode in wanted.values():
        counts[mode] = counts.get(mode, 0) + 1
    limits = MOST_MIXED if len(counts) > 1 else MOST_ALONE
    for mode, count in counts.items():
        if count > limits[mode]:
            raise NotSupported(
                f"Upstox streams at most {limits[mode]} instruments like this on one connection.",
                broker=BROKER,
                code="too_many_instruments",
            )
