"""The Celery application and the whole periodic schedule.

A message is only a hint: what must happen stands in a row of PostgreSQL, and a periodic task finds
what a lost message left. So every task may run twice, run late, or have its message lost.
"""

import os
import sys
from typing import Any

from celery import Celery, Task
from celery.schedules import crontab
from celery.signals import (
    after_task_publish,
    setup_logging,
    task_postrun,
    task_prerun,
    worker_process_init,
    worker_ready,
)
from kombu.entity import Queue

from config import connections, garbage, liveness
from config.env import plain_errors

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")

with plain_errors():
    from django.conf import settings
    from django.core.cache import cache
    from django.db import close_old_connections

    from config.servers import celery_url

    broker_url = celery_url(settings.REDIS_URL)

# Longer than any task may take, or Redis would hand a running task to a second worker.
VISIBILITY_SECONDS = 120
TRANSPORT = {
    "visibility_timeout": VISIBILITY_SECONDS,
    # Kombu looks for abandoned messages every interval x throttle seconds: 100 by default, 5 here.
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "health_check_interval": 10,
    "socket_keepalive": True,
    "socket_timeout": 20,
    "socket_connect_timeout": 2,
}

app = Celery("sauda", broker=broker_url, set_as_current=True)
app.set_default()  # or a retry inside a pool thread would look for an AMQP server
app.conf.update(
    broker_transport_options=TRANSPORT,
    result_backend_transport_options={"visibility_timeout": VISIBILITY_SECONDS},
    visibility_timeout=VISIBILITY_SECONDS,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,  # a worker waits for Redis for ever
    task_publish_retry=False,  # a web request does not: the outbox row is found by a sweep
    task_acks_late=True,
    task_acks_on_failure_or_timeout=True,
    task_reject_on_worker_lost=True,  # or killing a child of the pool would lose its task
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    task_time_limit=60,  # in the prefork pool only; threads rely on the timeouts of their calls
    task_soft_time_limit=45,
    worker_prefetch_multiplier=1,
    worker_max_tasks_per_child=1000,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    worker_cancel_long_running_tasks_on_connection_loss=True,
    worker_soft_shutdown_timeout=settings.WORKER_SOFT_SHUTDOWN_SECONDS,
    worker_enable_soft_shutdown_on_idle=False,  # nothing waits in a worker for its time to come
    worker_hijack_root_logger=False,
    timezone="UTC",
    enable_utc=True,
    task_default_queue="default",
    task_queues=[
        Queue(name) for name in ("orders", "webhooks", "sessions", "marketdata", "default")
    ],
    task_routes={
        "trading.apply_inbound_event": {"queue": "webhooks"},
        "trading.sweep_inbound_events": {"queue": "webhooks"},
        "trading.*": {"queue": "orders"},
        "brokerages.*": {"queue": "sessions"},
        "marketdata.*": {"queue": "marketdata"},
        "audit.*": {"queue": "default"},
        "accounts.*": {"queue": "default"},
    },
)


def every(task: str, seconds: float, **options: Any) -> dict[str, Any]:
    """Return a schedule entry. A firing that waits for three periods is dropped, not piled up."""
    return {
        "task": task,
        "schedule": seconds,
        "options": {"expires": max(3 * seconds, 5), **options},
    }


def at(task: str, times: crontab) -> dict[str, Any]:
    """Return a schedule entry for times of the day, in UTC."""
    return {"task": task, "schedule": times, "options": {"expires": 600}}


def every_minute(task: str, times: crontab) -> dict[str, Any]:
    """Return a schedule entry for the minutes of a window, in UTC; a late firing is dropped."""
    return {"task": task, "schedule": times, "options": {"expires": 60}}


# Two beats at once are harmless: each service decides by a lock or a unique row what is due.
app.conf.beat_schedule = {
    entry["task"]: entry
    for entry in [
        every("trading.sweep_commands", 1),
        every("trading.match_paper", 1),
        every("trading.reconcile_commands", 2),
        every("trading.reconcile_connections", 60),
        every("trading.deny_stale_commands", 5),
        every("trading.sweep_inbound_events", 10),
        every("brokerages.check_sessions", 60),
        every("brokerages.probe_sessions", 60),
        # 05:30 to 08:45 in India, each minute; the service knows the window too
        every_minute("brokerages.renew_sessions", crontab(hour="0-3", minute="*")),
        every("marketdata.refresh_contracts", 1800),  # cheap when nothing expired or was listed
        # due from 08:30 in India, when the brokers' lists of the day are out, until it has worked
        at("marketdata.sync_instruments", crontab(minute="*/15")),
        every("accounts.sweep_mail", 5),
        every("accounts.delete_expired", 3600),
        every("audit.seal_entries", 1),
    ]
}

# Each worker must have something to do now and then, or nobody could tell that it works.
app.conf.beat_schedule |= {
    f"canary for {queue}": every("config.canary", liveness.CANARY_SECONDS, queue=queue)
    for queue in ("default", "marketdata")
}
after_task_publish.connect(liveness.mark)


@task_postrun.connect
def _mark_work(**_: Any) -> None:
    if liveness.mark("done"):
        cache.set(liveness.WORKER_KEY, 1, liveness.WORKER_SECONDS)


# Celery would open a connection for each task, and prepare every statement anew. Ours stay with
# their threads, as in the web server, until they are old or broken.
app.conf["CELERY_DB_REUSE_MAX"] = sys.maxsize


@task_prerun.connect
@task_postrun.connect
def _drop_old_connections(task: Task, **_: Any) -> None:
    if not task.request.is_eager:
        close_old_connections()
        connections.drop_closed()


app.autodiscover_tasks()


@app.task(name="config.canary")
def canary() -> None:
    """Do nothing: that it was done is the news."""


worker_ready.connect(garbage.settle)
worker_process_init.connect(garbage.settle)


@setup_logging.connect
def _keep_our_logging(**_: Any) -> None:
    """Being connected is enough: Celery then leaves Django's logging, and its redaction, alone."""
