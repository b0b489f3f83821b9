"""`run_embedded` as a user starts it: one process tree that comes up, survives and goes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
from django.conf import settings

from config import processes, servers

SECONDS = 90
RUNNING = {b"config.webserver", b"config.worker", b"run_feed", b"run_order_stream"}


class Platform:
    def __init__(self, folder):
        self.data = folder / "var"
        self.log = folder / "log.txt"
        left_out = {"DATABASE_URL", "REDIS_URL", "DATABASE_OWNER_URL", "PYTHONDONTWRITEBYTECODE"}
        self.env = {k: v for k, v in os.environ.items() if k not in left_out}
        self.env |= {"DJANGO_SETTINGS_MODULE": "config.settings.embedded"}

    def command(self):
        manage = [sys.executable, "manage.py", "run_embedded", "--port", "0"]
        return [*manage, "--data", str(self.data)]

    def start(self):
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=settings.BASE_DIR, env=self.env, stdout=log, stderr=log
            )
        return self.until(lambda: self.facts().get("pid") == self.process.pid and self.url())

    def url(self):
        return self.facts().get("url")

    def facts(self):
        try:
            return json.loads((self.data / "platform.json").read_text())
        except (OSError, ValueError):
            return {}

    def until(self, condition):
        end = time.monotonic() + SECONDS
        while not (found := condition()):
            assert time.monotonic() < end, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        return found

    def children(self):
        """Return the processes of the tree by what they run."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                environ = (entry / "environ").read_bytes()
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"VAR_DIR={self.data}".encode() in environ.split(b"\0"):
                for word in words:
                    if word in RUNNING:
                        found[word.decode()] = int(entry.name)
        return found

    def leftovers(self):
        home = servers.home(self.data)
        running = [p for name in ("postgres", "valkey") for p in processes.living_in(home / name)]
        return running + list(self.children().values())


@pytest.fixture
def platform():
    folder = Path(tempfile.mkdtemp(prefix="sauda-run-"))
    folder.chmod(0o711)
    found = Platform(folder)
    yield found
    if found.process.poll() is None:
        found.process.kill()
        found.process.wait()
    processes.end_orphans(servers.home(found.data) / "postgres", (signal.SIGINT, 5.0))
    shutil.rmtree(folder, ignore_errors=True)


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


@pytest.mark.timeout(400)
def test_life_of_an_embedded_platform(platform):
    url = platform.start()
    assert set(get(f"{url}/readyz")["parts"].values()) == {"ok"}
    first_pids = platform.until(lambda: len(found := platform.children()) == len(RUNNING) and found)

    # A second start in the same folder is told where the first one is.
    second = subprocess.run(
        platform.command(), cwd=settings.BASE_DIR, env=platform.env, capture_output=True, text=True
    )
    assert second.returncode == 2
    assert f"already running in {platform.data} at {url}" in second.stderr

    # A child that dies is started again, and callers only wait meanwhile.
    os.kill(first_pids["config.webserver"], signal.SIGKILL)
    assert get(f"{url}/readyz")["status"] == "ok"
    again = platform.until(lambda: len(found := platform.children()) == len(RUNNING) and found)
    assert again["config.webserver"] != first_pids["config.webserver"]
    assert again["config.worker"] == first_pids["config.worker"]

    # So is the database.
    postmaster = min(processes.living_in(servers.home(platform.data) / "postgres"))
    os.kill(postmaster, signal.SIGKILL)
    platform.until(lambda: get(f"{url}/health")["status"] == "ok")

    # Killed without a chance to tidy up, it takes its children along and wedges nothing.
    platform.process.kill()
    platform.process.wait()
    end = time.monotonic() + 10
    while platform.leftovers() and time.monotonic() < end:
        time.sleep(0.05)
    assert platform.leftovers() == []
    url = platform.start()
    assert get(f"{url}/readyz")["status"] == "ok"

    # Asked to stop, it stops everything, and says so.
    platform.process.send_signal(signal.SIGTERM)
    assert platform.process.wait(40) == 0
    assert "Stopped." in platform.log.read_text()
    assert platform.leftovers() == []
    assert platform.facts() == {}
