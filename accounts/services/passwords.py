"""Changing a password, and getting in again without one. Either ends every other session."""

from uuid import UUID

from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from accounts import throttles
from accounts.clients import Client, client_of
from accounts.errors import Busy, InvalidCode, WrongPassword
from accounts.managers import normal_email
from accounts.models import EmailOtp, LoginSession, User
from accounts.passwords import password_judge, password_matches
from accounts.selectors import user_get, user_id_by_email
from accounts.services import codes, sessions, sign_in
from accounts.services.mail import mail_enqueue
from accounts.tokens import TokenPair
from audit.context import ActorKind
from audit.services import Actor, record

Purpose = EmailOtp.Purpose
NEW = "new_password"


def password_change(*, user_id: UUID, current: str, new: str, client: Client) -> TokenPair:
    """Set a new password, end every session, and return the tokens of a new one.

    Raises:
        WrongPassword: ``current`` is wrong; counted as a failed sign-in is.
        InvalidInput: ``new`` is not good enough.
        Throttled, Busy: as signing in.
    """
    user = _changed(user_id, current, new, client)
    return sessions.session_open(user=user, method=LoginSession.Method.PASSWORD, client=client)


def browser_password_change(request: HttpRequest, *, user_id: UUID, current: str, new: str) -> User:
    """As ``password_change`` for a browser, which goes on with a new session of its own."""
    user = _changed(user_id, current, new, client_of(request))
    return sign_in.browser_open(request, user, LoginSession.Method.PASSWORD)


def _changed(user_id: UUID, current: str, new: str, client: Client) -> User:
    user = user_get(user_id=user_id)
    throttles.backoff_begin(user.email)
    try:
        matches = password_matches(user, current)
    except Busy:
        throttles.backoff_undo(user.email)
        raise
    if not matches:
        record("auth.password_refused", object_type="user", object_id=user.pk, user_id=user.pk)
        raise WrongPassword(detail={"current_password": [WrongPassword.default_message]})
    throttles.backoff_clear(user.email)
    password_judge(new, user, NEW)
    _set(user, new, "auth.password_changed", "password_changed")
    return user


def password_reset_request(*, email: str, client: Client) -> UUID:
    """Mail a code and a link if the address has an account; returns the challenge's id either way.

    Raises:
        Throttled: too many requests for this address or from this one.
    """
    email = normal_email(email)
    codes.code_request_throttle(Purpose.RESET_PASSWORD, email, client)
    user_id = user_id_by_email(email=email)
    return codes.code_create(Purpose.RESET_PASSWORD, email, user_id, client)


def password_reset_confirm(
    *, email: str, code: str, new: str, challenge_id: UUID | None = None, client: Client
) -> None:
    """Set a new password with a mailed code. It proves the address too.

    Raises:
        InvalidInput: ``new`` is not good enough; the code was not used up.
        InvalidCode: see its docstring.
        Throttled, Busy: as signing in.
    """
    email = normal_email(email)
    password_judge(new, User(email=email), NEW)
    codes.code_answer_throttle(email, client)
    _reset(codes.code_answer(Purpose.RESET_PASSWORD, email, code, challenge_id), new)


def password_reset_by_link(*, token: str, new: str, client: Client) -> None:
    """Set a new password with the token of a mailed link; raises as ``password_reset_confirm``."""
    challenge = codes.link_find(Purpose.RESET_PASSWORD, token, client)
    if challenge is None:
        raise InvalidCode
    password_judge(new, challenge.user or User(email=challenge.email), NEW)
    _reset(codes.link_use(challenge), new)


def _reset(answer: codes.Answer | None, new: str) -> None:
    user = answer.user if answer else None
    if user is None or not user.is_active:
        record(
            "auth.reset_refused",
            object_type="challenge",
            object_id="",
            user_id=user.pk if user else None,
        )
        raise InvalidCode
    _set(user, new, "auth.password_reset", "password_reset")
    throttles.backoff_clear(user.email)


def _set(user: User, new: str, action: str, reason: str) -> None:
    """Store the password and end every session, in one transaction, with the notice owed."""
    user.set_password(new)
    with transaction.atomic():
        # The lock keeps out a sign-in with the old password that is just opening its session.
        User.objects.select_for_update(of=("self",), no_key=True).get(pk=user.pk)
        fields = ["password"]
        if reason == "password_reset" and not user.email_verified:
            user.email_verified_at = timezone.now()
            fields.append("email_verified_at")
        user.save(update_fields=fields)
        sessions.sessions_revoke_all(user_id=user.pk, reason=reason)
        mail_enqueue("password_changed", to=user.email, values={})
        record(
            action,
            object_type="user",
            object_id=user.pk,
            user_id=user.pk,
            actor=Actor(ActorKind.USER, user.pk),
        )
