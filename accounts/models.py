"""Who may sign in, and what they are signed in with. Rows here change only through services."""

from datetime import timedelta
from typing import ClassVar

from django.contrib.auth.models import AbstractBaseUser, PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils import timezone

from accounts.managers import UserManager
from audit.ids import uuid7


class User(AbstractBaseUser, PermissionsMixin):
    """A person. The e-mail address is the login, stored in lower case."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(max_length=254, unique=True)
    name = models.CharField(max_length=150, blank=True, default="")
    mobile = models.CharField(max_length=20, blank=True, default="")
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    email_verified_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Of the device that signed up; None if somebody else made the account (see `services/otp.py`).
    signup_fingerprint = models.BinaryField(max_length=32, null=True, editable=False)
    last_login = None  # login sessions tell more, without a write to this row

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects = UserManager()

    class Meta:
        ordering = ("-created_at",)
        constraints = [
            models.CheckConstraint(
                condition=Q(email=Lower(F("email"))), name="user_email_is_lower"
            ),
        ]

    def __str__(self) -> str:
        return self.email

    def get_full_name(self) -> str:
        return self.name or self.email

    def get_short_name(self) -> str:
        return self.name.split(" ")[0] if self.name else self.email.split("@")[0]

    @property
    def email_verified(self) -> bool:
        return self.email_verified_at is not None


class EmailOtp(models.Model):
    """One mailed code. It is made for unknown addresses too, without a user, so that both look the
    same.
    """

    class Purpose(models.TextChoices):
        LOGIN = "LOGIN"
        VERIFY_EMAIL = "VERIFY_EMAIL"
        RESET_PASSWORD = "RESET_PASSWORD"  # noqa: S105

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # No constraint: checking it would take longer for an address that has an account.
    user = models.ForeignKey(
        User, null=True, on_delete=models.CASCADE, related_name="+", db_constraint=False
    )
    email = models.EmailField(max_length=254)
    purpose = models.CharField(max_length=16, choices=Purpose.choices)
    nonce = models.BinaryField(max_length=16)
    code_hash = models.BinaryField(max_length=32)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    used_at = models.DateTimeField(null=True)
    replaced_at = models.DateTimeField(null=True)  # a newer challenge took its place
    ip = models.GenericIPAddressField(null=True)

    class Meta:
        indexes = [models.Index("email", "purpose", F("created_at").desc(), name="otp_latest")]

    def __str__(self) -> str:
        return f"{self.purpose} {self.id}"


class LoginSession(models.Model):
    """One sign-in on one device: the family of its refresh tokens, or a browser's session.

    Its id is the ``sid`` of every token. Only hashes of what the device holds are kept.
    """

    class Kind(models.TextChoices):
        API = "API"
        BROWSER = "BROWSER"

    class Method(models.TextChoices):
        PASSWORD = "PASSWORD"  # noqa: S105
        OTP = "OTP"
        SIGNUP = "SIGNUP"
        OTHER = "OTHER"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="login_sessions")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    method = models.CharField(max_length=8, choices=Method.choices)
    # The primary key of the browser's row in Django's session table, itself a hash.
    browser_key_hash = models.CharField(max_length=40, default="", blank=True)
    user_agent = models.CharField(max_length=300, blank=True, default="")
    ip = models.GenericIPAddressField(null=True)
    fingerprint = models.BinaryField(max_length=32)  # of the client that last refreshed
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    refresh_hash = models.BinaryField(max_length=32)  # of the one refresh token that is good
    previous_hash = models.BinaryField(max_length=32)  # of the one it replaced
    rotated_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    revoked_reason = models.CharField(max_length=40, default="", blank=True)

    class Meta:
        indexes = [
            models.Index("user", F("last_used_at").desc(), name="session_recent"),
            models.Index("expires_at", name="session_expiry"),
        ]
        constraints = [
            models.UniqueConstraint(
                "browser_key_hash",
                condition=~Q(browser_key_hash=""),
                name="session_one_per_browser",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class ThrottleCounter(models.Model):
    """Times of counted events under one key, or failures with a waiting time; exact under
    concurrency.

    Kept in PostgreSQL, so that limits on guessing hold while Redis is away.
    """

    key = models.CharField(primary_key=True, max_length=64)  # of limit and subject, hashed
    hits = ArrayField(models.DateTimeField(), default=list)
    admitted = models.BooleanField(default=True)  # whether the last hit was within the limit
    failures = models.PositiveIntegerField(default=0)
    blocked_until = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.key


class OutgoingMail(models.Model):
    """A mail owed to someone, written with what caused it. What it says is encrypted, and blanked
    once sent.
    """

    class State(models.TextChoices):
        WAITING = "WAITING"
        SENDING = "SENDING"  # claimed; free again after the lease
        SENT = "SENT"
        DROPPED = "DROPPED"  # too late to be of use, or never meant to arrive
        FAILED = "FAILED"  # given up

    LEASE: ClassVar[timedelta] = timedelta(seconds=60)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    to = models.EmailField(max_length=254)
    template = models.CharField(max_length=40)
    body = models.BinaryField()  # Fernet of the template's values
    deliver = models.BooleanField(default=True)  # False: no such user, only the work is the same
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    created_at = models.DateTimeField(default=timezone.now)
    not_before = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    last_error = models.CharField(max_length=200, default="", blank=True)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(
                "not_before", condition=Q(state__in=["WAITING", "SENDING"]), name="mail_due"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.template} {self.id}"
