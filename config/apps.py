from django.apps import AppConfig


class WiringConfig(AppConfig):
    """The wiring: no models, only management commands and start-up."""

    name = "config"
    label = "config"
