from django.apps import AppConfig
from django.core.signals import request_started

from config import connections


class WiringConfig(AppConfig):
    """The wiring: no models, only management commands and start-up."""

    name = "config"
    label = "config"

    def ready(self) -> None:
        from config import celery  # noqa: F401  # every process sends tasks through this application

        request_started.connect(connections.drop_closed, dispatch_uid="config.drop_closed")
