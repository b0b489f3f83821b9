"""Faults on demand: what goes wrong with which of the next requests, events or frames.

    emulator.faults.add("drop_after", "POST /orders/*")             # the next one, once
    emulator.faults.add("status", "GET /orders", status=503, times=3)
    emulator.faults.add("duplicate", "EVENT postback", times=None)   # until cleared

A pattern is a shell pattern over "METHOD /path"; pushes are ``EVENT socket``, ``EVENT tick`` and
``EVENT postback``; a WebSocket handshake is ``SOCKET /path``.

| kind | what happens | options |
|---|---|---|
| `refuse` | the broker refuses in its own words, not acting | `reason` (`Reason`), `message` |
| `rate_limit` | answers as over the limit, not acting | |
| `static_ip` | answers as to an unregistered address, not acting | |
| `expired` | answers as to a dead session, not acting | |
| `status` | a bare HTTP status, not acting | `status`, `body`, `content_type`, `headers` |
| `keep_then_status` | acts, then answers so | the same |
| `timed_out` | 400 "timed out" in the broker's words; acts after `delay` s, if any | `delay` |
| `hang` | never answers; `acts` says whether it acted before | `acts` |
| `delay` | acts at once, answers after `seconds` | `seconds` |
| `drop_before` | cuts the connection, not acting | |
| `drop_after` | acts, then cuts the connection without an answer | |
| `cut` | acts, then sends a part of the answer and cuts the connection | `share` (0.5) |
| `drip` | acts, then sends the answer slowly | `seconds` (in all), `pieces` |
| `garbage` | acts, then answers 200 with what is no JSON | `body` |
| `content_type` | acts; the right body under a wrong content type | `content_type` |
| `partial_book` | a book without its newest `missing` orders (trades) | `missing` (1) |
| `stale_book` | a book as it was `seconds` ago | `seconds` |
| `duplicate` | an event is sent twice | |
| `reorder` | an event is held back until after the next one | |
| `lose` | an event is not sent | |
| `refuse_socket` | a handshake is answered so | `status` |
| `cut_frame` | the next frame of a socket is sent by half, then the connection is cut | |
| `silence` | sockets say nothing more, heartbeats included, until the fault is cleared | |
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

KINDS = frozenset(
    [
        "refuse",
        "rate_limit",
        "static_ip",
        "expired",
        "status",
        "keep_then_status",
        "timed_out",
        "hang",
        "delay",
        "drop_before",
        "drop_after",
        "cut",
        "drip",
        "garbage",
        "content_type",
        "partial_book",
        "stale_book",
        "duplicate",
        "reorder",
        "lose",
        "refuse_socket",
        "cut_frame",
        "silence",
    ]
)


@dataclass(slots=True)
class Fault:
    """``times`` is how often it still happens (None: until cleared); the first ``after`` requests
    that fit are spared.
    """

    kind: str
    pattern: str
    times: int | None = 1
    after: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        return self.options.get(name, default)


class Faults:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(
        self,
        kind: str,
        pattern: str = "*",
        *,
        times: int | None = 1,
        after: int = 0,
        **options: Any,
    ) -> Fault:
        if kind not in KINDS:
            raise ValueError(f"no such fault: {kind}")
        fault = Fault(kind, pattern, times, after, options)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def pending(self) -> list[Fault]:
        with self._lock:
            return list(self._faults)

    def take(self, what: str, kinds: frozenset[str] = KINDS) -> Fault | None:
        """Return the first fault that fits, used up by one."""
        with self._lock:
            for fault in self._faults:
                if fault.kind not in kinds or not fnmatchcase(what, fault.pattern):
                    continue
                if fault.after:
                    fault.after -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
                return fault
        return None
