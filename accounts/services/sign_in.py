"""Signing up and in, with a password or a mailed code, over the API and in a browser."""

import hmac
from uuid import UUID

from django.conf import settings
from django.contrib.auth import login, logout
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone

from accounts import throttles
from accounts.clients import Client, client_of
from accounts.errors import Busy, EmailTaken, InvalidCredentials, InvalidOtp
from accounts.managers import normal_email
from accounts.models import EmailOtp, LoginSession, User
from accounts.passwords import password_judge, password_matches
from accounts.selectors import user_by_email, user_id_by_email
from accounts.services import codes, sessions
from accounts.services.mail import mail_enqueue
from accounts.tokens import TokenPair
from audit.context import ActorKind
from audit.services import Actor, record

Method = LoginSession.Method
BACKEND = "django.contrib.auth.backends.ModelBackend"


def user_signup(
    *, email: str, password: str, name: str = "", mobile: str = "", client: Client
) -> TokenPair:
    """Make an account, owe the mail that verifies its address, and sign it in.

    Raises:
        InvalidInput: the password is not good enough; nothing was made.
        EmailTaken: the address has an account.
        Throttled: too many sign-ups from this address.
        Busy: no core is free to hash the password.
    """
    user = user_register(email=email, password=password, name=name, mobile=mobile, client=client)
    return sessions.session_open(user=user, method=Method.SIGNUP, client=client)


def user_register(
    *, email: str, password: str, name: str = "", mobile: str = "", client: Client
) -> User:
    """As ``user_signup`` without signing in: for the page, which then calls ``browser_open``."""
    throttles.hit("signup_ip", throttles.network_of(client.ip))
    user = User(email=normal_email(email), name=name.strip(), mobile=mobile.strip())
    password_judge(password, user)
    user.signup_fingerprint = client.fingerprint
    user.set_password(password)  # outside the transaction: it takes a while
    try:
        with transaction.atomic():
            user.save(force_insert=True)
            record(
                "user.created",
                object_type="user",
                object_id=user.pk,
                user_id=user.pk,
                actor=Actor(ActorKind.USER, user.pk),
            )
            codes.code_create(EmailOtp.Purpose.VERIFY_EMAIL, user.email, user.pk, client)
    except IntegrityError:
        _refused("auth.signup_refused", user.email, None, Method.SIGNUP)
        raise EmailTaken from None
    return user


def credentials_check(*, email: str, password: str, client: Client) -> User:
    """Return the active user of these credentials. Every failure is counted and logged.

    Known and unknown addresses take the same steps, so neither answer nor time tells them apart.

    Raises:
        InvalidCredentials: see its docstring.
        Throttled: too many failures for this account, or tries from this address.
        Busy: no core is free; nothing was counted.
    """
    email = normal_email(email)
    throttles.hit("signin_ip", throttles.network_of(client.ip))
    throttles.backoff_begin(email)
    user = user_by_email(email=email)
    try:
        matches = password_matches(user, password)
    except Busy:
        throttles.backoff_undo(email)
        raise
    if user is None or not matches:
        _refused("auth.signin_failed", email, user.pk if user else None, Method.PASSWORD)
        raise InvalidCredentials
    throttles.backoff_clear(email)
    return user


def user_signin(*, email: str, password: str, client: Client) -> TokenPair:
    """Sign in with a password; raises as ``credentials_check``."""
    user = credentials_check(email=email, password=password, client=client)
    return sessions.session_open(user=user, method=Method.PASSWORD, client=client)


def otp_request(*, email: str, client: Client) -> UUID:
    """Mail a sign-in code if the address has an account; returns the challenge's id either way.

    Raises:
        Throttled: too many requests for this address or from this one.
    """
    email = normal_email(email)
    codes.code_request_throttle(EmailOtp.Purpose.LOGIN, email, client)
    user_id = user_id_by_email(email=email)
    return codes.code_create(EmailOtp.Purpose.LOGIN, email, user_id, client)


