"""Publish the latest prices until stopped."""

import signal
import threading
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from marketdata import selectors
from marketdata.errors import BadReplayFile
from marketdata.feed import Feed
from marketdata.sources.base import DataSource
from marketdata.sources.replay import ReplaySource, first_opens, guess_names, read_recording


class Command(BaseCommand):
    help = (
        "Publish the latest prices. With --source replay, play recorded one-minute candles; "
        "the other processes must then run with DATA_SOURCE=replay."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--source", choices=["simulated", "replay"], help="default: DATA_SOURCE"
        )
        parser.add_argument("--file", type=Path, help="recorded candles, CSV; default: REPLAY_FILE")
        parser.add_argument(
            "--speed",
            type=float,
            default=float(settings.REPLAY_SPEED),
            help="times as fast as recorded; default: REPLAY_SPEED",
        )
        parser.add_argument("--loop", action="store_true", help="begin again at the end")
        parser.add_argument(
            "--map",
            action="append",
            default=[],
            metavar="PREFIX=SYMBOL",
            help="which instrument the columns PREFIX_open ... are, e.g. nifty='NSE:NIFTY 50'",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        source: DataSource | None = None
        if (options["source"] or settings.DATA_SOURCE) == "replay":
            source = self._replay(options)
        feed = Feed(source)
        self.stdout.write(f"Feed: publishing every {feed.interval * 1000:.0f} ms.")
        feed.run(stop)
        self.stdout.write("Feed: stopped.")

    def _replay(self, options: dict[str, Any]) -> ReplaySource:
        given = options["file"] or settings.REPLAY_FILE
        if not given:
            raise CommandError("a replay needs --file or REPLAY_FILE")
        path = Path(given)
        try:
            names = guess_names(first_opens(path), selectors.listings_active())
            names |= dict(_pair(text) for text in options["map"])
            recording = read_recording(path, names)
            source = ReplaySource(
                recording,
                speed=options["speed"],
                started_at=datetime.now(UTC),
                loop=options["loop"],
            )
        except (BadReplayFile, OSError) as e:
            raise CommandError(str(e)) from e
        unknown = [key for key in recording if selectors.ref_by_key(key) is None]
        if unknown:
            raise CommandError(f"not listed: {', '.join(unknown)}")
        self.stdout.write(
            f"Replay of {path.name}: {', '.join(recording)}, {len(source.minutes)} minutes."
        )
        return source


def _pair(text: str) -> tuple[str, str]:
    prefix, equals, key = text.partition("=")
    if not (prefix and equals and key):
        raise CommandError(f"--map takes PREFIX=SYMBOL, not {text!r}")
    return prefix, key
