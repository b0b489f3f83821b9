"""The embedded worker: all queues in threads of one process, and the schedule in one more thread.

`celery worker -B` would fork a process for the schedule, which survives a kill of its worker.
"""

import sys
import warnings

from celery.beat import EmbeddedService
from celery.platforms import SecurityWarning
from django.conf import settings

from config.celery import app

THREADS = 8


def main() -> int:
    # Of running as root, which matters where messages are pickles; ours are JSON.
    warnings.simplefilter("ignore", SecurityWarning)
    worker = app.Worker(
        pool_cls="threads",
        concurrency=THREADS,
        hostname="embedded@localhost",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel=settings.LOG_LEVEL,
        quiet=True,
    )
    schedule = EmbeddedService(
        app, thread=True, schedule_filename=str(settings.VAR_DIR / "schedule")
    )
    schedule.start()
    worker.start()
    schedule.stop()
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main())
