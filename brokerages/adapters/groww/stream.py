"""Groww's feed: NATS over a WebSocket, straight on ``nats-py``, the library below the SDK's feed.

The SDK's ``GrowwFeed`` is not used. It keeps only the newest of several order updates, writes the
account's keys into files that every feed of the machine shares (a reconnect may come back as
another user), signs in again with a token that has expired, and ends without telling. Here each
connection gets a key pair and a socket token of its own that never touch a disk, order updates
queue up, and every loss is told. All streams of a process share one thread with an event loop: it
only moves bytes; messages are read in the thread that calls `GrowwStream.events`.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import certifi
import nats.errors
import nkeys
from google.protobuf.message import DecodeError
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from brokerages.adapters.groww import feed
from brokerages.adapters.groww.answers import BROKER
from brokerages.adapters.groww.client import Client
from brokerages.base import AdapterContext, BrokerStream, Pace
from brokerages.errors import BrokerError, NotSupported, PermissionDenied, SessionExpired
from brokerages.types import (
    InstrumentRef,
    QuoteDepth,
    StreamDown,
    StreamEvent,
    StreamUp,
)

logger = logging.getLogger(__name__)

STREAM = "wss://socket-api.groww.in"
MOST_SUBJECTS = 1000
CONNECT_TIMEOUT = 12.0
PING_EVERY = 20.0  # a connection that leaves three unanswered is dead
SILENCE = 60.0  # in market hours, with instruments subscribed
LONGEST_SILENCE = 900.0
CHECK_EVERY = 5.0
FIRST_DELAY, LONGEST_DELAY = 2.0, 60.0  # Groww throttles accounts that reconnect often
STEADY = 60.0  # a connection that held this long was a good one
TOKEN_THREADS = 16  # wait for socket tokens, of all streams of the process
MOST_REFUSALS = 2  # of fresh socket tokens in a row


class _Unauthorised(Exception):
    """The feed does not take the socket token (any more)."""


class _End:
    """The stream is over."""


@dataclass(frozen=True, slots=True)
class _Arrived:
    subject: str
    data: bytes


class GrowwStream(BrokerStream):
    def __init__(
        self,
        context: AdapterContext,
        access_token: str,
        *,
        silence: float | None = None,
        first_delay: float | None = None,
    ) -> None:
        self._context, self._token = context, access_token
        self._url = (context.endpoints.get("stream") or STREAM).rstrip("/")
        self._silence, self._first_delay = silence or SILENCE, first_delay or FIRST_DELAY
        self._lock = threading.Lock()
        self._wanted: dict[str, InstrumentRef] = {}  # by subject
        self._box, self._board = _Mailbox(), feed.Board()
        self._closed, self._drop_reason = False, ""
        self._heard, self._patience = time.monotonic(), self._silence
        self._up = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signal = asyncio.Event()

    # --- The caller's thread ----------------------------------------------------------------------

    def subscribe(self, instruments: Sequence[InstrumentRef], depth: QuoteDepth) -> None:
        asked = {s: ref for ref in instruments for s in feed.tick_subjects(ref, depth)}
        with self._lock:
            if len(self._wanted | asked) > MOST_SUBJECTS:
                raise NotSupported(
                    f"Groww streams at most {MOST_SUBJECTS} subjects at once.",
                    broker=BROKER,
                    code="too_many_instruments",
                )
            self._wanted |= asked
        self._poke()

    def unsubscribe(self, instruments: Sequence[InstrumentRef]) -> None:
        with self._lock:
            for instrument in instruments:
                for subject in feed.tick_subjects(instrument, QuoteDepth.FULL):
                    self._wanted.pop(subject, None)
                self._board.forget(instrument)
        self._poke()

    def events(self) -> Iterator[StreamEvent]:
        if self._closed:
            return
        _run_on_loop(self._live())
        try:
            while True:
                item = self._box.take(min(CHECK_EVERY, self._silence / 2))
                if item is _End:
                    return
                if isinstance(item, _Arrived):
                    yield from self._read(item)
                elif isinstance(item, StreamUp | StreamDown):
                    yield item
                    if isinstance(item, StreamDown) and item.final:
                        return
                self._watch_silence()
        finally:
            self.close()

    def close(self) -> None:
        self._closed = True
        self._box.put(_End)
        self._poke()

    def _read(self, arrived: _Arrived) -> Iterator[StreamEvent]:
        now = self._context.now()
        try:
            if feed.is_order(arrived.subject):
                yield from feed.order_events(arrived.data, now)
                return
            with self._lock:
                instrument = self._wanted.get(arrived.subject)
            if instrument is None:
                return
            if (tick := self._board.tick(instrument, arrived.data, now)) is not None:
                yield tick
        except (DecodeError, ValueError, OverflowError, ArithmeticError) as e:
            logger.error("groww's feed: unreadable message on %s: %r", arrived.subject[:40], e)

    def _watch_silence(self) -> None:
        """Give a connection up that says nothing while the market is open, each time after a longer
        wait: an instrument may have nothing to say.
        """
        if not self._up or time.monotonic() - self._heard < self._patience:
            return
        now = self._context.now()
        with self._lock:
            sample = list(self._wanted.values())[:20]
        if any(self._context.market_open(instrument, now) for instrument in sample):
            self._drop_reason = f"no data for {self._patience:.0f} s"
            self._patience = min(self._patience * 2, LONGEST_SILENCE)
            self._up = False
            self._poke()

    def _poke(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is gone
                self._loop.call_soon_threadsafe(self._signal.set)

    # --- The loop's thread ------------------------------------------------------------------------

    async def _live(self) -> None:
        """Connect, stay, and connect again until closed or until it is pointless."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._reconnect_for_ever()
        except Exception:
            logger.exception("groww's feed ended by a mistake of ours")
            self._box.put(StreamDown("internal error", final=True))
        finally:
            self._box.put(_End)

    async def _reconnect_for_ever(self) -> None:
        delay, refusals, told = self._first_delay, 0, False
        while not self._closed:
            began, link, reason = time.monotonic(), _Link(self), ""
            try:
                await asyncio.wait_for(link.connect(self._url, self._access), CONNECT_TIMEOUT)
                self._heard, self._up, self._drop_reason = time.monotonic(), True, ""
                self._box.put(StreamUp())
                told = False
                reason = await self._stay(link)
            except SessionExpired as e:
                self._box.put(StreamDown(e.message, final=True))
                return
            except (_Unauthorised, PermissionDenied):
                refusals += 1
                reason = "authorisation violation"
            except (TimeoutError, OSError, BrokerError, nats.errors.Error, _Failed) as e:
                reason = f"cannot connect: {e}"[:200]
            finally:
                self._up = False
                await link.close()
            if self._closed:
                return
            if time.monotonic() - began > STEADY:
                delay, refusals = self._first_delay, min(refusals, 1)
            if refusals >= MOST_REFUSALS:
                self._box.put(StreamDown(reason, final=True))
                return
            if not told:
                self._box.put(StreamDown(reason))
                told = True
            await self._pause(delay * random.uniform(0.8, 1.2))  # noqa: S311 - spreads, guards nothing
            delay = min(delay * 2, LONGEST_DELAY)

    async def _stay(self, link: _Link) -> str:
        """Keep subscriptions as they are wanted until the connection is lost; return why.

        Raises:
            _Unauthorised: the feed ended it so.
        """
        while True:
            self._signal.clear()
            if self._closed or self._drop_reason:
                return self._drop_reason or "closed"
            if link.lost:
                if link.unauthorised:
                    raise _Unauthorised
                return link.reason
            with self._lock:
                wanted = set(self._wanted)
            await link.subscribe_to(wanted)
            await self._signal.wait()

    async def _pause(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while not self._closed and (left := ends - time.monotonic()) > 0:
            self._signal.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._signal.wait(), left)

    def _access(self, public_key: str) -> tuple[str, str]:
        """Return a socket token for a key and the name of the account's private subjects. Blocks.

        Raises:
            BrokerError: by what Groww's answer proves.
        """
        self._context.pace(Pace.OTHER)
        api = self._context.endpoints.get("api", "")
        client = Client(self._token, api=api, timeout=5, deadline=8)
        try:
            answer = client.generate_socket_token(_PublicKey(public_key.encode()))
        finally:
            client.close()
        return str(answer.get("token") or ""), str(answer.get("subscriptionId") or "")

    def heard(self, subject: str, data: bytes) -> None:
        self._heard, self._patience = time.monotonic(), self._silence
        self._box.put(_Arrived(subject, data), latest_only=not feed.is_order(subject))

    def lost(self) -> None:
        self._poke()


