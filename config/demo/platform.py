"""A fresh platform of the demo's own: started in a temporary folder, gone without a trace after."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from django.conf import settings

from config import processes, servers
from config.demo.report import Failed

START_SECONDS = 90.0
STOP_SECONDS = 30.0
LOG_LINES = 40


class Platform:
    """``run_embedded`` on a free port, as a context."""

    def __init__(self, environment: Mapping[str, str], *arguments: str) -> None:
        self._environment, self._arguments = environment, arguments
        self.url = ""
        self.brokers: dict[str, dict[str, str]] = {}  # emulated ones: what connects to each
        self.mail_folder = Path()

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="sauda-demo-"))
        self.folder.chmod(0o711)  # PostgreSQL may run as another user below it
        self.data, self.log = self.folder / "var", self.folder / "platform.log"
        self._env = {
            # Nothing of an installation that this shell may be set up for.
            **{k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")},
            **self._environment,
            "DJANGO_SETTINGS_MODULE": "config.settings.embedded",
            "VAR_DIR": str(self.data),
        }
        self._output = self.log.open("wb")
        self._child: subprocess.Popen[bytes] | None = None
        return self

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            Failed: it ended, or did not answer in time.
        """
        command = [*self._manage(), "run_embedded", "--port", "0", "--data", str(self.data)]
        command += self._arguments
        self._child = processes.start(command, env=self._env, output=self._output)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self._child.poll() is not None:
                raise Failed("a platform that starts", f"exit code {self._child.returncode}")
            facts = self._facts()
            if "url" in facts:
                self.url, self.mail_folder = facts["url"], Path(facts["mail"])
                self.brokers = facts.get("brokers", {})
                return
            time.sleep(0.05)
        raise Failed("a platform that starts", f"no answer within {START_SECONDS:.0f} s")

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a management command on the same data."""
        return subprocess.run(  # noqa: S603
            [*self._manage(), *arguments],
            env=self._env,
            capture_output=True,
            text=True,
            timeout=STOP_SECONDS,
            check=False,
        )

    def last_words(self) -> str:
        """Return the end of what the platform printed."""
        self._output.flush()
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])

    def __exit__(self, *_: object) -> None:
        # Ending takes seconds; a second Ctrl-C must not leave half of it behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if self._child is not None:
            processes.end(self._child, (signal.SIGTERM, STOP_SECONDS))
        self._output.close()
        for folder in (servers.socket_dir(self.data), servers.home(self.data), self.folder):
            shutil.rmtree(folder, ignore_errors=True)

    def _facts(self) -> dict[str, Any]:
        try:
            found = json.loads((self.data / "platform.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @staticmethod
    def _manage() -> list[str]:
        return [sys.executable, str(settings.BASE_DIR / "manage.py")]
