"""The forms of signing up, signing in and looking after an account."""

from __future__ import annotations

from typing import Any

from django import forms

from accounts.errors import AccountsError, Throttled

PASSWORD_LENGTH = 12


class PageForm(forms.Form):
    """What the services refuse is shown beside the field that it is about."""

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, label_suffix="")

    def refuse(self, error: AccountsError) -> None:
        """Show why a service refused: beside the fields that its detail names, else above them."""
        placed = False
        for name, reasons in error.detail.items():
            field = {"new_password": "password", "current": "current_password"}.get(name, name)
            if field in self.fields and isinstance(reasons, list):
                placed = True
                self.add_error(field, [str(reason) for reason in reasons])
        if not placed:
            wait = f" Try again in {error.retry_after} s." if error.retry_after else ""
            self.add_error(None, error.message + (wait if isinstance(error, Throttled) else ""))


def _password(autocomplete: str, **attributes: Any) -> forms.PasswordInput:
    return forms.PasswordInput(attrs={"autocomplete": autocomplete, **attributes})


def _email(**attributes: Any) -> forms.EmailInput:
    return forms.EmailInput(
        attrs={"autocomplete": "username", "autocapitalize": "none", **attributes}
    )


class SignUpForm(PageForm):
    name = forms.CharField(
        max_length=150,
        required=False,
        label="Name",
        widget=forms.TextInput(attrs={"autocomplete": "name", "autofocus": True}),
    )
    email = forms.EmailField(max_length=254, label="E-mail", widget=_email())
    password = forms.CharField(
        label="Password",
        max_length=1000,
        strip=False,
        help_text=f"At least {PASSWORD_LENGTH} characters. A few words you remember are good.",
        widget=_password("new-password"),
    )


class SignInForm(PageForm):
    email = forms.EmailField(max_length=254, label="E-mail", widget=_email(autofocus=True))
    password = forms.CharField(
        label="Password", max_length=1000, strip=False, widget=_password("current-password")
    )


class EmailForm(PageForm):
    email = forms.EmailField(max_length=254, label="E-mail", widget=_email(autofocus=True))


class CodeForm(PageForm):
    code = forms.CharField(
        label="Six-digit code",
        max_length=12,
        widget=forms.TextInput(
            attrs={
                "autocomplete": "one-time-code",
                "inputmode": "numeric",
                "class": "code-input",
                "autofocus": True,
            }
        ),
    )

    def clean_code(self) -> str:
        return "".join(self.cleaned_data["code"].split())


class NewPasswordForm(PageForm):
    """For a link of a mail: the link is the proof."""

    password = forms.CharField(
        label="New password",
        max_length=1000,
        strip=False,
        help_text=f"At least {PASSWORD_LENGTH} characters.",
        widget=_password("new-password"),
    )


class ResetForm(CodeForm, NewPasswordForm):
    field_order = ("code", "password")


class PasswordChangeForm(PageForm):
    current_password = forms.CharField(
        label="Current password", max_length=1000, strip=False, widget=_password("current-password")
    )
    password = forms.CharField(
        label="New password",
        max_length=1000,
        strip=False,
        help_text=f"At least {PASSWORD_LENGTH} characters.",
        widget=_password("new-password"),
    )
