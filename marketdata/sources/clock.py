"""The trading day of simulated prices: round the clock, or by the exchange calendar. Pure Python.

Times are whole milliseconds since the epoch, since this is asked on every quote.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from marketdata.calendar import Calendar, SessionGroup

MINUTE_MS = 60_000
DAY_MS = 86_400_000
_IST_OFFSET_MS = 19_800_000
_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class TradingDay:
    """One day on the grid of simulated minutes. ``start_ms`` is the start of minute 0."""

    date: date
    start_ms: int
    minutes: int

    @property
    def number(self) -> int:
        return self.date.toordinal()

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.minutes * MINUTE_MS


class DayClock(ABC):
    has_gaps: bool

    @abstractmethod
    def day_at(self, at_ms: int) -> TradingDay | None:
        """Return the last trading day that had started by then, None when there is none near."""

    @abstractmethod
    def day_before(self, day: TradingDay) -> TradingDay | None: ...

    @abstractmethod
    def close_ms(self, group: SessionGroup, day: TradingDay) -> int:
        """Return when instruments of the group stop trading on ``day`` (exclusive)."""


class AlwaysOpen(DayClock):
    """Every day in India, from midnight to midnight."""

    has_gaps = False

    def __init__(self) -> None:
        self._last: TradingDay | None = None

    def day_at(self, at_ms: int) -> TradingDay:
        last = self._last
        if last is not None and last.start_ms <= at_ms < last.end_ms:
            return last
        day = self._day((at_ms + _IST_OFFSET_MS) // DAY_MS)
        self._last = day
        return day

    def day_before(self, day: TradingDay) -> TradingDay:
        return self._day(day.number - _EPOCH - 1)

    def close_ms(self, group: SessionGroup, day: TradingDay) -> int:
        return day.end_ms

    @staticmethod
    def _day(since_epoch: int) -> TradingDay:
        start = since_epoch * DAY_MS - _IST_OFFSET_MS
        return TradingDay(date.fromordinal(_EPOCH + since_epoch), start, 1440)


class ExchangeHours(DayClock):
    """The days and hours of the calendar: one grid for all groups, each stops at its own close."""

    has_gaps = True
    GRID = (SessionGroup.EQUITY, SessionGroup.EQUITY_FNO, SessionGroup.EQUITY_DERIVATIVES)

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self._days: dict[date, TradingDay | None] = {}
        self._closes: dict[tuple[SessionGroup, date], int] = {}

    def day_at(self, at_ms: int) -> TradingDay | None:
        day = date.fromordinal(_EPOCH + (at_ms + _IST_OFFSET_MS) // DAY_MS)
        return self._latest(day, at_ms)

    def day_before(self, day: TradingDay) -> TradingDay | None:
        return self._latest(day.date - timedelta(days=1), day.start_ms)

    def close_ms(self, group: SessionGroup, day: TradingDay) -> int:
        key = (group, day.date)
        close = self._closes.get(key)
        if close is None:
            bounds = self.calendar.session_bounds(group, day.date)
            close = min(_ms(bounds[1]), day.end_ms) if bounds else day.end_ms
            self._closes[key] = close
        return close

    def _latest(self, day: date, at_ms: int) -> TradingDay | None:
        for _ in range(30):
            found = self._grid(day)
            if found is not None and found.start_ms <= at_ms:
                return found
            day -= timedelta(days=1)
        return None

    def _grid(self, day: date) -> TradingDay | None:
        if day not in self._days:
            if len(self._days) > 2_000:
                self._days.clear()
            spans = [self.calendar.session_bounds(group, day) for group in self.GRID]
            known = [span for span in spans if span is not None]
            grid = None
            if known:
                start, end = _ms(min(a for a, _ in known)), _ms(max(b for _, b in known))
                grid = TradingDay(day, start, (end - start) // MINUTE_MS)
            self._days[day] = grid
        return self._days[day]


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def datetime_of(at_ms: int) -> datetime:
    """Return the aware time of milliseconds since the epoch."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)
