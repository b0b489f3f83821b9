"""Bring instruments, contracts and the calendar to what they are today. Safe to repeat."""

from typing import Any

from django.core.management.base import BaseCommand

from marketdata.services import instruments_load


class Command(BaseCommand):
    help = "Load shares, indices, today's contracts and the calendar. Safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        done = instruments_load()
        self.stdout.write(
            f"Instruments: {done.created} new, {done.changed} changed, {done.expired} expired; "
            f"{done.sessions} calendar rows written."
        )
