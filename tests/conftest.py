"""The test run's own servers, its closed network, and databases that are cheap to empty."""

import ipaddress
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management.commands import flush
from django.db import connections
from django.db.backends.postgresql.operations import DatabaseOperations

from config import servers

_running: list[Any] = []
BASELINE = "baseline"  # schema that keeps the rows which migrations put in


# --- Servers: a PostgreSQL and a Valkey for each worker --------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Start what the environment does not give; where pytest-xdist distributes, in its workers."""
    if not hasattr(config, "workerinput") and getattr(config.option, "numprocesses", None):
        return
    try:
        if not os.environ.get("DATABASE_URL"):
            _start(servers.Postgres(settings.VAR_DIR, durable=False))
        if not os.environ.get("REDIS_URL"):
            _start(servers.Valkey(settings.VAR_DIR, durable=False))
    except servers.ServerError as e:
        pytest_unconfigure(config)
        raise pytest.UsageError(str(e)) from e


def _start(server: Any) -> None:
    server.prepare()
    server.start()
    _running.append(server)
    server.wait()


def pytest_unconfigure(config: pytest.Config) -> None:
    while _running:
        _running.pop().stop()
    if not hasattr(config, "workerinput"):
        run_dir = Path(os.environ["SAUDA_TEST_DIR"])
        for folder in (run_dir, servers.home(run_dir), servers.socket_dir(run_dir)):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in run_dir.parent.glob("sauda-test-*"):  # of runs that were killed
            if not Path("/proc", folder.name.rpartition("-")[2]).exists():
                shutil.rmtree(folder, ignore_errors=True)


# --- Network: this machine only ------------------------------------------------------------------


class NetworkRefused(RuntimeError):
    """A test tried to leave this machine. Not an OSError, which code under test might handle."""


def _is_local(host: Any) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _guard(method: str) -> None:
    real = getattr(socket.socket, method)

    def checked(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            raise NetworkRefused(f"tests may not connect to {address}")
        return real(self, address)

    setattr(socket.socket, method, checked)


_real_getaddrinfo = socket.getaddrinfo


def _checked_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    if not _is_local(host):
        try:
            ipaddress.ip_address(
                host
            )  # a number needs no look-up; connecting to it is refused above
        except ValueError:
            raise NetworkRefused(f"tests may not look up {host}") from None
    return _real_getaddrinfo(host, *args, **kwargs)


_guard("connect")
_guard("connect_ex")
socket.getaddrinfo = _checked_getaddrinfo


# --- Transactional tests: empty the tables although the audit log forbids it ---------------------


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Keep the rows that migrations put in, so that emptying the tables can bring them back."""
    with django_db_blocker.unblock(), connections["default"].cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {BASELINE}")
        for table in _filled(
            cursor, connections["default"].introspection.django_table_names(only_existing=True)
        ):
            cursor.execute(f'CREATE TABLE IF NOT EXISTS {BASELINE}."{table}" AS TABLE "{table}"')


def _filled(cursor: Any, tables: Any) -> list[str]:
    cursor.execute(
        " UNION ALL ".join(
            f"SELECT '{t}' WHERE EXISTS (SELECT 1 FROM \"{t}\")" for t in sorted(tables)
        )
    )
    return [row[0] for row in cursor.fetchall()]


def _sql_flush(self: DatabaseOperations, style: Any, tables: Any, **options: Any) -> list[str]:
    """Delete where there are rows, with triggers and foreign keys asleep; restore the baseline."""
    if not tables:
        return []
    with self.connection.cursor() as cursor:
        filled = _filled(cursor, tables)
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [BASELINE])
        kept = [row[0] for row in cursor.fetchall() if row[0] in tables]
    return [
        # A superuser's right, and over with the transaction.
        "SET LOCAL session_replication_role = replica",
        *(f'DELETE FROM "{table}"' for table in filled),
        *(f'INSERT INTO "{table}" SELECT * FROM {BASELINE}."{table}"' for table in kept),
    ]


DatabaseOperations.sql_flush = _sql_flush  # type: ignore[method-assign]
flush.emit_post_migrate_signal = lambda *args, **kwargs: None  # what it makes is in the baseline
