"""The ticker: binary frames of prices, heartbeats, and text frames of orders."""

from __future__ import annotations

import asyncio
import json
import struct
from decimal import Decimal
from typing import Any

from tests.emulators.core.dialect import Dialect
from tests.emulators.core.exchange import OrderEvent
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.market import LEVELS, Book, Level
from tests.emulators.core.messages import Request, Response, dump
from tests.emulators.core.orders import Stage
from tests.emulators.core.sockets import Socket
from tests.emulators.zerodha.words import error, order_row, token_of

MODES = ("ltp", "quote", "full")
MAX_TOKENS = 3000
MAX_SOCKETS = 3
DIVISORS = {3: 10_000_000, 6: 10_000, 12: 10_000}  # by segment; 100 for the rest
TOLD = {Stage.OPEN, Stage.TRIGGER_PENDING, Stage.COMPLETE, Stage.CANCELLED, Stage.REJECTED}


def packet(book: Book, mode: str) -> bytes:
    """Return one instrument's packet: 8, 28, 32, 44 or 184 bytes."""
    instrument = book.instrument
    token = token_of(instrument)
    divisor = DIVISORS.get(token & 0xFF, 100)

    def whole(price: Decimal) -> int:
        return int(price * divisor)

    head = [token, whole(book.last)]
    if mode == "ltp":
        return struct.pack(">2I", *head)
    at = int(book.at.timestamp())
    if instrument.is_index:
        change = whole(book.last) - whole(book.close)
        prices = [whole(price) for price in (book.high, book.low, book.open, book.close)]
        packed = struct.pack(">6Ii", *head, *prices, change)
        return packed + (struct.pack(">I", at) if mode == "full" else b"")
    fields = [
        *head,
        book.last_quantity,
        whole(book.average),
        book.volume,
        sum(level.quantity for level in book.bids),
        sum(level.quantity for level in book.asks),
        *(whole(price) for price in (book.open, book.high, book.low, book.close)),
    ]
    if mode == "quote":
        return struct.pack(">11I", *fields)
    interest = book.open_interest if instrument.is_derivative else 0
    packed = struct.pack(">16I", *fields, at, interest, interest, interest, at)
    for levels in (book.bids, book.asks):
        padded = [*levels[:LEVELS], *[Level(Decimal(0), 0, 0)] * (LEVELS - len(levels))]
        for level in padded:
            packed += struct.pack(">IIHxx", level.quantity, whole(level.price), level.orders)
    return packed


def frame(packets: list[bytes]) -> bytes:
    parts = [struct.pack(">H", len(one)) + one for one in packets]
    return struct.pack(">H", len(packets)) + b"".join(parts)


class Ticker(Dialect):
    """``heartbeat`` is seconds between the one-byte frames. Ticks of one moment go in one frame."""

    by_token: dict[int, Instrument]
    sockets: list[Socket]
    heartbeat: float

    def live_session(self, api_key: str, access_token: str) -> Any:
        raise NotImplementedError

    def accept_socket(self, request: Request) -> Response | None:
        query = request.query
        api_key = query.get("api_key", "")
        session = self.live_session(api_key, query.get("access_token", ""))
        if session is None:
            return error(403, "TokenException", "Incorrect `api_key` or `access_token`.")
        if sum(s.state["api_key"] == api_key for s in self.sockets) >= MAX_SOCKETS:
            return error(429, "NetworkException", "Too many requests")
        return None

    async def serve_socket(self, socket: Socket) -> None:
        query = socket.request.query
        session = self.live_session(query["api_key"], query["access_token"])
        if session is None:  # it ended since the handshake
            socket.abort()
            return
        socket.state |= {
            "api_key": session.api_key,
            "access_token": session.access_token,
            "user_id": session.user_id,
            "modes": {},
            "due": set(),
        }
        self.sockets.append(socket)
        self.server.spawn(self._beat(socket))
        try:
            while (message := await socket.receive()) is not None:
                if isinstance(message, str):
                    self._listen(socket, message)
        finally:
            self.sockets.remove(socket)

    async def _beat(self, socket: Socket) -> None:
        """Send the heartbeat; end a socket whose session is over."""
        while not socket.closed:
            socket.send(b"\x00")
            await asyncio.sleep(self.heartbeat)
            state = socket.state
            if not self.live_session(state["api_key"], state["access_token"]):
                socket.abort()

    def _listen(self, socket: Socket, message: str) -> None:
        try:
            said = json.loads(message)
            action, value = said["a"], said["v"]
            mode, tokens = (None, value) if action != "mode" else value
        except (ValueError, KeyError, TypeError):
            socket.send(_text("error", "Invalid message."))
            return
        modes = socket.state["modes"]
        # Tokens that are no numbers, or of nothing listed, bring no ticks and no error.
        known = [t for t in tokens if isinstance(t, int) and t in self.by_token]
        if action == "unsubscribe":
            for token in known:
                modes.pop(token, None)
            return
        if action not in ("subscribe", "mode") or mode not in (None, *MODES):
            socket.send(_text("error", f"Invalid action: {action}."))
            return
        if len(modes.keys() | set(known)) > MAX_TOKENS:
            socket.send(_text("error", f"Subscription limit of {MAX_TOKENS} instruments exceeded."))
            return
        for token in known:
            modes[token] = mode or modes.get(token, "quote")
        self._due(socket, known)

    # --- Pushes -----------------------------------------------------------------------------------

    def push_tick(self, instrument: Instrument) -> None:
        token = token_of(instrument)
        for socket in self.sockets:
            if token in socket.state["modes"]:
                self._due(socket, [token])

    def _due(self, socket: Socket, tokens: list[int]) -> None:
        due = socket.state["due"]
        if tokens and not due:
            asyncio.get_running_loop().call_later(0.01, self._send_due, socket)
        due.update(tokens)

    def _send_due(self, socket: Socket) -> None:
        modes, due = socket.state["modes"], sorted(socket.state["due"])
        socket.state["due"].clear()
        with self.exchange.lock:
            packets = [
                packet(self.exchange.book(self.by_token[token]), modes[token])
                for token in due
                if token in modes
            ]
        if packets:
            socket.send(frame(packets), "EVENT tick")

    def push_order(self, event: OrderEvent, status: str) -> None:
        """Tell every socket of the user, whatever app placed the order."""
        data = order_row(event.order, event.row, status)
        data |= {
            "user_id": event.account.user_id,
            "app_id": 1234,
            "unfilled_quantity": event.row.remaining,
            "checksum": "",
        }
        for socket in self.sockets:
            if socket.state["user_id"] == event.account.user_id:
                socket.send(_text("order", data), "EVENT socket")


def _text(kind: str, data: Any) -> str:
    return dump({"type": kind, "data": data}).decode()
