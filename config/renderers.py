"""JSON out: msgspec, money exact and plain, times with their offset."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from typing import Any

import msgspec
from django.utils.functional import Promise
from rest_framework.renderers import BaseRenderer

# msgspec writes a Decimal as str() does: "1E+2" for some. Those answers take the slow road.
EXPONENT = re.compile(rb'"-?\d(?:\.\d+)?E[+-]\d+"')


def _extra(value: Any) -> Any:
    if isinstance(value, str | Promise):  # subclasses of str, as DRF's messages are
        return str(value)
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"cannot be put into JSON: {type(value).__name__}")


_encoder = msgspec.json.Encoder(enc_hook=_extra)


def encode(value: Any) -> bytes:
    """Return the value as JSON: a Decimal is a plain string, a UUID a string, a time ISO 8601.

    Raises:
        TypeError: the value holds something that has no form in JSON.
    """
    body = _encoder.encode(value)
    return _encoder.encode(_plain(value)) if EXPONENT.search(body) else body


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, str | bytes | int | float) or value is None:
        return value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, msgspec.Struct):
        return _plain(msgspec.structs.asdict(value))
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return value


class JSONRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else encode(data)
