"""What the paper broker needs from above. The app that has it registers it here when it starts.

`brokerages` may not import `marketdata`; so the latest quotes and the hours of the exchanges come
in through these functions.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from django.conf import settings

from brokerages.base import next_midnight
from brokerages.types import InstrumentRef, Quote

QuoteReader = Callable[[InstrumentRef], Quote | None]


class SessionReader(Protocol):
    """The hours of an instrument's exchange segment."""

    def is_open(self, instrument: InstrumentRef, at: datetime) -> bool:
        """Return whether orders are matched at ``at``."""

    def day_end(self, instrument: InstrumentRef, at: datetime) -> datetime:
        """Return when a DAY order placed at ``at`` ends: after ``at``, aware UTC."""


_quotes: QuoteReader | None = None
_sessions: SessionReader | None = None


def provide_quotes(reader: QuoteReader | None) -> None:
    """Register who knows the latest quotes. None takes it away again."""
    global _quotes  # noqa: PLW0603 - one reader a process, set once at start
    _quotes = reader


def provide_sessions(reader: SessionReader | None) -> None:
    """Register who knows the hours of the exchanges. None takes it away again."""
    global _sessions  # noqa: PLW0603 - one reader a process, set once at start
    _sessions = reader


def latest_quote(instrument: InstrumentRef) -> Quote | None:
    """Return the latest quote, or None where there is none or nobody knows any."""
    return None if _quotes is None else _quotes(instrument)


def market_open(instrument: InstrumentRef, at: datetime) -> bool:
    """Return whether orders are matched at ``at``. Unknown hours are closed, unless the session
    never ends.
    """
    if settings.SIMULATED_SESSION == "always":
        return True
    return False if _sessions is None else _sessions.is_open(instrument, at)


def day_end(instrument: InstrumentRef, at: datetime) -> datetime:
    """Return when a DAY order placed at ``at`` ends: the session's end, else midnight in India."""
    if settings.SIMULATED_SESSION == "always" or _sessions is None:
        return next_midnight(instrument, at)
    return _sessions.day_end(instrument, at)
