"""Prices that brokers push, through the sessions of users who take their prices from there.

A part of the feed: only the one that publishes has streams. What sockets want of a broker (see
`broker_symbol`) is spread over the open sessions there, as few as can hold it: what has a place
keeps it, and moves to another session when its own is lost. Of each instrument only the newest tick
waits to be published. A stream that its broker ends for good is left until that user has a new
session.

A broker's prices are the broker's: they have keys of their own in the live stream and in the cache,
and never stand where simulated ones would.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from django.db import DatabaseError, close_old_connections
from django.db import connection as database

from brokerages.base import BrokerStream
from brokerages.errors import BrokerError, NotSupported, Refused, SessionExpired
from brokerages.models import BrokerConnection
from brokerages.problems import NotFound
from brokerages.registry import UnknownBroker, adapter_class
from brokerages.services import adapter_for, session_check
from brokerages.streamed import StreamedConnection, connections_streamed
from brokerages.types import InstrumentRef, Quote, QuoteDepth, StreamDown, StreamUp, Tick
from marketdata import selectors
from marketdata.broker_refs import refs_at_broker
from marketdata.channels import split_symbol

logger = logging.getLogger(__name__)

ROUND_SECONDS = 1.0  # between two looks at sessions and at what is wanted
PATIENCE_SECONDS = 15.0  # that a stream may be down before what it had moves to another
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # between tries to open a stream


@dataclass
class Line:
    """The stream of one session, and what it is to carry."""

    connection: StreamedConnection
    capacity: int
    wanted: dict[int, InstrumentRef] = field(default_factory=dict)
    asked: dict[int, InstrumentRef] = field(default_factory=dict)  # what the stream was told
    stream: BrokerStream | None = None
    thread: threading.Thread | None = None
    over: bool = False  # ended for good: not again with this session
    closed: bool = False
    pause: float = 0.0
    not_before: float = 0.0
    down_since: float | None = None
    refused: set[int] = field(default_factory=set)  # instruments that its broker does not stream
    lock: threading.Lock = field(default_factory=threading.Lock)

    def may_carry(self, now: float) -> bool:
        """Whether instruments should be given to it, or left with it."""
        is_down = self.down_since is not None and now - self.down_since > PATIENCE_SECONDS
        return not (self.over or self.closed or is_down)


TOO_MANY = "too_many_instruments"  # what every adapter's stream says at its limit


class BrokerTicks:
    """The streams of the feed that publishes. `follow` and `take` are called from its thread."""

    def __init__(self) -> None:
        self.lines: dict[UUID, Line] = {}
        self.unserved: dict[str, int] = {}  # by broker: wanted, and no session has room
        self._ticks: dict[tuple[str, int], Tick] = {}
        self._lock = threading.Lock()
        self._next_round = 0.0

    def follow(self, names: Iterable[str]) -> None:
        """Have exactly these names (of `broker_symbol`) carried, as far as there are sessions.

        A lost database changes nothing: what is carried goes on.
        """
        wanted: dict[str, set[str]] = {}
        for name in names:
            broker, symbol = split_symbol(name)
            if broker:
                wanted.setdefault(broker, set()).add(symbol)
        now = time.monotonic()
        if now < self._next_round or not (wanted or self.lines):
            return
        self._next_round = now + ROUND_SECONDS
        try:
            self._round(wanted, now)
        except DatabaseError as e:
            logger.warning("broker prices: the database is away (%s)", type(e).__name__)
        except Exception:  # whatever one broker does, the other prices go on
            logger.exception("broker prices: a round failed")

    def take(self) -> list[tuple[str, str, Quote]]:
        """Return what changed since the last call: (broker, symbol, quote)."""
        with self._lock:
            ticks, self._ticks = self._ticks, {}
        found = []
        for (broker, instrument_id), tick in ticks.items():
            key = selectors.ref_by_id(instrument_id).key
            found.append((broker, key, tick.quote or _bare_quote(tick)))
        return found

    def close(self) -> None:
        """End all streams, without waiting long."""
        for line in self.lines.values():
            _close(line)
        for line in self.lines.values():
            if line.thread is not None:
                line.thread.join(2.0)
        self.lines.clear()
        with self._lock:
            self._ticks.clear()

    # --- Who carries what -------------------------------------------------------------------------

    def _round(self, wanted: Mapping[str, set[str]], now: float) -> None:
        brokers = {*wanted, *(line.connection.broker for line in self.lines.values())}
        open_now = {
            c.id: c
            for c in connections_streamed(filter(_streams_ticks, brokers))
            if c.data_source == BrokerConnection.DataSource.BROKER
        }
        for connection_id, line in list(self.lines.items()):
            session = open_now.get(connection_id)
            if session is None or session.opened_at != line.connection.opened_at:
                _close(line)
                del self.lines[connection_id]
        for connection in open_now.values():
            if connection.id not in self.lines:
                most = adapter_class(connection.broker).capabilities.max_stream_instruments
                self.lines[connection.id] = Line(connection, most)
        for broker in brokers:
            self._spread(broker, _refs(broker, wanted.get(broker, set())), now)
        for line in self.lines.values():
            self._keep(line, now)

    def _spread(self, broker: str, refs: dict[int, InstrumentRef], now: float) -> None:
        """Give each instrument to one line: its own if it may carry it on, else the fullest that
        has room, so that few sessions are used.
        """
        lines = [x for x in self.lines.values() if x.connection.broker == broker]
        able = [x for x in lines if x.may_carry(now)]
        left = dict(refs)
        for line in lines:
            kept = line.wanted if line in able else {}
            kept = {pk: left.pop(pk) for pk in list(kept) if pk in left}
            line.wanted = dict(list(kept.items())[: line.capacity])
            left |= dict(list(kept.items())[line.capacity :])
        for line in sorted(able, key=lambda x: (-len(x.wanted), str(x.connection.opened_at))):
            room = line.capacity - len(line.wanted)
            for pk in list(left)[: max(room, 0)]:
                line.wanted[pk] = left.pop(pk)
        if len(left) != self.unserved.get(broker, 0) and left:
            logger.warning("broker prices: no session of %s for %d instruments", broker, len(left))
        self.unserved[broker] = len(left)

    def _keep(self, line: Line, now: float) -> None:
        """Open, tell or close the stream of a line by what it is to carry."""
        if line.over or line.closed:
            return  # never replaced: its token was refused, and only another session may try again
        if not line.wanted:
            if line.stream is not None or line.thread is not None:
                _close(line)  # a fresh one when it is needed again, and no sooner
                self.lines[line.connection.id] = Line(
                    line.connection,
                    line.capacity,
                    pause=line.pause,
                    not_before=line.not_before,
                    down_since=line.down_since,
                    refused=line.refused,
                )
            return
        if line.thread is None:
            if now >= line.not_before:
                name = f"ticks-{line.connection.broker}-{line.connection.id.hex[-6:]}"
                line.thread = threading.Thread(
                    target=self._run, args=(line,), name=name, daemon=True
                )
                line.thread.start()
            return
        with line.lock:
            if line.stream is not None:
                _tell(line)

    # --- The thread of one line -------------------------------------------------------------------

    def _run(self, line: Line) -> None:
        try:
            if self._open(line):
                self._listen(line)
        except Exception:
            logger.exception("broker prices: the stream of %s failed", line.connection.id)
        finally:
            with line.lock:
                if line.stream is not None:
                    line.stream.close()
                line.stream, line.asked = None, {}
                if line.down_since is None:
                    line.down_since = time.monotonic()
                line.pause = min(max(2 * line.pause, FIRST_PAUSE), LONGEST_PAUSE)
                line.not_before = time.monotonic() + line.pause
                line.thread = None
            database.close()

    def _open(self, line: Line) -> bool:
        close_old_connections()
        try:
            stream = adapter_for(line.connection.id).open_stream()
        except SessionExpired:
            line.over = True
            return False
        except BrokerError as e:
            logger.warning("broker prices: no stream for %s: %s", line.connection.id, e)
            return False
        finally:
            database.close()  # none is needed while it listens
        with line.lock:
            if line.closed:
                stream.close()
                return False
            line.stream = stream
            _tell(line)
        return True

    def _listen(self, line: Line) -> None:
        broker, stream = line.connection.broker, line.stream
        assert stream is not None  # noqa: S101
        for event in stream.events():
            if isinstance(event, Tick):
                if event.last_price > 0:
                    with self._lock:
                        self._ticks[broker, event.instrument_id] = event
            elif isinstance(event, StreamUp):
                line.down_since, line.pause = None, 0.0
            elif isinstance(event, StreamDown):
                line.down_since = line.down_since or time.monotonic()
                line.over = line.over or event.final
                logger.log(
                    logging.WARNING if event.final else logging.INFO,
                    "broker prices: %s %s: %s",
                    broker, line.connection.id, event.reason,
                )  # fmt: skip
                if event.final:
                    _session_ask(line.connection)


def _tell(line: Line) -> None:
    """Bring what the stream was asked for to what is wanted. With the line's lock."""
    stream = line.stream
    assert stream is not None  # noqa: S101
    wanted, known = dict(line.wanted), line.asked
    try:
        if gone := [ref for pk, ref in known.items() if pk not in wanted]:
            stream.unsubscribe(gone)
            for ref in gone:
                del known[ref.id]
        fresh = [ref for pk, ref in wanted.items() if pk not in known and pk not in line.refused]
        if fresh:
            stream.subscribe(fresh, QuoteDepth.FULL)
            known.update({ref.id: ref for ref in fresh})
    except BrokerError as e:
        if isinstance(e, NotSupported) and e.code == TOO_MANY:
            # less than its capabilities say, where a full quote counts twice: others have room
            line.capacity = max(min(line.capacity, len(wanted)) // 2, 1)
            logger.info("broker prices: %s carries %d", line.connection.id, line.capacity)
        else:
            _tell_each(line, stream, wanted)


def _tell_each(line: Line, stream: BrokerStream, wanted: dict[int, InstrumentRef]) -> None:
    """Ask for each instrument by itself: one that the broker does not stream costs only itself."""
    for pk, ref in wanted.items():
        if pk in line.asked or pk in line.refused:
            continue
        try:
            stream.subscribe([ref], QuoteDepth.FULL)
        except Refused as e:
            if e.code == TOO_MANY:
                return
            line.refused.add(pk)
            logger.warning("broker prices: no ticks of %s: %s", ref.key, e)
        except BrokerError:
            return  # it passes: the next round asks again
        else:
            line.asked[pk] = ref


def _close(line: Line) -> None:
    with line.lock:
        line.closed = True
        if line.stream is not None:
            line.stream.close()


def _session_ask(connection: StreamedConnection) -> None:
    """Have the broker asked whether the session still stands, and the answer recorded."""
    try:
        session_check(user_id=connection.user_id, connection_id=connection.id)
    except (BrokerError, NotFound, DatabaseError) as e:
        logger.warning("broker prices: session of %s not checked: %s", connection.id, e)


def _streams_ticks(broker: str) -> bool:
    try:
        return adapter_class(broker).capabilities.streams_ticks
    except UnknownBroker:
        return False


def _refs(broker: str, symbols: Iterable[str]) -> dict[int, InstrumentRef]:
    """Return the broker's references of what it lists, by id, in the order of ids."""
    ids = [ref.id for symbol in symbols if (ref := selectors.ref_by_key(symbol)) is not None]
    return refs_at_broker(broker, sorted(ids)) if ids and _streams_ticks(broker) else {}


def _bare_quote(tick: Tick) -> Quote:
    return Quote(tick.instrument_id, tick.last_price, tick.at, tick.source, volume=tick.volume)
