"""A throw-away database and Redis on whatever servers there are, for runs that need real ones.

Those of DATABASE_URL and REDIS_URL, else the machine's own on loopback, else the embedded ones
(with ``own`` these at once: a measurement must know how its servers are set up). Nothing that was
there before is touched, and nothing of ours stays.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis
from psycopg import sql

from config import servers
from config.env import ConfigurationError, postgres_settings

MACHINE_POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"
MACHINE_REDIS = "redis://127.0.0.1:6379"
REDIS_NUMBERS = range(14, 0, -2)  # pairs: queue and cache


@contextlib.contextmanager
def databases(folder: Path, name: str, *, own: bool = False) -> Iterator[tuple[str, str]]:
    """Give the addresses of a new database for its owner and for the platform's role.

    Raises:
        ConfigurationError: DATABASE_URL's role may not make databases and roles.
    """
    with _postgres(folder, own=own) as admin:
        owner, role, password = f"{name}_owner", f"{name}_app", secrets.token_urlsafe(24)
        try:
            with psycopg.connect(admin, autocommit=True) as connection:
                for each in (owner, role):
                    connection.execute(
                        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                            sql.Identifier(each), sql.Literal(password)
                        )
                    )
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(
                        sql.Identifier(name), sql.Identifier(owner)
                    )
                )
        except psycopg.Error as e:
            raise ConfigurationError(f"Cannot make a database for this run: {e}") from e
        try:
            yield _address(admin, owner, password, name), _address(admin, role, password, name)
        finally:
            with psycopg.connect(admin, autocommit=True) as connection:
                connection.execute(
                    sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
                )
                for each in (owner, role):
                    connection.execute(
                        sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(each))
                    )


@contextlib.contextmanager
def redis_pair(folder: Path, *, own: bool = False) -> Iterator[str]:
    """Give the address of an empty Redis database with another empty one behind it."""
    server = None
    url = os.environ.get("REDIS_URL") or ("" if own else _free_pair())
    if not url:
        server = servers.Valkey(folder)
        server.prepare()
        server.start()
        server.wait()
        url = servers.redis_url(folder)
    try:
        yield url
    finally:
        for further in (0, 1):
            with redis.Redis.from_url(servers.redis_database(url, further)) as client:
                client.flushdb()
        if server:
            server.stop()


@contextlib.contextmanager
def _postgres(folder: Path, *, own: bool) -> Iterator[str]:
    """Give the address of an administrator's database on the server to use."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
        return
    if not own:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(MACHINE_POSTGRES, connect_timeout=2).close()
            yield MACHINE_POSTGRES
            return
    server = servers.Postgres(folder)
    server.prepare()
    server.start()
    try:
        server.wait()
        yield servers.postgres_url(folder, servers.SUPERUSER, "postgres")
    finally:
        server.stop()


def _free_pair() -> str:
    """Return the address of two neighbouring databases of the machine's Redis that hold nothing."""
    for number in REDIS_NUMBERS:
        url = f"{MACHINE_REDIS}/{number}"
        try:
            found = [redis.Redis.from_url(servers.redis_database(url, n)).dbsize() for n in (0, 1)]
        except redis.RedisError:
            return ""
        if not any(found):
            return url
    return ""


def _address(admin: str, role: str, password: str, name: str) -> str:
    parts = urlsplit(admin)
    host = parts.netloc.rpartition("@")[2]
    postgres_settings(admin)  # its form is checked here
    return urlunsplit(parts._replace(netloc=f"{role}:{password}@{host}", path=f"/{name}"))
