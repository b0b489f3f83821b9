"""Kite's ticker: ticks and order updates over the SDK's socket.

The SDK reconnects and subscribes anew by itself. What it lacks is here: a check of the server's
certificate, a watch on silence (it does not notice a connection that went dead), an end when the
session is over (it would try a dead token for ever), and exact prices. Importing this module
imports the SDK and Twisted.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import certifi
from autobahn.twisted.websocket import connectWS
from kiteconnect import KiteTicker
from twisted.internet import ssl

from brokerages.adapters.zerodha import books, mapping, market, reactor
from brokerages.adapters.zerodha.values import BROKER
from brokerages.base import BrokerStream
from brokerages.errors import NotSupported
from brokerages.types import (
    InstrumentRef,
    OrderHint,
    OrderReport,
    QuoteDepth,
    StreamDown,
    StreamEvent,
    StreamUp,
    Tick,
)

logger = logging.getLogger(__name__)

MOST_INSTRUMENTS = 3000
SILENCE_SECONDS = 10.0  # a heartbeat comes every couple of seconds, also without ticks
WATCH_SECONDS = 1.0
CONNECT_SECONDS = 10
LONGEST_DELAY = 30  # seconds between attempts, growing up to it
MOST_TRIES = 300  # the SDK's own bound; then a new ticker goes on

_MODES = {QuoteDepth.LTP: "ltp", QuoteDepth.OHLC: "quote", QuoteDepth.FULL: "full"}
_REFUSED = re.compile(r"\b40[13]\b")
# The SDK logs each loss as an error, with whatever text the peer sent; ours says it once.
logging.getLogger("kiteconnect.ticker").addFilter(lambda record: False)


@dataclass(frozen=True, slots=True)
class _End:
    """Put last: no event follows."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Stands for the newest tick of an instrument: older ones that nobody took are dropped."""

    token: int


class Ticker(KiteTicker):
    """The SDK's ticker, over a connection whose certificate is checked."""

    def connect(self, *ignored: Any, **also: Any) -> None:
        """Connect; in the loop's thread only."""
        self._create_connection(
            self.socket_url,
            useragent=self._user_agent(),
            headers={"X-Kite-Version": "3"},
        )
        self.factory.noisy = False
        context = _trusted(self.factory.host) if self.factory.isSecure else None
        connectWS(self.factory, contextFactory=context, timeout=self.connect_timeout)


