"""The platform's own database role: rows, not tables; and the audit log only grows."""

import os
import subprocess
import sys

import psycopg
import pytest
from django.conf import settings

from config import scratch
from config.servers import SUPERUSER, postgres_url

pytestmark = pytest.mark.xdist_group("grants")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    """A database that `prepare` has made as a deployment does: for its owner, for the platform."""
    folder = tmp_path_factory.mktemp("grants")
    with pytest.MonkeyPatch.context() as patch:
        if "DATABASE_URL" not in os.environ:
            patch.setenv("DATABASE_URL", postgres_url(settings.VAR_DIR, SUPERUSER, "postgres"))
        with scratch.databases(folder, f"sauda_grants_{os.getpid()}") as (owner, role):
            env = {
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "config.settings.embedded",
                "DATABASE_URL": role,
                "DATABASE_OWNER_URL": owner,
                "VAR_DIR": str(folder),
            }
            for _ in range(2):  # a second run finds nothing to do, and does no harm
                subprocess.run(
                    [sys.executable, "manage.py", "prepare", "-v0"],
                    cwd=settings.BASE_DIR,
                    env=env,
                    check=True,
                )
            yield owner, role


ENTRIES, SEALS = "audit_auditentry", "audit_auditseal"


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE {ENTRIES} SET id = id",
        f"DELETE FROM {ENTRIES}",
        f"TRUNCATE {ENTRIES}",
        f"DELETE FROM {SEALS}",
        f"ALTER TABLE {ENTRIES} DISABLE TRIGGER ALL",
        "TRUNCATE trading_order CASCADE",
        "DROP TABLE trading_order",
        "CREATE TABLE mine (n int)",
        "DELETE FROM django_migrations",
    ],
)
def test_platforms_role_is_refused(addresses, statement):
    refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with psycopg.connect(addresses[1]) as connection, refused:
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        f"SELECT 1 FROM {ENTRIES}",
        "UPDATE trading_order SET status = status",
        "DELETE FROM django_session",
        "CREATE TEMP TABLE staging (n int)",
    ],
)
def test_platforms_role_can_do_its_work(addresses, statement):
    with psycopg.connect(addresses[1]) as connection:
        connection.execute(statement)


def test_nothing_stays_of_a_scratch_database(addresses, tmp_path, monkeypatch):
    admin = os.environ.get("DATABASE_URL") or postgres_url(settings.VAR_DIR, SUPERUSER, "postgres")
    monkeypatch.setenv("DATABASE_URL", admin)
    name = f"sauda_scratch_{os.getpid()}"
    with scratch.databases(tmp_path, name) as (owner, _):
        psycopg.connect(owner).close()

    with psycopg.connect(admin) as connection:
        found = connection.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %(name)s) "
            "UNION SELECT rolname FROM pg_roles WHERE starts_with(rolname, %(name)s)",
            {"name": name},
        )
        assert found.fetchall() == []
