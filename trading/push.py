"""Order, position and notification events to the sockets, after the commit, with a sequence.

A message is ``(user_id, channel, sequence, payload)``. The payload is ``{"order", "event"}`` on
``orders``, ``{"position"}`` with its ``id`` and ``version`` on ``positions``, ``{"notification"}``
on ``notifications``. A push is a hint: what is lost here, sockets read again from the database.
So losing Redis costs an order at most a tenth of a second, once a second.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import transaction
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.connection import ConnectionInterface
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from marketdata.channels import channel_name

logger = logging.getLogger(__name__)

Message = tuple[UUID, str, int, Mapping[str, Any]]

CHANNEL = "sauda:users"
TIMEOUT = 0.1  # seconds for each step of a publish
PAUSE = 1.0  # seconds without another try after a failure; then one thread tries

# msgspec writes a Decimal as str() does, which is "1E+2" for some. Those take the slow road.
_EXPONENT = re.compile(rb'"-?\d(?:\.\d+)?E[+-]\d+"')
_encoder = msgspec.json.Encoder(enc_hook=str)


def publish_on_commit(messages: Iterable[Message]) -> None:
    """Publish when the caller's transaction commits; nothing leaves if it rolls back.

    Messages of one transaction go out together, in the order of the calls.
    """
    connection = transaction.get_connection()
    if not connection.in_atomic_block:
        publish(messages)
        return
    # A batch that was registered inside all savepoints open now has the fate of these messages.
    open_now = set(connection.savepoint_ids)
    for savepoints, waiting, _ in reversed(connection.run_on_commit):
        if isinstance(waiting, _Batch) and open_now <= savepoints:
            waiting.messages.extend(messages)
            return
    transaction.on_commit(_Batch(messages))


def publish(messages: Iterable[Message]) -> None:
    """Publish now, in one command. Never raises; what cannot be sent is dropped."""
    try:
        if batch := list(messages):
            _publisher().publish(encode(batch))
    except Exception:
        logger.exception("push: not published")


class _Batch:
    """A commit hook that later messages of the same transaction can join."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self.messages = list(messages)

    def __call__(self) -> None:
        publish(self.messages)


def encode(value: Any) -> bytes:
    """Return the value as JSON: amounts are plain decimal strings, times ISO 8601."""
    body = _encoder.encode(value)
    return _encoder.encode(_plain(value)) if _EXPONENT.search(body) else body


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value


class Publisher:
    """Publishes on one connection per thread, and stops trying for a while when Redis is away."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._channel = channel_name(CHANNEL, url).encode()
        self._pool = ConnectionPool.from_url(
            url,
            socket_connect_timeout=TIMEOUT,
            socket_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # no greeting: a new connection costs no further round trip
            driver_info=None,
        )
        self._local = threading.local()
        self._away = False
        self._asleep_until = 0.0

    def publish(self, body: bytes) -> bool:
        """Publish once; return whether Redis took it. An absent Redis raises nothing."""
        if self._away:
            now = time.monotonic()
            if now < self._asleep_until:
                return False
            self._asleep_until = now + PAUSE  # this thread tries; the others go on without
        try:
            self.ask(b"PUBLISH", self._channel, body)
        except (RedisError, OSError) as e:
            self._asleep_until = time.monotonic() + PAUSE
            if not self._away:
                logger.warning("push: Redis is away (%s)", type(e).__name__)
            self._away = True
            return False
        self._away = False
        return True

    def ask(self, *words: bytes) -> Any:
        """Ask Redis on this thread's connection. No layer of the library: they cost more than that.

        Raises:
            RedisError, OSError: there is no answer.
        """
        parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
        command = b"*%d\r\n%b" % (len(words), b"".join(parts))
        connection: ConnectionInterface | None = getattr(self._local, "connection", None)
        if connection is not None:
            try:
                return _exchange(connection, command)
            except RedisConnectionError:
                pass  # closed since its last use, as by a restart: one new connection
        connection = self._local.connection = self._pool.make_connection()
        return _exchange(connection, command)


def _exchange(connection: ConnectionInterface, command: bytes) -> Any:
    try:
        connection.send_packed_command([command])  # connects first where it has to
        return connection.read_response()
    except (RedisError, OSError):
        connection.disconnect()
        raise


def ask(*words: bytes) -> Any:
    """Ask the platform's Redis one thing, in a tenth of a second. Raises as ``Publisher.ask``."""
    return _publisher().ask(*words)


_current: Publisher | None = None


def _publisher() -> Publisher:
    global _current  # noqa: PLW0603
    if _current is None or _current.url != settings.REDIS_URL:
        _current = Publisher(settings.REDIS_URL)
    return _current


def _forget() -> None:
    global _current  # noqa: PLW0603
    _current = None


os.register_at_fork(after_in_child=_forget)  # a forked worker must not share its parent's socket
