"""Reading the log: a person's own entries, or all of them for staff."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet

from audit import canonical, keys
from audit.models import AuditEntry
from audit.sealing import CONTENT_SQL, content_of


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether an entry is part of the chain; without a seal it only awaits the next round."""

    sealed: bool
    seq: int | None = None
    hash: str | None = None
    prev_hash: str | None = None
    key_id: str | None = None
    sealed_at: datetime | None = None
    recomputed_ok: bool | None = None


def entry_list(
    *,
    user_id: UUID,
    everyone: bool = False,
    action: str = "",
    object_type: str = "",
    object_id: str = "",
) -> QuerySet[AuditEntry]:
    """Return the entries of the user's own log, newest first; of every log with ``everyone``
    (staff).

    ``action`` ends in ``.`` to mean a family: ``auth.`` finds ``auth.signin``.
    """
    entries = AuditEntry.objects.order_by("-id")
    if not everyone:
        entries = entries.filter(user_id=user_id)
    if action:
        family = action.endswith(".")
        entries = (
            entries.filter(action__startswith=action) if family else entries.filter(action=action)
        )
    if object_type:
        entries = entries.filter(object_type=object_type)
    return entries.filter(object_id=object_id) if object_id else entries


def entry_get(*, user_id: UUID, entry_id: int, everyone: bool = False) -> AuditEntry | None:
    """Return an entry the user may see; None if there is none, or it stands in another's log."""
    return entry_list(user_id=user_id, everyone=everyone).filter(pk=entry_id).first()


def entry_proof(entry_id: int) -> Proof:
    """Recompute the link of one entry from the row as it is now and the hash it followed."""
    found = _sealed_row(entry_id)
    if found is None:
        return Proof(sealed=False)
    seq, xact, era, previous, digest, key_id, sealed_at, sealed_text, before, *columns = found
    key = keys.find_key(key_id)
    place = canonical.position(seq, entry_id, int(xact), era, sealed_text)
    fits = (
        key is not None and canonical.seal_hash(key, previous, place, content_of(columns)) == digest
    )
    follows = previous == (canonical.GENESIS if seq == 1 else before)
    return Proof(
        sealed=True,
        seq=seq,
        hash=bytes(digest).hex(),
        prev_hash=bytes(previous).hex(),
        key_id=key_id,
        sealed_at=sealed_at,
        recomputed_ok=fits and follows,
    )


def _sealed_row(entry_id: int) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT s.seq, e.xact::text, s.era, s.prev_hash, s.hash, s.key_id, s.sealed_at,
                   to_char(s.sealed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                   (SELECT p.hash FROM audit_auditseal p WHERE p.seq = s.seq - 1),
                   {CONTENT_SQL}
              FROM audit_auditseal s JOIN audit_auditentry e ON e.id = s.entry_id
             WHERE s.entry_id = %s
            """,  # noqa: S608
            [entry_id],
        )
        return cursor.fetchone()
