"""Mails: owed in the transaction that causes them, sent by a worker, never lost with a queue.

Codes and links are encrypted while they wait and gone once the mail has left; tasks are given ids
only.
"""

import base64
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

import msgspec
from celery import current_app
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db import connection, transaction
from django.db.models import F
from django.template.loader import render_to_string
from django.utils import timezone

from accounts.models import OutgoingMail

logger = logging.getLogger(__name__)

State = OutgoingMail.State
# Seconds before each further try. The server may be away for a while; a code is soon worthless
# anyway.
RETRY_AFTER = (5, 15, 60, 300, 1800, 3600)
NOTICE_LIFETIME = timedelta(hours=24)

SUBJECTS = {
    "login_code": "Your sign-in code",
    "verify_email": "Confirm your e-mail address",
    "reset_password": "Reset your password",
    "password_changed": "Your password was changed",
    "password_removed": "Set a new password",
    "broker_login_needed": "Log in at your broker again",
    "broker_renewal_failed": "Your broker session could not be renewed",
    "session_ended": "A sign-in of yours was ended for safety",
}


def mail_enqueue(
    template: str,
    *,
    to: str,
    values: Mapping[str, Any],
    expires_at: datetime | None = None,
    deliver: bool = True,
) -> UUID:
    """Owe a mail in the caller's transaction and wake a worker after the commit.

    ``expires_at`` is when it is no longer worth sending. With ``deliver=False`` all the work is
    done except the sending, so that a caller cannot tell whether the address is known.
    """
    now = timezone.now()
    mail = OutgoingMail.objects.create(
        to=to,
        template=template,
        body=_fernet(settings.OTP_KEY).encrypt(msgspec.json.encode(dict(values))),
        deliver=deliver,
        created_at=now,
        not_before=now,
        expires_at=expires_at or now + NOTICE_LIFETIME,
    )
    transaction.on_commit(partial(_wake, mail.pk), robust=True)
    return mail.pk


def mail_send(mail_id: UUID) -> bool:
    """Send one owed mail if it is due and nobody else is sending it. Returns whether it left.

    A worker that dies while sending leaves a claim that ends after a minute: such a mail may arrive
    twice.
    """
    now = timezone.now()
    claimed = OutgoingMail.objects.filter(
        pk=mail_id, state__in=[State.WAITING, State.SENDING], not_before__lte=now
    ).update(state=State.SENDING, attempts=F("attempts") + 1, not_before=now + OutgoingMail.LEASE)
    if not claimed:
        return False
    mail = OutgoingMail.objects.get(pk=mail_id)
    if not mail.deliver or mail.expires_at <= now:
        _settle(mail, State.DROPPED)
        return False
    try:
        _message(mail).send()
    except Exception as e:  # an SMTP library has many; none of them may end the sweep
        _retry(mail, e)
        return False
    _settle(mail, State.SENT, sent_at=timezone.now())
    return True


def mails_sweep(limit: int = 50) -> int:
    """Send what is due and what a lost message or a dead worker left; returns how many left."""
    due = OutgoingMail.objects.filter(
        state__in=[State.WAITING, State.SENDING], not_before__lte=timezone.now()
    ).order_by("not_before")
    return sum(mail_send(mail_id) for mail_id in list(due.values_list("pk", flat=True)[:limit]))


def _wake(mail_id: UUID) -> None:
    if not settings.WAKE_WORKERS:
        return
    try:
        current_app.send_task("accounts.send_mail", args=[str(mail_id)], retry=False)
    except Exception as e:  # the queue is away: the sweep finds the row
        logger.warning("mail %s waits for the sweep: %s", mail_id, type(e).__name__)


def _message(mail: OutgoingMail) -> EmailMultiAlternatives:
    values = msgspec.json.decode(_fernet(settings.OTP_KEY).decrypt(bytes(mail.body)))
    context = {**values, "site": settings.PUBLIC_URL, "subject": SUBJECTS[mail.template]}
    folder = "accounts/mail"
    message = EmailMultiAlternatives(
        subject=SUBJECTS[mail.template],
        body=render_to_string(f"{folder}/{mail.template}.txt", context),
        to=[mail.to],
        headers={"Auto-Submitted": "auto-generated"},
    )
    message.attach_alternative(
        render_to_string(f"{folder}/{mail.template}.html", context), "text/html"
    )
    return message


def _retry(mail: OutgoingMail, error: Exception) -> None:
    logger.warning("mail %s was not sent: %s", mail.pk, type(error).__name__)
    last_error = f"{type(error).__name__}: {error}"[:200]
    if mail.attempts > len(RETRY_AFTER):
        _settle(mail, State.FAILED, last_error=last_error)
        return
    later = timezone.now() + timedelta(seconds=RETRY_AFTER[mail.attempts - 1])
    OutgoingMail.objects.filter(pk=mail.pk).update(
        state=State.WAITING, not_before=later, last_error=last_error
    )


def _settle(mail: OutgoingMail, state: State, **fields: Any) -> None:
    OutgoingMail.objects.filter(pk=mail.pk).update(state=state, body=b"", **fields)


@lru_cache(maxsize=4)
def _fernet(key: str) -> Fernet:
    derived = HKDF(SHA256(), length=32, salt=None, info=b"sauda mail body").derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


def mails_delete_old(now: datetime) -> int:
    """Delete what was sent or dropped a week ago, and what failed a month ago."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM accounts_outgoingmail"
            " WHERE (state IN ('SENT', 'DROPPED') AND created_at < %s)"
            " OR (state = 'FAILED' AND created_at < %s)",
            [now - timedelta(days=7), now - timedelta(days=30)],
        )
        return int(cursor.rowcount)
