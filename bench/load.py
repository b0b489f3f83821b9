"""The load generator: HTTP/1.1 over keep-alive sockets and one epoll loop, a process of its own.

It has to be cheap, because it shares the cores with what it measures: request bytes are put
together beforehand, and answers are read only as far as their length and status. `python -m
bench.load` obeys JSON lines on its input and answers each with a line of figures.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg

from bench.paths import PATHS, Caller

ANSWER_SECONDS = 20.0  # an answer that takes longer is an error
FILLED = "SELECT id::text FROM trading_order WHERE id = ANY(%s::uuid[]) AND status = 'FILLED'"
UNSETTLED = (
    "SELECT count(*) FROM trading_ordercommand WHERE state IN ('WAITING', 'SENDING', 'UNKNOWN')"
)


@dataclass(slots=True)
class Figures:
    """What one slice came to. ``latencies`` are milliseconds."""

    seconds: float = 0.0
    done: int = 0
    errors: int = 0
    first_error: str = ""
    latencies: array[float] = field(default_factory=lambda: array("f"))

    def failed(self, why: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or why

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"latencies": [round(ms, 3) for ms in self.latencies]}


class Line:
    """One client's connection. It has at most one request under way."""

    __slots__ = ("begun", "caller", "expects", "length", "received", "sock")

    def __init__(self, address: tuple[str, int], caller: Caller) -> None:
        self.caller = caller
        self.sock = socket.create_connection(address)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.received, self.length, self.begun = b"", 0, 0.0

    def send(self, request: bytes) -> None:
        self.received, self.length, self.begun = b"", 0, time.perf_counter()
        self.sock.send(request)  # far below the size of a socket's buffer

    def read(self) -> bool:
        """Take what arrived; True when the answer is whole."""
        part = self.sock.recv(262_144)
        if not part:
            raise ConnectionError("the server closed the connection")
        self.received = self.received + part if self.received else part
        if not self.length:
            head = self.received.find(b"\r\n\r\n")
            if head < 0:
                return False
            self.length = head + 4 + _content_length(self.received[:head])
        return len(self.received) >= self.length

    @property
    def status(self) -> int:
        return int(self.received[9:12])


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at < 0:
        raise ConnectionError("an answer without a length")
    return int(lower[at + 15 : at + 40].split(b"\r\n", 1)[0])


class Generator:
    """Closed loops: each client sends its next request when the one before is done."""

    def __init__(self, address: tuple[str, int], callers: list[Caller], dsn: str) -> None:
        self.address, self.callers = address, callers
        self.numbers = _numbers()
        self.database = psycopg.connect(dsn, autocommit=True)
        self.database.prepare_threshold = 0

    def run(self, path: str, clients: int, seconds: float, *, reference: bool) -> Figures:
        """Send for ``seconds``. Only what was done by then counts; what is under way is awaited."""
        plan = PATHS[path]
        make = plan.reference if reference else plan.request
        until_filled = plan.until_filled and not reference
        status = plan.reference_status if reference else plan.status
        figures, polls = Figures(seconds), _Polls(self.database, clients)
        poll = select.epoll()
        lines = {}
        for number in range(clients):
            line = Line(self.address, self.callers[number % len(self.callers)])
            lines[line.sock.fileno()] = line
            poll.register(line.sock, select.EPOLLIN)
        started = time.perf_counter()
        ends = started + seconds
        busy = len(lines)
        for line in lines.values():
            line.send(make(line.caller, next(self.numbers)))
        while busy and (now := time.perf_counter()) < ends + ANSWER_SECONDS:
            ready = poll.poll(polls.wait(now) if polls.waiting else ANSWER_SECONDS)
            finished = []
            for number, _ in ready:
                line = lines[number]
                try:
                    if not line.read():
                        continue
                except OSError as e:
                    figures.failed(str(e))
                    poll.unregister(number)
                    busy -= 1
                    continue
                if line.status != status:
                    figures.failed(line.received[: line.length].decode(errors="replace")[:600])
                elif until_filled:
                    polls.waiting[_order_id(line.received)] = line
                    continue
                finished.append(line)
            finished += polls.filled()
            now = time.perf_counter()
            for line in finished:
                if now <= ends:
                    figures.done += line.status == status
                    figures.latencies.append((now - line.begun) * 1000)
                    line.send(make(line.caller, next(self.numbers)))
                else:
                    busy -= 1
        for _ in range(busy):
            figures.failed(f"no answer within {ANSWER_SECONDS} s")
        for line in lines.values():
            line.sock.close()
        poll.close()
        return figures

    def settle(self, seconds: float) -> tuple[float, int]:
        """Wait until the workers have done all they were asked to; seconds, and what is left."""
        started = time.perf_counter()
        while True:
            row = self.database.execute(UNSETTLED).fetchone()
            left = row[0] if row else 0
            took = time.perf_counter() - started
            if not left or took > seconds:
                return took, left
            time.sleep(0.05)


class _Polls:
    """Orders that a client waits for; the database is asked for all of them at once, seldom."""

    def __init__(self, database: psycopg.Connection, clients: int) -> None:
        self.database = database
        self.pause = 0.002 if clients == 1 else 0.005
        self.waiting: dict[str, Line] = {}
        self._next = 0.0

    def wait(self, now: float) -> float:
        return max(self._next - now, 0.0)

    def filled(self) -> list[Line]:
        now = time.perf_counter()
        if not self.waiting or now < self._next:
            return []
        rows = self.database.execute(FILLED, [list(self.waiting)]).fetchall()
        self._next = time.perf_counter() + self.pause
        return [self.waiting.pop(order_id) for (order_id,) in rows]


def _order_id(answer: bytes) -> str:
    at = answer.index(b'"id":"') + 6
    return answer[at : at + 36].decode()


def _numbers() -> Iterator[int]:
    """Never the same twice, also not over several generators: idempotency keys are made of them."""
    number = time.time_ns() // 1000
    while True:
        number += 1
        yield number


def main() -> None:
    """Obey JSON lines: ``{"do": "run", ...}`` and ``{"do": "settle", ...}``."""
    setup = json.loads(sys.stdin.readline())
    callers = [Caller(**caller) for caller in setup["callers"]]
    generator = Generator(tuple(setup["address"]), callers, setup["dsn"])
    for line in sys.stdin:
        order = json.loads(line)
        match order.pop("do"):
            case "run":
                answer: Any = generator.run(**order).as_dict()
            case "settle":
                answer = generator.settle(**order)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
