"""Keeps secrets out of the logs: by the name of a field, and by the shape of a value."""

import logging
import re
import traceback
from collections.abc import Mapping
from typing import Any

MASK = "[redacted]"

# What a field, header or parameter with a secret is called, alone or at the end of a longer name.
_NAMES = (
    r"(?:access_?token|refresh_?token|request_?token|id_?token|auth_?token|session_?id|token|api_?key|api_?secret|"
    r"client_?secret|secret|key|password|passwd|passphrase|otp|totp|mpin|pin|"
    r"authorization|cookie|csrf_?token|checksum|feed_?token|recovery_?codes?)"
)
# Keys that open nothing, and that one wants to read in a log.
HARMLESS = re.compile(
    r"(?:routing|primary|foreign|idempotency|dedupe|cache|sort|unique|instrument)[_\- ]?keys?\b",
    re.I,
)
SECRET_NAME = re.compile(rf"(?:^|[_\-.]){_NAMES}s?$", re.I)
# `name=value`, `name: value`, `"name": "value"`, `'name': 'value'`: the value is masked. Quotes may
# have backslashes before them, as in the repr of a text that holds the repr of another.
NAMED_VALUE = re.compile(
    rf"(?P<name>(?<![A-Za-z0-9])(?:[A-Za-z0-9]+[_\-])*{_NAMES}s?\\*[\"']?\s*[=:]\s*)"
    r"(?P<value>\\+\"[^\"\\]*\\+\"|\\+'[^'\\]*\\+'|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|(?:(?:bearer|basic|token)\s+)?[^\s,;&\"'(){}\[\]]+)",
    re.I,
)
SHAPES = [
    re.compile(r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"),  # JWT
    re.compile(r"gAAAA[A-Za-z0-9_-]{20,}={0,2}"),  # Fernet
    re.compile(r"(?<=bearer )[A-Za-z0-9._~+/-]{8,}=*", re.I),
    re.compile(r"(?<=basic )[A-Za-z0-9+/]{8,}=*", re.I),
    re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),  # user:password@ in an address
    # What a broker's redirect carries, where it stands in an address.
    re.compile(r"(?P<lead>[?&](?:code|state|request_token)=)[^&\s#\"'\\]+"),
    re.compile(r"(?P<lead>/webhooks/[a-z0-9_-]+/)[^/\s?#\"']+", re.I),  # where a broker posts
    # Long hex or base64 a few words after a telling one: "the new secret is 9f86d0..."
    re.compile(
        r"(?<![A-Za-z])(?P<lead>(?:token|secret|key|password|otp|pin|authorization)s?\b[^\n]{0,24}?[\s=:'\"])"
        r"(?P<blob>[A-Fa-f0-9]{32,}|[A-Za-z0-9+/_-]{32,}={0,2})",
        re.I,
    ),
]
QUICK = re.compile(
    r"token|secret|key|passw|passphrase|otp|pin|authoriz|cookie|checksum|session|recovery|eyJ|gAAAA|bearer|basic|://|/webhooks/|[?&](?:code|state)=",
    re.I,
)


def redact(text: str) -> str:
    """Return the text with everything that looks like a secret masked."""
    if not QUICK.search(text):
        return text
    text = NAMED_VALUE.sub(_mask_named, text)
    for shape in SHAPES:
        text = shape.sub(lambda found: (found.groupdict().get("lead") or "") + MASK, text)
    return text


def redact_value(name: str, value: Any) -> Any:
    """Return a value fit for a log: masked if its name says so, else searched through."""
    if (
        SECRET_NAME.search(name)
        and not HARMLESS.match(name)
        and value not in (None, "", True, False)
    ):
        return MASK
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        return redact(value.decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return {key: redact_value(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value(name, item) for item in value]
    if value is None or isinstance(value, int | float):
        return value
    return redact(str(value))


class RedactionFilter(logging.Filter):
    """Rewrites a record before it is formatted: message, arguments, ``extra`` fields, traceback."""

    _plain = frozenset(vars(logging.makeLogRecord({})))

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            record.msg, record.args = redact(record.getMessage()), None
        except (
            TypeError,
            ValueError,
            KeyError,
        ):  # arguments that do not fit: keep the template only
            record.msg, record.args = redact(str(record.msg)), None
        if record.exc_info and not record.exc_text:
            record.exc_text = redact("".join(traceback.format_exception(*record.exc_info)).rstrip())
        elif record.exc_text:
            record.exc_text = redact(record.exc_text)
        for name, value in list(vars(record).items()):
            if name not in self._plain and name not in {"request", "response"}:
                setattr(record, name, redact_value(name, value))
        return True


def _mask_named(found: re.Match[str]) -> str:
    name, value = found["name"], found["value"]
    if HARMLESS.match(name):
        return found[0]
    bare = value.strip("\\\"'")
    quote = value[: len(value) - len(value.lstrip("\\\"'"))]
    # Words of prose and states, as in "token: expired" or "key: None", are no secrets.
    if bare.lower() in {
        "",
        "none",
        "null",
        "true",
        "false",
        "missing",
        "expired",
        "invalid",
        "refused",
        MASK,
    }:
        return found[0]
    return f"{name}{quote}{MASK}{quote}"
