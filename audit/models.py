"""What happened, append-only. Triggers refuse UPDATE, DELETE and TRUNCATE on both tables.

No foreign keys: an entry outlives whatever it speaks of, and only ids of people stand in it.
"""

from typing import Any

from django.db import models
from django.db.models import Func


class Xid8Field(models.Field):
    """PostgreSQL's 64-bit transaction id; an ``int`` in Python."""

    def db_type(self, connection: Any) -> str:
        return "xid8"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> int | None:
        return None if value is None else int(value)

    def get_prep_value(self, value: Any) -> Any:
        return None if value is None else str(value)


class CurrentTransaction(Func):
    function = "pg_current_xact_id"
    arity = 0


class AuditEntry(models.Model):
    """One thing that happened, written in the transaction that did it (see
    ``audit.services.record``).
    """

    id = models.BigAutoField(primary_key=True)
    xact = Xid8Field(db_default=CurrentTransaction(), editable=False)
    uid = models.UUIDField(unique=True)
    at = models.DateTimeField()
    user_id = models.UUIDField(null=True)  # whose log it stands in
    actor_kind = models.TextField()
    actor_id = models.UUIDField(null=True)
    session_id = models.UUIDField(null=True)
    ip = models.TextField(null=True)
    action = models.TextField()
    object_type = models.TextField()
    object_id = models.TextField()
    changes = models.JSONField()
    reason = models.TextField()
    request_id = models.TextField()
    app_version = models.TextField()
    mac = models.BinaryField()

    class Meta:
        indexes = [
            models.Index("user_id", models.F("id").desc(), name="audit_entry_user"),
            models.Index("object_type", "object_id", name="audit_entry_object"),
            models.Index("xact", "id", name="audit_entry_order"),
        ]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.id} {self.action}"


class AuditSeal(models.Model):
    """One link of the chain over the entries, in the order of (transaction, id) within an era.

    An era ends when the database was restored into a new PostgreSQL cluster whose transaction ids
    begin anew; ``era`` is the last entry id of the one before, so entries of this era have greater
    ids.
    """

    seq = models.BigIntegerField(primary_key=True)
    entry_id = models.BigIntegerField(unique=True)
    xact = Xid8Field()
    era = models.BigIntegerField()
    prev_hash = models.BinaryField()
    hash = models.BinaryField()
    key_id = models.TextField()
    sealed_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"seal {self.seq} of entry {self.entry_id}"
