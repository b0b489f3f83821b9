"""JSON in: strict, and exact for numbers."""

from collections.abc import Mapping
from decimal import Decimal
from typing import IO, Any

import msgspec
from django.conf import settings
from django.http import HttpRequest
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

_decoder = msgspec.json.Decoder(float_hook=Decimal)


class BodyTooLarge(APIException):
    """The body is longer than DATA_UPLOAD_MAX_MEMORY_SIZE."""

    status_code = 413
    default_code = "body_too_large"
    default_detail = "The request body is too large."


def decode(body: bytes) -> Any:
    """Read JSON; numbers with a fraction or an exponent become ``Decimal``.

    Raises:
        ParseError: not UTF-8, not JSON (NaN and Infinity are not), nested too deep, or holding the
            character NUL, which PostgreSQL cannot store.
    """
    try:
        value = _decoder.decode(body)
    except UnicodeDecodeError as e:
        raise ParseError("The body is not UTF-8.") from e
    except (msgspec.DecodeError, ValueError, ArithmeticError) as e:
        raise ParseError(f"Malformed JSON: {e}") from e
    except RecursionError as e:
        raise ParseError("The JSON is nested too deep.") from e
    if b"\\u0000" in body:
        raise ParseError("The character \\u0000 is not allowed.")
    return value


class JSONParser(BaseParser):
    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Read the request's body.

        Raises:
            ParseError: see ``decode``.
            BodyTooLarge: answered with 413.
        """
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        # The request keeps what it has read, so that `request.body` works afterwards too.
        if isinstance(stream, HttpRequest):
            if int(stream.META.get("CONTENT_LENGTH") or 0) > limit:
                raise BodyTooLarge
            return decode(stream.body)
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise BodyTooLarge
        return decode(body)
