"""How errors look in the API description: one shape for every app."""

from http import HTTPStatus
from typing import Any

from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers

DESCRIPTIONS = {
    400: "The request is malformed, or fields are missing or wrong; `detail` lists them.",
    401: "Not signed in, or the credentials, code or token are not valid.",
    403: "Not allowed.",
    404: "No such object, or another user's.",
    409: "The present state does not allow this.",
    413: "The body is too large.",
    415: "The body is of a type that is not read here.",
    422: "Understood, and refused.",
    429: "Too many requests; `Retry-After` says how many seconds to wait.",
    503: "Not possible at the moment; `Retry-After` says when to try again.",
}


class ErrorDetail(serializers.Serializer):
    code = serializers.CharField(help_text="Stable, for programs.")
    message = serializers.CharField(help_text="A sentence for people.")
    detail = serializers.DictField(help_text="More about it; by field for wrong input.")


class ErrorOutput(serializers.Serializer):
    error = ErrorDetail()


def errors(*statuses: int, **described: str) -> dict[int, Any]:
    """Return entries for ``responses=``; ``s409="..."`` gives a status a description of its own."""
    known = {status: DESCRIPTIONS[status] for status in statuses}
    known |= {int(name[1:]): text for name, text in described.items()}
    return {
        status: OpenApiResponse(ErrorOutput, text or HTTPStatus(status).phrase)
        for status, text in sorted(known.items())
    }
