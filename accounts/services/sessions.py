"""Login sessions: opened, refreshed, ended. The one place where tokens are handed out.

A refresh token is good once. If it comes again, either a thief or its owner uses a copy, and nobody
can tell which: the session ends for both. Only the same device may repeat within five seconds,
since it may have sent its request twice; it then gets the very token it should have got.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import throttles, tokens
from accounts.clients import Client
from accounts.errors import InvalidCredentials, InvalidToken, NotFound, TokenReused
from accounts.models import LoginSession, User
from accounts.services.mail import mail_enqueue
from accounts.tokens import Claims, TokenPair
from audit import context
from audit.context import ActorKind
from audit.ids import uuid7
from audit.services import record

GRACE = timedelta(seconds=5)

_ROTATE = """
    UPDATE accounts_loginsession s
       SET previous_hash = refresh_hash, refresh_hash = %(child)s, rotated_at = %(now)s,
           last_used_at = %(now)s, fingerprint = %(fingerprint)s, user_agent = %(user_agent)s,
           ip = %(ip)s::inet
     WHERE s.id = %(id)s AND s.user_id = %(user_id)s AND s.kind = 'API'
       AND s.refresh_hash = %(presented)s
       AND s.revoked_at IS NULL AND s.expires_at > %(now)s AND s.last_used_at > %(idle_since)s
       AND EXISTS (SELECT 1 FROM accounts_user u WHERE u.id = s.user_id AND u.is_active)
    RETURNING s.expires_at
