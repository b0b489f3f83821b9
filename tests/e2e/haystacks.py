"""Everything that the platform leaves behind: its database, its Redis, its log."""

from __future__ import annotations

import io
import logging
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.db import connection

from config.logs import JSONFormatter, PlainFormatter, RequestIdFilter
from config.redaction import RedactionFilter
from config.servers import ServerError, find_postgres


def database() -> bytes:
    """Return the whole database as text: pg_dump's, or a copy of every table."""
    parameters = connection.get_connection_params()
    try:
        program = find_postgres() / "pg_dump"
    except ServerError:
        program = Path("/nonexistent")
    if program.is_file():
        named = {"--host": "host", "--port": "port", "--username": "user", "--dbname": "dbname"}
        options = [f"{k}={parameters[v]}" for k, v in named.items() if parameters.get(v)]
        done = subprocess.run(
            [program, "--inserts", "--no-owner", *options], capture_output=True, check=False
        )
        if done.returncode == 0:
            return done.stdout
    return b"".join(_copies())


def _copies() -> Iterator[bytes]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname = 'public'")
        for schema, table in cursor.fetchall():
            with cursor.cursor.copy(f'COPY "{schema}"."{table}" TO STDOUT') as copy:
                yield f"\n-- {table}\n".encode()
                yield from (bytes(part) for part in copy)


def redis_content() -> bytes:
    """Return every key of every database of the server, and what it holds."""
    parts: list[bytes] = []
    client = redis.Redis.from_url(settings.REDIS_URL)
    for number in range(int(client.config_get("databases")["databases"])):
        client.select(number) if hasattr(client, "select") else client.execute_command(
            "SELECT", number
        )
        pool = redis.Redis.from_url(settings.REDIS_URL, db=None)
        pool.connection_pool.connection_kwargs["db"] = number
        for key in pool.scan_iter(count=1000):
            parts += [b"\n", key, b" ", _value(pool, key)]
        pool.close()
    client.close()
    return b"".join(parts)


def _value(client: Any, key: bytes) -> bytes:
    kind = client.type(key)
    readers = {
        b"string": lambda: client.get(key),
        b"list": lambda: client.lrange(key, 0, -1),
        b"hash": lambda: client.hgetall(key),
        b"set": lambda: client.smembers(key),
        b"zset": lambda: client.zrange(key, 0, -1, withscores=True),
        b"stream": lambda: client.xrange(key),
    }
    return b" ".join(_flat(readers[kind]()))


def _flat(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _flat(list(pair))
    elif isinstance(value, list | tuple | set):
        for part in value:
            yield from _flat(part)
    elif value is not None:
        yield str(value).encode()


class Published:
    """What was published on any channel while it listened."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._client = redis.Redis.from_url(settings.REDIS_URL)
        self._listener = self._client.pubsub()
        self._listener.psubscribe("*")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._stop.is_set():
            message = self._listener.get_message(timeout=0.1)
            if message and isinstance(message["data"], bytes):
                self.parts += [message["channel"], b" ", message["data"], b"\n"]

    def __enter__(self) -> Published:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.wait(0.3)  # what is on its way arrives
        self._stop.set()
        self._thread.join(5)
        self._listener.close()
        self._client.close()

    @property
    def content(self) -> bytes:
        return b"".join(self.parts)


@contextmanager
def logs() -> Iterator[list[io.StringIO]]:
    """Collect what the log would say, in both of its forms, down to DEBUG."""
    root, streams = logging.getLogger(), [io.StringIO(), io.StringIO()]
    level, handlers = root.level, []
    for stream, formatter in zip(streams, (JSONFormatter(), PlainFormatter()), strict=True):
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        handler.addFilter(RequestIdFilter())
        handler.addFilter(RedactionFilter())
        handlers.append(handler)
        root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield streams
    finally:
        root.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)
