"""The emulators' clock: the machine's, moved or stopped by hand. Times are aware UTC.

Rate limits and the record do not use it: they count on ``time.monotonic()``, as a stopped clock
must not stop a limit.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

IST = timezone(timedelta(hours=5, minutes=30))


class Clock:
    """Runs from ``start`` (default: now) as fast as the machine's clock, until it is stopped."""

    def __init__(self, start: datetime | None = None, *, running: bool = True) -> None:
        now = datetime.now(UTC)
        self._offset = (start or now) - now
        self._stopped_at = None if running else start or now

    def now(self) -> datetime:
        if self._stopped_at is not None:
            return self._stopped_at
        return datetime.now(UTC) + self._offset

    def local(self) -> datetime:
        """Return the time in India."""
        return self.now().astimezone(IST)

    def set(self, at: datetime) -> None:
        if self._stopped_at is not None:
            self._stopped_at = at
        else:
            self._offset = at - datetime.now(UTC)

    def advance(self, seconds: float) -> None:
        self.set(self.now() + timedelta(seconds=seconds))

    def stop(self) -> None:
        self._stopped_at = self.now()

    def run(self) -> None:
        if self._stopped_at is not None:
            at, self._stopped_at = self._stopped_at, None
            self.set(at)
