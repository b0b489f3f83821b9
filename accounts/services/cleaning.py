"""Removing what has served its time. The audit log keeps what happened."""

from datetime import timedelta

from django.contrib.sessions.models import Session
from django.db.models import Q
from django.utils import timezone

from accounts.models import EmailOtp, LoginSession, ThrottleCounter
from accounts.services.mail import mails_delete_old

CODES_KEPT = timedelta(days=1)
SESSIONS_KEPT = timedelta(days=30)


def expired_delete() -> dict[str, int]:
    """Delete expired codes, counters, sessions and mails; returns how many of each."""
    now = timezone.now()
    ended = Q(expires_at__lt=now - SESSIONS_KEPT) | Q(revoked_at__lt=now - SESSIONS_KEPT)
    return {
        "codes": EmailOtp.objects.filter(expires_at__lt=now - CODES_KEPT).delete()[0],
        "counters": ThrottleCounter.objects.filter(expires_at__lt=now).delete()[0],
        "sessions": LoginSession.objects.filter(ended).delete()[0],
        "browsers": Session.objects.filter(expire_date__lt=now).delete()[0],
        "mails": mails_delete_old(now),
    }
