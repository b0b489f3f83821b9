"""One socket of a client: sign-in, messages both ways, its end. The protocol: docs/websocket.md.

Each socket has one reader, one writer and one watcher task. Everything for the client passes
through two bounded places, the queue of `trading.hub` and the conflating map of `marketdata.hub`;
only the writer sends, so a client that takes nothing holds up nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import msgspec
from django.conf import settings
from django.http import parse_cookie
from django.http.request import split_domain_port, validate_host

from marketdata.channels import split_symbol
from trading.hub import CHANNELS, subscribed
from trading.push import encode

if TYPE_CHECKING:
    from config.stream import Application

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

NOT_AUTHENTICATED, NOT_ALLOWED, AUTH_TOO_SLOW, TOO_MANY = 4401, 4403, 4408, 4429
BROKEN_RULE, TOO_BIG, OUR_FAULT, TRY_LATER = 1008, 1009, 1011, 1013


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may do, and how long it may take."""

    auth_seconds: float = 5.0
    check_seconds: float = 30.0  # between looks whether the sign-in still stands
    failed_checks: int = 3  # looks in a row that the database may refuse
    stall_seconds: float = 30.0  # for one message to be taken by the client
    close_seconds: float = 5.0
    symbols: int = 500
    sockets_per_user: int = 20  # in this process
    waiting_sockets: int = 1000  # not signed in yet, in this process
    message_bytes: int = 32 * 1024
    messages_per_second: float = 50.0
    message_burst: float = 200.0
    symbols_per_message: int = 25  # so many symbols count as one more message
    orders_cost: float = 40.0  # reading events again counts as so many more messages


class Command(msgspec.Struct):
    """A message of a client."""

    type: str
    token: str = ""
    channel: str = ""
    symbols: list[str] | None = None
    since: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    batch: bool | None = None


_command = msgspec.json.Decoder(Command)


