"""A Redis cache that a lost Redis turns into misses: caching is an aid, never a condition."""

import logging
import time
from typing import Any

from django.core.cache.backends.redis import RedisCache
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

logger = logging.getLogger(__name__)
AWAY = (RedisConnectionError, RedisTimeoutError, OSError)
PAUSE = 2.0  # seconds without asking again, so that an outage does not cost a timeout per call


class TolerantRedisCache(RedisCache):
    """While Redis is away, reads miss and writes do nothing. Its other errors are raised."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        options = params.setdefault("OPTIONS", {})
        options.setdefault("socket_connect_timeout", 0.25)
        options.setdefault("socket_timeout", 0.5)
        super().__init__(server, params)
        self._asleep_until = 0.0

    def _try(self, method: str, without: Any, *args: Any, **kwargs: Any) -> Any:
        if time.monotonic() < self._asleep_until:
            return without
        try:
            return getattr(super(), method)(*args, **kwargs)
        except AWAY as e:
            self._asleep_until = time.monotonic() + PAUSE
            logger.warning("cache: Redis is away (%s)", type(e).__name__)
            return without
        except RedisError as e:
            if "LOADING" in str(e):  # starting up, still reading its file
                return without
            raise

    def add(self, *args: Any, **kwargs: Any) -> bool:
        """Without Redis: True, as if the key were new. Never a lock: PostgreSQL has those."""
        return bool(self._try("add", True, *args, **kwargs))

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        return self._try("get", default, key, default, version=version)

    def set(self, *args: Any, **kwargs: Any) -> None:
        self._try("set", None, *args, **kwargs)

    def touch(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._try("touch", False, *args, **kwargs))

    def delete(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._try("delete", False, *args, **kwargs))

    def get_many(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(self._try("get_many", {}, *args, **kwargs))

    def has_key(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._try("has_key", False, *args, **kwargs))

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Without Redis: ``delta``, as if the count began now.

        Raises:
            ValueError: Redis is there and the key is not.
        """
        return int(self._try("incr", delta, key, delta, version=version))

    def set_many(self, *args: Any, **kwargs: Any) -> list[Any]:
        return list(self._try("set_many", [], *args, **kwargs))

    def delete_many(self, *args: Any, **kwargs: Any) -> None:
        self._try("delete_many", None, *args, **kwargs)

    def clear(self) -> None:
        self._try("clear", None)
