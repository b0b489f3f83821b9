"""Follow what brokers push of orders, until stopped."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from trading.services.order_streams import OrderStreams


class Command(BaseCommand):
    help = (
        "Keep the order streams of all users' broker sessions, and apply what comes. Any number "
        "may run: they share the connections among them, and take over from one that ends."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        self.stdout.write("Order streams: following.")
        OrderStreams().run(stop)
        self.stdout.write("Order streams: stopped.")
