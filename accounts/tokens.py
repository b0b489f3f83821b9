"""Access and refresh tokens: JSON Web Tokens of our own claims, signed with a key for nothing else.

``sub`` is the user, ``sid`` the login session, ``token_type`` keeps one kind from serving as the
other.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import Token

from accounts.errors import InvalidToken

ISSUER = "sauda"
AUDIENCE = "sauda-api"
LEEWAY_SECONDS = 5  # clocks of several machines
LONGEST_TOKEN = 2048


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a client gets for signing in."""

    access_token: str
    token_type: str = field(default="bearer", init=False)
    refresh_token: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What a genuine token says. Whether its session still stands is another question."""

    user_id: UUID
    session_id: UUID
    jti: str
    expires_at: datetime


@lru_cache(maxsize=8)
def _backend(key: str) -> TokenBackend:
    return TokenBackend(
        "HS256", signing_key=key, audience=AUDIENCE, issuer=ISSUER, leeway=LEEWAY_SECONDS
    )


class _OurToken(Token):
    def get_token_backend(self) -> TokenBackend:
        return _backend(settings.JWT_SIGNING_KEY)


class AccessToken(_OurToken):
    token_type = "access"  # noqa: S105
    lifetime = timedelta(minutes=settings.ACCESS_TOKEN_MINUTES)


class RefreshToken(_OurToken):
    token_type = "refresh"  # noqa: S105
    lifetime = timedelta(days=settings.REFRESH_TOKEN_DAYS)


def access_mint(user_id: UUID, session_id: UUID) -> str:
    token = AccessToken()
    token["sub"], token["sid"] = str(user_id), str(session_id)
    return str(token)


def refresh_mint(
    user_id: UUID, session_id: UUID, jti: str, issued_at: datetime, expires_at: datetime
) -> str:
    """Return a refresh token; the same arguments give the same token, byte for byte."""
    token = RefreshToken()
    token["sub"], token["sid"], token["jti"] = str(user_id), str(session_id), jti
    token["iat"], token["exp"] = int(issued_at.timestamp()), int(expires_at.timestamp())
    return str(token)


def access_read(token: str) -> Claims:
    """Check an access token without asking anyone.

    Raises:
        InvalidToken: not one of ours, expired, or of the other kind.
    """
    return _read(AccessToken, token)


def refresh_read(token: str) -> Claims:
    """Check a refresh token; raises as ``access_read``."""
    return _read(RefreshToken, token)


def _read(kind: type[_OurToken], text: str) -> Claims:
    if len(text) > LONGEST_TOKEN:
        raise InvalidToken
    try:
        payload: dict[str, Any] = kind(text).payload  # type: ignore[arg-type]
        return Claims(
            UUID(payload["sub"]),
            UUID(payload["sid"]),
            str(payload["jti"]),
            datetime.fromtimestamp(payload["exp"], UTC),
        )
    except (TokenError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise InvalidToken from e


def new_jti() -> str:
    return secrets.token_hex(16)


def child_jti(session_id: UUID, parent: str) -> str:
    """Return the id of the one token that may follow ``parent``: the same each time it is made."""
    message = b"|".join((b"refresh-child", session_id.bytes, parent.encode()))
    return hmac.digest(settings.JWT_SIGNING_KEY.encode(), message, "sha256").hex()[:32]


def jti_hash(jti: str) -> bytes:
    return hashlib.sha256(jti.encode()).digest()
