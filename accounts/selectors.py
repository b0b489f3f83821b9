"""Reading accounts."""

from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone

from accounts.errors import NotFound
from accounts.managers import normal_email
from accounts.models import LoginSession, User


def user_get(*, user_id: UUID) -> User:
    """Return an active user.

    Raises:
        NotFound: there is none of this id, or it was deactivated.
    """
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None:
        raise NotFound
    return user


def user_by_email(*, email: str) -> User | None:
    """Return the user of an address in any case, active or not."""
    return User.objects.filter(email=normal_email(email)).first()


def user_id_by_email(*, email: str) -> UUID | None:
    """Return the id of the active user of an address.

    Builds no object, so that it takes as long for an address that has no account.
    """
    found = User.objects.filter(email=normal_email(email)).values_list("pk", "is_active").first()
    return found[0] if found is not None and found[1] else None


def session_list(*, user_id: UUID) -> QuerySet[LoginSession]:
    """Return the user's sessions that still stand, the most recently used first."""
    return LoginSession.objects.filter(
        user_id=user_id, revoked_at=None, expires_at__gt=timezone.now()
    ).order_by("-last_used_at", "-id")
