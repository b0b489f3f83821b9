"""The secrets that sign platform events, and the check of a signature.

The primary one and any number of others are good at the same time, so that a sender can move from
one to the next without a gap. Files (``BROKER_WEBHOOK_SECRET_FILE`` and
``BROKER_WEBHOOK_ADDITIONAL_SECRETS_FILE``) are looked at for every delivery: a change counts at
once, in every process, without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django.conf import settings

from brokerages.crypto import fingerprint

logger = logging.getLogger(__name__)

ALGORITHM = "HMAC-SHA256"
SIGNATURE = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
SHORTEST = 32  # characters
PLACEHOLDERS = re.compile(
    r"change.?me|replace.?(me|this)|insecure|placeholder|example|your.?(secret|key)", re.I
)
# A file that was changed in place so lately may be half written. One that replaced another counts
# at once.
SETTLED_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """One secret. ``label`` is fit for metrics: its place in the list and its fingerprint."""

    value: bytes = field(repr=False)
    label: str


def sign(body: bytes, secret: bytes) -> str:
    """Return the signature of ``body``: HMAC-SHA256 as hexadecimal digits."""
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def signer(body: bytes, headers: Mapping[str, str]) -> WebhookSecret | None:
    """Return the secret that signed ``body``, or None if none of ours did.

    Every secret is tried, whichever fits: the time tells nothing of the list.
    """
    signature = headers.get("X-Broker-Signature", "")
    algorithm = headers.get("X-Broker-Signature-Alg", ALGORITHM)
    known = secrets_known()
    if algorithm != ALGORITHM or not SIGNATURE.fullmatch(signature):
        return None
    given = signature.lower().encode("ascii")
    found: WebhookSecret | None = None
    for secret in known:
        if hmac.compare_digest(sign(body, secret.value).encode("ascii"), given):
            found = found or secret
    return found


def secrets_known() -> tuple[WebhookSecret, ...]:
    """Return the secrets that are good now, the primary one first. Without any, nobody is
    believed.
    """
    primary = _labelled(_primary(), settings.SECRET_KEY)
    if not primary:
        return ()  # an emergency stop is one file, not two
    others = _in_file("BROKER_WEBHOOK_ADDITIONAL_SECRETS_FILE")
    if others is None:
        others = tuple(getattr(settings, "BROKER_WEBHOOK_ADDITIONAL_SECRETS", ()))
    return _labelled((*_primary(), *others), settings.SECRET_KEY)


def is_configured() -> bool:
    """Whether there is a good primary secret."""
    return bool(_labelled(_primary(), settings.SECRET_KEY))


def _primary() -> tuple[str, ...]:
    found = _in_file("BROKER_WEBHOOK_SECRET_FILE")
    return (getattr(settings, "BROKER_WEBHOOK_SECRET", ""),) if found is None else found[:1]


_labels: dict[tuple[str, ...], tuple[WebhookSecret, ...]] = {}


def _labelled(values: tuple[str, ...], key: str) -> tuple[WebhookSecret, ...]:
    cached = _labels.get((*values, key))
    if cached is None:
        good = dict.fromkeys(value.strip() for value in values if not weakness(value.strip()))
        cached = tuple(
            WebhookSecret(value.encode(), f"{place}:{fingerprint(value)}")
            for place, value in enumerate(good)
        )
        if len(_labels) > 8:
            _labels.clear()
        _labels[(*values, key)] = cached
    return cached


def weakness(value: str) -> str:
    """Return what is wrong with a secret, empty if nothing is."""
    if len(value) < SHORTEST:
        return f"is shorter than {SHORTEST} characters"
    if PLACEHOLDERS.search(value):
        return "is a placeholder"
    if len(set(value)) < SHORTEST // 4:
        return "is too simple to be random"
    return ""


# --- Files ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reading:
    stamp: tuple[int, int, int]  # time of change, size, inode
    values: tuple[str, ...] = field(repr=False)


_readings: dict[str, _Reading] = {}
_reading = threading.Lock()


def _in_file(setting: str) -> tuple[str, ...] | None:
    """Return the secrets in the file that ``setting`` names, or None where it names none.

    A file that cannot be read leaves what was read before: whoever swaps it must not open a gap.
    """
    path = getattr(settings, setting, "")
    if not path:
        return None
    before = _readings.get(path)
    try:
        status = os.stat(path)
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if before is not None and before.stamp == stamp:
            return before.values
        with open(path, encoding="utf-8") as file:
            values = tuple(part.strip() for part in re.split(r"[\n,]", file.read()) if part.strip())
    except (OSError, UnicodeDecodeError) as e:
        if before is None:
            logger.error("%s cannot be read: %s", setting, type(e).__name__)
        return before.values if before else ()
    weak = [f"entry {n} {why}" for n, v in enumerate(values, 1) if (why := weakness(v))]
    in_place = before is not None and before.stamp[-1] == status.st_ino
    if (weak or not values) and in_place and time.time() - status.st_mtime < SETTLED_SECONDS:
        return before.values if before else ()  # still being written
    with _reading:
        _note(setting, before, values, weak)
        _readings[path] = _Reading(stamp, values)
    return values


def _note(
    setting: str, before: _Reading | None, values: Sequence[str], weak: Sequence[str]
) -> None:
    if before is None or before.values != tuple(values):
        logger.warning("%s: %d secrets were read", setting, len(values) - len(weak))
    if weak:
        logger.error("%s: not used: %s", setting, "; ".join(weak))
