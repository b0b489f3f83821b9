from typing import Any

from django.core.management.base import BaseCommand

from audit.anchors import anchor_write


class Command(BaseCommand):
    help = "Copy the end of the audit chain, signed, to a file outside the database."

    def handle(self, *args: Any, **options: Any) -> None:
        anchor = anchor_write()
        if anchor is None:
            self.stdout.write("nothing is sealed yet")
            return
        self.stdout.write(f"seal {anchor.seq} {anchor.hash} -> {anchor.where}")