class KiteStream(BrokerStream):
    """One user's socket. The SDK's part lives in the loop's thread, ours in the caller's; between
    them is a queue in which a tick takes the place of an older one of the same instrument.
    """

    def __init__(
        self,
        *,
        api_key: str,
        access_token: str,
        root: str | None,
        now: Callable[[], datetime],
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._api_key, self._access_token, self._root, self._now = api_key, access_token, root, now
        self._silence = silence_seconds
        self._queue: queue.SimpleQueue[StreamEvent | _Waiting | _End] = queue.SimpleQueue()
        self._ticks: dict[int, Tick] = {}
        self._wanted: dict[int, tuple[InstrumentRef, str]] = {}
        self._lock = threading.Lock()
        self._started = self._closed = False
        # of the loop's thread
        self._ticker: Ticker | None = None
        self._up = self._told_down = self._over = False
        self._heard_at = 0.0
        self._watch: Any = None

    # --- The caller's thread ----------------------------------------------------------------------

    def subscribe(self, instruments: Sequence[InstrumentRef], depth: QuoteDepth) -> None:
        mode = _MODES[depth]
        wanted = {market.instrument_token(ref): (ref, mode) for ref in instruments}
        with self._lock:
            if len(self._wanted.keys() | wanted.keys()) > MOST_INSTRUMENTS:
                raise NotSupported(
                    f"Zerodha streams at most {MOST_INSTRUMENTS} instruments over one connection.",
                    broker=BROKER,
                    code="too_many_instruments",
                )
            self._wanted |= wanted
        if self._started:
            reactor.run_soon(self._ask, mode, list(wanted))

    def unsubscribe(self, instruments: Sequence[InstrumentRef]) -> None:
        tokens = [market.instrument_token(ref) for ref in instruments]
        with self._lock:
            tokens = [t for t in tokens if self._wanted.pop(t, None) is not None]
        if self._started and tokens:
            reactor.run_soon(self._ask_no_more, tokens)

    def events(self) -> Iterator[StreamEvent]:
        with self._lock:
            begin = not self._started and not self._closed
            self._started = True
        if begin:
            reactor.start()
            reactor.run_soon(self._begin)
        while not isinstance(event := self._queue.get(), _End):
            if isinstance(event, _Waiting):
                with self._lock:
                    tick = self._ticks.pop(event.token, None)
                    known = event.token in self._wanted
                if tick is not None and known:
                    yield tick
            elif not self._closed:
                yield event
        self._queue.put(event)  # for whoever asks again

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._queue.put(_End())
        if self._started:
            reactor.run_soon(self._end)

    # --- The loop's thread ------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._closed:
            return
        ticker = Ticker(
            self._api_key,
            self._access_token,
            root=self._root,
            reconnect_max_tries=MOST_TRIES,
            reconnect_max_delay=LONGEST_DELAY,
            connect_timeout=CONNECT_SECONDS,
        )
        ticker.on_open = self._opened
        ticker.on_message = self._heard
        ticker.on_ticks = self._ticked
        ticker.on_order_update = self._order_changed
        ticker.on_error = self._failed
        ticker.on_close = self._lost
        ticker.on_reconnect = self._not_connected
        ticker.on_noreconnect = self._given_up
        self._ticker = ticker
        ticker.connect()
        if self._watch is None:
            self._watch = reactor.run_later(WATCH_SECONDS, self._look)

    def _opened(self, ticker: Ticker) -> None:
        if self._over or self._closed:  # closed while it was connecting
            self._end()
            return
        self._up, self._told_down, self._heard_at = True, False, time.monotonic()
        with self._lock:
            wanted = {token: mode for token, (_, mode) in self._wanted.items()}
        # what the SDK remembers it has subscribed again already
        for mode in set(wanted.values()):
            tokens = [
                t for t, m in wanted.items() if m == mode and ticker.subscribed_tokens.get(t) != m
            ]
            self._ask(mode, tokens)
        self._queue.put(StreamUp())

    def _ask(self, mode: str, tokens: list[int]) -> None:
        if self._ticker is None or not self._up or not tokens:
            return  # asked for when the socket opens
        self._ticker.subscribe(tokens)
        self._ticker.set_mode(mode, tokens)

    def _ask_no_more(self, tokens: list[int]) -> None:
        if self._ticker is None:
            return
        if self._up:
            self._ticker.unsubscribe(tokens)
        for token in tokens:
            self._ticker.subscribed_tokens.pop(token, None)

    def _heard(self, ticker: Ticker, payload: bytes, is_binary: bool) -> None:
        self._heard_at = time.monotonic()

    def _ticked(self, ticker: Ticker, rows: list[dict[str, Any]]) -> None:
        now = self._now()
        for row in rows:
            token = row.get("instrument_token", 0)
            with self._lock:
                ref, _ = self._wanted.get(token, (None, ""))
            if ref is None:
                continue
            try:
                tick = market.tick_of(ref, row, now)
            except (KeyError, TypeError, ValueError, ArithmeticError):
                logger.warning("an unreadable tick of %s from %s", ref.key, BROKER)
                continue
            if tick is None:
                continue
            with self._lock:
                waits = token in self._ticks
                self._ticks[token] = tick
            if not waits:
                self._queue.put(_Waiting(token))

    def _order_changed(self, ticker: Ticker, row: Any) -> None:
        event = order_event(row, self._now())
        if event is not None:
            self._queue.put(event)

    def _failed(self, ticker: Ticker, code: Any, reason: Any) -> None:
        if code and _REFUSED.search(str(reason)):
            self._finish("Zerodha refused the stream: the session is over.")

    def _lost(self, ticker: Ticker, code: Any, reason: Any) -> None:
        self._up = False
        self._tell_down("The connection to Zerodha was lost.")

    def _not_connected(self, ticker: Ticker, attempt: int) -> None:
        self._tell_down("Zerodha cannot be reached.")

    def _given_up(self, ticker: Ticker) -> None:
        if not self._over and not self._closed:
            self._begin()

    def _look(self) -> None:
        """Cut a connection that has gone silent: the SDK then connects anew."""
        if self._over or self._closed:
            return
        self._watch = reactor.run_later(WATCH_SECONDS, self._look)
        if self._up and time.monotonic() - self._heard_at > self._silence:
            logger.warning("silence from %s: connecting anew", BROKER)
            self._heard_at = time.monotonic()
            self._cut()

    def _tell_down(self, reason: str) -> None:
        if not (self._told_down or self._over or self._closed):
            self._told_down = True
            self._queue.put(StreamDown(reason))

    def _finish(self, reason: str) -> None:
        if self._over or self._closed:
            return
        self._queue.put(StreamDown(reason, final=True))
        self._queue.put(_End())
        self._end()

    def _end(self) -> None:
        self._over = True
        self._up = False
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        if self._ticker is not None:
            self._ticker.stop_retry()
            self._cut()

    def _cut(self) -> None:
        socket = self._ticker.ws if self._ticker is not None else None
        if socket is not None and socket.transport is not None:
            socket.transport.abortConnection()


def order_event(row: Any, now: datetime) -> OrderReport | OrderHint | None:
    """Return what a pushed order row says: the order's state, or only that it changed, where the
    row alone does not tell it; None for what is no order of ours to know.
    """
    try:
        if row["exchange"] not in mapping.TRADED:
            return None
        if books.is_leg(row):
            return mapping.order_hint(row)
        return mapping.order_report(row, now)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        logger.warning("an unreadable order update from %s", BROKER)
        return None


def _trusted(host: str) -> Any:
    """Return a TLS client that checks the certificate of ``host`` by the public authorities."""
    return ssl.optionsForClientTLS(host, trustRoot=_authorities(certifi.where()))


@cache
def _authorities(path: str) -> Any:
    """Return the authorities of a file: reading them takes long enough to do it once."""
    marker = "-----END CERTIFICATE-----"
    parts = Path(path).read_text(encoding="utf-8").split(marker)
    found = [
        ssl.Certificate.loadPEM((part[part.index("-----BEGIN") :] + marker).encode())
        for part in parts
        if "-----BEGIN" in part
    ]
    return ssl.trustRootFromCertificates(found)  # type: ignore[no-untyped-call]
