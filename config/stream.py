"""The WebSocket process: a plain ASGI application for `/ws`, and what its sockets share.

One `config.sockets.Socket` serves each client; the hubs bring what is published; a few threads ask
the database. In production uvicorn runs it by itself, in embedded it is a part of `config.asgi`.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

from config.env import plain_errors

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")

with plain_errors():
    import django

    django.setup()

    from django.conf import settings
    from django.db import close_old_connections

    from accounts.ws_auth import principal_from_session_cookie, principal_from_token
    from config.sockets import Limits, Receive, Scope, Send, Socket
    from marketdata.broker_prices import prices_from
    from marketdata.channels import broker_symbol
    from marketdata.hub import QuoteHub
    from marketdata.selectors import ref_by_key
    from marketdata.ticks import ticks_latest
    from trading import push
    from trading.hub import EventHub, Rows, message
    from trading.selectors import order_events_since, order_sequence

T = TypeVar("T")

PATH = "/ws"
THREADS = 4
NOT_FOUND = push.encode(
    {"error": {"code": "not_found", "message": "Nothing is found at this address.", "detail": {}}}
)


class Questions:
    """What sockets ask the database, synchronously, in threads."""

    def principal(self, kind: str, value: str) -> Any:
        ask = principal_from_token if kind == "token" else principal_from_session_cookie
        return ask(value)

    def names(self, user_id: str, symbols: Iterable[str]) -> dict[str, str]:
        """Return under which name the live stream has each symbol for this user: a broker's, if
        their prices come from there. What is no instrument is left out.
        """
        known = [symbol for symbol in symbols if ref_by_key(symbol) is not None]
        connection = prices_from(UUID(user_id))
        if connection is None:
            return {symbol: symbol for symbol in known}
        return {symbol: broker_symbol(connection.broker, symbol) for symbol in known}

    def ticks(self, symbols: Iterable[str]) -> dict[str, bytes]:
        """Return the latest known prices, as the feed publishes them."""
        return ticks_latest(symbols)

    def latest(self, user_id: str) -> int:
        return order_sequence(user_id=UUID(user_id))

    def since(self, user_id: str, sequence: int, limit: int) -> Rows:
        rows = order_events_since(user_id=UUID(user_id), sequence=sequence, limit=limit)
        return [
            (
                row["sequence"],
                message(
                    "order",
                    row["sequence"],
                    push.encode({"order": row["order"], "event": row["event"]}).decode(),
                ),
            )
            for row in rows
        ]


class Application:
    """The ASGI application: the sockets of this process and what they share."""

    def __init__(self, questions: Questions | None = None, limits: Limits | None = None) -> None:
        self.questions, self.limits = questions or Questions(), limits or Limits()
        self.sockets: dict[str, int] = {}  # user -> how many
        self.waiting = 0
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket" and scope["path"] == PATH:
            self.start()
            await Socket(self, scope, receive, send).serve()
        else:
            await _not_found(scope, receive, send)

    def start(self) -> None:
        """Start the hubs, if the server did not announce its start."""
        if self._started:
            return
        self._started = True
        self._threads = ThreadPoolExecutor(THREADS, "stream-database")
        self.quotes = QuoteHub(settings.REDIS_URL)
        self.events = EventHub(
            settings.REDIS_URL,
            latest=lambda user_id: self.ask(self.questions.latest, user_id),
            since=lambda *arguments: self.ask(self.questions.since, *arguments),
        )
        self.quotes.start()
        self.events.start()

    async def stop(self) -> None:
        if self._started:
            await self.quotes.close()
            await self.events.close()
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._started = False

    async def ask(self, question: Callable[..., T], *arguments: Any) -> T:
        """Ask the database in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _asked, question, *arguments)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            event = await receive()
            if event["type"] == "lifespan.startup":
                self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _asked(question: Callable[..., T], *arguments: Any) -> T:
    close_old_connections()
    try:
        return question(*arguments)
    finally:
        close_old_connections()


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()
        kind = "websocket.http.response"
        if kind not in scope.get("extensions", {}):
            await send({"type": "websocket.close"})
            return
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(NOT_FOUND))]
    await send({"type": f"{kind}.start", "status": 404, "headers": headers})
    await send({"type": f"{kind}.body", "body": NOT_FOUND})


application = Application()
