"""A broker's words may repeat what it was sent. No error leaves an adapter with its secrets."""

from __future__ import annotations

from collections.abc import Iterable

from brokerages.base import BrokerAdapter
from brokerages.errors import BrokerError
from brokerages.services.guard import watched
from brokerages.types import SessionToken

MASK = "[redacted]"
SHORTEST = 4  # characters; anything shorter stands in ordinary words


def scrubbed(adapter: BrokerAdapter) -> BrokerAdapter:
    """Return ``adapter``; its errors name neither its credentials, nor its token, nor a grant."""
    if not adapter.credentials and not (adapter.token and adapter.token.secrets):
        return adapter
    grants: list[str] = []
    real_open = adapter.open_session

    def open_session(grant: str | None) -> SessionToken:
        grants[:] = [grant] if grant else []
        return real_open(grant)

    def react(error: BrokerError) -> None:
        secrets = secrets_of(adapter, grants)
        error.message, error.code = scrub(error.message, secrets), scrub(error.code, secrets)
        error.args = (error.message,)
        # what it was raised from was written by an SDK, and may hold the request
        for cause in (error.__cause__, error.__context__):
            if cause is not None:
                cause.args = tuple(
                    scrub(part, secrets) if isinstance(part, str) else part for part in cause.args
                )

    adapter.open_session = open_session  # type: ignore[method-assign]
    return watched(adapter, react)


def secrets_of(adapter: BrokerAdapter, grants: Iterable[str] = ()) -> list[str]:
    """Return what the adapter knows and nobody else may: longest first, or a part of one would
    stay.
    """
    token = adapter.token.secrets if adapter.token else {}
    known = {*adapter.credentials.values(), *token.values(), *grants}
    return sorted((value for value in known if len(value) >= SHORTEST), key=len, reverse=True)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` with every one of ``secrets`` masked."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text
