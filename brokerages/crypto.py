"""Broker secrets at rest: a Fernet envelope that says inside whose secret it is.

Fernet has no associated data, so a ciphertext moved to another row would decrypt there. The
plaintext therefore names its place, and `open_secret` refuses it anywhere else. The keys are
``settings.CREDENTIAL_KEYS``: the first encrypts, all decrypt; the id of the key that was used is
stored beside each ciphertext, so that "how many rows still need the old key" is a query.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings

VERSION = 1
LAST_SHOWN = 4
SHORT_SECRET = 12  # of a shorter one, four characters would be too large a part


class DecryptionError(Exception):
    """The ciphertext is not readable here: another place's, altered, or of a key that we no
    longer have.
    """


@dataclass(frozen=True, slots=True)
class Place:
    """Where a secret belongs: all four are sealed into the ciphertext."""

    user: str
    connection: str
    broker: str
    field: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """A ciphertext and the id of the key that made it."""

    ciphertext: str
    key_id: str


def key_id(key: str) -> str:
    """Return the public name of a key: it cannot be turned back into the key."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def current_key_id() -> str:
    """Return the id of the key that encrypts now."""
    return key_id(_keys()[0])


def seal_secret(place: Place, secret: str) -> Sealed:
    """Encrypt ``secret`` for ``place`` with the first key."""
    key = _keys()[0]
    plaintext = json.dumps(
        {
            "v": VERSION,
            "user": place.user,
            "connection": place.connection,
            "broker": place.broker,
            "field": place.field,
            "secret": secret,
        },
        separators=(",", ":"),
    )
    return Sealed(_fernet(key).encrypt(plaintext.encode()).decode(), key_id(key))


def open_secret(place: Place, sealed: Sealed) -> str:
    """Return the secret that was sealed for ``place``.

    Raises:
        DecryptionError: it was sealed for another place, was altered, or its key is gone. The
            message names no secret.
    """
    try:
        content = json.loads(_decrypt(sealed))
    except (InvalidToken, ValueError):
        raise DecryptionError(f"a stored secret is not readable (key {sealed.key_id})") from None
    found = Place(*(str(content.get(name)) for name in ("user", "connection", "broker", "field")))
    if content.get("v") != VERSION or found != place:
        raise DecryptionError("a stored secret belongs to another place")
    return str(content["secret"])


def reseal_secret(place: Place, sealed: Sealed) -> Sealed:
    """Return the same secret under the first key. Raises `DecryptionError` too."""
    return seal_secret(place, open_secret(place, sealed))


def fingerprint(secret: str) -> str:
    """Return eight hex digits that tell two secrets apart; keyed, so that guesses cannot be
    checked from a database dump.
    """
    salt = hashlib.sha256(b"credential fingerprint" + settings.SECRET_KEY.encode()).digest()
    return hmac.new(salt, secret.encode(), hashlib.sha256).hexdigest()[:8]


def last_four(secret: str) -> str:
    """Return the end of ``secret`` for display, empty where the secret is too short to show any
    of it.
    """
    return secret[-LAST_SHOWN:] if len(secret) >= SHORT_SECRET else ""


def _keys() -> Sequence[str]:
    keys: Sequence[str] = settings.CREDENTIAL_KEYS
    return keys


def _decrypt(sealed: Sealed) -> bytes:
    token = sealed.ciphertext.encode()
    for key in _keys():
        if key_id(key) == sealed.key_id:
            return _fernet(key).decrypt(token)
    raise InvalidToken


@lru_cache(maxsize=16)
def _fernet(key: str) -> Fernet:
    return Fernet(key.encode())
