"""What can be wrong with a request about broker connections. Broker failures are in `errors`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class BrokerageError(Exception):
    """Base: ``code`` is stable for programs, the message is a sentence for the user."""

    code = "brokerage_error"

    def __init__(
        self, message: str, *, code: str = "", detail: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.detail = message, dict(detail or {})
        if code:
            self.code = code


class NotFound(BrokerageError):
    """No such object, or another user's; the two look the same from outside."""

    code = "not_found"


class InvalidConnection(BrokerageError):
    """The connection cannot be made or changed like this: unknown broker, missing credential."""

    code = "invalid_connection"


class ConnectionConflict(BrokerageError):
    """The connection is not in a state that allows this."""

    code = "connection_conflict"


class InvalidLogin(BrokerageError):
    """The way back from a broker's login page leads nowhere. Which of the reasons it is, is not
    told: the address may be in other hands.
    """

    code = "invalid_login"

    def __init__(
        self,
        message: str = "This login is not known here, was used, or is too old. Start it again.",
        *,
        code: str = "",
    ) -> None:
        super().__init__(message, code=code)


class NoConnection(ConnectionConflict):
    """The user has no broker connection yet, so none is the default."""

    code = "no_connection"
