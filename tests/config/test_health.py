import os
import subprocess
import sys

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
    monkeypatch.setattr(liveness, "_marked", {})
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
def test_metrics_are_the_operators(client, db, token, given, status):
    with override_settings(METRICS_PUBLIC=False, METRICS_TOKEN=token):
        assert client.get("/metrics", HTTP_AUTHORIZATION=given).status_code == status


def test_metrics_count_answers_and_what_waits(client, db):
    client.get("/health")
    client.generic("INVENTED", "/health")

    text = client.get("/metrics").content.decode()

    assert 'sauda_http_requests_total{method="GET",status="200"}' in text
    assert 'method="other"' in text
    assert "INVENTED" not in text
    assert "sauda_http_seconds_bucket" in text
    assert "# TYPE sauda_commands gauge" in text
    assert "# TYPE sauda_audit_entries_oldest_seconds gauge" in text


def test_metrics_of_several_processes_are_added_up(tmp_path):
    program = (
        "import os, django; django.setup()\n"
        "from config import metrics\n"
        "metrics.REQUESTS.labels('GET', 200).inc()\n"
        "from prometheus_client import CollectorRegistry, generate_latest\n"
        "from prometheus_client.multiprocess import MultiProcessCollector\n"
        "found = CollectorRegistry(); MultiProcessCollector(found)\n"
        "print(generate_latest(found).decode())\n"
    )
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
        )

    assert 'sauda_http_requests_total{method="GET",status="200"} 2.0' in done.stdout
