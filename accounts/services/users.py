"""A user's own data, and what an administrator may do to it."""

from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from accounts.clients import Client
from accounts.errors import InvalidCode, NotFound
from accounts.managers import normal_email
from accounts.models import EmailOtp, User
from accounts.selectors import user_get
from accounts.services import codes, sessions
from audit.context import ActorKind
from audit.services import Actor, record

Purpose = EmailOtp.Purpose
EDITABLE = ("name", "mobile")


def profile_update(*, user_id: UUID, **changes: str) -> User:
    """Change name or mobile number. The log says which, not to what: it cannot forget.

    Raises:
        NotFound: there is no such active user.
    """
    with transaction.atomic():
        user = (
            User.objects.select_for_update(of=("self",), no_key=True)
            .filter(pk=user_id, is_active=True)
            .first()
        )
        if user is None:
            raise NotFound
        changed = [f for f in EDITABLE if f in changes and getattr(user, f) != changes[f]]
        for field in changed:
            setattr(user, field, changes[field])
        if changed:
            user.save(update_fields=changed)
            record(
                "user.updated",
                object_type="user",
                object_id=user.pk,
                user_id=user.pk,
                changes={"fields": changed},
            )
    return user


def email_verify_request(*, user_id: UUID, client: Client) -> UUID | None:
    """Mail a code and a link that prove the user's address; None if it is proved already.

    Raises:
        Throttled: too many requests.
    """
    user = user_get(user_id=user_id)
    if user.email_verified:
        return None
    codes.code_request_throttle(Purpose.VERIFY_EMAIL, user.email, client)
    return codes.code_create(Purpose.VERIFY_EMAIL, user.email, user.pk, client)


def email_verify_confirm(
    *, email: str, code: str, challenge_id: UUID | None = None, client: Client
) -> None:
    """Prove an address with a mailed code.

    Raises:
        InvalidCode: see its docstring.
        Throttled: too many tries.
    """
    email = normal_email(email)
    codes.code_answer_throttle(email, client)
    _verified(codes.code_answer(Purpose.VERIFY_EMAIL, email, code, challenge_id), "code")


def email_verify_by_link(*, token: str, client: Client) -> None:
    """Prove an address with the token of a mailed link; raises as ``email_verify_confirm``."""
    challenge = codes.link_find(Purpose.VERIFY_EMAIL, token, client)
    _verified(codes.link_use(challenge) if challenge else None, "link")


def _verified(answer: codes.Answer | None, by: str) -> None:
    user = answer.user if answer else None
    if answer is None or user is None or not user.is_active or user.email != answer.email:
        record(
            "auth.verify_refused",
            object_type="challenge",
            object_id="",
            user_id=user.pk if user else None,
        )
        raise InvalidCode
    with transaction.atomic():
        User.objects.filter(pk=user.pk, email_verified_at=None).update(
            email_verified_at=timezone.now()
        )
        record(
            "user.email_verified",
            object_type="user",
            object_id=user.pk,
            user_id=user.pk,
            changes={"by": by},
            actor=Actor(ActorKind.USER, user.pk),
        )


def user_deactivate(*, user_id: UUID, reason: str = "") -> None:
    """Shut a user out and end every session at once. What they own stays.

    Raises:
        NotFound: no such user.
    """
    with transaction.atomic():
        _set_active(user_id, False, "user.deactivated", reason)
        sessions.sessions_revoke_all(user_id=user_id, reason="deactivated")


def user_reactivate(*, user_id: UUID, reason: str = "") -> None:
    """Let a user sign in again; raises as ``user_deactivate``."""
    with transaction.atomic():
        _set_active(user_id, True, "user.reactivated", reason)


def _set_active(user_id: UUID, active: bool, action: str, reason: str) -> None:
    user = User.objects.select_for_update(of=("self",), no_key=True).filter(pk=user_id).first()
    if user is None:
        raise NotFound
    if user.is_active == active:
        return
    user.is_active = active
    user.save(update_fields=["is_active"])
    record(action, object_type="user", object_id=user.pk, user_id=user.pk, reason=reason)


def user_admin_changed(*, user: User, created: bool, fields: list[str], **more: Any) -> None:
    """Log what an administrator did through the admin site; the caller has saved it."""
    record(
        "user.created" if created else "user.updated",
        object_type="user",
        object_id=user.pk,
        user_id=user.pk,
        changes={"fields": fields, **more},
    )
