from django.apps import AppConfig


class TradingConfig(AppConfig):
    name = "trading"
    label = "trading"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Have the webhooks that `brokerages` takes in change orders, and its users notified."""
        from brokerages import ports
        from brokerages.events import inbound_event_stored
        from trading.services.inbound import event_stored
        from trading.services.notifications import user_notify

        ports.provide_notifier(user_notify)

        inbound_event_stored.connect(event_stored, dispatch_uid="trading.inbox")