class _Failed(Exception):
    """The connection could not be made."""


@dataclass(frozen=True, slots=True)
class _PublicKey:
    """As much of a key pair as the SDK's request for a socket token looks at."""

    public_key: bytes


class _Link:
    """One connection to the feed, signed in with keys of its own. On the loop's thread."""

    def __init__(self, stream: GrowwStream) -> None:
        self._stream, self._nats = stream, Nats()
        self._subscribed: dict[str, Subscription] = {}
        self._connected = False
        self.lost, self.unauthorised, self.reason = False, False, "the connection is lost"

    async def connect(self, url: str, access: Any) -> None:
        keys = nkeys.from_seed(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))
        public = keys.public_key.decode()
        token, subscription = await asyncio.get_running_loop().run_in_executor(None, access, public)
        secure = ssl.create_default_context(cafile=certifi.where()) if url[:3] == "wss" else None
        try:
            subjects = feed.order_subjects(subscription)
            await self._nats.connect(
                servers=[url],
                user_jwt_cb=lambda: bytearray(token.encode()),
                signature_cb=lambda nonce: base64.b64encode(keys.sign(nonce.encode())),
                tls=secure,
                allow_reconnect=False,
                connect_timeout=5,
                ping_interval=PING_EVERY,  # type: ignore[arg-type]  # seconds, of any kind
                max_outstanding_pings=2,
                error_cb=self._on_error,
                closed_cb=self._on_closed,
            )
        except (ValueError, nats.errors.Error) as e:
            if "authorization" in str(e).lower():
                raise _Unauthorised from e
            raise _Failed(str(e) or type(e).__name__) from e
        finally:
            keys.wipe()
        self._connected = True
        for subject in subjects:
            await self._nats.subscribe(subject, cb=self._on_message)
        await self._nats.flush(5)

    async def subscribe_to(self, wanted: set[str]) -> None:
        if wanted == self._subscribed.keys():
            return
        try:
            for subject in self._subscribed.keys() - wanted:
                await self._subscribed.pop(subject).unsubscribe()
            for subject in wanted - self._subscribed.keys():
                self._subscribed[subject] = await self._nats.subscribe(subject, cb=self._on_message)
        except nats.errors.Error as e:
            self._lose(str(e))

    async def close(self) -> None:
        with suppress(Exception):
            await asyncio.wait_for(self._nats.close(), 3)

    async def _on_message(self, message: Msg) -> None:
        self._stream.heard(message.subject, message.data)

    async def _on_error(self, error: Exception) -> None:
        if not self._connected:  # or the library tries again by itself
            if getattr(error, "status", 0) in (401, 403):
                raise _Unauthorised
            raise error if isinstance(error, nats.errors.Error) else _Failed(str(error))
        self._lose(str(error) or type(error).__name__)

    async def _on_closed(self) -> None:
        if isinstance(self._nats.last_error, nats.errors.AuthorizationError):
            self.unauthorised = True
        self._lose(str(self._nats.last_error or "the server closed the connection"))

    def _lose(self, reason: str) -> None:
        if not self.lost:
            self.lost, self.reason = True, reason[:200]
        self._stream.lost()


