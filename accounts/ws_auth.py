"""Signing a socket in. Plain functions that ask the database: call them in a thread."""

from importlib import import_module

from django.conf import settings

from accounts.authentication import principal_from_token as _from_token
from accounts.errors import InvalidToken
from accounts.middleware import principal_of_session
from accounts.principals import Principal, principal_stands

__all__ = ["principal_from_session_cookie", "principal_from_token", "principal_stands"]


def principal_from_token(token: str) -> Principal | None:
    """Return who holds an access token; None if it does not let anyone in."""
    try:
        return _from_token(token)
    except InvalidToken:
        return None


def principal_from_session_cookie(value: str) -> Principal | None:
    """Return who a browser's session cookie belongs to; None if it does not let anyone in.

    A cookie comes along from any page: check the Origin of the handshake before calling this.
    """
    if not value or len(value) > 100:
        return None
    store = import_module(settings.SESSION_ENGINE).SessionStore(value)
    return principal_of_session(store)