def otp_login(
    *, email: str, code: str, challenge_id: UUID | None = None, client: Client
) -> TokenPair:
    """Sign in with a mailed code, which proves the address too.

    With ``challenge_id``, only the code of that request is accepted.

    Raises:
        InvalidOtp: see its docstring.
        Throttled: too many tries.
    """
    user = otp_check(email=email, code=code, challenge_id=challenge_id, client=client)
    return sessions.session_open(user=user, method=Method.OTP, client=client)


def otp_check(*, email: str, code: str, challenge_id: UUID | None = None, client: Client) -> User:
    """Use a mailed code up and return its user; raises as ``otp_login``."""
    email = normal_email(email)
    codes.code_answer_throttle(email, client)
    with transaction.atomic():
        answer = codes.code_answer(EmailOtp.Purpose.LOGIN, email, code, challenge_id)
        user = _active(answer.user) if answer else None
        if user is None:
            _refused("auth.signin_failed", email, user_id_by_email(email=email), Method.OTP)
        else:
            user = _mailbox_proved(user, client)
    if user is None:  # raised here, so that the count of tries and the log are committed
        raise InvalidOtp
    return user


def _mailbox_proved(user: User, client: Client) -> User:
    """Mark the address as verified, at its first proof, and return the user as it now is.

    Whoever signs up with somebody else's address must not keep a way in once its owner comes: if
    the account was made on another device than the one that proves the mailbox, its password and
    sessions go.
    """
    user = User.objects.select_for_update(of=("self",), no_key=True).get(pk=user.pk)
    if user.email_verified:
        return user
    user.email_verified_at = timezone.now()
    made_by = user.signup_fingerprint
    strange = made_by is not None and bytes(made_by) != client.fingerprint
    if strange:
        user.set_unusable_password()
        sessions.sessions_revoke_all(user_id=user.pk, reason="mailbox_proved")
        mail_enqueue("password_removed", to=user.email, values={})
    user.save(update_fields=["email_verified_at", "password"])
    record(
        "user.email_verified",
        object_type="user",
        object_id=user.pk,
        user_id=user.pk,
        changes={"by": "otp", "password_removed": strange},
        actor=Actor(ActorKind.USER, user.pk),
    )
    return user


def browser_signin(request: HttpRequest, *, email: str, password: str) -> User:
    """Sign the browser in with a password; raises as ``credentials_check``."""
    user = credentials_check(email=email, password=password, client=client_of(request))
    return browser_open(request, user, Method.PASSWORD)


def browser_signin_otp(
    request: HttpRequest, *, email: str, code: str, challenge_id: UUID | None = None
) -> User:
    """Sign the browser in with a mailed code; raises as ``otp_login``."""
    user = otp_check(email=email, code=code, challenge_id=challenge_id, client=client_of(request))
    return browser_open(request, user, Method.OTP)


def browser_open(request: HttpRequest, user: User, method: LoginSession.Method) -> User:
    """Give the browser a new session for a user whose proof was just checked."""
    request.login_method = method  # type: ignore[attr-defined]  # read by `signals.open_login_session`
    try:
        with transaction.atomic():
            login(request, user, backend=BACKEND)
    except InvalidCredentials:  # changed in between: what login() has put into the session must go
        request.session.flush()
        raise
    return user


def browser_signout(request: HttpRequest) -> None:
    """End the browser's session; harmless without one."""
    logout(request)


def _active(user: User | None) -> User | None:
    return user if user is not None and user.is_active else None


def _refused(action: str, email: str, user_id: UUID | None, method: LoginSession.Method) -> None:
    """Log a failure under the account; the address by a pseudonym, since the log cannot forget."""
    message = b"audit-address|" + email.encode()
    pseudonym = hmac.digest(settings.OTP_KEY.encode(), message, "sha256").hex()[:16]
    record(
        action,
        object_type="user",
        object_id=user_id or "",
        user_id=user_id,
        changes={"method": method, "address": pseudonym},
    )
