"""The platform's numbers for Prometheus. No user, order or symbol is a label: they have no end."""

from collections.abc import Iterator

from django.db import DatabaseError, connection
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import brokerages.metrics

REGISTRY = CollectorRegistry()

REQUESTS = Counter("sauda_http_requests", "Answers given", ["method", "status"], registry=REGISTRY)
SECONDS = Histogram(
    "sauda_http_seconds",
    "Time to answer",
    registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0),
)

# Each query gives rows of (state, count, seconds since the oldest), from an index.
BACKLOGS = {
    "commands": (
        "Requests owed to brokers that are not settled",
        "SELECT state, count(*), extract(epoch FROM now() - min(created_at)) "
        "FROM trading_ordercommand WHERE state = 'WAITING' GROUP BY state UNION ALL "
        "SELECT state, count(*), extract(epoch FROM now() - min(claimed_at)) "
        "FROM trading_ordercommand WHERE state IN ('SENDING', 'UNKNOWN') GROUP BY state",
    ),
    "inbound_events": (
        "Webhooks that wait or were given up",
        "SELECT state, count(*), extract(epoch FROM now() - min(received_at)) "
        "FROM brokerages_inboundevent WHERE state IN ('NEW', 'PARKED') GROUP BY state UNION ALL "
        "SELECT 'DEAD', count(*), extract(epoch FROM now() - min(received_at)) "
        "FROM brokerages_inboundevent WHERE state = 'DEAD' HAVING count(*) > 0",
    ),
    "audit_entries": (
        "Audit entries after the last seal",
        "WITH last AS (SELECT xact, entry_id FROM audit_auditseal ORDER BY seq DESC LIMIT 1) "
        "SELECT 'unsealed', count(*), extract(epoch FROM now() - min(at)) FROM audit_auditentry "
        "WHERE (xact, id) > (coalesce((SELECT xact FROM last), '0'::xid8), "
        "coalesce((SELECT entry_id FROM last), 0)) HAVING count(*) > 0",
    ),
}


class Backlogs(Collector):
    """What waits in the database, read when asked."""

    def collect(self) -> Iterator[Metric]:
        for name, (text, query) in BACKLOGS.items():
            count = GaugeMetricFamily(f"sauda_{name}", text, labels=["state"])
            age = GaugeMetricFamily(
                f"sauda_{name}_oldest_seconds", f"{text}: age", labels=["state"]
            )
            try:
                with connection.cursor() as cursor:
                    cursor.execute(query)
                    for state, number, seconds in cursor.fetchall():
                        count.add_metric([state], number)
                        age.add_metric([state], float(seconds))
            except DatabaseError:
                continue  # the rest is still worth knowing; /readyz tells of the database
            yield count
            yield age

    def describe(self) -> list[Metric]:
        return []  # registering must not ask the database


class Own(Collector):
    """The numbers of this process alone."""

    def collect(self) -> Iterator[Metric]:
        yield from REGISTRY.collect()
        yield from brokerages.metrics.REGISTRY.collect()
