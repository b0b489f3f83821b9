"""Identifiers of everything we store: time-ordered, so that indexes grow at one end."""

from datetime import datetime
from uuid import UUID

import uuid_utils.compat


def uuid7() -> UUID:
    """Return a new UUID version 7 (RFC 9562): 48 bits of milliseconds, then random bits."""
    new: UUID = uuid_utils.compat.uuid7()
    return new


def uuid7_at(at: datetime) -> UUID:
    """Return the lowest identifier of its millisecond: all that were made later are greater."""
    return UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62)
