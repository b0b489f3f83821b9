"""Identifiers of everything we store: time-ordered, so that indexes grow at one end."""

from uuid import UUID

import uuid_utils.compat


def uuid7() -> UUID:
    """Return a new UUID version 7 (RFC 9562): 48 bits of milliseconds, then random bits."""
    new: UUID = uuid_utils.compat.uuid7()
    return new
