from django.apps import AppConfig


class WiringConfig(AppConfig):
    """The wiring: no models, only management commands and start-up."""

    name = "config"
    label = "config"

    def ready(self) -> None:
        from config import celery  # noqa: F401  # every process sends tasks through this application
