from typing import Any

from django.core.management.base import BaseCommand

from audit.sealing import BATCH, seal


class Command(BaseCommand):
    help = "Seal every entry whose transaction has ended, as workers do each second."

    def handle(self, *args: Any, **options: Any) -> None:
        total = 0
        while True:
            sealed = seal()
            total += sealed
            if sealed < BATCH:
                break
        self.stdout.write(f"sealed {total}")
