"""Statements that run for every order, with as little as possible between them and the driver.

Django's cursors translate placeholders and pass through seven layers each time; on the order path
that costs more than running the statement. Everything else uses the ORM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection as database
from psycopg import RawCursor

Row = tuple[Any, ...]

_NAMED = re.compile(r"%\((\w+)\)s")


class Statement:
    """One SQL statement, with ``%s`` or ``%(name)s`` for values, taken apart once.

    Values are bound by the server and the statement is prepared, as with every cursor here. It runs
    in the caller's transaction, or commits by itself where there is none.
    """

    def __init__(self, text: str) -> None:
        self.names = tuple(dict.fromkeys(_NAMED.findall(text)))
        if self.names:
            place = {name: f"${number}" for number, name in enumerate(self.names, 1)}
            self.text = _NAMED.sub(lambda found: place[found[1]], text)
        else:
            first, *rest = text.split("%s")
            self.text = first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))

    def rows(self, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """Run it and return all rows; none for a statement that returns nothing.

        Raises:
            django.db.Error: as a cursor of Django's does.
        """
        given = [values[name] for name in self.names] if isinstance(values, Mapping) else values
        database.ensure_connection()
        database.validate_no_broken_transaction()
        if database.queries_logged:
            database.queries_log.append({"sql": self.text, "time": "0"})
        with database.wrap_database_errors, RawCursor(database.connection) as cursor:
            cursor.execute(self.text, given)
            return cursor.fetchall() if cursor.description else []

    def row(self, values: Sequence[Any] | Mapping[str, Any] = ()) -> Row | None:
        """Run it and return the first row, or None."""
        found = self.rows(values)
        return found[0] if found else None
