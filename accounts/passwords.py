"""Passwords: how they are hashed, how many at once, and which are good enough."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.contrib.auth import password_validation
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.core.exceptions import ValidationError

from accounts.errors import Busy, InvalidInput
from accounts.models import User

LONGEST = 128
WAIT_SECONDS = 2.0
# Words that anyone would try here first.
CONTEXT_WORDS = ("sauda", "zerodha", "upstox", "groww", "angelone", "nifty", "sensex", "banknifty")

# One hash takes a core and 19 MiB for some 20 to 40 ms: more at once would only make all of them
# late.
_slots = threading.BoundedSemaphore(os.cpu_count() or 2)


@contextmanager
def hashing_slot() -> Iterator[None]:
    """Hold one of as many places as there are cores.

    Raises:
        Busy: none became free within two seconds.
    """
    if not _slots.acquire(timeout=getattr(settings, "PASSWORD_WAIT_SECONDS", WAIT_SECONDS)):
        raise Busy(retry_after=1)
    try:
        yield
    finally:
        _slots.release()


class Argon2idHasher(Argon2PasswordHasher):
    """Argon2id with 19 MiB, two passes and one lane, as OWASP lists it.

    Of OWASP's equal settings the fastest here: 18 ms where 46 MiB in one pass take 45 ms.
    """

    time_cost = 2
    memory_cost = 19456
    parallelism = 1

    def encode(self, password: str, salt: str) -> str:
        with hashing_slot():
            return super().encode(password, salt)

    def verify(self, password: str, encoded: str) -> bool:
        with hashing_slot():
            return bool(super().verify(password, encoded))


class ContextWordValidator:
    """Refuses a password that is little more than a word of the trade."""

    def validate(self, password: str, user: Any = None) -> None:
        rest = password.lower()
        for word in sorted(CONTEXT_WORDS, key=len, reverse=True):
            rest = rest.replace(word, "")
        if len(rest) < len(password) and len(rest.strip("0123456789!@#$%^&*_-. ")) < 4:
            raise ValidationError(
                "This password is too easy to guess here.", code="password_context"
            )

    def get_help_text(self) -> str:
        return "Your password can't be built around the name of a broker or an index."


class MaximumLengthValidator:
    """Refuses what would only cost us time to hash."""

    def validate(self, password: str, user: Any = None) -> None:
        if len(password) > LONGEST:
            raise ValidationError(
                f"This password is too long. It may have {LONGEST} characters.",
                code="password_too_long",
            )

    def get_help_text(self) -> str:
        return f"Your password may have at most {LONGEST} characters."


def password_judge(password: str, user: User, field: str = "password") -> None:
    """Check a new password against every rule of ``AUTH_PASSWORD_VALIDATORS``.

    Raises:
        InvalidInput: with the reasons under ``field``.
    """
    try:
        password_validation.validate_password(password, user)
    except ValidationError as e:
        raise InvalidInput(detail={field: list(e.messages)}) from e


def password_matches(user: User | None, password: str) -> bool:
    """Check a password; for an unknown user the same work is done for nothing.

    Raises:
        Busy: see ``hashing_slot``.
    """
    if user is None:
        User().set_password(password)
        return False
    return user.check_password(password) and user.is_active
