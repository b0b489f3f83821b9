from django.apps import AppConfig
from django.db.models.signals import post_delete, post_save


class MarketDataConfig(AppConfig):
    name = "marketdata"
    label = "marketdata"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Give the paper broker its quotes and hours, keep this process's tables in step with its
        own writes, and read a broker's instruments when the first session there opens.
        """
        from brokerages import ports
        from brokerages.events import session_opened
        from brokerages.models import BrokerConnection
        from marketdata import broker_prices, quotes, selectors, tasks

        ports.provide_quotes(quotes.quote_latest)
        ports.provide_sessions(quotes.Sessions())
        session_opened.connect(broker_prices.forget, dispatch_uid="marketdata.prices")
        session_opened.connect(tasks.when_session_opened, dispatch_uid="marketdata.instruments")
        post_save.connect(
            broker_prices.forget, sender=BrokerConnection, dispatch_uid="marketdata.prices"
        )
        for name in ("Instrument", "TradingSession"):
            model = self.get_model(name)
            post_save.connect(selectors.clear_tables, sender=model, dispatch_uid=f"tables-{name}")
            post_delete.connect(selectors.clear_tables, sender=model, dispatch_uid=f"tables+{name}")
