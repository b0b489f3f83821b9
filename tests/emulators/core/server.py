"""A dialect on real loopback sockets, in a thread with a loop of its own.

    with EmulatorServer(Zerodha()) as emulator:   # port 0: a free one
        emulator.url, emulator.ws_url             # http://127.0.0.1:40001, ws://127.0.0.1:40001
        emulator.dialect, emulator.exchange, emulator.faults, emulator.recorder

HTTP is h11 and WebSockets are the sans-I/O protocol of ``websockets``, both over raw streams, so
that a fault can cut a connection at any byte. ``alive`` moves the prices by itself. An exception in
a dialect is kept in ``errors`` and raised by `stop`: a bug of an emulator must not pass as a fault
of a broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlsplit

import h11
from websockets.server import ServerProtocol

from tests.emulators.core import control
from tests.emulators.core.dialect import Call, Dialect
from tests.emulators.core.exchange import Event, Exchange
from tests.emulators.core.faults import Fault, Faults
from tests.emulators.core.messages import Request, Response
from tests.emulators.core.orders import Refusal
from tests.emulators.core.recorder import Record, Recorder
from tests.emulators.core.sockets import Socket

HOST = "127.0.0.1"
LOOPBACK = ("127.", "localhost", "[::1]", "::1")
REASONS = {status.value: status.phrase for status in HTTPStatus}
# A request that a route cannot read is the client's mistake; anything else is ours.
UNREADABLE = (KeyError, ValueError, ArithmeticError)
BEFORE = frozenset(
    [
        "refuse",
        "rate_limit",
        "static_ip",
        "expired",
        "status",
        "hang",
        "timed_out",
        "drop_before",
        "keep_then_status",
        "delay",
        "drop_after",
        "cut",
        "drip",
        "garbage",
        "content_type",
        "partial_book",
        "stale_book",
    ]
)


class Cut(Exception):
    """The connection is to be cut now."""


class EmulatorServer:
    def __init__(
        self,
        dialect: Dialect,
        port: int = 0,
        *,
        host: str = HOST,
        alive: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.dialect, self.alive, self.errors = dialect, alive, list[BaseException]()
        self._host, self._port, self._tls = host, port, tls
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._held: list[Callable[[], Coroutine[Any, Any, None]]] = []
        dialect.server = self

    # --- Outside ----------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://{self._host}:{self._port}"

    @property
    def ws_url(self) -> str:
        return f"ws{'s' if self._tls else ''}://{self._host}:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def exchange(self) -> Exchange:
        return self.dialect.exchange

    @property
    def faults(self) -> Faults:
        return self.dialect.faults

    @property
    def recorder(self) -> Recorder:
        return self.dialect.recorder

    def start(self) -> Self:
        listener = sockets.create_server((self._host, self._port), backlog=512)
        self._port = listener.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(listener, ready)),
            name=f"emulator-{self.dialect.name}",
            daemon=True,
        )
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the emulator did not start")
        return self

    def stop(self) -> None:
        if self._thread is None:
            return
        self.call(self._stopping.set)
        self._thread.join(10)
        self._thread = None
        if self.errors:
            raise AssertionError(f"the emulator {self.dialect.name} failed") from self.errors[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            self.stop()
        except AssertionError:
            if error is None:
                raise

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Run ``function`` on the loop, soon. From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *arguments)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine beside the requests. On the loop."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> None:
        """Send a postback (on the loop), under the faults of ``EVENT postback``. Loopback only, one
        after the other.
        """
        if not (urlsplit(url).hostname or "").startswith(LOOPBACK):
            raise ValueError("postbacks go to loopback addresses only")

        def work() -> Coroutine[Any, Any, None]:
            return self._post(url, body, headers)

        kinds = frozenset({"duplicate", "reorder", "lose"})
        fault = self.faults.take("EVENT postback", kinds)
        if fault and fault.kind == "lose":
            return
        if fault and fault.kind == "reorder":
            self._held.append(work)
            return
        works = [work, *self._held, *([work] if fault else [])]
        self._held = []
        for one in works:
            self._posts.put_nowait(one)

    # --- The loop ---------------------------------------------------------------------------------

    async def _run(self, listener: sockets.socket, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(self._failed)
        server = await asyncio.start_server(self._connected, sock=listener, ssl=self._tls)
        self.exchange.listeners.append(self._event)
        self._posts: asyncio.Queue[Callable[[], Coroutine[Any, Any, None]]] = asyncio.Queue()
        self.spawn(self._move())
        self.spawn(self._send_posts())
        ready.set()
        await self._stopping.wait()
        self.exchange.listeners.remove(self._event)
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _move(self) -> None:
        """Let the exchange do what is due; move prices where the emulator is alive."""
        walked = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            self.exchange.advance()
            if self.alive and time.monotonic() - walked >= 1:
                walked = time.monotonic()
                self.exchange.walk()

    def _event(self, event: Event) -> None:
        self.call(self._tell, event)

    def _tell(self, event: Event) -> None:
        try:
            self.dialect.on_event(event)
        except Exception as e:
            self.errors.append(e)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error and not isinstance(error, ConnectionError | ssl.SSLError):
            self.errors.append(error)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error and not isinstance(error, ConnectionError | ssl.SSLError):
            self.errors.append(error)

    # --- A connection -----------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The task that asyncio made is ours to end: it must not outlive the server.
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._talk(reader, writer)
        except (Cut, ConnectionError, h11.RemoteProtocolError):
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
        except Exception as e:
            self.errors.append(e)
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")[0]
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=256 * 1024)
        raw = b""
        while True:
            head, body, at = None, b"", 0.0
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    if connection.they_are_waiting_for_100_continue:
                        go_on = h11.InformationalResponse(status_code=100, headers=[])
                        writer.write(connection.send(go_on) or b"")
                    data = await reader.read(65536)
                    raw += data
                    connection.receive_data(data)
                elif isinstance(event, h11.Request):
                    head, at = event, time.monotonic()
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:  # the client is done
                    return
            assert head is not None
            headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
            request = Request(
                head.method.decode(), head.target.decode("latin-1"), headers, body, at, peer
            )
            if request.wants_socket:
                await self._socket(connection, request, raw, reader, writer)
                return
            await self._exchange_messages(connection, request, writer)
            await writer.drain()
            if connection.our_state is h11.MUST_CLOSE:
                return
            raw = connection.trailing_data[0]
            connection.start_next_cycle()

    async def _exchange_messages(
        self, connection: h11.Connection, request: Request, writer: asyncio.StreamWriter
    ) -> None:
        if request.path.startswith(control.PREFIX):
            self._write(connection, control.answer(self, request), writer)
            return
        record = self.recorder.add(Record(request))
        fault, response = await self._answer(request, record)
        record.status = response.status
        data = _encode(connection, response)
        if fault and fault.kind == "cut":
            record.status = None
            writer.write(data[: max(int(len(data) * fault.get("share", 0.5)), 1)])
            await writer.drain()
            writer.close()
            raise Cut
        if fault and fault.kind == "drip":
            size = -(-len(data) // fault.get("pieces", 20))
            for start in range(0, len(data), size):
                writer.write(data[start : start + size])
                await writer.drain()
                await asyncio.sleep(fault.get("seconds", 1.0) * size / len(data))
            return
        writer.write(data)

    def _write(
        self, connection: h11.Connection, response: Response, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(_encode(connection, response))

    # --- A request --------------------------------------------------------------------------------

    async def _answer(self, request: Request, record: Record) -> tuple[Fault | None, Response]:
        """Return the answer, and the fault that it is to be sent with."""
        dialect = self.dialect
        matched = dialect.match(request)
        if matched is None:
            return None, dialect.not_found(request)
        made, params = matched
        record.route, record.group = made.name, made.group
        call = Call(dialect, request, params, made)
        fault = call.fault = self.faults.take(record.line, BEFORE)
        record.fault = fault.kind if fault else ""

        if fault and fault.kind in ("status", "refuse", "rate_limit", "static_ip", "expired"):
            return None, _refusal_by_fault(dialect, call, fault)
        if fault and fault.kind == "drop_before":
            raise Cut
        if fault and fault.kind == "timed_out":
            if fault.get("delay") is not None:
                self.spawn(self._act_later(call, record, fault.get("delay")))
            return None, dialect.timed_out()
        if fault and fault.kind == "hang":
            if fault.get("acts"):
                self._act(call, record)
            await self._stopping.wait()
            raise Cut

        response = self._act(call, record)
        if fault and fault.kind == "drop_after":
            raise Cut
        if fault and fault.kind == "delay":
            await asyncio.sleep(fault.get("seconds", 1.0))
        if fault and fault.kind == "keep_then_status":
            response = _bare(fault, 502)
        if fault and fault.kind == "garbage":
            response.body = fault.get("body", '{"status": "succ').encode()
        if fault and fault.kind == "content_type":
            response.content_type = fault.get("content_type", "text/html")
        return fault, response

    def _act(self, call: Call, record: Record) -> Response:
        dialect, request = self.dialect, call.request
        if call.route.group and not dialect.limiter.admits(
            call.route.group, dialect.limit_key(request)
        ):
            return dialect.over_limit(call)
        if not call.route.open:
            account = dialect.authenticate(call)
            if isinstance(account, Response):
                return account
            call.account = account
        if (
            call.route.fixed_ip
            and dialect.allowed_ips is not None
            and request.peer not in dialect.allowed_ips
        ):
            return dialect.wrong_address(call)
        try:
            response: Response = getattr(dialect, call.route.handler)(call)
        except Refusal as refusal:
            return dialect.refused(refusal)
        except UNREADABLE as e:
            return dialect.bad_request(e)
        record.acted = response.status < 400
        return response

    async def _act_later(self, call: Call, record: Record, delay: float) -> None:
        await asyncio.sleep(delay)
        self._act(call, record)

    # --- Sockets and postbacks --------------------------------------------------------------------

    async def _socket(
        self,
        connection: h11.Connection,
        request: Request,
        raw: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        record = self.recorder.add(Record(request, route="SOCKET", group="socket"))
        fault = self.faults.take(f"SOCKET {request.path}", frozenset({"refuse_socket"}))
        refusal = _bare(fault, 403) if fault else self.dialect.accept_socket(request)
        if refusal is not None:
            record.status = refusal.status
            self._write(connection, refusal, writer)
            await writer.drain()
            return
        protocol = ServerProtocol(max_size=2**22)
        protocol.receive_data(raw)
        (handshake,) = protocol.events_received()
        protocol.send_response(protocol.accept(handshake))
        writer.write(b"".join(protocol.data_to_send()))
        record.status, record.acted = 101, True
        socket = Socket(self.dialect, request, protocol, reader, writer)
        socket.take_in()
        await self.dialect.serve_socket(socket)
        with contextlib.suppress(ConnectionError):
            socket.close()
            await writer.drain()

    async def _send_posts(self) -> None:
        while True:
            await (await self._posts.get())()

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        request = h11.Request(
            method="POST",
            target=target or "/",
            headers=[
                ("Host", parts.netloc),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
                *headers.items(),
            ],
        )
        status = None
        with contextlib.suppress(OSError, asyncio.TimeoutError, h11.RemoteProtocolError):
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
                connection = h11.Connection(h11.CLIENT)
                for event in (request, h11.Data(data=body), h11.EndOfMessage()):
                    writer.write(connection.send(event) or b"")
                while status is None:
                    event = connection.next_event()
                    if event is h11.NEED_DATA:
                        connection.receive_data(await reader.read(65536))
                    elif isinstance(event, h11.Response):
                        status = event.status_code
                    elif isinstance(event, h11.ConnectionClosed):
                        break
                writer.close()
        self.dialect.postbacks.append((time.monotonic(), url, body, status))


def _encode(connection: h11.Connection, response: Response) -> bytes:
    headers = [("Content-Length", str(len(response.body)))]
    if response.content_type is not None:
        headers.append(("Content-Type", response.content_type))
    events: list[Any] = [
        h11.Response(
            status_code=response.status,
            headers=[*headers, *response.headers.items()],
            reason=REASONS.get(response.status, ""),  # some SDKs read it
        )
    ]
    if response.body:
        events.append(h11.Data(data=response.body))
    events.append(h11.EndOfMessage())
    return b"".join(connection.send(event) or b"" for event in events)


def _bare(fault: Fault, status: int) -> Response:
    """Return an answer as a proxy in front of the broker would give it."""
    status = fault.get("status", status)
    body = fault.get("body", f"<html><body><h1>{status}</h1></body></html>")
    return Response(
        status, body.encode(), fault.get("content_type", "text/html"), fault.get("headers", {})
    )


def _refusal_by_fault(dialect: Dialect, call: Call, fault: Fault) -> Response:
    if fault.kind == "status":
        return _bare(fault, 503)
    if fault.kind == "rate_limit":
        return dialect.over_limit(call)
    if fault.kind == "static_ip":
        return dialect.wrong_address(call)
    if fault.kind == "expired":
        return dialect.session_over()
    facts = {k: v for k, v in fault.options.items() if k not in ("reason", "message")}
    return dialect.refused(Refusal(fault.get("reason"), fault.get("message", ""), **facts))