class Close(Exception):
    """The socket is to be closed."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Disconnected(Exception):
    """The client is gone."""


class Socket:
    """One connection, from its handshake to its end."""

    def __init__(self, app: Application, scope: Scope, receive: Receive, send: Send) -> None:
        self.app, self.limits = app, app.limits
        self._receive, self._send = receive, send
        self._headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            self._headers.setdefault(name.lower(), []).append(value.decode("latin-1"))
        self._credential = ("", "")
        self._user_id = ""
        self._batch = False
        self._wake = asyncio.Event()
        self._over: asyncio.Future[Close] = asyncio.get_running_loop().create_future()
        self._sending_since: float | None = None
        self._allowance, self._counted_at = self.limits.message_burst, self._now()

    async def serve(self) -> None:
        await self._receive()  # websocket.connect
        try:
            await self._send({"type": "websocket.accept"})
            await self._sign_in()
            await self._live()
        except (Disconnected, OSError):
            pass
        except Close as e:
            await self._close(e.code, e.reason)
        except Exception:
            logger.exception("socket ended by an error of ours")
            await self._close(OUR_FAULT, "internal error")

    async def _close(self, code: int, reason: str) -> None:
        # A client that takes nothing cannot be told either.
        with contextlib.suppress(TimeoutError, OSError, RuntimeError):
            async with asyncio.timeout(self.limits.close_seconds):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})

    # --- Sign-in ---------------------------------------------------------------------------------

    async def _sign_in(self) -> None:
        if not origin_allowed(self._headers):
            raise Close(NOT_ALLOWED, "origin not allowed")
        if self.app.waiting >= self.limits.waiting_sockets:
            raise Close(TRY_LATER, "too many connections")
        self.app.waiting += 1
        try:
            principal = await self._by_cookie() or await self._by_message()
        finally:
            self.app.waiting -= 1
        self._user_id = str(principal.id)

    async def _by_cookie(self) -> Any:
        if b"origin" not in self._headers:  # not a browser, or one that does not say whose page
            return None
        cookies = parse_cookie("; ".join(self._headers.get(b"cookie", [])))
        value = cookies.get(settings.SESSION_COOKIE_NAME)
        return await self._principal("cookie", value) if value else None

    async def _by_message(self) -> Any:
        try:
            async with asyncio.timeout(self.limits.auth_seconds):
                text = await self._read()
        except TimeoutError:
            if self._credential[0]:  # a session cookie that is not good any more
                raise Close(NOT_AUTHENTICATED, "sign in again") from None
            raise Close(AUTH_TOO_SLOW, "no auth message") from None
        try:
            command = _command.decode(text)
        except (msgspec.MsgspecError, RecursionError):
            raise Close(NOT_AUTHENTICATED, "the first message must be auth") from None
        if command.type != "auth":
            raise Close(NOT_AUTHENTICATED, "the first message must be auth")
        return await self._principal_of(command)

    async def _principal_of(self, command: Command) -> Any:
        principal = await self._principal("token", command.token)
        if principal is None:
            raise Close(NOT_AUTHENTICATED, "token not valid")
        return principal

    async def _principal(self, kind: str, value: str) -> Any:
        """Return who this is, or None; remember it for later looks.

        Raises:
            Close: the database cannot say.
        """
        try:
            async with asyncio.timeout(2 * self.limits.auth_seconds):
                principal = await self.app.ask(self.app.questions.principal, kind, value)
        except Exception as e:
            logger.warning("sign-in not possible (%s)", type(e).__name__)
            raise Close(TRY_LATER, "try again later") from e
        self._credential = (kind, value)
        return principal

    # --- Life ------------------------------------------------------------------------------------

    async def _live(self) -> None:
        sockets = self.app.sockets
        if sockets.get(self._user_id, 0) >= self.limits.sockets_per_user:
            raise Close(TOO_MANY, "too many connections of this user")
        sockets[self._user_id] = sockets.get(self._user_id, 0) + 1
        self.quotes = self.app.quotes.client(self._wake.set)
        self.events = self.app.events.client(self._user_id, self._woken)
        self.events.put('{"type":"ready"}')
        work = (self._listen(), self._write(), self._watch())
        tasks = [asyncio.create_task(part) for part in work]
        try:
            ends: list[asyncio.Future[Any]] = [self._over, *tasks]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._over.done():
                raise self._over.result()
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            self.app.quotes.drop(self.quotes)
            self.app.events.drop(self.events)
            sockets[self._user_id] -= 1
            if not sockets[self._user_id]:
                del sockets[self._user_id]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _woken(self) -> None:
        if self.events.overflowed and not self._over.done():
            self._over.set_result(Close(TRY_LATER, "too slow for order events"))
        self._wake.set()

    async def _write(self) -> None:
        """Send what there is, events first. Whatever changes during a slow send is conflated."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            sent = 0
            while texts := self._next():
                for text in texts:
                    self._sending_since = self._now()
                    await self._send({"type": "websocket.send", "text": text})
                    self._sending_since = None
                    sent += 1
                    if sent % 64 == 0:  # a send that need not wait does not let others go on
                        await asyncio.sleep(0)

    def _next(self) -> list[str]:
        if (text := self.events.take()) is not None:
            return [text]
        quotes = self.quotes.take()
        if quotes and self._batch:
            return [f'{{"type":"quotes","quotes":[{",".join(quotes)}]}}']
        return quotes

    async def _watch(self) -> None:
        """End the socket when the sign-in does, or when the client takes nothing any more."""
        check = self.limits.check_seconds
        check_at = self._now() + check * random.uniform(0.5, 1.0)  # noqa: S311 - spreads the load
        failed = 0
        while True:
            await asyncio.sleep(min(check, self.limits.stall_seconds) / 6)
            since = self._sending_since
            if since is not None and self._now() - since > self.limits.stall_seconds:
                raise Close(TRY_LATER, "too slow")
            if self._now() < check_at:
                continue
            check_at = self._now() + check
            try:
                standing = await self._principal(*self._credential)
            except Close:
                failed += 1
                if failed >= self.limits.failed_checks:
                    raise
                continue
            failed = 0
            if standing is None:
                raise Close(NOT_AUTHENTICATED, "the sign-in has ended")

    # --- Messages of the client ------------------------------------------------------------------

    async def _read(self) -> str:
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            raise Disconnected
        text: str | None = event.get("text")
        if text is None:
            return ""  # bytes: not JSON, as far as we go
        if len(text) > self.limits.message_bytes:
            raise Close(TOO_BIG, "message too big")
        return text

    async def _listen(self) -> None:
        while True:
            text = await self._read()
            self._count()
            try:
                command = _command.decode(text)
            except (msgspec.MsgspecError, RecursionError) as e:
                self._refuse("bad_message", f"not understood: {e}")
                continue
            await self._obey(command)

    def _count(self, cost: float = 1.0) -> None:
        now, limits = self._now(), self.limits
        earned = (now - self._counted_at) * limits.messages_per_second
        self._allowance = min(self._allowance + earned, limits.message_burst) - cost
        self._counted_at = now
        if self._allowance < 0:
            raise Close(BROKEN_RULE, "too many messages")

    async def _obey(self, command: Command) -> None:
        match command.type, command.channel:
            case "ping", _:
                self.events.put('{"type":"pong"}')
            case "auth", _:
                await self._sign_in_again(command)
            case "subscribe", "quotes":
                await self._subscribe_quotes(command)
            case "unsubscribe", "quotes":
                names = self._names()
                if command.symbols is not None:
                    names = {s: names[s] for s in command.symbols if s in names}
                self.app.quotes.remove(self.quotes, names.values())
                self._confirm("unsubscribed", names)
            case "subscribe", "orders":
                await self._subscribe_orders(command)
            case "subscribe", channel if channel in CHANNELS:
                self.events.channels.add(channel)
                self.events.put(subscribed(channel))
            case "unsubscribe", channel if channel in CHANNELS:
                self.events.channels.discard(channel)
                self._say({"type": "unsubscribed", "channel": channel})
            case "subscribe" | "unsubscribe", channel:
                self._refuse("unknown_channel", f"no such channel: {channel!r}")
            case kind, _:
                self._refuse("unknown_type", f"no such message: {kind!r}")

    async def _sign_in_again(self, command: Command) -> None:
        principal = await self._principal_of(command)
        if str(principal.id) != self._user_id:
            raise Close(NOT_AUTHENTICATED, "another user's token")
        self.events.put('{"type":"ready"}')

    def _names(self) -> dict[str, str]:
        """Return what is subscribed: the name of its price by symbol."""
        return {split_symbol(name)[1]: name for name in self.quotes.symbols}

    async def _subscribe_quotes(self, command: Command) -> None:
        wanted = dict.fromkeys(command.symbols or [])
        self._count(len(wanted) / self.limits.symbols_per_message)
        if command.batch is not None:
            self._batch = command.batch
        before = self._names()
        if len(before.keys() | wanted.keys()) > self.limits.symbols:
            raise Close(TOO_MANY, f"more than {self.limits.symbols} symbols")
        questions, quotes = self.app.questions, self.app.quotes
        try:
            names = await self.app.ask(questions.names, self._user_id, list(wanted))
            self._confirm("subscribed", names)
            for symbol in names:
                del wanted[symbol]
            if unknown := list(wanted):
                self._refuse("unknown_symbol", "no such instrument", symbols=unknown)
            moved = [before[s] for s in names if before.get(s, names[s]) != names[s]]
            quotes.remove(self.quotes, moved)  # the user's prices come from elsewhere now
            if unpriced := quotes.add(self.quotes, names.values()):
                for symbol, tick in (await self.app.ask(questions.ticks, unpriced)).items():
                    quotes.seed(symbol, tick)
        except Exception as e:
            self._unavailable(e)

    async def _subscribe_orders(self, command: Command) -> None:
        self._count(self.limits.orders_cost)
        try:
            await self.app.events.subscribe_orders(self.events, command.since)
        except Exception as e:
            self._unavailable(e)

    def _confirm(self, kind: str, symbols: Iterable[str]) -> None:
        self._say({"type": kind, "channel": "quotes", "symbols": list(symbols)})

    def _unavailable(self, e: Exception) -> None:
        logger.warning("a subscription was not possible (%s)", type(e).__name__)
        self._refuse("unavailable", "not possible now, try again later")

    def _refuse(self, code: str, text: str, **more: Any) -> None:
        self._say({"type": "error", "code": code, "message": text, **more})

    def _say(self, body: dict[str, Any]) -> None:
        self.events.put(encode(body).decode())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def origin_allowed(headers: dict[bytes, list[str]]) -> bool:
    """Whether the page that opened the socket may: one of this host, or of a named origin.

    Clients without pages send no Origin; they sign in with a token, which no page has by itself.
    """
    origins, hosts = headers.get(b"origin", []), headers.get(b"host", [])
    if not origins:
        return True
    if len(origins) != 1 or len(hosts) != 1:
        return False
    origin = origins[0].lower()
    if origin in {named.lower() for named in (settings.PUBLIC_URL, *settings.ALLOWED_ORIGINS)}:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    secure = parts.scheme == "https" or not settings.SESSION_COOKIE_SECURE
    named = validate_host(split_domain_port(hosts[0])[0], settings.ALLOWED_HOSTS)
    return (
        secure and named and parts.scheme in {"http", "https"} and parts.netloc == hosts[0].lower()
    )
