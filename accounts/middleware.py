"""Looks at a browser's session once per request: pages and API calls see the same answer."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from accounts.models import LoginSession
from accounts.principals import Principal, principal_get
from accounts.services.sessions import session_touch
from accounts.signals import SESSION_FIELD
from audit import context

TOUCH_EVERY = timedelta(minutes=5)


class BrowserSessionMiddleware:
    """Sets ``request.principal`` for a signed-in browser; stands after Django's
    AuthenticationMiddleware.

    A cookie whose login session was revoked, or is idle too long, counts for nothing: the browser's
    session is emptied. Requests without the cookie, as those of API clients, cost nothing.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.principal = None  # type: ignore[attr-defined]
        if settings.SESSION_COOKIE_NAME in request.COOKIES and SESSION_KEY in request.session:
            principal = principal_of_session(request.session)
            if principal is None:
                request.session.flush()
                request.user = AnonymousUser()
            else:
                self._accept(request, principal)
        return self.get_response(request)

    def _accept(self, request: HttpRequest, principal: Principal) -> None:
        request.principal = principal  # type: ignore[attr-defined]
        admin = request.path_info.startswith(getattr(settings, "ADMIN_PATH", "/admin/"))
        context.bind(
            actor_kind=context.ActorKind.ADMIN if admin else context.ActorKind.USER,
            actor_id=principal.id,
            session_id=principal.session_id,
        )
        seen_before = timezone.now() - TOUCH_EVERY
        if principal.last_used_at <= seen_before:
            session_touch(session_id=principal.session_id, seen_before=seen_before)


def principal_of_session(session: object) -> Principal | None:
    """Return who a browser's session belongs to; None if its login session does not stand."""
    get = session.get  # type: ignore[attr-defined]
    try:
        user_id, session_id = UUID(str(get(SESSION_KEY))), UUID(str(get(SESSION_FIELD)))
    except ValueError:
        return None
    return principal_get(user_id, session_id, LoginSession.Kind.BROWSER)
