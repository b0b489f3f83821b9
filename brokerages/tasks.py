"""Ways in for workers: one service each."""

from celery import shared_task

from brokerages.services import sessions_expire
from brokerages.services.logins import logins_delete_old
from brokerages.services.renewals import (
    CHUNK,
    renewals_close,
    renewals_plan,
    renewals_run,
    sessions_probe,
)

MOST_CHUNKS = 200  # sent in one firing; the next one, a minute later, sends more


@shared_task(name="brokerages.check_sessions")
def check_sessions() -> None:
    """End sessions whose time is over, and renewals whose window is."""
    sessions_expire()
    renewals_close()
    logins_delete_old()


@shared_task(name="brokerages.probe_sessions")
def probe_sessions() -> None:
    """Ask brokers about sessions that nothing has proved for a while."""
    sessions_probe()


@shared_task(name="brokerages.renew_sessions")
def renew_sessions() -> None:
    """Put down what is to be renewed today, and hand out what is due in chunks. A message that is
    lost is sent again a minute later; one too many finds nothing to do.
    """
    due = renewals_plan()
    for _ in range(min(-(-due // CHUNK), MOST_CHUNKS)):
        renew_chunk.apply_async(expires=60)


@shared_task(name="brokerages.renew_chunk")
def renew_chunk() -> None:
    """Renew a chunk of the sessions that are due."""
    renewals_run()
