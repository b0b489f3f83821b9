"""A real server for the tests: uvicorn in a thread, on a port of its own, and clients for it."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from config.stream import Application

PATIENCE = 10.0


class Server:
    """The stream application as `config.webserver` runs it."""

    def __init__(self, app: Application, *, ws: str = "websockets-sansio") -> None:
        self.app = app
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)  # soon full
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                loop="uvloop",
                ws=ws,  # type: ignore[arg-type]
                ws_per_message_deflate=False,
                ws_max_size=64 * 1024,
                lifespan="on",
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._server.run, args=([listener],), daemon=True)

    def start(self) -> None:
        self._thread.start()
        wait_for(lambda: self._server.started)
        wait_for(lambda: self.app.events.subscription.subscribed.is_set())
        wait_for(lambda: self.app.quotes.subscription.subscribed.is_set())

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"


class Client:
    """A client that speaks JSON and waits for what it expects."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.received: list[dict[str, Any]] = []

    def send(self, **message: Any) -> None:
        self.connection.send(json.dumps(message))

    def receive(self, timeout: float = PATIENCE) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.connection.recv(timeout))
        self.received.append(message)
        return message

    def until(self, kind: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """Return the next message of this type; others are skipped."""
        end = time.monotonic() + timeout
        while True:
            message = self.receive(max(end - time.monotonic(), 0.001))
            if message["type"] == kind:
                return message

    def ask(self, **message: Any) -> dict[str, Any]:
        self.send(**message)
        return self.receive()

    def drain(self, quiet: float = 0.6) -> list[dict[str, Any]]:
        """Return what comes until nothing comes for a while."""
        found = []
        with contextlib.suppress(TimeoutError):
            while True:
                found.append(self.receive(quiet))
        return found

    def close_code(self, timeout: float = PATIENCE) -> int | None:
        """Read to the end and return the code that the server closed with."""
        end = time.monotonic() + timeout
        try:
            while True:
                self.connection.recv(max(end - time.monotonic(), 0.001))
        except ConnectionClosed as e:
            return e.rcvd.code if e.rcvd else None


@contextlib.contextmanager
def client(url: str, **options: Any) -> Iterator[Client]:
    with connect(url, compression=None, max_size=None, close_timeout=1, **options) as found:
        yield Client(found)


def stalling_socket(port: int) -> socket.socket:
    """Return a connected socket that takes little before it blocks the sender."""
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.connect(("127.0.0.1", port))
    return stalled


def wait_for(condition: Any, timeout: float = PATIENCE) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)
