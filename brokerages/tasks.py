"""Ways in for workers: one service each."""

from celery import shared_task

from brokerages.services import sessions_expire


@shared_task(name="brokerages.check_sessions")
def check_sessions() -> None:
    """End sessions whose time is over."""
    sessions_expire()
