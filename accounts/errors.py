"""What can be wrong with a request about accounts. HTTP statuses are given in
`config/exceptions.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class AccountsError(Exception):
    """Base: ``code`` is stable for programs, the message is a sentence for the user.

    ``retry_after`` is in whole seconds, where waiting helps.
    """

    code = "accounts_error"
    default_message = "This cannot be done."

    def __init__(
        self,
        message: str = "",
        *,
        detail: Mapping[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        self.message = message or self.default_message
        super().__init__(self.message)
        self.detail, self.retry_after = dict(detail or {}), retry_after


class InvalidCredentials(AccountsError):
    """Wrong address or password, or a deactivated user; which of them is not told."""

    code = "invalid_credentials"
    default_message = "The e-mail address or the password is wrong."


class InvalidOtp(AccountsError):
    """A sign-in code that is wrong, used, replaced or expired; which of them is not told."""

    code = "invalid_otp"
    default_message = "The code is wrong, was used already, or has expired. Ask for a new one."


class InvalidCode(AccountsError):
    """As ``InvalidOtp``, for codes and links that verify an address or reset a password."""

    code = "invalid_code"
    default_message = "The code or link is wrong, was used already, or has expired."


class InvalidToken(AccountsError):
    """A token that is malformed, expired, not ours, or of a session that has ended."""

    code = "invalid_token"
    default_message = "The token is not valid any more. Sign in again."


class TokenReused(InvalidToken):
    """A refresh token that was exchanged before came again: the session is ended for safety."""

    code = "token_reused"
    default_message = "This refresh token was used before. The session was ended; sign in again."


class WrongPassword(AccountsError):
    """The current password, asked for once more, is wrong."""

    code = "wrong_password"
    default_message = "The current password is wrong."


class InvalidInput(AccountsError):
    """Fields that cannot be accepted; ``detail`` lists the reasons by field."""

    code = "validation_error"
    default_message = "Some fields are missing or wrong."


class EmailTaken(AccountsError):
    """There is an account for this address already."""

    code = "email_taken"
    default_message = (
        "There is an account with this e-mail address. Sign in, or reset the password."
    )


class NotFound(AccountsError):
    """No such object, or another user's; the two look the same from outside."""

    code = "not_found"
    default_message = "Nothing is found under this id."


class Throttled(AccountsError):
    """Too many attempts; ``retry_after`` says how long to wait."""

    code = "throttled"
    default_message = "Too many attempts. Wait a little."


class Busy(AccountsError):
    """Every core is checking a password already; nothing was counted against the caller."""

    code = "busy"
    default_message = "Too many sign-ins at once. Try again in a moment."
