"""Mailed codes: how they are made and kept; pure.

A six-digit code has too few values for a plain hash to hide it, so the hash is keyed with a key
that is not in the database. The link in a mail carries a token of 256 bits for the same challenge
instead.
"""

import hashlib
import hmac
import secrets
from uuid import UUID

DIGITS = 6
NONCE_LENGTH = 16


def new_code() -> str:
    """Return six random digits; leading zeros count."""
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"


def new_nonce() -> bytes:
    return secrets.token_bytes(NONCE_LENGTH)


def code_hash(key: str, purpose: str, email: str, nonce: bytes, code: str) -> bytes:
    """Return what is stored of a code: good only for this purpose, address and challenge."""
    message = b"|".join(
        (b"code", purpose.encode(), email.encode(), nonce.hex().encode(), code.encode())
    )
    return hmac.digest(key.encode(), message, "sha256")


def link_token(key: str, purpose: str, challenge_id: UUID, nonce: bytes) -> str:
    """Return the token of a mailed link: the challenge's id and a signature only we can make."""
    return f"{challenge_id.hex}.{_link_signature(key, purpose, challenge_id, nonce)}"


def challenge_of_link(token: str) -> UUID | None:
    """Return which challenge a token claims to be for; None if it has not the form of one."""
    head, dot, signature = token.partition(".")
    if not dot or len(head) != 32 or len(signature) != hashlib.sha256().digest_size * 2:
        return None
    try:
        return UUID(hex=head)
    except ValueError:
        return None


def link_is_genuine(key: str, purpose: str, challenge_id: UUID, nonce: bytes, token: str) -> bool:
    expected = link_token(key, purpose, challenge_id, nonce)
    return hmac.compare_digest(expected.encode(), token.encode())


def _link_signature(key: str, purpose: str, challenge_id: UUID, nonce: bytes) -> str:
    message = b"|".join((b"link", purpose.encode(), challenge_id.bytes, nonce))
    return hmac.digest(key.encode(), message, "sha256").hex()
