"""Typed reading of environment variables, from wherever `sources` finds them.

A settings module reads every variable it needs and then calls ``finish()``: the start stops with
one message that names each missing, malformed or weak variable, so that a deployment is put right
in one round. Values are never shown, since most of them are secrets.
"""

import base64
import binascii
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from config.endpoints import broker_endpoints
from config.sources import SourceError, Sources

T = TypeVar("T")

SECRET_LENGTH = 32
# Words that only stand in examples. A real random secret does not contain them by chance.
PLACEHOLDERS = re.compile(
    r"change.?me|replace.?(me|this)|insecure|placeholder|example|your.?(secret|key|password)", re.I
)


class ConfigurationError(Exception):
    """The environment does not allow a start; the message says what to set."""


class MissingVariable(ConfigurationError):
    """At least one required variable is not set."""


class InvalidVariable(ConfigurationError):
    """Every required variable is set, but at least one value cannot be used."""


class Environment:
    """Reads variables of one mapping and remembers what was wrong until ``finish()``."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.values = Sources(os.environ if values is None else values)
        self.missing: list[str] = []
        self.invalid: dict[str, str] = {}
        self._secrets: dict[str, str] = {}

    def finish(self) -> None:
        """Stop the start if any variable read so far was missing or unusable.

        Raises:
            MissingVariable: a required variable is absent; the message lists the unusable ones too.
            InvalidVariable: all are present, some are unusable.
        """
        problems = [f"{name} is not set" for name in self.missing]
        problems += [f"{name} {reason}" for name, reason in self.invalid.items()]
        if problems:
            kind = MissingVariable if self.missing else InvalidVariable
            raise kind("Cannot start: " + "; ".join(problems) + ". See .env.example.")

    def text(self, name: str, default: str | None = None) -> str:
        """Return the variable, stripped; an empty value counts as not set."""
        value = self._given(name)
        if value is None:
            return default or ""
        if value:
            return value
        if default is None:
            self.missing.append(name)
            return ""
        return default

    def _given(self, name: str) -> str | None:
        """Return what a source gives; None where one that would have to be asked is unreadable."""
        try:
            return self.values.get(name, "").strip()
        except SourceError as e:
            self.invalid[e.name] = e.reason
            return None

    def integer(self, name: str, default: int | None = None, *, low: int = 0) -> int:
        text = self.text(name, None if default is None else str(default))
        try:
            value = int(text)
        except ValueError:
            return self._refuse(name, text, "must be a whole number", low)
        return value if value >= low else self._refuse(name, text, f"must be at least {low}", low)

    def number(self, name: str, default: str, *, low: str = "0", high: str | None = None) -> str:
        """Return the number as text, from which its user makes an exact ``Decimal``."""
        text = self.text(name, default)
        try:
            value = Decimal(text)
        except InvalidOperation:
            return self._refuse(name, text, "must be a decimal number", default)
        if (
            not value.is_finite()
            or value < Decimal(low)
            or (high is not None and value > Decimal(high))
        ):
            limit = f"at least {low}" if high is None else f"between {low} and {high}"
            return self._refuse(name, text, f"must be {limit}", default)
        return text

    def flag(self, name: str, default: bool) -> bool:
        text = self.text(name, "true" if default else "false").lower()
        if text in {"true", "1", "yes", "on"}:
            return True
        if text in {"false", "0", "no", "off"}:
            return False
        return self._refuse(name, text, "must be true or false", default)

    def items(self, name: str, default: str | None = "") -> list[str]:
        """Split at commas; parts are stripped and empty ones dropped."""
        return [part for piece in self.text(name, default).split(",") if (part := piece.strip())]

    def choice(self, name: str, choices: tuple[str, ...], default: str | None = None) -> str:
        text = self.text(name, default)
        if text in choices:
            return text
        return self._refuse(name, text, f"must be one of {', '.join(choices)}", choices[0])

    def secret(self, name: str, default: str | None = None) -> str:
        """Return a secret of 32 characters or more that no example and no other secret uses."""
        value = self.text(name, default)
        if value:
            self._judge_secret(name, value)
        return value

    def secrets(self, name: str) -> list[str]:
        """Return a list of further secrets, each as good as ``secret``; it may be empty."""
        values = self.items(name)
        for number, value in enumerate(values, 1):
            self._judge_secret(name, value, f"(entry {number}) " if len(values) > 1 else "")
        return values

    def fernet_keys(self, name: str, default: str | None = None) -> list[str]:
        """Return one or more Fernet keys; the first encrypts, all decrypt."""
        keys = self.items(name, default)
        if not keys and self._given(name):  # nothing but commas
            self.missing.append(name)
        for number, key in enumerate(keys, 1):
            where = f"(entry {number}) " if len(keys) > 1 else ""
            try:
                raw = base64.b64decode(key, altchars=b"-_", validate=True)
            except (binascii.Error, ValueError):
                raw = b""
            if len(raw) != SECRET_LENGTH:
                self.invalid[name] = f"{where}is not a Fernet key: 32 bytes in URL-safe base64"
            elif len(set(raw)) < SECRET_LENGTH // 4:
                self.invalid[name] = f"{where}is too simple to be a random key"
            else:
                self._judge_unique(name, key, where)
        return keys

    def database(self, name: str, default: str | None = None) -> dict[str, Any]:
        """Return Django's settings for a ``postgresql://`` address."""
        text = self.text(name, default)
        try:
            return postgres_settings(text) if text else {}
        except ValueError as e:
            return self._refuse(name, text, str(e), {})

    def redis(self, name: str, default: str | None = None) -> str:
        text = self.text(name, default)
        if not text or urlsplit(text).scheme in {"redis", "rediss", "unix"}:
            return text
        return self._refuse(name, text, "must start with redis://, rediss:// or unix://", "")

    def endpoints(self, name: str) -> dict[str, dict[str, str]]:
        """Return addresses of emulated brokers, by broker; none by default."""
        text = self.text(name, "")
        try:
            return broker_endpoints(text)
        except ValueError as e:
            return self._refuse(name, text, str(e), {})

    def _judge_secret(self, name: str, value: str, where: str = "") -> None:
        if len(value) < SECRET_LENGTH:
            self.invalid[name] = f"{where}is weak: it needs {SECRET_LENGTH} characters or more"
        elif PLACEHOLDERS.search(value):
            self.invalid[name] = f"{where}is a placeholder: make a random value"
        elif len(set(value)) < SECRET_LENGTH // 4:
            self.invalid[name] = f"{where}is too simple to be random"
        else:
            self._judge_unique(name, value, where)

    def _judge_unique(self, name: str, value: str, where: str) -> None:
        if value in self._secrets:
            other = self._secrets[value]
            self.invalid[name] = (
                f"{where}repeats an entry"
                if other == name
                else f"{where}has the same value as {other}"
            )
        self._secrets.setdefault(value, name)

    def _refuse(self, name: str, text: str, reason: str, stand_in: T) -> T:
        if text:  # an absent value is reported as missing, not as malformed too
            self.invalid[name] = reason
        return stand_in


def postgres_settings(url: str) -> dict[str, Any]:
    """Turn ``postgresql://user:password@host:port/name?option=value`` into a Django database entry.

    Raises:
        ValueError: another kind of address, or one without a database name.
    """
    parts: SplitResult = urlsplit(url)
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ValueError("must start with postgresql://")
    name = unquote(parts.path.lstrip("/"))
    if not name:
        raise ValueError("must end with a database name")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has a port that is not a number") from None
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(_host_as_written(parts)),
        "PORT": str(port or ""),
        "OPTIONS": dict(parse_qsl(parts.query)),
    }


def _host_as_written(parts: SplitResult) -> str:
    """Return the host in its own case, which ``hostname`` lowers: it may be a socket folder."""
    host = parts.netloc.rpartition("@")[2]
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


@contextmanager
def plain_errors() -> Iterator[None]:
    """Let a server that loads the settings end with one sentence instead of a traceback."""
    try:
        yield
    except ConfigurationError as e:
        raise SystemExit(str(e)) from None
