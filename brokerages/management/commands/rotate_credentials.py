"""Re-encrypt broker secrets with the first key of CREDENTIAL_KEYS; then the older keys can go."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from brokerages.services.rotation import credentials_remaining, credentials_rotate


class Command(BaseCommand):
    help = (
        "Re-encrypts stored broker secrets and session tokens with the first key of "
        "CREDENTIAL_KEYS. Can be interrupted and run again, while the platform runs."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--batch", type=int, default=500, help="Rows per transaction.")

    def handle(self, *args: Any, batch: int, **options: Any) -> None:
        if batch < 1:
            raise CommandError("--batch must be at least 1.")
        moved = unreadable = 0
        for progress in credentials_rotate(batch=batch):
            moved, unreadable = moved + progress.moved, unreadable + progress.unreadable
        remaining = credentials_remaining()
        self.stdout.write(f"{moved} moved, {unreadable} unreadable, {remaining} on older keys")
        if remaining:
            raise CommandError("Some secrets still need an older key: keep it, and run this again.")
