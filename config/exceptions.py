"""Errors become HTTP in one place, in one shape: ``{"error": {"code", "message", "detail"}}``."""

import logging
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from config.renderers import encode

logger = logging.getLogger(__name__)


def body(code: str, message: str, detail: Any = None) -> dict[str, Any]:
    """Return the one error body."""
    return {"error": {"code": code, "message": message, "detail": {} if detail is None else detail}}


def handle(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Translate an exception for DRF; None lets it become a logged 500."""
    if isinstance(exc, Http404):
        exc = exceptions.NotFound()
    elif isinstance(exc, PermissionDenied):
        exc = exceptions.PermissionDenied()
    elif isinstance(exc, RequestDataTooBig):
        set_rollback()
        return Response(body("body_too_large", "The request body is too large."), status=413)
    elif isinstance(exc, SuspiciousOperation):
        exc = exceptions.ParseError("The request is malformed.")
    if not isinstance(exc, exceptions.APIException):
        return None
    set_rollback()
    headers = {}
    if challenge := getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if (wait := getattr(exc, "wait", None)) is not None:
        headers["Retry-After"] = str(max(1, int(wait)))
    if isinstance(exc, exceptions.ValidationError):
        answer = body("validation_error", "Some fields are missing or wrong.", _fields(exc.detail))
    else:
        answer = body(_code(exc), str(exc.detail))
    return Response(answer, status=exc.status_code, headers=headers)


def _code(exc: exceptions.APIException) -> str:
    found = exc.get_codes()
    return found if isinstance(found, str) else str(exc.default_code)


def _fields(detail: Any) -> dict[str, Any]:
    """Return the errors by field; ``non_field_errors`` holds those of the body as a whole."""
    return detail if isinstance(detail, dict) else {"non_field_errors": detail}


def answer(status: HTTPStatus, code: str, message: str) -> HttpResponse:
    """Return an error in the API's shape from a place that DRF does not reach."""
    return HttpResponse(encode(body(code, message)), status=status, content_type="application/json")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if isinstance(exception, RequestDataTooBig):
        return answer(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", "The request body is too large."
        )
    return answer(HTTPStatus.BAD_REQUEST, "bad_request", "The request is malformed.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(HTTPStatus.FORBIDDEN, "permission_denied", "You are not allowed to do this.")


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(HTTPStatus.NOT_FOUND, "not_found", "Nothing is found at this address.")


def server_error(request: HttpRequest) -> HttpResponse:
    return answer(
        HTTPStatus.INTERNAL_SERVER_ERROR, "server_error", "Something went wrong on our side."
    )


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return answer(
        HTTPStatus.FORBIDDEN,
        "csrf_failed",
        "The form was too old or came from elsewhere. Load the page again.",
    )
