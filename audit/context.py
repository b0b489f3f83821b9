"""Who is acting, and from where: read by every audit entry, set once at each way in.

A context belongs to one request or one task. Servers reuse their threads, so whoever binds one must
undo it: use ``scope``, or ``bind`` below a ``scope`` (the middleware opens one for each request).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from uuid import UUID


class ActorKind(StrEnum):
    USER = "user"
    ADMIN = "admin"
    SYSTEM = "system"
    BROKER = "broker"


@dataclass(frozen=True, slots=True)
class AuditContext:
    """The actor of what happens now; without a request it is the system itself."""

    actor_kind: str = ActorKind.SYSTEM
    actor_id: UUID | None = None
    session_id: UUID | None = None
    ip: str | None = None
    request_id: str = ""


_NOBODY = AuditContext()
_current: ContextVar[AuditContext] = ContextVar("audit_context", default=_NOBODY)


def current() -> AuditContext:
    return _current.get()


def bind(**changes: Any) -> AuditContext:
    """Change fields of the current context until the enclosing ``scope`` ends."""
    context = replace(_current.get(), **changes)
    _current.set(context)
    return context


@contextmanager
def scope(**changes: Any) -> Iterator[AuditContext]:
    """Change fields of the current context, and undo this and every ``bind`` inside at the end."""
    context = replace(_current.get(), **changes)
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


@contextmanager
def fresh_scope(**fields: Any) -> Iterator[AuditContext]:
    """Begin from nothing instead of the current context: for the outermost place, a request."""
    context = AuditContext(**fields)
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
