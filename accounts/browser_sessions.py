"""Django's database sessions, with only a hash of each session's key in the database.

Whoever reads the table, or a backup of it, cannot sign in with what it holds.
"""

import hashlib
from typing import Any

from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.base_session import AbstractBaseSession
from django.contrib.sessions.models import Session
from django.utils import timezone

STORED_LENGTH = 40  # what the table's primary key holds: 160 bits


def stored_key(session_key: str) -> str:
    """Return the key of the row for the key in the cookie."""
    return hashlib.sha256(b"sauda-session|" + session_key.encode()).hexdigest()[:STORED_LENGTH]


class SessionStore(DatabaseStore):
    def _get_session_from_db(self) -> Session | None:
        key = stored_key(self.session_key or "")
        found = Session.objects.filter(session_key=key, expire_date__gt=timezone.now()).first()
        if found is None:
            self._session_key = None
        return found

    def exists(self, session_key: str) -> bool:
        return bool(super().exists(stored_key(session_key)))

    def create_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        row = super().create_model_instance(data)
        row.session_key = stored_key(row.session_key)
        return row

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key is not None:
            Session.objects.filter(session_key=stored_key(key)).delete()

    # The asynchronous half of Django's store would keep plain keys; nothing here uses it.
    async def aload(self) -> dict[str, Any]:
        raise NotImplementedError("browser sessions are synchronous")

    async def aexists(self, session_key: str) -> bool:
        raise NotImplementedError("browser sessions are synchronous")

    async def acreate_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        raise NotImplementedError("browser sessions are synchronous")

    async def adelete(self, session_key: str | None = None) -> None:
        raise NotImplementedError("browser sessions are synchronous")
