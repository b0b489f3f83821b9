"""Celery entry points of market data."""

import logging
from typing import Any

from celery import shared_task
from django.conf import settings
from django.utils import timezone
from kombu.exceptions import OperationalError

from brokerages.selectors import connections_with_session
from marketdata.instrument_sync import brokers_with_lists, instruments_sync, is_due
from marketdata.services import instruments_load

logger = logging.getLogger(__name__)


@shared_task(name="marketdata.refresh_contracts", ignore_result=True)
def refresh_contracts() -> None:
    """List today's contracts and retire expired ones. It writes only what differs."""
    instruments_load()


@shared_task(name="marketdata.sync_instruments", ignore_result=True)
def sync_instruments() -> None:
    """Read the list of each broker whose list of today was not read yet, and that anybody is
    logged in at.
    """
    for broker in brokers_with_lists():
        if is_due(broker, timezone.now()) and connections_with_session(broker):
            sync_instruments_of.delay(broker)


@shared_task(
    name="marketdata.sync_instruments_of", ignore_result=True, soft_time_limit=100, time_limit=110
)
def sync_instruments_of(broker: str) -> None:
    """Read one broker's list, if it is due."""
    if is_due(broker, timezone.now()):
        instruments_sync(broker)


def when_session_opened(*, broker: str, **_: Any) -> None:
    """Read the broker's list once somebody's session lets us: the first one ever, or of the day."""
    if broker not in brokers_with_lists() or not is_due(broker, timezone.now()):
        return
    if not settings.WAKE_WORKERS:
        return
    try:
        sync_instruments_of.apply_async(args=[broker], retry=False)
    except (OperationalError, OSError) as e:
        logger.warning("no wake-up to read the instruments of %s: %s", broker, e)
