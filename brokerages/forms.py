"""The form that asks for what a broker needs: made from what its adapter declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django import forms

from brokerages.base import CredentialField
from brokerages.problems import BrokerageError

LABEL_LENGTH = 80
PREFIX = "credential-"


class ConnectForm(forms.Form):
    """A name for the connection, and a field for each credential; secrets stay empty."""

    label = forms.CharField(
        max_length=LABEL_LENGTH,
        required=False,
        label="Name for this connection",
        widget=forms.TextInput(attrs={"placeholder": "e.g. Family account"}),
    )

    def __init__(
        self, fields: Iterable[CredentialField], data: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(data, label_suffix="")
        for field in fields:
            widget: forms.Widget = forms.TextInput(
                attrs={"autocomplete": "off", "spellcheck": "false"}
            )
            if field.secret:
                widget = forms.PasswordInput(attrs={"autocomplete": "off"})
            self.fields[PREFIX + field.name] = forms.CharField(
                label=field.label, required=field.required, help_text=field.help_text, widget=widget
            )

    def credentials(self) -> dict[str, str]:
        """Return what was given, by the names of the adapter."""
        return {
            name.removeprefix(PREFIX): value
            for name, value in self.cleaned_data.items()
            if name.startswith(PREFIX) and value
        }

    def refuse(self, error: BrokerageError) -> None:
        missing = [PREFIX + name for name in error.detail.get("missing", [])]
        if placed := [name for name in missing if name in self.fields]:
            for name in placed:
                self.add_error(name, "This is needed.")
        else:
            self.add_error(None, error.message)


class LoginForm(forms.Form):
    """Opens a broker session; where the broker gives its user a token for it, that is asked for."""

    grant = forms.CharField(
        label="Token from the address you were sent back to",
        max_length=2000,
        help_text="Often called request_token or code.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )

    def __init__(self, data: Mapping[str, str] | None = None, *, interactive: bool) -> None:
        super().__init__(data, label_suffix="")
        if not interactive:
            del self.fields["grant"]
