"""How often what may be tried. A deployment overrides single limits in ``ACCOUNTS_THROTTLES``.

As a setting, ``{"signup_ip": (1000, 60), "signin_ip": None}``: (count, seconds), None for no limit.
As an environment variable, ``signup_ip=1000/60,signin_ip=off``. Limits are exact over any span of
that length, not per calendar hour.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from django.conf import settings


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``count`` times in any ``seconds``."""

    count: int
    seconds: int


DEFAULTS: dict[str, Limit | None] = {
    # Every request to a path without a login, by address; counted in Redis, none while Redis is
    # away.
    "auth_ip": Limit(300, 60),
    # The rest is counted in PostgreSQL.
    "signup_ip": Limit(20, 3600),
    "signin_ip": Limit(100, 300),
    "refresh_ip": Limit(600, 60),
    "code_request_ip": Limit(20, 3600),
    "code_request_account": Limit(5, 3600),
    "code_resend_account": Limit(1, 30),
    "code_verify_ip": Limit(100, 300),
    "code_verify_account": Limit(30, 24 * 3600),  # a guess succeeds with 3 in 100,000 a day at most
    # Webhooks, in Redis: what nobody signed, what is signed, what one connection's broker sends.
    "webhook_invalid_ip": Limit(120, 60),
    "webhook_valid_ip": Limit(30_000, 60),
    "webhook_connection": Limit(1200, 60),
}

CODE_ATTEMPTS = 5  # tries of one mailed code
# How long a mailed code is good, and the link beside it where there is one.
CODE_SECONDS = {"LOGIN": 300, "VERIFY_EMAIL": 600, "RESET_PASSWORD": 600}
LINK_SECONDS = {"VERIFY_EMAIL": 24 * 3600, "RESET_PASSWORD": 1800}

# After this many wrong passwords in a row each further try has to wait: 1 s, doubled up to 15
# minutes. Never for good: anyone who knows an address can fail on purpose, and a mailed code still
# lets its owner in.
FREE_FAILURES = 5
FIRST_WAIT_SECONDS = 1
LONGEST_WAIT_SECONDS = 15 * 60
FAILURES_FORGOTTEN_SECONDS = 24 * 3600


def limit(name: str) -> Limit | None:
    """Return the limit of this name, or None if it is switched off."""
    given = overrides()
    return given[name] if name in given else DEFAULTS[name]


def overrides() -> dict[str, Limit | None]:
    """Return what ``ACCOUNTS_THROTTLES`` changes.

    Raises:
        ValueError: an unknown name, or what is no limit.
    """
    given = getattr(settings, "ACCOUNTS_THROTTLES", {})
    if not isinstance(given, Mapping):
        return _parsed(tuple(given))
    return {_known(name): None if v is None else Limit(*v) for name, v in given.items()}


@lru_cache(maxsize=4)
def _parsed(items: tuple[str, ...]) -> dict[str, Limit | None]:
    found: dict[str, Limit | None] = {}
    for item in items:
        name, _, text = item.partition("=")
        match = re.fullmatch(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", text)
        if match is None and text != "off":
            raise ValueError(f"{item} is neither name=count/seconds nor name=off")
        found[_known(name)] = Limit(int(match[1]), int(match[2])) if match else None
    return found


def _known(name: str) -> str:
    if name not in DEFAULTS:
        raise ValueError(f"{name} is none of the limits {', '.join(sorted(DEFAULTS))}")
    return name
