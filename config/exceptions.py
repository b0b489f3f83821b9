"""Errors become HTTP in one place, in one shape: ``{"error": {"code", "message", "detail"}}``."""

import contextlib
import math
import re
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import TemplateDoesNotExist
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

import accounts.errors
import brokerages.errors
import brokerages.problems
import marketdata.errors
import trading.errors
from config.information import wants_page
from config.renderers import encode

# The nearest class in an error's ancestry decides.
HTTP_STATUS: dict[type[Exception], int] = {
    accounts.errors.AccountsError: 400,
    accounts.errors.InvalidCredentials: 401,
    accounts.errors.InvalidOtp: 401,
    accounts.errors.InvalidToken: 401,
    accounts.errors.WrongPassword: 403,
    accounts.errors.EmailTaken: 409,
    accounts.errors.NotFound: 404,
    accounts.errors.Throttled: 429,
    accounts.errors.Busy: 503,
    brokerages.problems.BrokerageError: 422,
    brokerages.problems.NotFound: 404,
    brokerages.problems.InvalidLogin: 400,
    brokerages.problems.ConnectionConflict: 409,
    brokerages.errors.SessionExpired: 409,  # the user has to log in at the broker again
    brokerages.errors.Refused: 422,
    brokerages.errors.NotSent: 503,
    brokerages.errors.OutcomeUnknown: 502,
    marketdata.errors.UnknownInstrument: 404,
    marketdata.errors.UnknownWatchlist: 404,
    marketdata.errors.WatchlistConflict: 409,
    marketdata.errors.LimitReached: 422,
    marketdata.errors.NotAtBroker: 409,
    marketdata.errors.NoPrices: 422,
    trading.errors.TradingError: 422,
    trading.errors.MissingIdempotencyKey: 400,
    trading.errors.NotFound: 404,
    trading.errors.OrderStateConflict: 409,
    trading.errors.JournalOnly: 409,
}


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
        return _domain_answer(exc)
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


def _domain_answer(exc: Exception) -> Response | None:
    """Return the answer for an error of ours, None for one that nobody foresaw."""
    status = next((HTTP_STATUS[cls] for cls in type(exc).__mro__ if cls in HTTP_STATUS), None)
    if status is None:
        return None
    set_rollback()
    code = getattr(exc, "code", "") or re.sub(r"(?<!^)(?=[A-Z])", "_", type(exc).__name__).lower()
    headers = {}
    if wait := getattr(exc, "retry_after", None):
        headers["Retry-After"] = str(math.ceil(wait))
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    detail = dict(getattr(exc, "detail", {}))
    if advice := getattr(exc, "advice", ""):  # of a broker's error: what the user can do about it
        detail["advice"] = advice
    answer = body(code, str(exc), detail)
    return Response(answer, status=status, headers=headers)


def _code(exc: exceptions.APIException) -> str:
    found = exc.get_codes()
    return found if isinstance(found, str) else str(exc.default_code)


def _fields(detail: Any) -> dict[str, Any]:
    """Return the errors by field; ``non_field_errors`` holds those of the body as a whole."""
    return detail if isinstance(detail, dict) else {"non_field_errors": detail}


def answer(request: HttpRequest, status: HTTPStatus, code: str, message: str) -> HttpResponse:
    """Answer where DRF does not reach: ``<status>.html`` for a browser, else our JSON."""
    if wants_page(request):
        with contextlib.suppress(TemplateDoesNotExist):
            return render(request, f"{int(status)}.html", {"message": message}, status=status)
    return HttpResponse(encode(body(code, message)), status=status, content_type="application/json")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if isinstance(exception, RequestDataTooBig):
        too_large = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return answer(request, too_large, "body_too_large", "The request body is too large.")
    return answer(request, HTTPStatus.BAD_REQUEST, "bad_request", "The request is malformed.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    message = "You are not allowed to do this."
    return answer(request, HTTPStatus.FORBIDDEN, "permission_denied", message)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    message = "Nothing is found at this address."
    return answer(request, HTTPStatus.NOT_FOUND, "not_found", message)


def server_error(request: HttpRequest) -> HttpResponse:
    message = "Something went wrong on our side."
    return answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, "server_error", message)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    message = "The form was too old or came from elsewhere. Load the page again."
    return answer(request, HTTPStatus.FORBIDDEN, "csrf_failed", message)
