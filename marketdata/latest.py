"""The latest quote of each instrument in Redis, for sources that only one process reads, and for
the live stream.

Redis holds a cache, never the truth: when it is away writers go on and readers use what they saw
last.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from brokerages.types import Quote

logger = logging.getLogger(__name__)

QUOTES_KEY = "sauda:quotes"  # hash: instrument id -> Quote
BROKER_SECONDS = 24 * 3600
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Quote)


def connect(*, timeout: float = 1.0) -> redis.Redis:
    """Return a client of its own pool; nothing is sent before its first command."""
    client: redis.Redis = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 1),  # at once, for a connection that a restart has closed
    )
    return client


def broker_key(broker: str) -> str:
    """Return the name of the hash of the quotes that one broker gave. They never mix with others:
    what a broker quotes is the broker's, and simulated prices are not.
    """
    return f"{QUOTES_KEY}:{broker}"


class LatestQuotes:
    """Reads and writes the shared latest quotes; remembers what it read for when Redis is away."""

    def __init__(self, key: str = QUOTES_KEY) -> None:
        self.key = key
        self._client: redis.Redis | None = None
        self._seen: dict[int, Quote] = {}

    def read(self, instrument_ids: Iterable[int]) -> dict[int, Quote]:
        """Return the latest known quotes by id; ids without one are left out."""
        wanted = list(dict.fromkeys(instrument_ids))
        if not wanted:
            return {}
        try:
            bodies: list[Any] = self._redis().hmget(self.key, [str(pk) for pk in wanted])
        except redis.RedisError:
            logger.warning("Redis is away: using the quotes seen last")
            return {pk: self._seen[pk] for pk in wanted if pk in self._seen}
        found = {pk: _decoder.decode(body) for pk, body in zip(wanted, bodies, strict=True) if body}
        self._seen.update(found)
        return found

    def encoded(self, quotes: Iterable[Quote]) -> Mapping[str, bytes]:
        """Return the hash fields of quotes, for a writer that pipelines them with more."""
        return {str(quote.instrument_id): _encoder.encode(quote) for quote in quotes}

    def write(self, quotes: Iterable[Quote]) -> None:
        """Share quotes with the other processes. Without Redis only this one has them."""
        news = {quote.instrument_id: quote for quote in quotes}
        if not news:
            return
        self._seen.update(news)
        try:
            pipe = self._redis().pipeline(transaction=False)
            pipe.hset(self.key, mapping=self.encoded(news.values()))  # type: ignore[arg-type]
            pipe.expire(self.key, BROKER_SECONDS)
            pipe.execute()
        except redis.RedisError:
            logger.warning("Redis is away: the latest quotes stay in this process")

    def _redis(self) -> redis.Redis:
        if self._client is None:
            self._client = connect(timeout=0.5)
        return self._client
