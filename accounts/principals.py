"""Who a request comes from, as a light value instead of a model: read on every authenticated
request.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from accounts.models import LoginSession
from audit.sql import Statement


@dataclass(frozen=True, slots=True)
class Principal:
    """A signed-in user as far as requests need to know. Answers to what DRF asks of a user."""

    id: UUID
    email: str
    name: str
    is_staff: bool
    session_id: UUID
    kind: str
    last_used_at: datetime

    is_authenticated = True
    is_anonymous = False
    is_active = True

    @property
    def pk(self) -> UUID:
        return self.id

    def __str__(self) -> str:
        return self.email


_STANDING = Statement("""
    SELECT u.email, u.name, u.is_staff, s.last_used_at
      FROM accounts_loginsession s JOIN accounts_user u ON u.id = s.user_id
     WHERE s.id = %s AND s.user_id = %s AND s.kind = %s
       AND s.revoked_at IS NULL AND s.expires_at > %s AND s.last_used_at > %s AND u.is_active
""")


def principal_get(
    user_id: UUID, session_id: UUID, kind: str = LoginSession.Kind.API
) -> Principal | None:
    """Return who holds this session, in one round trip; None if it or the user does not stand any
    more.
    """
    now = timezone.now()
    idle_since = now - timedelta(hours=settings.REFRESH_IDLE_HOURS)
    row = _STANDING.row((session_id, user_id, str(kind), now, idle_since))
    if row is None:
        return None
    email, name, is_staff, last_used_at = row
    return Principal(user_id, email, name, is_staff, session_id, str(kind), last_used_at)


def principal_stands(principal: Principal) -> bool:
    """Whether the session still stands: for connections that outlive a request."""
    return principal_get(principal.id, principal.session_id, principal.kind) is not None
