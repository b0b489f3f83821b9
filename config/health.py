"""Whether the platform is alive, ready and well, and its metrics."""

import hmac
import logging
import os
import time
from collections.abc import Callable

import redis
from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from brokerages import webhook_secrets
from config.liveness import WORKER_KEY
from config.metrics import Backlogs, Own
from config.renderers import encode
from marketdata.feed import LEASE_KEY

logger = logging.getLogger(__name__)

OK, DEGRADED, DOWN = "ok", "degraded", "down"
REDIS_SECONDS = 0.5


class _Known:
    """What needs no second look in this process."""

    migrated = False
    redis: "redis.Redis | None" = None


def database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        connection.close()
        return DOWN
    return OK


def migrations() -> str:
    """Every migration of this code is applied. Newer ones of a coming version do no harm."""
    if not _Known.migrated:
        try:
            executor = MigrationExecutor(connection)
            _Known.migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
        except DatabaseError:
            return DOWN
    return OK if _Known.migrated else DOWN


def keys() -> str:
    """The keys for credentials, codes, audit seals and webhooks are loaded."""
    needed = ("SECRET_KEY", "JWT_SIGNING_KEY", "CREDENTIAL_KEYS", "OTP_KEY", "AUDIT_KEY")
    loaded = all(getattr(settings, name, None) for name in needed)
    return OK if loaded and webhook_secrets.is_configured() else DOWN


def _redis() -> redis.Redis:
    if _Known.redis is None:
        _Known.redis = redis.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=REDIS_SECONDS, socket_timeout=REDIS_SECONDS
        )
    return _Known.redis


def redis_server() -> str:
    """Redis only wakes and caches: without it the platform is slower, not down."""
    try:
        _redis().ping()
    except (redis.RedisError, OSError):
        return DEGRADED
    return OK


def worker() -> str:
    """Some worker has done a task lately; without one orders wait."""
    return OK if cache.get(WORKER_KEY) else DEGRADED


def prices() -> str:
    """Some feed publishes prices."""
    try:
        return OK if _redis().exists(LEASE_KEY) else DEGRADED
    except (redis.RedisError, OSError):
        return DEGRADED


# Name -> check. Each returns OK, DEGRADED or DOWN and raises nothing; only words leave this module.
NEEDED: dict[str, Callable[[], str]] = {
    "database": database,
    "migrations": migrations,
    "keys": keys,
    "redis": redis_server,
}
PARTS = {**NEEDED, "worker": worker, "prices": prices}


def _judge(parts: dict[str, Callable[[], str]]) -> tuple[str, dict[str, str]]:
    found = {name: check() for name, check in parts.items()}
    worst = DOWN if DOWN in found.values() else DEGRADED if DEGRADED in found.values() else OK
    return worst, found


def _answer(body: object, status: int = 200) -> HttpResponse:
    return HttpResponse(encode(body), status=status, content_type="application/json")


@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    """The process answers. It asks nobody, or a database outage would restart everything."""
    return _answer({"status": OK})


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """200 if requests can be served, 503 if not; a lost Redis is `degraded`, which is 200."""
    worst, parts = _judge(NEEDED)
    return _answer({"status": worst, "parts": parts}, 503 if worst == DOWN else 200)


@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """The parts for people and clients; always 200 while this process can tell."""
    worst, parts = _judge(PARTS)
    return _answer(
        {
            "status": worst,
            "parts": parts,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
    )


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text, only for who sends METRICS_TOKEN as a bearer token."""
    if not settings.METRICS_PUBLIC:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        if not settings.METRICS_TOKEN or not hmac.compare_digest(
            given, settings.METRICS_TOKEN.encode()
        ):
            return _answer(
                {"error": {"code": "not_found", "message": "Nothing is found here.", "detail": {}}},
                404,
            )
    registry = CollectorRegistry()
    registry.register(Backlogs())
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        MultiProcessCollector(registry)
    else:
        registry.register(Own())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


# Asked from inside, under whatever host name: config.middleware.ProbesMiddleware.
PROBES = {"livez": livez, "readyz": readyz, "metrics": metrics}
