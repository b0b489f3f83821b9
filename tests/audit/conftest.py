import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from audit.ids import uuid7
from audit.sealing import BATCH, seal
from audit.services import record


@pytest.fixture(autouse=True)
def anchor_folder(tmp_path: Path, settings: Any) -> Path:
    """Anchors of one test are none of another's business."""
    settings.VAR_DIR = tmp_path
    return tmp_path / "anchors"


def write(count: int = 1, **fields: Any) -> list[int]:
    """Write entries, each in a transaction of its own, and return their ids."""
    before = set(ids())
    for number in range(count):
        record(
            fields.get("action", "order.placed"),
            object_type="order",
            object_id=str(uuid7()),
            user_id=fields.get("user_id"),
            changes={"quantity": number, "price": "10.50"},
        )
    return sorted(set(ids()) - before)


def ids() -> list[int]:
    return [row[0] for row in sql("SELECT id FROM audit_auditentry ORDER BY id")]


def seal_ended(limit: int = BATCH) -> int:
    """Seal once every transaction that wrote an entry counts as ended.

    Transaction ids are those of the whole server: an open transaction of another test run's worker
    holds the sealer up, as it should, and ends soon.
    """
    deadline = time.monotonic() + 60
    while sql(
        "SELECT 1 FROM audit_auditentry e WHERE e.xact >= pg_snapshot_xmin(pg_current_snapshot())"
        " AND e.xact < pg_current_xact_id() LIMIT 1"
    ):
        assert time.monotonic() < deadline, "a transaction stays open"
        time.sleep(0.01)
    return seal(limit)


def sql(statement: str, *parameters: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def intruder() -> Iterator[Callable[..., list[Any]]]:
    """What a database superuser can do: the guards are off for this connection."""
    sql("SET session_replication_role = replica")
    try:
        yield sql
    finally:
        sql("SET session_replication_role = origin")
