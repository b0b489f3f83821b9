"""Rate limits of an emulated broker, counted on its own monotonic clock."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``count`` requests of ``groups`` in ``seconds``, per key (an account, an app).

    ``calendar``: counted in whole seconds of the clock instead of a rolling window.
    """

    groups: frozenset[str]
    count: int
    seconds: float
    calendar: bool = False


def limit(groups: str, count: int, seconds: float, *, calendar: bool = False) -> Limit:
    """Return a limit of space-separated groups."""
    return Limit(frozenset(groups.split()), count, seconds, calendar)


class Limiter:
    """A refused request does not count."""

    def __init__(
        self, limits: tuple[Limit, ...], now: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits, self.now, self.on = limits, now, True
        self._seen: dict[tuple[int, str], deque[float]] = {}

    def admits(self, group: str, key: str) -> bool:
        """Count a request and return whether it stays within every limit."""
        if not self.on:
            return True
        now, queues = self.now(), []
        for number, rule in enumerate(self.limits):
            if group not in rule.groups:
                continue
            seen = self._seen.setdefault((number, key), deque())
            start = now - rule.seconds
            if rule.calendar:
                start = now - now % rule.seconds - 1e-9
            while seen and seen[0] <= start:
                seen.popleft()
            if len(seen) >= rule.count:
                return False
            queues.append(seen)
        for seen in queues:
            seen.append(now)
        return True

    def clear(self) -> None:
        self._seen.clear()
