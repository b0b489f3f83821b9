"""What brokers push of orders, for many users in one process.

Each connection whose broker pushes has a thread that waits on its stream and does nothing else.
What comes is applied by a few threads with database connections: events of one connection by one of
them, in their order. After every (re)connect, and whenever an event tells less than all (a hint, or
more filled than the fills that we have), the connection's books are read by other threads: once,
however often it was asked for meanwhile.

A stream that its broker ends for good is not tried again before the user has a new session.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from django.db import DatabaseError, InterfaceError, close_old_connections
from django.db import connection as database

from brokerages.base import BrokerStream
from brokerages.errors import BrokerError, SessionExpired
from brokerages.problems import NotFound
from brokerages.registry import BROKER_NAMES, adapter_class
from brokerages.services import adapter_for, session_check
from brokerages.streamed import StreamedConnection, connections_streamed
from brokerages.types import (
    FillReport,
    OrderHint,
    OrderReport,
    ReportedStatus,
    StreamDown,
    StreamEvent,
    StreamUp,
)
from trading.models import Order
from trading.order_states import OrderStatus
from trading.services.books import books_apply, connection_reconcile
from trading.services.reports import fill_apply, report_apply
from trading.services.stream_shards import Shards, shard_of

logger = logging.getLogger(__name__)

ROUND_SECONDS = 1.0  # between two looks at sessions and shards
APPLIERS, READERS = 4, 4  # threads that write, and threads that read books
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # between tries to open a stream or to read a book
DRAIN_SECONDS = 10.0

Work = Callable[[], None]


@dataclass
class Stream:
    """The stream of one connection, and how far it has come."""

    connection: StreamedConnection
    stream: BrokerStream | None = None
    thread: threading.Thread | None = None
    over: bool = False  # ended for good: not again with this session
    closed: bool = False
    pause: float = 0.0
    not_before: float = 0.0
    up: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class OrderStreams:
    """All streams of this process. `run` returns when ``stop`` is set and what came is applied."""

    def __init__(self) -> None:
        self.streams: dict[UUID, Stream] = {}
        self._shards = Shards()
        self._appliers = [_Worker(f"apply-{n}") for n in range(APPLIERS)]
        self._books = _Books(READERS)

    def run(self, stop: threading.Event) -> None:
        """Serve until ``stop``; survive a lost database."""
        while not stop.is_set():
            try:
                self.round()
            except (DatabaseError, InterfaceError) as e:
                logger.warning("order streams: the database is away (%s)", type(e).__name__)
                database.close()
            except Exception:  # whatever one round meets, the streams that are open go on
                logger.exception("order streams: a round failed")
            stop.wait(ROUND_SECONDS)
        self.close()

    def round(self) -> None:
        """Take shards, open what is new, close what is over.

        Raises:
            DatabaseError: the database is away; open streams stay open.
        """
        shards = self._shards.balance()
        brokers = [b for b in BROKER_NAMES if adapter_class(b).capabilities.pushes_order_updates]
        wanted = {c.id: c for c in connections_streamed(brokers) if shard_of(c.id) in shards}
        for connection_id, known in list(self.streams.items()):
            now = wanted.get(connection_id)
            if now is None or now.opened_at != known.connection.opened_at:
                self._close(known)
                del self.streams[connection_id]
        for connection_id, connection in wanted.items():
            one = self.streams.setdefault(connection_id, Stream(connection))
            is_idle = one.stream is None and one.thread is None
            if is_idle and not one.over and time.monotonic() >= one.not_before:
                one.not_before = float("inf")  # until it was tried
                self._applier(one).put(lambda one=one: self._open(one))  # type: ignore[misc]

    def close(self) -> None:
        """Close all streams, apply what has come, and let others take over."""
        streams = list(self.streams.values())
        for one in streams:
            self._close(one)
        until = time.monotonic() + DRAIN_SECONDS
        for one in streams:
            if (thread := one.thread) is not None:
                thread.join(max(until - time.monotonic(), 0.1))
        for worker in self._appliers:
            worker.stop(until)
        self._books.stop(until)
        self.streams.clear()
        try:
            self._shards.release()
        except (DatabaseError, InterfaceError):
            logger.info("order streams: the database is away; its locks are free already")

    # --- One stream -------------------------------------------------------------------------------

    def _applier(self, one: Stream) -> _Worker:
        return self._appliers[one.connection.id.int // 64 % APPLIERS]

    def _open(self, one: Stream) -> None:
        if one.closed:
            return
        try:
            stream = adapter_for(one.connection.id).open_stream()
        except SessionExpired:
            one.over = True  # the next round sees the session that is open then
            return
        except Exception as e:
            if not isinstance(e, BrokerError):
                logger.exception("no stream for connection %s", one.connection.id)
            one.pause = min(max(2 * one.pause, FIRST_PAUSE), LONGEST_PAUSE)
            one.not_before = time.monotonic() + one.pause
            return
        with one.lock:
            if one.closed:
                stream.close()
                return
            one.stream = stream
            name = f"orders-{one.connection.broker}-{one.connection.id.hex[-6:]}"
            one.thread = threading.Thread(target=self._listen, args=(one,), name=name, daemon=True)
            one.thread.start()

    def _listen(self, one: Stream) -> None:
        """Hand on what the stream yields. Touches no database."""
        stream, applier = one.stream, self._applier(one)
        assert stream is not None  # noqa: S101
        try:
            for event in stream.events():
                applier.put(lambda event=event: self._take(one, event))  # type: ignore[misc]
        except Exception:
            logger.exception("the stream of connection %s failed", one.connection.id)
        finally:
            applier.put(lambda: self._ended(one))

    def _ended(self, one: Stream) -> None:
        with one.lock:
            stream, one.stream, one.thread = one.stream, None, None
        if stream is not None:
            stream.close()
        one.up = False
        if not one.closed and not one.over:  # it should not end by itself: again, but not at once
            one.pause = min(max(2 * one.pause, FIRST_PAUSE), LONGEST_PAUSE)
            one.not_before = time.monotonic() + one.pause

    def _close(self, one: Stream) -> None:
        with one.lock:
            one.closed = True
            if one.stream is not None:
                one.stream.close()

    def _take(self, one: Stream, event: StreamEvent) -> None:
        """Apply one event. Everything may come twice and in any order."""
        connection_id, broker = one.connection.id, one.connection.broker
        if isinstance(event, OrderReport):
            order = report_apply(connection_id=connection_id, broker=broker, report=event)
            if order is not None and _lacks_fills(order, event):
                self._books.ask(connection_id)
        elif isinstance(event, FillReport):
            fill_apply(connection_id=connection_id, broker=broker, fill=event)
        elif isinstance(event, OrderHint):
            self._books.ask(connection_id)
        elif isinstance(event, StreamUp):
            one.up, one.pause = True, 0.0
            self._books.ask(connection_id, all_of_it=False)
        elif isinstance(event, StreamDown):
            one.up = False
            level = logging.WARNING if event.final else logging.INFO
            logger.log(level, "stream of %s %s: %s", broker, connection_id, event.reason)
            if event.final:
                one.over = True
                self._books.ask_session(one.connection)


def _lacks_fills(order: Order, report: OrderReport) -> bool:
    if report.filled_quantity > order.filled_quantity:
        return True
    return report.status is ReportedStatus.FILLED and order.status != OrderStatus.FILLED


# --- Threads --------------------------------------------------------------------------------------


class _Worker:
    """A thread that does what it is given, in order; a failure ends one piece of work."""

    def __init__(self, name: str) -> None:
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, work: Work) -> None:
        self._queue.put(work)

    def stop(self, until: float) -> None:
        """Let it do what it has, and end."""
        self._queue.put(None)
        self._thread.join(max(until - time.monotonic(), 0.1))

    def _run(self) -> None:
        try:
            while (work := self._queue.get()) is not None:
                _do(work)
        finally:
            database.close()


def _do(work: Work) -> None:
    close_old_connections()
    try:
        work()
    except (DatabaseError, InterfaceError) as e:
        # what is lost here is in the broker's books, and read from there
        logger.warning("order streams: not applied, the database is away (%s)", type(e).__name__)
        close_old_connections()
    except Exception:
        logger.exception("order streams: not applied")


class _Books:
    """Threads that read the books of connections: soon, once for all who ask meanwhile, and again
    after a failure.
    """

    def __init__(self, threads: int) -> None:
        self._ready = threading.Condition()
        self._due: list[tuple[float, int, UUID]] = []
        self._wanted: dict[UUID, tuple[bool, float]] = {}  # all of it, and the pause before
        self._sessions: list[StreamedConnection] = []
        self._busy: set[UUID] = set()
        self._count = itertools.count()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"books-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, connection_id: UUID, *, all_of_it: bool = True) -> None:
        """Have the books read. Unless ``all_of_it``, only if an order of ours is open."""
        self._put(connection_id, all_of_it, 0.0)

    def ask_session(self, connection: StreamedConnection) -> None:
        """Have the broker asked whether the session still stands, and the answer recorded."""
        with self._ready:
            self._sessions.append(connection)
            self._ready.notify()

    def stop(self, until: float) -> None:
        """Let what is due now be read, and end."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0.1))

    def _put(self, connection_id: UUID, all_of_it: bool, pause: float) -> None:
        with self._ready:
            before = self._wanted.get(connection_id)
            self._wanted[connection_id] = (all_of_it or bool(before and before[0]), pause)
            if before is None:
                at = time.monotonic() + pause
                heapq.heappush(self._due, (at, next(self._count), connection_id))
                self._ready.notify()

    def _run(self) -> None:
        try:
            while (work := self._next()) is not None:
                _do(work)
        finally:
            database.close()

    def _next(self) -> Work | None:
        with self._ready:
            while True:
                if self._sessions:
                    connection = self._sessions.pop()
                    return lambda: _session_ask(connection)
                now = time.monotonic()
                ready = [x for x in self._due if x[0] <= now and x[2] not in self._busy]
                if ready:
                    chosen = min(ready)
                    self._due.remove(chosen)
                    heapq.heapify(self._due)
                    all_of_it, pause = self._wanted.pop(chosen[2])
                    self._busy.add(chosen[2])
                    return lambda: self._read(chosen[2], all_of_it, pause)
                if self._stopping:
                    return None
                later = [at for at, _, _ in self._due if at > now]
                self._ready.wait(min(later) - now if later else None)

    def _read(self, connection_id: UUID, all_of_it: bool, pause: float) -> None:
        failed = False
        try:
            (books_apply if all_of_it else connection_reconcile)(connection_id)
        except SessionExpired:
            logger.info("the session of connection %s is over", connection_id)
        except BrokerError as e:
            logger.warning("could not read the books of connection %s: %s", connection_id, e)
            failed = True
        except Exception:
            failed = True
            raise
        finally:
            with self._ready:
                self._busy.discard(connection_id)
                self._ready.notify()
            if failed and not self._stopping:
                again = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
                self._put(connection_id, all_of_it, again)


def _session_ask(connection: StreamedConnection) -> None:
    try:
        session_check(user_id=connection.user_id, connection_id=connection.id)
    except (BrokerError, NotFound) as e:
        logger.warning("could not ask for the session of connection %s: %s", connection.id, e)
