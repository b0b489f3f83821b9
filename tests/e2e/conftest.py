"""A whole platform of the tests' own, and a browser in front of it."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from config.demo.platform import Platform
from tests.e2e import browser_binary

PATIENCE = 15.0
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
SCREENSHOTS = Path(__file__).resolve().parents[2] / "docs" / "screenshots"


class LivePlatform:
    """Where it answers, and the mails that it sent."""

    def __init__(self, platform: Platform) -> None:
        self.url, self.mail_folder = platform.url, platform.mail_folder
        self.last_words = platform.last_words

    def mailed_code(self, email: str, subject: str, *, among: int = 1) -> str:
        """Return the six digits of the newest of at least ``among`` mails to an address."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            found = [mail for mail in self._mails(email) if subject in str(mail["subject"])]
            if len(found) >= among:
                body = found[-1].get_body(("plain",))
                assert body is not None
                code = re.search(r"(?<!\d)\d{6}(?!\d)", body.get_content())
                assert code, body.get_content()
                return code[0]
            time.sleep(0.1)
        raise AssertionError(f"no mail {subject!r} to {email}")

    def _mails(self, email: str) -> list[Any]:
        paths = sorted(self.mail_folder.glob("*.eml"))
        mails = [message_from_bytes(path.read_bytes(), policy=policy.default) for path in paths]
        return [mail for mail in mails if email in str(mail["to"])]


@pytest.fixture(scope="session")
def live_platform() -> Iterator[LivePlatform]:
    """Start every process of the platform: servers, web, worker, feed."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    platform = Platform({"PAPER_LATENCY_MS": "150", "ACCESS_TOKEN_MINUTES": "10"})
    try:
        with platform:
            try:
                platform.start()
            except Exception as e:
                raise AssertionError(f"{e}\n{platform.last_words()}") from e
            yield LivePlatform(platform)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the browser that this machine has, or gets; see `browser_binary`.

    Not for longer than its module: Playwright keeps an event loop running in this thread, beside
    which no other test could run one.
    """
    binary = browser_binary.find()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=binary.path,
            args=list(browser_binary.ARGUMENTS),
            env={**os.environ, **binary.env},
        )
        yield started
        started.close()


class Visitor:
    """One browser window, what went wrong in it, and where its screenshots go."""

    def __init__(self, context: BrowserContext, folder: Path, name: str) -> None:
        self.context, self.folder, self.name = context, folder, name
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.problems: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")

    def shot(self, step: str) -> None:
        self.page.screenshot(path=self.folder / f"{self.name}-{step}.png", animations="disabled")


@pytest.fixture
def visitor(
    browser: Browser, live_platform: LivePlatform, tmp_path: Path
) -> Iterator[Callable[..., Visitor]]:
    """Open windows; at the end none may have complained."""
    opened: list[Visitor] = []
    folder = SCREENSHOTS if os.environ.get("UPDATE_SCREENSHOTS") == "1" else tmp_path

    def open_window(
        name: str = "window", *, phone: bool = False, scheme: str = "light", **options: Any
    ) -> Visitor:
        context = browser.new_context(
            base_url=live_platform.url,
            viewport=PHONE if phone else DESKTOP,  # type: ignore[arg-type]
            color_scheme=scheme,  # type: ignore[arg-type]
            has_touch=phone,
            is_mobile=phone,
            locale="en-IN",
            **options,
        )
        opened.append(Visitor(context, folder, name))
        return opened[-1]

    yield open_window
    for window in opened:
        window.context.close()
    sys.stdout.write(live_platform.last_words())  # shown with a test that failed
