"""When a market is open: sessions and holidays per group of instruments, from dated rows. Pure
Python.

Rows are written in Indian time; everything that enters and leaves a function is aware UTC, except
dates, which are trading days in India. A day that no row covers is closed: a calendar that was not
extended must never look open.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from enum import StrEnum

# India has one zone without summer time, so a fixed offset is exact, and much cheaper than a zone
# look-up.
IST = timezone(timedelta(hours=5, minutes=30), "IST")

# National holidays on which every Indian exchange closes, for days beyond the published calendar:
# (month, day).
FIXED_HOLIDAYS = frozenset({(1, 26), (5, 1), (8, 15), (10, 2), (12, 25)})


class SessionGroup(StrEnum):
    """Instruments that share their hours. Shares with derivatives leave continuous trading before
    the others.
    """

    EQUITY = "EQUITY"
    EQUITY_FNO = "EQUITY_FNO"
    EQUITY_DERIVATIVES = "EQUITY_DERIVATIVES"
    CURRENCY = "CURRENCY"
    COMMODITY = "COMMODITY"
    INDEX = "INDEX"


ALL_GROUPS = "ALL"


class Phase(StrEnum):
    """A part of the trading day. Orders match continuously in NORMAL only."""

    PRE_OPEN = "PRE_OPEN"
    PRE_OPEN_LIMIT = "PRE_OPEN_LIMIT"
    PRE_OPEN_MATCHING = "PRE_OPEN_MATCHING"
    NORMAL = "NORMAL"
    CLOSING_REFERENCE = "CLOSING_REFERENCE"
    CLOSING_AUCTION = "CLOSING_AUCTION"
    CLOSING_AUCTION_LIMIT = "CLOSING_AUCTION_LIMIT"
    CLOSING_MATCHING = "CLOSING_MATCHING"
    POST_CLOSE = "POST_CLOSE"
    CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One dated row. A ``special`` row replaces the weekday rows of its days; ``CLOSED`` has no
    times.

    ``group`` is a `SessionGroup` or ``ALL``; rows of a group's own win over rows for all.
    ``weekdays`` holds ISO numbers, Monday ``1``. Both dates are inclusive; ``opens`` is inclusive
    and ``closes`` exclusive.
    """

    group: str
    phase: Phase
    opens: time | None
    closes: time | None
    valid_from: date
    valid_to: date
    weekdays: str = "12345"
    special: bool = False
    note: str = ""

    def covers(self, day: date) -> bool:
        return self.valid_from <= day <= self.valid_to and str(day.isoweekday()) in self.weekdays


@dataclass(frozen=True, slots=True)
class Span:
    """One phase of one day: ``start`` inclusive, ``end`` exclusive, aware UTC."""

    phase: Phase
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Holiday:
    day: date
    note: str


def trading_date(at: datetime) -> date:
    """Return the date in India."""
    return at.astimezone(IST).date()


class Calendar:
    """Answers from a fixed set of rows; days are computed once and kept."""

    def __init__(self, rows: Iterable[SessionRow]) -> None:
        self.rows = tuple(rows)
        self._days: dict[tuple[str, date], tuple[Span, ...]] = {}

    def day(self, group: str, day: date) -> tuple[Span, ...]:
        """Return the phases of the day in order of time; empty when closed or unknown."""
        key = (group, day)
        spans = self._days.get(key)
        if spans is None:
            if len(self._days) > 5_000:
                self._days.clear()
            spans = self._days[key] = self._spans(group, day)
        return spans

    def phase_at(self, group: str, at: datetime) -> Phase:
        """Return the phase at ``at``; CLOSED between phases and on unknown days."""
        for span in self.day(group, trading_date(at)):
            if span.start <= at < span.end:
                return span.phase
        return Phase.CLOSED

    def is_open(self, group: str, at: datetime) -> bool:
        """Whether orders of this group match continuously at ``at``."""
        return self.phase_at(group, at) is Phase.NORMAL

    def session_bounds(self, group: str, day: date) -> tuple[datetime, datetime] | None:
        """Return when continuous trading starts and ends on ``day``, or None when it does not take
        place.
        """
        normal = [span for span in self.day(group, day) if span.phase is Phase.NORMAL]
        return (normal[0].start, normal[-1].end) if normal else None

    def last_session(self, group: str, at: datetime) -> tuple[date, datetime, datetime] | None:
        """Return the last continuous session that had started by ``at`` as (day, start, end); looks
        back 30 days.
        """
        day = trading_date(at)
        for _ in range(30):
            bounds = self.session_bounds(group, day)
            if bounds is not None and bounds[0] <= at:
                return day, *bounds
            day -= timedelta(days=1)
        return None

    def next_session(self, group: str, at: datetime) -> tuple[datetime, datetime] | None:
        """Return the continuous session that is on at ``at`` or starts next, within 30 days."""
        day = trading_date(at)
        for _ in range(30):
            bounds = self.session_bounds(group, day)
            if bounds is not None and at < bounds[1]:
                return bounds
            day += timedelta(days=1)
        return None

    def known_until(self, group: str) -> date | None:
        """Return the last day that weekday rows cover: after it the group counts as closed."""
        return max(
            (row.valid_to for row in self.rows if row.group == group and not row.special),
            default=None,
        )

    def holidays(self, start: date, end: date) -> list[Holiday]:
        """Return the closed days from ``start`` to ``end``, both inclusive, that are closed for all
        groups.
        """
        found = [
            Holiday(row.valid_from, row.note)
            for row in self.rows
            if row.special
            and row.phase is Phase.CLOSED
            and row.group == ALL_GROUPS
            and start <= row.valid_from <= end
        ]
        return sorted(found, key=lambda holiday: holiday.day)

    def is_expiry_day_closed(self, group: str, day: date) -> bool:
        """Whether a contract cannot expire on ``day``.

        Contracts are listed before the next year's calendar is published, so outside the known days
        only weekends and the fixed national holidays count as closed. This is for expiry dates;
        nothing trades by this rule.
        """
        if any(row.group == group and row.valid_from <= day <= row.valid_to for row in self.rows):
            return self.session_bounds(group, day) is None
        return day.isoweekday() > 5 or (day.month, day.day) in FIXED_HOLIDAYS

    def _spans(self, group: str, day: date) -> tuple[Span, ...]:
        covering = [
            row for row in self.rows if row.group in (group, ALL_GROUPS) and row.covers(day)
        ]
        special = [row for row in covering if row.special]
        chosen = [row for row in special if row.group == group] or special or covering
        spans = [
            Span(row.phase, _utc(day, row.opens), _utc(day, row.closes))
            for row in chosen
            if row.opens is not None and row.closes is not None and row.phase is not Phase.CLOSED
        ]
        return tuple(sorted(spans, key=lambda span: span.start))


def _utc(day: date, at: time) -> datetime:
    return datetime.combine(day, at, IST).astimezone(UTC)
