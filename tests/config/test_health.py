import pytest
import redis
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.test import override_settings

from config import health, liveness
from config.celery import canary


def test_alive_without_a_database(client):
    assert client.get("/livez").json() == {"status": "ok"}


def test_ready_when_all_parts_are(client, db):
    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert set(answer.json()["parts"].values()) == {"ok"}


def test_lost_redis_is_degraded_and_still_ready(client, db, monkeypatch):
    lost = redis.Redis(unix_socket_path="/nowhere.sock")
    monkeypatch.setattr(health._Known, "redis", lost)

    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["parts"]["redis"] == "degraded"


def test_missing_worker_and_feed_show_but_do_not_stop_requests(client, db, monkeypatch):
    monkeypatch.setattr(liveness, "_marked", float("-inf"))
    cache.clear()
    without = client.get("/health").json()
    health._redis().set(health.LEASE_KEY, "feed", px=5000)
    canary.apply()
    with_both = client.get("/health").json()

    assert (without["parts"]["worker"], without["parts"]["prices"]) == ("degraded", "degraded")
    assert client.get("/readyz").json()["status"] == "ok"
    assert with_both["status"] == "ok"


def test_lost_database_is_not_ready_but_alive(client, db, monkeypatch):
    def fail():
        raise DatabaseError("gone")

    monkeypatch.setattr(connection, "cursor", fail)

    assert client.get("/readyz").status_code == 503
    assert client.get("/livez").status_code == 200
    assert client.get("/health").json()["parts"]["database"] == "down"
    assert b"gone" not in client.get("/health").content


@override_settings(BROKER_WEBHOOK_SECRET="")
def test_missing_key_is_not_ready(client, db):
    assert client.get("/readyz").status_code == 503


def test_unapplied_migration_is_not_ready(client, db, monkeypatch):
    monkeypatch.setattr(health._Known, "migrated", False)
    monkeypatch.setattr(health.MigrationExecutor, "migration_plan", lambda *a: ["one"])

    assert client.get("/readyz").status_code == 503


@pytest.mark.parametrize(
    ("token", "given", "status"),
    [
        ("m" * 32, "Bearer " + "m" * 32, 200),
        ("m" * 32, "Bearer other", 404),
        ("m" * 32, "Bearer \u00e9", 404),
        ("", "Bearer ", 404),
    ],
)
def test_metrics_are_the_operators(client, token, given, status):
    with override_settings(METRICS_PUBLIC=False, METRICS_TOKEN=token):
        assert client.get("/metrics", HTTP_AUTHORIZATION=given).status_code == status
