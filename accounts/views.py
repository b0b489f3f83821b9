"""The pages of signing up, signing in and looking after an account."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms as django_forms
from django.conf import settings
from django.contrib import messages
from django.core import signing
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import forms, selectors
from accounts.clients import client_of
from accounts.errors import AccountsError, InvalidCode, InvalidOtp, NotFound, Throttled
from accounts.models import LoginSession
from accounts.pages import safe_next, signed_in, user_id_of
from accounts.services import passwords, sessions, sign_in, users

RESEND_SECONDS = 30
CODE_COOKIE, CODE_COOKIE_SECONDS = "sauda-code", 900
UNPROCESSABLE, TOO_MANY = 422, 429

page = require_http_methods(["GET", "HEAD", "POST"])


@require_GET
def landing(request: HttpRequest) -> HttpResponseBase:
    """What this is, for those who are not signed in; the overview for those who are."""
    if request.principal is not None:  # type: ignore[attr-defined]
        return redirect("pages:portfolio")
    return render(request, "accounts/landing.html")


@page
@never_cache
@sensitive_post_parameters("password")
def signup(request: HttpRequest) -> HttpResponseBase:
    if request.principal is not None:  # type: ignore[attr-defined]
        return redirect("pages:portfolio")
    form = forms.SignUpForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        client = client_of(request)
        try:
            user = sign_in.user_register(**form.cleaned_data, client=client)
            sign_in.browser_open(request, user, LoginSession.Method.SIGNUP)
        except AccountsError as e:
            form.refuse(e)
        else:
            return redirect("pages:start")
    return _form(request, "accounts/signup.html", form)


@page
@never_cache
@sensitive_post_parameters("password")
def signin(request: HttpRequest) -> HttpResponseBase:
    following = safe_next(request, request.POST.get("next") or request.GET.get("next", ""))
    if request.principal is not None:  # type: ignore[attr-defined]
        return redirect(following or "pages:portfolio")
    form = forms.SignInForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            sign_in.browser_signin(request, **form.cleaned_data)
        except AccountsError as e:
            form.refuse(e)
        else:
            return redirect(following or "pages:portfolio")
    if request.method == "GET" and "expired" in request.GET:
        messages.error(request, "Your sign-in has ended. Sign in again to go on.")
    return _form(request, "accounts/signin.html", form, way="password", **_next(following))


@page
@never_cache
def signin_code(request: HttpRequest) -> HttpResponseBase:
    """Ask for a code by mail; the answer is the same whether the address has an account or not."""
    following = safe_next(request, request.POST.get("next") or request.GET.get("next", ""))
    form = forms.EmailForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        email = form.cleaned_data["email"]
        try:
            challenge = sign_in.otp_request(email=email, client=client_of(request))
        except Throttled as e:
            if (asked := _asked(request, "signin")) and asked["email"] == email:
                messages.error(request, f"{e.message} A code was sent before; it still works.")
                return redirect("pages:signin-code-enter")
            form.refuse(e)
        else:
            response = redirect("pages:signin-code-enter")
            _ask(response, "signin", email=email, challenge=str(challenge), next=following)
            return response
    return _form(request, "accounts/signin.html", form, way="code", **_next(following))


@page
@never_cache
@sensitive_post_parameters("code")
def signin_code_enter(request: HttpRequest) -> HttpResponseBase:
    asked = _asked(request, "signin")
    if asked is None:
        return redirect("pages:signin-code")
    form = forms.CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            sign_in.browser_signin_otp(
                request,
                email=asked["email"],
                code=form.cleaned_data["code"],
                challenge_id=UUID(asked["challenge"]),
            )
        except InvalidOtp as e:
            form.add_error("code", e.message)
        except AccountsError as e:
            form.refuse(e)
        else:
            response = redirect(safe_next(request, asked["next"]) or "pages:portfolio")
            response.delete_cookie(CODE_COOKIE)
            return response
    return _code_page(
        request,
        form,
        title="Check your mail",
        lead=f"{_on_its_way(asked)} It is good for five minutes.",
        button="Sign in",
        resend_url=reverse("pages:signin-code"),
        email=asked["email"],
        next=asked["next"],
        back_url=reverse("pages:signin"),
        back="Sign in another way",
    )


@require_POST
def signout(request: HttpRequest) -> HttpResponseBase:
    sign_in.browser_signout(request)
    return redirect("pages:signin")


@page
@never_cache
def forgot(request: HttpRequest) -> HttpResponseBase:
    form = forms.EmailForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        email = form.cleaned_data["email"]
        try:
            challenge = passwords.password_reset_request(email=email, client=client_of(request))
        except Throttled as e:
            if (asked := _asked(request, "reset")) and asked["email"] == email:
                messages.error(request, f"{e.message} A code was sent before; it still works.")
                return redirect("pages:reset-password")
            form.refuse(e)
        else:
            response = redirect("pages:reset-password")
            _ask(response, "reset", email=email, challenge=str(challenge))
            return response
    return _form(request, "accounts/forgot.html", form)


@page
@never_cache
@sensitive_post_parameters("password", "code")
def reset(request: HttpRequest) -> HttpResponseBase:
    """A new password, with the link of the mail or with its code."""
    token = request.GET.get("token", "")
    asked = _asked(request, "reset") or {}
    if not token and not asked:
        return redirect("pages:forgot")
    form: forms.PageForm = (forms.NewPasswordForm if token else forms.ResetForm)(
        request.POST or None
    )
    if request.method == "POST" and form.is_valid():
        new, client = form.cleaned_data["password"], client_of(request)
        try:
            if token:
                passwords.password_reset_by_link(token=token, new=new, client=client)
            else:
                passwords.password_reset_confirm(
                    email=asked["email"],
                    code=form.cleaned_data["code"],
                    new=new,
                    challenge_id=UUID(asked["challenge"]),
                    client=client,
                )
        except InvalidCode as e:
            form.add_error("code" if "code" in form.fields else None, e.message)
        except AccountsError as e:
            form.refuse(e)
        else:
            messages.success(request, "Your password is changed. Sign in with the new one.")
            response = redirect("pages:signin")
            response.delete_cookie(CODE_COOKIE)
            return response
    lead = "Every device is signed out when you save it." if token else _on_its_way(asked)
    return _code_page(
        request,
        form,
        title="Choose a new password",
        lead=lead,
        button="Save password",
        resend_url=reverse("pages:forgot"),
        email="" if token else asked["email"],
        back_url=reverse("pages:signin"),
        back="Back to sign-in",
    )


@page
@never_cache
@sensitive_post_parameters("code")
def verify_email(request: HttpRequest) -> HttpResponseBase:
    """Prove the address with the link of the mail, signed in or not, or with its code."""
    token = request.GET.get("token", "")
    signed = request.principal is not None  # type: ignore[attr-defined]
    if not token and not signed:
        return redirect(f"{reverse('pages:signin')}?{urlencode({'next': request.path})}")
    if token:
        return _verify_by_link(request, token, signed)
    user = selectors.user_get(user_id=user_id_of(request))
    if user.email_verified:
        return redirect("pages:account")
    form = forms.CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            users.email_verify_confirm(
                email=user.email, code=form.cleaned_data["code"], client=client_of(request)
            )
        except InvalidCode as e:
            form.add_error("code", e.message)
        except AccountsError as e:
            form.refuse(e)
        else:
            messages.success(request, "Your e-mail address is confirmed.")
            return redirect("pages:portfolio")
    return _code_page(
        request,
        form,
        title="Confirm your e-mail",
        lead=f"Enter the six-digit code we sent to {user.email}.",
        button="Confirm",
        resend_url=reverse("pages:verify-email-resend"),
        back_url=reverse("pages:portfolio"),
        back="Later",
    )


def _verify_by_link(request: HttpRequest, token: str, signed: bool) -> HttpResponseBase:
    """Mail programs open links to look at them, so the link shows a button and only that proves."""
    form = forms.PageForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            users.email_verify_by_link(token=token, client=client_of(request))
        except AccountsError as e:
            form.refuse(e)
        else:
            messages.success(request, "Your e-mail address is confirmed.")
            return redirect("pages:portfolio" if signed else "pages:signin")
    return _code_page(
        request,
        form,
        title="Confirm your e-mail",
        lead="One press, and the address is yours here.",
        button="Confirm",
        back_url=reverse("pages:portfolio" if signed else "pages:signin"),
        back="Not now",
    )


@require_POST
@signed_in
def verify_email_resend(request: HttpRequest) -> HttpResponseBase:
    try:
        users.email_verify_request(user_id=user_id_of(request), client=client_of(request))
    except AccountsError as e:
        messages.error(request, e.message)
    else:
        messages.success(request, "A new code is on its way.")
    return redirect("pages:verify-email")


@require_GET
@signed_in
def account(request: HttpRequest) -> HttpResponseBase:
    return _account(request, forms.PasswordChangeForm())


@require_POST
@signed_in
@sensitive_post_parameters("current_password", "password")
def account_password(request: HttpRequest) -> HttpResponseBase:
    form = forms.PasswordChangeForm(request.POST)
    if form.is_valid():
        try:
            passwords.browser_password_change(
                request,
                user_id=user_id_of(request),
                current=form.cleaned_data["current_password"],
                new=form.cleaned_data["password"],
            )
        except AccountsError as e:
            form.refuse(e)
        else:
            messages.success(request, "Your password is changed. Other devices are signed out.")
            return redirect("pages:account")
    return _account(request, form)


@require_POST
@signed_in
def account_sessions(request: HttpRequest) -> HttpResponseBase:
    """Sign out everywhere else."""
    ended = sessions.sessions_revoke_all(
        user_id=user_id_of(request),
        keep=request.principal.session_id,  # type: ignore[attr-defined]
    )
    messages.success(request, f"{ended} other sign-in{'s' if ended != 1 else ''} ended.")
    return redirect("pages:account")


@require_POST
@signed_in
def account_session(request: HttpRequest, session_id: UUID) -> HttpResponseBase:
    try:
        sessions.session_revoke(user_id=user_id_of(request), session_id=session_id)
    except NotFound as e:
        raise Http404 from e
    messages.success(request, "That device is signed out.")
    return redirect("pages:account")


def _account(request: HttpRequest, form: forms.PasswordChangeForm) -> HttpResponse:
    current = request.principal.session_id  # type: ignore[attr-defined]
    rows = [
        {
            "id": row.pk,
            "device": device_words(row.user_agent, row.kind),
            "ip": row.ip,
            "created_at": row.created_at,
            "last_used_at": row.last_used_at,
            "current": row.pk == current,
        }
        for row in selectors.session_list(user_id=user_id_of(request))
    ]
    rows.sort(key=lambda row: not row["current"])
    return render(
        request,
        "accounts/account.html",
        {"password_form": form, "sessions": rows},
        status=_status(form),
    )


_BROWSERS = (
    (r"Edg/", "Edge"),
    (r"OPR/", "Opera"),
    (r"Firefox/", "Firefox"),
    (r"(HeadlessChrome|Chrome)/", "Chrome"),
    (r"Safari/", "Safari"),
)
_SYSTEMS = (
    (r"Android", "Android"),
    (r"iPhone|iPad", "iOS"),
    (r"Windows", "Windows"),
    (r"Mac OS X", "macOS"),
    (r"Linux|X11", "Linux"),
)


def device_words(user_agent: str, kind: str) -> str:
    """Return a device as its owner would call it: Chrome on Android."""
    browser = next((name for pattern, name in _BROWSERS if re.search(pattern, user_agent)), "")
    system = next((name for pattern, name in _SYSTEMS if re.search(pattern, user_agent)), "")
    if kind == LoginSession.Kind.API or not browser:
        program = user_agent.split("/", maxsplit=1)[0].strip()[:40]
        return f"App ({program})" if program else "App"
    return f"{browser} on {system}" if system else browser


def _next(following: str) -> dict[str, str]:
    return {
        "next": following,
        "next_query": f"?{urlencode({'next': following})}" if following else "",
    }


def _status(form: django_forms.Form) -> int:
    return UNPROCESSABLE if form.is_bound and form.errors else 200


def _form(request: HttpRequest, template: str, form: forms.PageForm, **more: Any) -> HttpResponse:
    return render(request, template, {"form": form, **more}, status=_status(form))


def _code_page(request: HttpRequest, form: forms.PageForm, **more: Any) -> HttpResponse:
    return _form(request, "accounts/code.html", form, resend_seconds=RESEND_SECONDS, **more)


def _on_its_way(asked: dict[str, str]) -> str:
    return f"If {asked['email']} has an account, a six-digit code is on its way."


def _ask(response: HttpResponseBase, purpose: str, **values: str) -> None:
    """Remember on the browser what a code was asked for; signed, and gone after a while."""
    response.set_cookie(
        CODE_COOKIE,
        signing.dumps({"purpose": purpose, **values}, salt=CODE_COOKIE),
        max_age=CODE_COOKIE_SECONDS,
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )


def _asked(request: HttpRequest, purpose: str) -> dict[str, str] | None:
    try:
        values: dict[str, str] = signing.loads(
            request.COOKIES.get(CODE_COOKIE, ""), salt=CODE_COOKIE, max_age=CODE_COOKIE_SECONDS
        )
    except signing.BadSignature:
        return None
    return values if values.get("purpose") == purpose else None
