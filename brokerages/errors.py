"""What a failure at a broker proves. Pure Python: nothing but these errors crosses the boundary.

The class answers the one question that matters: did the broker act? ``NotSent`` and ``Refused`` say
no, ``OutcomeUnknown`` says that nobody knows, and then nothing is resent.
"""

from __future__ import annotations

from typing import ClassVar


class BrokerError(Exception):
    """Base of every error an adapter may raise; nothing else crosses the boundary.

    ``message`` is for the user, in the broker's own words where it gave any; ``code`` is the
    broker's, else ours. ``advice`` tells the user what to do.
    """

    advice: ClassVar[str] = ""

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
    """The terms are not acceptable: lot, product, price band."""

    advice = "Change the order and place it again."


class OffTick(InvalidOrder):
    """A price is not a multiple of the instrument's tick."""

    advice = "Use a price that is a multiple of the tick size."


class OverFreeze(InvalidOrder):
    """The quantity is above the exchange's freeze quantity for one order."""

    advice = "Split the order into parts below the freeze quantity."


class MarketClosed(InvalidOrder):
    """The segment is not open for this order now."""

    advice = "Wait for the session, or place it as an after-market order."


class InsufficientFunds(Refused):
    """Not enough cash or margin."""

    advice = "Add money at the broker, or place a smaller order."


class InsufficientHoldings(Refused):
    """Not enough shares to sell for delivery, or their sale is not authorised at the depository."""

    advice = "Check the holdings, and authorise their sale at the broker."


class SessionExpired(Refused):
    """The broker session is over; the user (or the daily renewal) must open a new one."""

    advice = "Log in at the broker again."


class StaticIpRefused(Refused):
    """The broker takes orders only from registered addresses, and ours is not one."""

    advice = "Register this server's public IP address in the broker's developer console."


class PermissionDenied(Refused):
    """The API key, or the account, may not make this call."""

    advice = "Check the subscriptions and segments of the API key at the broker."


class OrderNotFound(Refused):
    """The broker does not know the order, or it is already at its end."""

    advice = "Refresh the orders: it may be filled or cancelled already."


class NotSupported(Refused):
    """The broker cannot express this; nothing was sent."""


class OutcomeUnknown(BrokerError):
    """Timeout, 5xx or unreadable answer after sending. Reconcile; never resend."""

    advice = "Wait: the broker's book is being read. Do not place the order again."
