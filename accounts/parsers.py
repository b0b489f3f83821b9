"""Forms in: as JSON is, never longer than a body may be."""

from collections.abc import Mapping
from typing import IO, Any

from django.http import HttpRequest, QueryDict
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser


class FormParser(BaseParser):
    """Reads ``application/x-www-form-urlencoded``."""

    media_type = "application/x-www-form-urlencoded"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Read the request's body; Django refuses one that is too long.

        An empty field is an empty text here, as in JSON, and not a field that was left out.

        Raises:
            ParseError: not UTF-8.
        """
        body = stream.body if isinstance(stream, HttpRequest) else stream.read()
        try:
            return dict(QueryDict(body.decode()).items())
        except UnicodeDecodeError as e:
            raise ParseError("The form is not UTF-8.") from e
