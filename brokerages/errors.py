"""What a failure at a broker proves. Pure Python: nothing but these errors crosses the boundary.

The class answers the one question that matters: did the broker act? ``NotSent`` and ``Refused`` say
no, ``OutcomeUnknown`` says that nobody knows, and then nothing is resent.
"""

from __future__ import annotations


class BrokerError(Exception):
    """Base of every error an adapter may raise; nothing else crosses the boundary.

    ``message`` is for the user, in the broker's own words where it gave any; ``code`` is the
    broker's, else ours.
    """

    def __init__(self, message: str, *, broker: str, code: str = "") -> None:
        super().__init__(message)
        self.message, self.broker, self.code = message, broker, code


class NotSent(BrokerError):
    """The request never left us (no route, pool full). Safe to send again."""


class RateLimited(NotSent):
    """The pace toward the broker is used up, or the broker said so before acting. ``retry_after``
    is seconds.
    """

    def __init__(
        self, message: str, *, broker: str, code: str = "", retry_after: float = 1.0
    ) -> None:
        super().__init__(message, broker=broker, code=code)
        self.retry_after = retry_after


class Refused(BrokerError):
    """The broker answered and did not act. Final: never send the same request again."""


class InvalidOrder(Refused):
    """The terms are not acceptable: tick, lot, band, product, a closed market."""


class InsufficientFunds(Refused):
    """Not enough cash or margin."""


class InsufficientHoldings(Refused):
    """Not enough shares to sell for delivery."""


class MarketClosed(InvalidOrder):
    """The segment is not open for this order now."""


class SessionExpired(Refused):
    """The broker session is over; the user (or the daily renewal) must open a new one."""


class OrderNotFound(Refused):
    """The broker does not know the order, or it is already at its end."""


class NotSupported(Refused):
    """The broker cannot express this; nothing was sent."""


class OutcomeUnknown(BrokerError):
    """Timeout, 5xx or unreadable answer after sending. Reconcile; never resend."""
