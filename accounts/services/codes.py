"""Mailed codes and links: a challenge is stored and mailed, and answered once.

Whether an address has an account must not show: an unknown one gets a challenge too, whose code
nobody was told, and a mail that is written and not delivered.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.urls import Resolver404, resolve
from django.utils import timezone

from accounts import limits, otp, throttles
from accounts.clients import Client
from accounts.models import EmailOtp, User
from accounts.services.mail import mail_enqueue
from audit.services import record

Purpose = EmailOtp.Purpose
TEMPLATES = {
    Purpose.LOGIN: "login_code",
    Purpose.VERIFY_EMAIL: "verify_email",
    Purpose.RESET_PASSWORD: "reset_password",
}
# The pages that links in mails lead to; they hand ``token`` to the confirming service.
LINK_PAGES = {Purpose.VERIFY_EMAIL: "/verify-email", Purpose.RESET_PASSWORD: "/reset-password"}

_TRY_CODE = """
    UPDATE accounts_emailotp
       SET attempts = attempts + 1,
           used_at = CASE WHEN code_hash = %(code_hash)s THEN %(now)s::timestamptz END
     WHERE id = %(id)s AND used_at IS NULL AND replaced_at IS NULL
       AND attempts < %(most)s AND expires_at > %(now)s AND created_at > %(since)s
    RETURNING used_at IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """A challenge that was met; ``user`` is None if there is no such user after all."""

    challenge_id: UUID
    email: str
    user: User | None


def code_request_throttle(purpose: Purpose, email: str, client: Client) -> None:
    """Count a request for a mail by address asked from and address asked for.

    Raises:
        Throttled: the same for known and unknown addresses.
    """
    throttles.hit("code_request_ip", throttles.network_of(client.ip))
    throttles.hit("code_resend_account", f"{purpose}|{email}")
    throttles.hit("code_request_account", f"{purpose}|{email}")


def code_create(purpose: Purpose, email: str, user_id: UUID | None, client: Client) -> UUID:
    """Store a challenge in place of older ones and owe its mail, at once; returns its id."""
    key, now = settings.OTP_KEY, timezone.now()
    nonce, code = otp.new_nonce(), otp.new_code()
    lifetime = limits.LINK_SECONDS.get(purpose, limits.CODE_SECONDS[purpose])
    with transaction.atomic():
        EmailOtp.objects.filter(
            email=email, purpose=purpose, used_at=None, replaced_at=None, expires_at__gt=now
        ).update(replaced_at=now)
        challenge = EmailOtp.objects.create(
            user_id=user_id,
            email=email,
            purpose=purpose,
            nonce=nonce,
            code_hash=otp.code_hash(key, purpose, email, nonce, code),
            created_at=now,
            expires_at=now + timedelta(seconds=lifetime),
            ip=client.ip,
        )
        mail_enqueue(
            TEMPLATES[purpose],
            to=email,
            values=_mail_values(purpose, challenge.pk, nonce, code),
            expires_at=challenge.expires_at,
            deliver=user_id is not None,
        )
        record(
            "auth.code_requested",
            object_type="challenge",
            object_id=challenge.pk,
            user_id=user_id,
            changes={"purpose": purpose},
        )
    return challenge.pk


def _mail_values(purpose: Purpose, challenge_id: UUID, nonce: bytes, code: str) -> dict[str, Any]:
    values: dict[str, Any] = {"code": code, "minutes": limits.CODE_SECONDS[purpose] // 60}
    if page := _link_page(purpose):
        token = otp.link_token(settings.OTP_KEY, purpose, challenge_id, nonce)
        values["link"] = f"{settings.PUBLIC_URL}{page}?token={token}"
        values["link_minutes"] = limits.LINK_SECONDS[purpose] // 60
    return values


def _link_page(purpose: Purpose) -> str | None:
    """Return the page for links of this purpose, if this deployment serves one."""
    page = LINK_PAGES.get(purpose)
    if page is None:
        return None
    try:
        resolve(page)
    except Resolver404:
        return None
    return page


def code_answer_throttle(email: str, client: Client) -> None:
    """Count a try of a code by address tried from and account; call it before any transaction.

    Raises:
        Throttled: too many tries from this address, or for this account today.
    """
    throttles.hit("code_verify_ip", throttles.network_of(client.ip))
    throttles.hit("code_verify_account", email)


def code_answer(
    purpose: Purpose, email: str, code: str, challenge_id: UUID | None
) -> Answer | None:
    """Try a code against its challenge, or against the latest of the address. None if it was not
    met.

    Each try counts, at most five are looked at, and one can succeed: a single UPDATE decides, so
    this holds for tries at the same instant. Call it where a failure is committed too.
    """
    now = timezone.now()
    challenges = EmailOtp.objects.filter(email=email, purpose=purpose)
    if challenge_id is not None:
        challenges = challenges.filter(pk=challenge_id)
    challenge = challenges.order_by(F("created_at").desc()).first()
    if challenge is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute(
            _TRY_CODE,
            {
                "id": challenge.pk,
                "code_hash": otp.code_hash(
                    settings.OTP_KEY, purpose, email, bytes(challenge.nonce), code
                ),
                "now": now,
                "since": now - timedelta(seconds=limits.CODE_SECONDS[purpose]),
                "most": limits.CODE_ATTEMPTS,
            },
        )
        row = cursor.fetchone()
    met = row is not None and row[0]
    # The user is looked up only now: a wrong code must take the same time for every address.
    return Answer(challenge.pk, email, challenge.user) if met else None


def link_find(purpose: Purpose, token: str, client: Client) -> EmailOtp | None:
    """Return the open challenge a mailed link was made for; ``link_use`` then uses it up.

    Raises:
        Throttled: too many tries from this address.
    """
    throttles.hit("code_verify_ip", throttles.network_of(client.ip))
    challenge_id = otp.challenge_of_link(token)
    if challenge_id is None:
        return None
    challenge = (
        _open(purpose, timezone.now()).select_related("user").filter(pk=challenge_id).first()
    )
    if challenge is None:
        return None
    genuine = otp.link_is_genuine(
        settings.OTP_KEY, purpose, challenge.pk, bytes(challenge.nonce), token
    )
    return challenge if genuine else None


def link_use(challenge: EmailOtp) -> Answer | None:
    """Use the challenge of a link up; None if someone was faster."""
    now = timezone.now()
    purpose = Purpose(challenge.purpose)
    used = _open(purpose, now).filter(pk=challenge.pk).update(used_at=now)
    return Answer(challenge.pk, challenge.email, challenge.user) if used else None


def _open(purpose: Purpose, now: datetime) -> Any:
    return EmailOtp.objects.filter(
        purpose=purpose, used_at=None, replaced_at=None, expires_at__gt=now
    )
