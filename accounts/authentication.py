"""Who an API request comes from: an access token, or the cookie of a signed-in browser."""

import hmac
from datetime import UTC, datetime

from django.conf import settings
from django.http import HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from accounts import tokens
from accounts.errors import InvalidToken
from accounts.principals import Principal, principal_get
from accounts.tokens import Claims
from audit import context

CHALLENGE = 'Bearer realm="api"'


class AccessTokenAuthentication(BaseAuthentication):
    """``Authorization: Bearer <access token>``. The token is checked without the database, then one
    query asks whether its session still stands: a sign-out counts at once.
    """

    def authenticate(self, request: Request) -> tuple[Principal, None] | None:
        scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            principal = principal_from_token(token.strip())
        except InvalidToken as e:
            raise AuthenticationFailed(e.message, code=e.code) from e
        context.bind(
            actor_kind=context.ActorKind.USER,
            actor_id=principal.id,
            session_id=principal.session_id,
        )
        return principal, None

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


def _nothing(*_: object) -> HttpResponse:
    return HttpResponse()


class _CsrfCheck(CsrfViewMiddleware):
    def _reject(self, request: object, reason: str) -> str:
        return reason


class BrowserSessionAuthentication(BaseAuthentication):
    """The session cookie of a page of ours, with its CSRF token on everything that changes
    something.
    """

    def authenticate(self, request: Request) -> tuple[Principal, None] | None:
        principal: Principal | None = getattr(request._request, "principal", None)
        if principal is None:
            return None
        check = _CsrfCheck(_nothing)
        check.process_request(request._request)
        if reason := check.process_view(request._request, _nothing, (), {}):
            raise PermissionDenied(f"CSRF: {reason}", code="csrf_failed")
        return principal, None

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


def principal_from_token(token: str) -> Principal:
    """Return who holds an access token.

    Raises:
        InvalidToken: not one of ours, expired, or its session has ended.
    """
    claims = _claims(token)
    principal = principal_get(claims.user_id, claims.session_id)
    if principal is None:
        raise InvalidToken
    return principal


# Tokens that were checked before: a client sends the same one for minutes, and its signature costs
# more than the query for its session. Not the tokens themselves are kept, but their keyed hashes.
_checked: dict[bytes, Claims] = {}
MOST_CHECKED = 10_000


def _claims(token: str) -> Claims:
    """As ``tokens.access_read``, which is asked once for each token."""
    body = token.encode(errors="replace")
    name = hmac.digest(settings.JWT_SIGNING_KEY.encode(), body, "sha256")
    claims = _checked.get(name)
    if claims is None or claims.expires_at <= datetime.now(UTC):
        claims = tokens.access_read(token)
        if len(_checked) >= MOST_CHECKED:
            _checked.clear()
        _checked[name] = claims
    return claims


class AccessTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = AccessTokenAuthentication
    name = "accessToken"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class BrowserSessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = BrowserSessionAuthentication
    name = "browserSession"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        from django.conf import settings

        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}
