import argparse
from typing import Any

from django.core.management.base import BaseCommand

from audit.verification import verify


class Command(BaseCommand):
    help = "Check the audit log: exit 0 if whole, else 1 with the first broken row named."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--from", dest="first", type=int, help="first seal to check")
        parser.add_argument("--to", dest="last", type=int, help="last seal to check")

    def handle(self, *args: Any, **options: Any) -> None:
        result = verify(options["first"], options["last"])
        for finding in result.findings:
            self.stdout.write(f"BROKEN {finding.kind}: {finding.message}")
        rate = result.checked / result.seconds if result.seconds else 0.0
        self.stdout.write(
            f"checked {result.checked} entries up to seal {result.last_seq}"
            f" in {result.seconds:.2f} s ({rate:,.0f} a second);"
            f" {result.unsealed} unsealed, oldest {result.unsealed_seconds:.1f} s"
        )
        if not result.ok:
            raise SystemExit(1)
        self.stdout.write("ok")
