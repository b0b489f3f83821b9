"""Show the platform: a client's whole trading day against the paper broker, in a minute."""

import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.demo.brokers import trading_days
from config.demo.client import Api
from config.demo.platform import Platform
from config.demo.replay import recorded_day
from config.demo.report import Failed, Report
from config.demo.run import Run, Step
from config.demo.scenario import TRADING_DAY


class Command(BaseCommand):
    help = (
        "Start a fresh platform in a temporary folder (or use --url) and take it through the life "
        "of a trader over HTTP and WebSocket; every answer and every figure is checked."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", help="a running platform instead of a fresh one")
        parser.add_argument(
            "--mail-folder", type=Path, help="where the platform at --url writes its mails"
        )
        parser.add_argument("--replay", type=Path, help="recorded candles (CSV) to trade on")
        parser.add_argument("--speed", type=int, default=60, help="of the replay; 60 or more")
        parser.add_argument(
            "--brokers",
            choices=["emulated"],
            help="trade at emulated Zerodha, Upstox and Groww instead of the paper broker",
        )
        parser.add_argument("--session", choices=["always", "exchange"], default="always")

    def handle(self, *args: Any, **options: Any) -> None:
        _refuse_impossible(options)
        signal.signal(signal.SIGTERM, _interrupt)
        started, report = time.perf_counter(), Report(self.stdout)  # type: ignore[arg-type]
        try:
            with ExitStack() as stack:
                self._run(stack, report, options)
        except Failed:
            raise SystemExit(f"demo: FAILED at step {report.steps + 1}") from None
        except KeyboardInterrupt:
            raise SystemExit("demo: stopped") from None
        seconds = time.perf_counter() - started
        report.say(f"\ndemo: OK ({report.steps} steps) in {seconds:.1f} s")

    def _run(self, stack: ExitStack, report: Report, options: dict[str, Any]) -> None:
        url, mail_folder, platform = options["url"], options["mail_folder"], None
        if url is None:
            platform = self._start(stack, report, options)
            url, mail_folder = platform.url, platform.mail_folder
        run = Run(Api(url), platform=platform, mail_folder=mail_folder)
        stack.callback(run.close)
        steps: tuple[tuple[str, Step], ...] = TRADING_DAY
        if options["replay"]:
            steps = recorded_day(options["replay"], options["speed"])
        if options["brokers"] and platform:
            steps = trading_days(platform.brokers)
        for title, step in steps:
            report.run(title, lambda step=step: step(run))  # type: ignore[misc]

    def _start(self, stack: ExitStack, report: Report, options: dict[str, Any]) -> Platform:
        # Enough to buy up the displayed book of a share on margin.
        environment = {"SIMULATED_SESSION": options["session"], "PAPER_STARTING_CASH": "10000000"}
        if options["replay"]:
            environment |= {
                "DATA_SOURCE": "replay",
                "REPLAY_FILE": str(options["replay"].absolute()),
                "REPLAY_SPEED": str(options["speed"]),
            }
        arguments = ("--brokers", options["brokers"]) if options["brokers"] else ()
        platform = stack.enter_context(Platform(environment, *arguments))
        stack.push(_show_log(platform, report))

        def start() -> str:
            platform.start()
            return platform.url

        report.run("Start a fresh platform", start)
        return platform


def _show_log(platform: Platform, report: Report) -> Any:
    """Return an exit function that shows the platform's own words after a failure."""

    def exit_(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, Failed):
            words = platform.last_words()
            report.say(f"\nThe platform's last lines:\n{words}\n" if words else "")

    return exit_


def _refuse_impossible(options: dict[str, Any]) -> None:
    if options["url"] and urlsplit(options["url"]).scheme not in {"http", "https"}:
        raise CommandError("--url must start with http:// or https://")
    if options["mail_folder"] and not options["url"]:
        raise CommandError("--mail-folder belongs to --url")
    if options["brokers"] and (options["url"] or options["replay"]):
        raise CommandError("--brokers starts a platform of its own: without --url and --replay")
    if options["replay"] and not options["replay"].is_file():
        raise CommandError(f"no such file: {options['replay']}")
    if options["replay"] and options["speed"] < 60:
        raise CommandError("--speed must be 60 or more")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
