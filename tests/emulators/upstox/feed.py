"""The sockets: the protobuf feed of prices and the order stream, behind single-use codes.

A client asks for an address with a code (or is sent there by a redirect, if it dials the feed
itself with its token) and connects once with it. The feed says how the segments stand, then shows a
snapshot of what is subscribed, then every change. The schema is the SDK's own.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from upstox_client.feeder.proto import MarketDataFeedV3_pb2 as proto

from tests.emulators.core.dialect import Call, Dialect, route
from tests.emulators.core.exchange import OrderEvent
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.market import Book
from tests.emulators.core.messages import Request, Response, dump
from tests.emulators.core.sockets import Socket
from tests.emulators.upstox.words import error, key_of, millis, success, update_row

FEED, UPDATES = "/v3/feed/market-data-feed", "/v2/feed/portfolio-stream-feed"
FEED_SOCKET = "/market-data-feeder/v3/upstox-developer-api/feeds"
UPDATES_SOCKET = "/portfolio-stream-feeder/v1/upstox-developer-api/feeds"
MODES = ("ltpc", "option_greeks", "full", "full_d30")
MOST_ALONE = {"ltpc": 5000, "option_greeks": 3000, "full": 2000, "full_d30": 0}
MOST_MIXED = {"ltpc": 2000, "option_greeks": 2000, "full": 1500, "full_d30": 0}
MOST_FEEDS = 2  # connections of one user
LEVELS = 5


@dataclass(slots=True)
class Ticket:
    """What a single-use code opens."""

    token: str
    path: str
    update_types: tuple[str, ...] = ()


class Feed(Dialect):
    """``heartbeat`` is seconds between the server's pings."""

    by_key: dict[str, Instrument]
    sockets: list[Socket]
    tickets: dict[str, Ticket]
    heartbeat: float

    def live_session(self, token: str) -> Any:
        raise NotImplementedError

    # --- Addresses --------------------------------------------------------------------------------

    @route("GET", "/v3/feed/market-data-feed/authorize", group="authorize")
    def authorize_feed(self, call: Call) -> Response:
        return self._authorized(self._address(call.request, FEED_SOCKET))

    @route("GET", "/v2/feed/portfolio-stream-feed/authorize", group="authorize")
    def authorize_updates(self, call: Call) -> Response:
        return self._authorized(self._address(call.request, UPDATES_SOCKET))

    def _authorized(self, address: str) -> Response:
        return success({"authorizedRedirectUri": address, "authorized_redirect_uri": address})

    def _address(self, request: Request, path: str) -> str:
        code = secrets.token_urlsafe(24)
        kinds = tuple(request.query.get("update_types", "order").split(","))
        self.tickets[code] = Ticket(request.bearer, path, kinds)
        scheme = self.server.ws_url.split(":")[0]
        host = request.headers.get("host", "")
        question = urlencode({"requestId": secrets.token_hex(8), "code": code})
        return f"{scheme}://{host}{path}?{question}"

    # --- Handshakes -------------------------------------------------------------------------------

    def accept_socket(self, request: Request) -> Response | None:
        if request.path in (FEED, UPDATES):
            if not self.live_session(request.bearer):
                return error(401, "UDAPI100050", "Invalid token used to access API")
            path = FEED_SOCKET if request.path == FEED else UPDATES_SOCKET
            return Response.redirect(self._address(request, path))
        if request.path not in (FEED_SOCKET, UPDATES_SOCKET):
            return error(404, "UDAPI100060", "Resource not Found.")
        ticket = self.tickets.get(request.query.get("code", ""))
        if ticket is None or ticket.path != request.path or not self.live_session(ticket.token):
            return error(403, "UDAPI100050", "Invalid token used to access API")
        user = self.live_session(ticket.token).user_id
        mine = [s for s in self.sockets if s.state["feed"] and s.state["user_id"] == user]
        if ticket.path == FEED_SOCKET and len(mine) >= MOST_FEEDS:
            return error(403, "UDAPI10005", "Too many connections")
        return None

    async def serve_socket(self, socket: Socket) -> None:
        ticket = self.tickets.pop(socket.request.query["code"])
        session = self.live_session(ticket.token)
        feed = ticket.path == FEED_SOCKET
        socket.state |= {
            "feed": feed,
            "user_id": session.user_id,
            "token": ticket.token,
            "kinds": ticket.update_types,
            "modes": {},
        }
        self.sockets.append(socket)
        self.server.spawn(self._beat(socket))
        try:
            if feed:
                socket.send(self._market_info())
            while (message := await socket.receive()) is not None:
                if feed:
                    self._listen(socket, message)
        finally:
            self.sockets.remove(socket)

    async def _beat(self, socket: Socket) -> None:
        while not socket.closed:
            await asyncio.sleep(self.heartbeat)
            if not self.live_session(socket.state["token"]):
                socket.close(1000, "session over")
            elif not socket.closed:
                socket.ping()

    # --- The feed ---------------------------------------------------------------------------------

    def _listen(self, socket: Socket, message: str | bytes) -> None:
        """Take a request: JSON in a binary frame. What cannot be read is not answered."""
        if isinstance(message, str):
            return
        try:
            said = json.loads(message)
            method, data = said["method"], said["data"]
            keys, mode = list(data["instrumentKeys"]), data.get("mode")
        except (ValueError, KeyError, TypeError):
            return
        modes = socket.state["modes"]
        known = [key for key in keys if key in self.by_key]
        if method == "unsub":
            for key in known:
                modes.pop(key, None)
        elif method in ("sub", "change_mode") and mode in MODES:
            wanted = modes | dict.fromkeys(known, mode)
            counts = {name: list(wanted.values()).count(name) for name in set(wanted.values())}
            limits = MOST_MIXED if len(counts) > 1 else MOST_ALONE
            if any(count > limits[name] for name, count in counts.items()):
                socket.close(1008, "subscription limit")
                return
            modes.update(wanted)
            if known:
                socket.send(self._frame(known, modes, proto.initial_feed), "EVENT tick")

    def _frame(self, keys: list[str], modes: dict[str, str], kind: int) -> bytes:
        message = proto.FeedResponse(type=kind, currentTs=millis(self.clock.now()))
        with self.exchange.lock:
            for key in keys:
                fill(message.feeds[key], self.exchange.book(self.by_key[key]), modes[key])
        data: bytes = message.SerializeToString()
        return data

    def _market_info(self) -> bytes:
        message = proto.FeedResponse(type=proto.market_info, currentTs=millis(self.clock.now()))
        status = proto.NORMAL_OPEN if self.exchange.market_open else proto.NORMAL_CLOSE
        for segment in ("NSE_EQ", "NSE_FO", "NSE_INDEX", "BSE_EQ", "BSE_FO", "NCD_FO", "MCX_FO"):
            message.marketInfo.segmentStatus[segment] = status
        data: bytes = message.SerializeToString()
        return data

    # --- Pushes -----------------------------------------------------------------------------------

    def push_tick(self, instrument: Instrument) -> None:
        key = key_of(instrument)
        for socket in self.sockets:
            if key in socket.state["modes"]:
                frame = self._frame([key], socket.state["modes"], proto.live_feed)
                socket.send(frame, "EVENT tick")

    def push_order(self, event: OrderEvent) -> None:
        """Tell every order stream of the user, whatever app placed the order."""
        text = dump(update_row(event.order, event.row)).decode()
        for socket in self.sockets:
            state = socket.state
            mine = state["user_id"] == event.account.user_id
            if mine and not state["feed"] and "order" in state["kinds"]:
                socket.send(text, "EVENT socket")


