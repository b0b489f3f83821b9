"""Celery entry points of market data."""

from celery import shared_task

from marketdata.services import instruments_load


@shared_task(name="marketdata.refresh_contracts", ignore_result=True)
def refresh_contracts() -> None:
    """List today's contracts and retire expired ones. It writes only what differs."""
    instruments_load()
