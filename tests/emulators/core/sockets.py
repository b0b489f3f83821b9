"""One accepted WebSocket. Frames are written to the raw connection, so that they can be cut."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from tests.emulators.core.faults import Fault
from tests.emulators.core.messages import Request

if TYPE_CHECKING:
    from tests.emulators.core.dialect import Dialect

_EVENT_FAULTS = frozenset({"duplicate", "reorder", "lose"})
_FRAME_FAULTS = frozenset({"cut_frame", "silence"})


class Socket:
    """Used on the server's loop only. ``state`` is the dialect's own: account, subscriptions."""

    def __init__(
        self,
        dialect: Dialect,
        request: Request,
        protocol: ServerProtocol,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.dialect, self.request, self.state = dialect, request, {}  # type: ignore[var-annotated]
        self._protocol, self._reader, self._writer = protocol, reader, writer
        self._received: deque[str | bytes] = deque()
        self._held: dict[str, list[Any]] = {}
        self._parts: list[bytes] = []
        self._text = True

    @property
    def closed(self) -> bool:
        return self._protocol.state is not State.OPEN or self._writer.is_closing()

    async def receive(self) -> str | bytes | None:
        """Return the next message; None when the socket is over."""
        while not self._received:
            if self.closed:
                return None
            data = await self._reader.read(65536)
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            self.take_in()
            if self._fault(frozenset({"silence"})):
                self._protocol.data_to_send()  # no answer to a ping either
            else:
                self._flush()
        return self._received.popleft()

    def send(self, message: str | bytes, event: str = "") -> None:
        """Send text or binary. ``event`` (e.g. ``EVENT socket``) puts it under the faults of
        events.
        """
        fault = event and self.dialect.faults.take(event, _EVENT_FAULTS)
        if fault and fault.kind == "lose":
            return
        if fault and fault.kind == "reorder":
            self._held.setdefault(event, []).append(message)
            return
        for one in (message, *self._held.pop(event, ()), *([message] if fault else ())):
            self._send(one)

    def ping(self) -> None:
        self._write(lambda: self._protocol.send_ping(b""))

    def close(self, code: int = 1000, reason: str = "") -> None:
        if not self.closed:
            self._write(lambda: self._protocol.send_close(code, reason))

    def abort(self) -> None:
        """Cut the connection without a closing handshake."""
        self._writer.transport.abort()

    def take_in(self) -> None:
        """Keep the messages that the protocol has read."""
        for event in self._protocol.events_received():
            if not isinstance(event, Frame):
                continue
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                if event.opcode is not Opcode.CONT:
                    self._text = event.opcode is Opcode.TEXT
                self._parts.append(bytes(event.data))
                if event.fin:
                    whole, self._parts = b"".join(self._parts), []
                    self._received.append(whole.decode() if self._text else whole)

    def _send(self, message: str | bytes) -> None:
        if self.closed:
            return
        if isinstance(message, str):
            self._write(lambda: self._protocol.send_text(message.encode()))
        else:
            self._write(lambda: self._protocol.send_binary(message))

    def _write(self, make: Any) -> None:
        fault = self._fault(_FRAME_FAULTS)
        if fault and fault.kind == "silence":
            return
        make()
        if fault:
            data = b"".join(self._protocol.data_to_send())
            self._writer.write(data[: max(len(data) // 2, 1)])
            self._writer.close()
            return
        self._flush()

    def _fault(self, kinds: frozenset[str]) -> Fault | None:
        return self.dialect.faults.take(f"SOCKET {self.request.path}", kinds)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._writer.write(data)
            else:
                self._writer.close()
