from django.apps import AppConfig


class BrokeragesConfig(AppConfig):
    name = "brokerages"
    label = "brokerages"
    default_auto_field = "django.db.models.BigAutoField"
