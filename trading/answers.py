"""What the views of this app share: raw JSON out, page and filter parameters, documented errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any
from uuid import UUID

import msgspec
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, inline_serializer
from rest_framework import serializers as fields
from rest_framework.exceptions import UnsupportedMediaType, ValidationError
from rest_framework.request import Request

from audit import openapi
from trading import inputs

_encoder = msgspec.json.Encoder()

MAX_LIMIT = 500

_REASONS = {
    400: "A field is missing or wrong; `detail` names it.",
    401: "No valid access token.",
    404: "No such object of yours.",
    409: "The object is not in a state that allows this.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The rules of the market, of the broker or of the platform rule it out; nothing was sent.",
    429: "Too many requests.",
}


def errors(*statuses: int) -> dict[int, Any]:
    """Return the documentation of error answers in the one shape, in this app's words."""
    return openapi.errors(**{f"s{status}": _REASONS[status] for status in statuses})


@cache
def page_of(output: Any) -> Any:
    """Return the documented shape of one page of ``output``."""
    name = output.__name__.removesuffix("Output") + "Page"
    return inline_serializer(
        name, {"results": output(many=True), "next": fields.CharField(allow_null=True)}
    )


LIMIT = OpenApiParameter(
    "limit", OpenApiTypes.INT, description=f"1 to {MAX_LIMIT}; 50 if left out."
)
CURSOR = OpenApiParameter("cursor", OpenApiTypes.STR, description="`next` of the page before.")
SYMBOL = OpenApiParameter(
    "symbol", OpenApiTypes.STR, description="Only this instrument, e.g. NSE:RELIANCE."
)
CONNECTION = OpenApiParameter(
    "connection_id", OpenApiTypes.UUID, description="Only this connection."
)
KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="1 to 64 characters from A-Z a-z 0-9 _ -. A repeated key returns the first order. "
    "Either this or `client_order_id` is required.",
)


def answer(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> HttpResponse:
    """Return JSON without a serializer: the selectors' dicts have their outside shape already."""
    return HttpResponse(
        _encoder.encode(data), status=status, content_type="application/json", headers=headers
    )


def body_of(request: Request) -> bytes:
    """Return the raw body of a JSON request.

    Raises:
        UnsupportedMediaType: it says that it is something else.
    """
    if request.content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType(request.content_type)
    return request._request.body


def user_id(request: Request) -> UUID:
    """Return the id of the signed-in user; the permission check has run."""
    found: UUID = request.user.id  # type: ignore[assignment]
    return found


def page_query(request: Request, parse: Callable[[str], Any] = UUID) -> dict[str, Any]:
    """Return ``limit`` and ``cursor``.

    Raises:
        ValidationError: one of them is not what a page gave.
    """
    query = request.query_params
    limit, cursor = query.get("limit", "50"), query.get("cursor")
    if not (
        limit.isascii() and limit.isdigit() and len(limit) < 5 and 1 <= int(limit) <= MAX_LIMIT
    ):
        raise ValidationError({"limit": [f"Must be a whole number from 1 to {MAX_LIMIT}."]})
    try:
        return {"limit": int(limit), "cursor": None if cursor is None else str(parse(cursor))}
    except ValueError:
        raise ValidationError({"cursor": ["Must be the `next` of an earlier page."]}) from None


def uuid_query(request: Request, name: str) -> UUID | None:
    text = request.query_params.get(name)
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise ValidationError({name: ["Must be a UUID."]}) from None


def choice_query(request: Request, name: str, choices: set[str]) -> str | None:
    text = request.query_params.get(name)
    if text is not None and text not in choices:
        raise ValidationError({name: [f"Must be one of: {', '.join(sorted(choices))}."]})
    return text


def symbol_query(request: Request) -> str | None:
    text = request.query_params.get("symbol")
    return None if text is None else inputs.instrument(text).key


def sequence(text: str) -> int:
    """Read a numeric cursor."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError(text)
    return int(text)
