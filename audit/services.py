"""Writing the log. ``record`` appends in the caller's transaction: what is undone is not logged."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import connection
from django.utils import timezone

from audit import canonical, keys
from audit.context import ActorKind, current
from audit.ids import uuid7

TABLE = "audit_auditentry"
COLUMNS = (*canonical.CONTENT, "mac")
REASON_LENGTH = 2000
_CASTS = {
    "uid": "uuid",
    "at": "timestamptz",
    "user_id": "uuid",
    "actor_id": "uuid",
    "session_id": "uuid",
    "changes": "jsonb",
    "mac": "bytea",
}
PREFIX = "audit_"

# One entry as a statement. A data-modifying CTE appends " FROM changed" to write it only if there
# was a change.
ENTRY_INSERT = f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) SELECT " + ", ".join(
    f"%({PREFIX}{name})s::{_CASTS.get(name, 'text')}" for name in COLUMNS
)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it, where that is not the actor of the current context."""

    kind: str
    id: UUID | None = None


def record(
    action: str,
    *,
    object_type: str,
    object_id: object,
    user_id: UUID | None,
    changes: Mapping[str, Any] | None = None,
    reason: str = "",
    actor: Actor | None = None,
) -> None:
    """Append one entry in the caller's transaction: one INSERT, no lock.

    ``action`` is a dotted word such as ``order.placed``; ``user_id`` is the person whose log it
    belongs to; ``changes`` is masked by field name and by the shape of values before it is stored.
    """
    values = entry_params(
        action,
        object_type=object_type,
        object_id=object_id,
        user_id=user_id,
        changes=changes,
        reason=reason,
        actor=actor,
    )
    with connection.cursor() as cursor:
        cursor.execute(ENTRY_INSERT, values)


def record_many(entries: Iterable[Mapping[str, Any]]) -> None:
    """Append several entries at once; each is the keywords of ``record``, with ``action``."""
    parameters = [entry_params(**entry) for entry in entries]
    if parameters:
        with connection.cursor() as cursor:
            cursor.executemany(ENTRY_INSERT, parameters)


def entry_values(
    action: str,
    *,
    object_type: str,
    object_id: object,
    user_id: UUID | None,
    changes: Mapping[str, Any] | None = None,
    reason: str = "",
    actor: Actor | None = None,
) -> dict[str, Any]:
    """Return the columns of an entry (``COLUMNS``), signed, for a statement that writes it."""
    context = current()
    actor_kind = actor.kind if actor else context.actor_kind
    values: dict[str, Any] = {
        "uid": uuid7(),
        "at": timezone.now(),
        "user_id": user_id,
        "actor_kind": str(actor_kind),
        "actor_id": actor.id if actor else context.actor_id,
        "session_id": context.session_id,
        "ip": context.ip,
        "action": action,
        "object_type": object_type,
        "object_id": canonical.clean_text(str(object_id)),
        "changes": canonical.plain(changes or {}),
        "reason": canonical.clean_text(reason[:REASON_LENGTH]),
        "request_id": context.request_id,
        "app_version": _app_version(),
    }
    values["mac"] = canonical.entry_mac(keys.signing_key(), canonical.content_bytes(values))
    return values


def entry_params(action: str, **entry: Any) -> dict[str, Any]:
    """Return ``entry_values`` as the parameters of ``ENTRY_INSERT``; takes the keywords of
    ``record``.
    """
    values = entry_values(action, **entry)
    values["changes"] = msgspec.json.encode(values["changes"]).decode()
    return {PREFIX + name: value for name, value in values.items()}


def system_actor() -> Actor:
    return Actor(ActorKind.SYSTEM)


def _app_version() -> str:
    return str(settings.SPECTACULAR_SETTINGS["VERSION"])
