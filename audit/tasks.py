from celery import shared_task
from django.conf import settings

from audit import anchors, sealing

ROUNDS = 10  # of 5,000 entries: a backlog is worked off over several firings
ANCHOR_SECONDS = 300


@shared_task(name="audit.seal_entries", ignore_result=True)
def seal_entries() -> None:
    """Chain what was written, and every five minutes copy the chain's end out of the database."""
    for _ in range(ROUNDS):
        if sealing.seal() < sealing.BATCH:
            break
    anchors.anchor_if_due(getattr(settings, "AUDIT_ANCHOR_SECONDS", ANCHOR_SECONDS))