def fill(feed: Any, book: Book, mode: str) -> None:
    """Write one instrument's state into a ``Feed``."""
    instrument = book.instrument
    if mode == "ltpc":
        _ltpc(feed.ltpc, book)
        return
    if mode == "option_greeks":
        feed.requestMode = proto.option_greeks
        first = feed.firstLevelWithGreeks
        _ltpc(first.ltpc, book)
        _levels([first.firstDepth], book)
        first.vtt, first.oi = book.volume, book.open_interest
        return
    feed.requestMode = proto.full_d30 if mode == "full_d30" else proto.full_d5
    full = feed.fullFeed.indexFF if instrument.is_index else feed.fullFeed.marketFF
    _ltpc(full.ltpc, book)
    for interval in ("1d", "I1"):
        full.marketOHLC.ohlc.add(
            interval=interval,
            open=float(book.open),
            high=float(book.high),
            low=float(book.low),
            close=float(book.last),
            vol=book.volume,
            ts=millis(book.at),
        )
    if instrument.is_index:
        return
    _levels([full.marketLevel.bidAskQuote.add() for _ in range(LEVELS)], book)
    full.atp, full.vtt = float(book.average), book.volume
    full.tbq = sum(level.quantity for level in book.bids)
    full.tsq = sum(level.quantity for level in book.asks)
    if instrument.is_derivative:
        full.oi = book.open_interest


def _ltpc(target: Any, book: Book) -> None:
    target.ltp, target.ltt = float(book.last), millis(book.at)
    target.ltq, target.cp = book.last_quantity, float(book.close)


def _levels(targets: list[Any], book: Book) -> None:
    for number, target in enumerate(targets):
        if number < len(book.bids):
            level = book.bids[number]
            target.bidQ, target.bidP = level.quantity, float(level.price)
        if number < len(book.asks):
            level = book.asks[number]
            target.askQ, target.askP = level.quantity, float(level.price)
