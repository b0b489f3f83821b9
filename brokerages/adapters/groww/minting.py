"""How an access token is asked for: with a time-based code, or with a key that was approved today.

Source: https://groww.in/trade-api/docs/python-sdk (introduction, authentication)
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyotp

from brokerages.adapters.groww.answers import BROKER
from brokerages.base import CredentialField
from brokerages.errors import BrokerError, Refused

FIELDS = (
    CredentialField(
        "totp_token",
        "TOTP token",
        required=False,
        help_text="Recommended: sessions renew by themselves. Groww shows it under Trading "
        "APIs, Generate TOTP token. Enter it together with the TOTP secret.",
    ),
    CredentialField(
        "totp_secret",
        "TOTP secret",
        required=False,
        help_text="The setup key that Groww shows beside the QR code of the TOTP token.",
    ),
    CredentialField(
        "api_key",
        "API key",
        required=False,
        help_text="Instead of the TOTP fields: the key has to be approved on Groww's API keys "
        "page every day before a session can be opened. Enter it together with its secret.",
    ),
    CredentialField(
        "api_secret",
        "API secret",
        required=False,
        help_text="The secret that Groww showed once with the API key.",
    ),
)

APPROVAL = "approval"  # the kind of key that its user approves every day


class _Codes(pyotp.TOTP):
    """The length of a secret is the broker's choice: the common 80 bits are not refused."""

    min_secret_length_bits = 80


def request_of(credentials: Mapping[str, str], now: datetime) -> tuple[str, dict[str, Any]]:
    """Return the key for the Authorization header and the body, as the SDK makes it.

    Raises:
        Refused: credentials that are not complete, or cannot be what they should be.
    """
    from growwapi import GrowwAPI

    given = {name: value.strip() for name, value in credentials.items()}
    if given.get("totp_token") and given.get("totp_secret"):
        key = given["totp_token"]
        body = GrowwAPI._build_request_data(totp=_code(given["totp_secret"], now))
    elif given.get("api_key") and given.get("api_secret"):
        key = given["api_key"]
        body = GrowwAPI._build_request_data(secret=given["api_secret"])
    else:
        raise _refused(
            "Enter the TOTP token with its secret, or the API key with its secret.",
            "credentials_missing",
        )
    if not key.isascii() or not key.isprintable():
        raise _refused("The key has characters that no key has.", "credentials_unusable")
    return key, body


def explained(refusal: BrokerError, body: Mapping[str, Any]) -> BrokerError:
    """Return a refusal with what the user can do about it."""
    if body["key_type"] != APPROVAL:
        return refusal
    return _refused(
        f"{refusal.message.rstrip('.')}. Approve the API key on Groww's API keys page first: "
        "it has to be done every day.",
        refusal.code,
    )


def _code(secret: str, now: datetime) -> str:
    try:
        return _Codes(secret.replace(" ", "").upper()).at(now)
    except (ValueError, TypeError):
        raise _refused(
            "The TOTP secret is not one: it has only the letters A to Z and the digits 2 to 7.",
            "credentials_unusable",
        ) from None


def _refused(message: str, code: str) -> Refused:
    return Refused(message, broker=BROKER, code=code)