class _Mailbox:
    """Between the threads, in order. Of ticks only the latest of each subject waits: each says the
    whole state. Everything else waits until it is taken.
    """

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._items: deque[Any] = deque()
        self._latest: dict[str, _Arrived] = {}

    def put(self, item: Any, *, latest_only: bool = False) -> None:
        with self._ready:
            if latest_only:
                waits = item.subject in self._latest
                self._latest[item.subject] = item
                if waits:
                    return
                item = item.subject
            self._items.append(item)
            self._ready.notify()

    def take(self, timeout: float) -> Any:
        """Return the next item, or None when there is none in time."""
        with self._ready:
            if not self._items:
                self._ready.wait(timeout)
            if not self._items:
                return None
            item = self._items.popleft()
            return self._latest.pop(item) if isinstance(item, str) else item


# --- The loop that all streams of a process share -------------------------------------------------


@dataclass
class _Shared:
    lock: threading.Lock = field(default_factory=threading.Lock)
    loop: asyncio.AbstractEventLoop | None = None
    pid: int = 0
    running: set[Any] = field(default_factory=set)


_shared = _Shared()


def _run_on_loop(work: Coroutine[Any, Any, None]) -> None:
    with _shared.lock:
        if _shared.loop is None or _shared.pid != os.getpid():
            _shared.loop, _shared.pid = asyncio.new_event_loop(), os.getpid()
            waiting = ThreadPoolExecutor(TOKEN_THREADS, thread_name_prefix="groww-tokens")
            _shared.loop.set_default_executor(waiting)
            threading.Thread(
                target=_shared.loop.run_forever, name="groww-feeds", daemon=True
            ).start()
        future = asyncio.run_coroutine_threadsafe(work, _shared.loop)
        _shared.running.add(future)  # or it might be collected while it runs
        future.add_done_callback(_shared.running.discard)