"""


def session_open(*, user: User, method: LoginSession.Method, client: Client) -> TokenPair:
    """Open a session for a device that has proved who it is, and return its first tokens.

    The user's row is locked, and compared with the one the proof was checked against: a password
    that was changed, or a user that was deactivated, in between opens nothing.

    Raises:
        InvalidCredentials: the user is not as it was when the proof was checked.
    """
    jti = tokens.new_jti()
    with transaction.atomic():
        session = _session_create(
            user, LoginSession.Kind.API, method, client, refresh_hash=tokens.jti_hash(jti)
        )
    refresh = tokens.refresh_mint(user.pk, session.pk, jti, session.created_at, session.expires_at)
    return TokenPair(tokens.access_mint(user.pk, session.pk), refresh)


def browser_session_create(
    *, user: User, method: LoginSession.Method, client: Client, browser_key_hash: str
) -> LoginSession:
    """As ``session_open``, for a browser that holds a cookie instead of tokens."""
    with transaction.atomic():
        return _session_create(
            user, LoginSession.Kind.BROWSER, method, client, browser_key_hash=browser_key_hash
        )


def _session_create(
    user: User,
    kind: LoginSession.Kind,
    method: LoginSession.Method,
    client: Client,
    *,
    refresh_hash: bytes = b"",
    browser_key_hash: str = "",
) -> LoginSession:
    now = timezone.now()
    stored = User.objects.select_for_update(of=("self",), no_key=True).filter(pk=user.pk).first()
    if stored is None or not stored.is_active or stored.password != user.password:
        raise InvalidCredentials
    session = LoginSession.objects.create(
        id=uuid7(),
        user_id=user.pk,
        kind=kind,
        method=method,
        browser_key_hash=browser_key_hash,
        user_agent=client.user_agent,
        ip=client.ip,
        fingerprint=client.fingerprint,
        created_at=now,
        last_used_at=now,
        expires_at=now + timedelta(days=settings.REFRESH_TOKEN_DAYS),
        refresh_hash=refresh_hash,
        previous_hash=b"",
    )
    with context.scope(actor_kind=ActorKind.USER, actor_id=user.pk, session_id=session.pk):
        record(
            "auth.signup" if method == LoginSession.Method.SIGNUP else "auth.signin",
            object_type="session",
            object_id=session.pk,
            user_id=user.pk,
            changes={"kind": kind, "method": method, "user_agent": client.user_agent},
        )
    return session


def session_refresh(*, refresh_token: str, client: Client) -> TokenPair:
    """Exchange a refresh token for the next pair, once.

    Raises:
        InvalidToken: not one of ours, expired, or its session has ended.
        TokenReused: it was exchanged before; its session is ended now.
        Throttled: too many from this address.
    """
    throttles.hit("refresh_ip", throttles.network_of(client.ip))
    claims = tokens.refresh_read(refresh_token)
    with transaction.atomic():
        rotated_at, expires_at = _rotate(claims, client) or _repeat(claims, client)
    if rotated_at is None:  # raised here, so that the end of the session is committed
        raise TokenReused
    child = tokens.child_jti(claims.session_id, claims.jti)
    return TokenPair(
        tokens.access_mint(claims.user_id, claims.session_id),
        tokens.refresh_mint(claims.user_id, claims.session_id, child, rotated_at, expires_at),
    )


def _rotate(claims: Claims, client: Client) -> tuple[datetime, datetime] | None:
    """Make the child the good token if the presented one still was. One UPDATE decides who wins."""
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(
            _ROTATE,
            {
                "id": claims.session_id,
                "user_id": claims.user_id,
                "presented": tokens.jti_hash(claims.jti),
                "child": tokens.jti_hash(tokens.child_jti(claims.session_id, claims.jti)),
                "now": now,
                "idle_since": now - timedelta(hours=settings.REFRESH_IDLE_HOURS),
                "fingerprint": client.fingerprint,
                "user_agent": client.user_agent,
                "ip": client.ip,
            },
        )
        row = cursor.fetchone()
    if row is None:
        return None
    with _acting(claims):
        record(
            "auth.refreshed",
            object_type="session",
            object_id=claims.session_id,
            user_id=claims.user_id,
        )
    return now, row[0]


def _repeat(claims: Claims, client: Client) -> tuple[datetime | None, datetime]:
    """Decide about a token that is not the good one of its session; ``(None, ...)`` if it was
    reused.
    """
    now = timezone.now()
    session = (
        LoginSession.objects.select_for_update(of=("self",), no_key=True)
        .filter(pk=claims.session_id, user_id=claims.user_id, kind=LoginSession.Kind.API)
        .first()
    )
    if session is None or not _stands(session, now):
        raise InvalidToken
    presented = tokens.jti_hash(claims.jti)
    if presented == bytes(session.refresh_hash):  # good, so it was the user who no longer is
        raise InvalidToken
    if (
        presented == bytes(session.previous_hash)
        and session.rotated_at is not None
        and now - session.rotated_at <= GRACE
        and bytes(session.fingerprint) == client.fingerprint
    ):
        return session.rotated_at, session.expires_at
    with _acting(claims):
        _end(LoginSession.objects.filter(pk=session.pk), "token_reused", "auth.token_reused")
    email = User.objects.values_list("email", flat=True).get(pk=claims.user_id)
    mail_enqueue(
        "session_ended",
        to=email,
        values={
            "ip": client.ip or "",
            "user_agent": client.user_agent,
            "at": f"{now:%d %b %Y %H:%M} UTC",
        },
    )
    return None, session.expires_at


def _stands(session: LoginSession, now: datetime) -> bool:
    idle_since = now - timedelta(hours=settings.REFRESH_IDLE_HOURS)
    return (
        session.revoked_at is None
        and session.expires_at > now
        and session.last_used_at > idle_since
    )


def session_logout(*, refresh_token: str) -> None:
    """End the session of a refresh token, current or not. Ending it twice is no error.

    Raises:
        InvalidToken: not one of ours, or expired.
    """
    claims = tokens.refresh_read(refresh_token)
    with transaction.atomic(), _acting(claims):
        own = LoginSession.objects.filter(pk=claims.session_id, user_id=claims.user_id)
        _end(own, "logout", "auth.signout")


def session_end(*, user_id: UUID, session_id: UUID) -> None:
    """End the session of a browser that signs out; harmless if it has ended."""
    with transaction.atomic():
        own = LoginSession.objects.filter(pk=session_id, user_id=user_id)
        _end(own, "logout", "auth.signout")


def session_revoke(*, user_id: UUID, session_id: UUID, reason: str = "revoked") -> None:
    """End one session of the user; ending one that has ended is no error.

    Raises:
        NotFound: no such session, or another user's.
    """
    with transaction.atomic():
        own = LoginSession.objects.filter(pk=session_id, user_id=user_id)
        if not own.exists():
            raise NotFound
        _end(own, reason, "auth.session_revoked")


def sessions_revoke_all(
    *, user_id: UUID, keep: UUID | None = None, reason: str = "revoked_all"
) -> int:
    """End every session of the user but ``keep``; returns how many were ended."""
    with transaction.atomic():
        own = LoginSession.objects.filter(user_id=user_id)
        return _end(own.exclude(pk=keep) if keep else own, reason, "auth.session_revoked")


def _end(sessions: QuerySet[LoginSession], reason: str, action: str) -> int:
    """Mark sessions as ended, delete the browsers' rows, and log each."""
    ended = list(
        sessions.filter(revoked_at=None).select_for_update(of=("self",), no_key=True).order_by("pk")
    )
    if not ended:
        return 0
    LoginSession.objects.filter(pk__in=[s.pk for s in ended]).update(
        revoked_at=timezone.now(), revoked_reason=reason
    )
    if keys := [s.browser_key_hash for s in ended if s.browser_key_hash]:
        Session.objects.filter(session_key__in=keys).delete()
    for session in ended:
        record(
            action,
            object_type="session",
            object_id=session.pk,
            user_id=session.user_id,
            changes={"reason": reason, "kind": session.kind},
        )
    return len(ended)


def session_touch(*, session_id: UUID, seen_before: datetime) -> None:
    """Note that a browser session is in use, unless someone else just did. Not audited: nothing
    changes hands.
    """
    LoginSession.objects.filter(pk=session_id, last_used_at__lte=seen_before).update(
        last_used_at=timezone.now()
    )


def _acting(claims: Claims) -> Any:
    return context.scope(
        actor_kind=ActorKind.USER, actor_id=claims.user_id, session_id=claims.session_id
    )
