"""What can go wrong in market data. Entry points turn these into answers."""

from __future__ import annotations


class MarketDataError(Exception):
    """Base of the errors of this app."""


class UnknownInstrument(MarketDataError, LookupError):
    """No such instrument."""


class UnknownWatchlist(MarketDataError, LookupError):
    """No such watchlist, or another user's."""


class WatchlistConflict(MarketDataError):
    """The user has a watchlist of that name."""


class LimitReached(MarketDataError):
    """No more of these are allowed for one user."""


class BadReplayFile(MarketDataError, ValueError):
    """The file of recorded candles cannot be played."""


class InstrumentListRefused(MarketDataError):
    """A broker's instrument list cannot be what it should be; nothing was changed by it."""


class NotAtBroker(MarketDataError):
    """The broker does not list the instrument, or its list was never read: ``code`` says which."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.message, self.code = message, code


class NoPrices(MarketDataError):
    """The source that was asked for has no such prices."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.message, self.code = message, code
