"""What this app needs from above. The app that has it registers it here when it starts.

`brokerages` may not import `marketdata` or `trading`; so the latest quotes, the hours of the
exchanges, and the way to a user's notifications come in through these functions.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from django.conf import settings

from brokerages.base import next_midnight
from brokerages.types import InstrumentRef, Quote

QuoteReader = Callable[[InstrumentRef], Quote | None]
# user, kind, title, text, data: the object that it is about
Notifier = Callable[[UUID, str, str, str, dict[str, Any]], None]


class SessionReader(Protocol):
    """The hours of an instrument's exchange segment."""

    def is_open(self, instrument: InstrumentRef, at: datetime) -> bool:
        """Return whether orders are matched at ``at``."""

    def day_end(self, instrument: InstrumentRef, at: datetime) -> datetime:
        """Return when a DAY order placed at ``at`` ends: after ``at``, aware UTC."""


_quotes: QuoteReader | None = None
_sessions: SessionReader | None = None
_notifier: Notifier | None = None


def provide_quotes(reader: QuoteReader | None) -> None:
    """Register who knows the latest quotes. None takes it away again."""
    global _quotes  # noqa: PLW0603 - one reader a process, set once at start
    _quotes = reader


def provide_sessions(reader: SessionReader | None) -> None:
    """Register who knows the hours of the exchanges. None takes it away again."""
    global _sessions  # noqa: PLW0603 - one reader a process, set once at start
    _sessions = reader


def provide_notifier(notifier: Notifier | None) -> None:
    """Register who notifies users. None takes it away again."""
    global _notifier  # noqa: PLW0603 - one a process, set once at start
    _notifier = notifier


def notify_user(user_id: UUID, kind: str, title: str, text: str, data: dict[str, Any]) -> None:
    """Notify a user in the caller's transaction, where somebody does that."""
    if _notifier is not None:
        _notifier(user_id, kind, title, text, data)


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
