"""Every request that reached an emulator, in order, with monotonic times: the judge of "sent once".

Test-only: secrets are kept as they came.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tests.emulators.core.messages import Request


@dataclass(slots=True)
class Record:
    """``status`` is what was answered; None where the connection was cut or nothing was said.
    ``acted`` tells whether the broker did what was asked (it may have, and said nothing of it).
    """

    request: Request
    route: str = ""  # the pattern, e.g. "POST /orders/{variety}"
    group: str = ""  # what it counts as toward rate limits
    status: int | None = None
    acted: bool = False
    fault: str = ""

    @property
    def at(self) -> float:
        return self.request.at

    @property
    def line(self) -> str:
        return f"{self.request.method} {self.request.path}"

    def as_dict(self) -> dict[str, Any]:
        request = self.request
        return {
            "at": request.at,
            "method": request.method,
            "target": request.target,
            "headers": dict(request.headers),
            "body": request.body.decode("utf-8", "replace"),
            "peer": request.peer,
            "route": self.route,
            "group": self.group,
            "status": self.status,
            "acted": self.acted,
            "fault": self.fault,
        }


class Recorder:
    def __init__(self, limit: int = 100_000) -> None:
        self._lock = threading.Lock()
        self._records: list[Record] = []
        self._limit = limit

    def add(self, record: Record) -> Record:
        with self._lock:
            if len(self._records) < self._limit:
                self._records.append(record)
        return record

    def clear(self) -> None:
        with self._lock:
            self._records.clear()

    def find(self, pattern: str = "*", group: str | None = None) -> list[Record]:
        """Return records whose "METHOD /path" fits a shell pattern, e.g. ``POST /orders/*``."""
        with self._lock:
            records = list(self._records)
        return [
            record
            for record in records
            if fnmatchcase(record.line, pattern) and group in (None, record.group)
        ]

    def count(self, pattern: str = "*", group: str | None = None) -> int:
        return len(self.find(pattern, group))

    def peak(self, seconds: float, pattern: str = "*", group: str | None = None) -> int:
        """Return the most requests in any rolling window of ``seconds``."""
        times = sorted(record.at for record in self.find(pattern, group))
        most = first = 0
        for last, at in enumerate(times):
            while at - times[first] >= seconds:
                first += 1
            most = max(most, last - first + 1)
        return most
