"""Read a broker's instrument list now, through an open session of any of its users."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketdata.instrument_sync import brokers_with_lists, instruments_sync, summary
from marketdata.models import InstrumentSync


class Command(BaseCommand):
    help = "Read a broker's instrument list and bring instruments to it. Safe to repeat."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("broker", help="A broker that has a list, e.g. zerodha.")

    def handle(self, *args: Any, broker: str, **options: Any) -> None:
        if broker not in (known := brokers_with_lists()):
            raise CommandError(f"Brokers with a list: {', '.join(known) or 'none'}.")
        run = instruments_sync(broker)
        if run is None:
            raise CommandError("Another process is reading this list.")
        if run.state != InstrumentSync.State.DONE:
            raise CommandError(summary(run))
        self.stdout.write(f"{broker}: {summary(run)}.")
        for reason, names in sorted(run.report["examples"].items()):
            self.stdout.write(f"  {reason}: {', '.join(names)}")
