"""What an entry is made of, as bytes that can be signed; pure.

The bytes of an entry must come out the same from the values that are written now and from the row
that is read back in ten years. So everything is made plain first: no floats, Decimals as strings,
times in UTC to the microsecond, keys sorted, and a version number in front.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

VERSION = 1
GENESIS = bytes(32)  # what the first seal follows
MAC_LENGTH = 16
MASK = "[redacted]"

# The columns of an entry that it is signed over, in this order, after VERSION.
CONTENT = (
    "uid",
    "at",
    "user_id",
    "actor_kind",
    "actor_id",
    "session_id",
    "ip",
    "action",
    "object_type",
    "object_id",
    "changes",
    "reason",
    "request_id",
    "app_version",
)

_SECRET_WORDS = frozenset(
    {
        "password", "passwd", "passphrase", "secret", "secrets", "token", "tokens", "otp", "totp",
        "pin", "mpin", "key", "keys", "authorization", "cookie", "credential", "credentials", "jwt",
        "cvv", "signature", "checksum",
    }
)  # fmt: skip
# Names that end in such a word and hold no secret.
_HARMLESS_NAMES = frozenset(
    {
        "exchange_token", "instrument_token", "instrument_key", "idempotency_key", "dedupe_key",
        "key_id", "token_type",
    }
)  # fmt: skip
_SECRET_SHAPE = re.compile(r"eyJ[\w-]{5,}\.[\w-]+\.[\w-]*|gAAAA[\w-]{20,}={0,2}")
_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_INT64 = 2**63


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether a field of this name is masked: by whole words, so ``pin`` but not ``spinning``."""
    if name.lower() in _HARMLESS_NAMES:
        return False
    return any(word.lower() in _SECRET_WORDS for word in _WORDS.findall(name))


def clean_text(value: str) -> str:
    """Return the text without what PostgreSQL cannot store, and without tokens by their shape."""
    value = _UNSTORABLE.sub("\ufffd", value)
    return _SECRET_SHAPE.sub(MASK, value)


def plain(value: Any, name: str = "") -> Any:
    """Return the value as redacted plain JSON that comes back from ``jsonb`` as it went in."""
    if name and value not in (None, "") and not isinstance(value, bool) and is_secret_name(name):
        return MASK
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return {clean_text(str(key)): plain(item, str(key)) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item, name) for item in value), key=str)
    if isinstance(value, list | tuple):
        return [plain(item, name) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name), f.name) for f in fields(value)}
    return clean_text(str(value))


def utc_text(at: datetime) -> str:
    """Return ``2026-01-31T09:15:00.000000Z``.

    Raises:
        ValueError: a time without an offset, which could mean anything.
    """
    if at.tzinfo is None:
        raise ValueError("a time without an offset cannot be audited")
    return at.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


_encoder = msgspec.json.Encoder(order="sorted")


def content_bytes(values: Mapping[str, Any]) -> bytes:
    """Return the bytes of an entry: the columns of ``CONTENT``, ``changes`` made plain."""
    row: list[Any] = [VERSION]
    for column in CONTENT:
        value = values[column]
        if isinstance(value, datetime):
            value = utc_text(value)
        elif isinstance(value, UUID):
            value = str(value)
        row.append(value)
    return _encoder.encode(row)


def content_bytes_of_row(row: list[Any]) -> bytes:
    """Return the same bytes from texts as PostgreSQL prints them, without a detour over objects.

    ``row`` holds the values of ``CONTENT``: identifiers as text, the time as ``utc_text`` gives it,
    ``changes`` parsed.
    """
    return _encoder.encode([VERSION, *row])


# --- Keys and signatures --------------------------------------------------------------------------


@lru_cache(maxsize=64)
def key_id(key: str) -> str:
    """Return the name under which a key is remembered: 8 hex digits that do not reveal it."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


@lru_cache(maxsize=64)
def subkey(key: str, purpose: str) -> bytes:
    """Return a key for one purpose: a signature of one kind is never valid as another."""
    return hmac.digest(key.encode(), b"sauda-audit-" + purpose.encode(), "sha256")


def entry_mac(key: str, content: bytes) -> bytes:
    """Return what proves that a holder of the key wrote the entry: key id, then 128 bits."""
    signature = hmac.digest(subkey(key, "entry"), content, "sha256")
    return bytes.fromhex(key_id(key)) + signature[:MAC_LENGTH]


def seal_hash(key: str, previous: bytes, position: str, content: bytes) -> bytes:
    """Return one link of the chain; ``position`` says where the entry stands (see ``position``)."""
    return link(subkey(key, "seal"), previous, position, content)


def link(subkey: bytes, previous: bytes, position: str, content: bytes) -> bytes:
    """As ``seal_hash``, with the key for seals already derived."""
    return hmac.digest(subkey, b"".join((previous, position.encode(), b"|", content)), "sha256")


def position(seq: int, entry_id: int, xact: int, era: int, sealed_at: str) -> str:
    return f"{VERSION}|{seq}|{entry_id}|{xact}|{era}|{sealed_at}"
