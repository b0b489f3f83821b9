"""Numbers about webhooks for Prometheus. No connection or order is a label: they have no end."""

from prometheus_client import CollectorRegistry, Counter, Histogram

REGISTRY = CollectorRegistry()

DELIVERIES = Counter(
    "sauda_webhooks", "Webhooks answered", ["source", "outcome"], registry=REGISTRY
)
SIGNED_WITH = Counter(
    "sauda_webhooks_signed_with",
    "Webhooks by the secret that signed them: its place in the list and its fingerprint",
    ["secret"],
    registry=REGISTRY,
)
SECONDS = Histogram(
    "sauda_webhook_seconds",
    "Time to answer a webhook",
    registry=REGISTRY,
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.3, 1.0, 5.0),
)
