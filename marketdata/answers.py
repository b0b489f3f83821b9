"""What the views of this app share: how they answer, and how errors are documented."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

import msgspec
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample
from rest_framework.exceptions import APIException, NotFound
from rest_framework.request import Request

from audit import openapi

_OF_BROKER = (409, 422, 502, 503)
_encoder = msgspec.json.Encoder()
_REASONS = {
    400: "A field is missing or wrong; `detail` names it.",
    401: "Not signed in.",
    404: "No such object.",
    409: "It clashes with what there is, or a limit is reached.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The broker, or the source, does not have it.",
    502: "The broker did not answer as it should.",
    503: "The broker was not asked: it is not reachable, or the pace toward it is used up.",
}
# Why a user's broker gives no prices.
BROKER = {
    409: "`no_session`, `session_expired`: log in at the broker. `no_connection`: connect it. "
    "`instruments_not_loaded`: its list is being read.",
    422: "The broker refused, or does not offer it.",
}


class Conflict(APIException):
    """Answered with 409."""

    status_code = 409
    default_code = "conflict"


def answer(value: Any, status: int = 200) -> HttpResponse:
    """Return JSON without the renderer's rounds: decimals become strings, times ISO 8601."""
    return HttpResponse(_encoder.encode(value), status=status, content_type="application/json")


def errors(*statuses: int) -> dict[int, Any]:
    """Return the documentation of error answers in the one shape, in this app's words."""
    return openapi.errors(**{f"s{status}": _REASONS[status] for status in statuses})


def broker_errors(*statuses: int) -> dict[int, Any]:
    """Return the documentation of errors of a path that may ask the user's broker, with those that
    it may answer.
    """
    reasons = _REASONS | BROKER
    return openapi.errors(**{f"s{status}": reasons[status] for status in (*statuses, *_OF_BROKER)})


def example(name: str, value: Any) -> list[OpenApiExample]:
    """Return an example of an answer."""
    return [OpenApiExample(name, value=value, response_only=True)]


def user_id(request: Request) -> UUID:
    return cast(UUID, request.user.id)


def unknown_instrument(key: str) -> NotFound:
    return NotFound(f"There is no instrument {key[:60]!r}.", code="unknown_instrument")
