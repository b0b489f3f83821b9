"""Every sign-in that Django makes, for a page, its admin or a test, gets a session of ours."""

from typing import Any
from uuid import UUID

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.dispatch import receiver
from django.http import HttpRequest

from accounts.browser_sessions import stored_key
from accounts.clients import client_of
from accounts.models import LoginSession, User
from accounts.services import sessions
from audit import context

SESSION_FIELD = "login_session"


@receiver(user_logged_in, dispatch_uid="accounts.open_login_session")
def open_login_session(request: HttpRequest, user: User, **_: Any) -> None:
    if request.session.session_key is None:
        request.session.save()  # gives it a key
    session = sessions.browser_session_create(
        user=user,
        method=getattr(request, "login_method", LoginSession.Method.OTHER),
        client=client_of(request),
        browser_key_hash=stored_key(str(request.session.session_key)),
    )
    request.session[SESSION_FIELD] = str(session.pk)
    request.session.set_expiry(session.expires_at)


@receiver(user_logged_out, dispatch_uid="accounts.end_login_session")
def end_login_session(request: HttpRequest, **_: Any) -> None:
    user_id, session_id = request.session.get(SESSION_KEY), request.session.get(SESSION_FIELD)
    if user_id and session_id:
        user_id, session_id = UUID(user_id), UUID(session_id)
        with context.scope(
            actor_kind=context.ActorKind.USER, actor_id=user_id, session_id=session_id
        ):
            sessions.session_end(user_id=user_id, session_id=session_id)
