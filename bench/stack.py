"""The platform as in production, for a while: a database of its own and every process."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench.paths import HOST
from config import processes, scratch, secretfile

ROOT = Path(__file__).resolve().parent.parent
STARTED = ("web", "stream", "worker-io", "worker-cpu", "beat", "feed")
START_SECONDS = 60.0


class CannotStart(Exception):
    """A server or process is missing; the message says which."""


@dataclass
class Stack:
    """Everything that runs; ``environment`` is what its processes were given."""

    dsn: str
    address: tuple[str, int]
    environment: dict[str, str]
    folder: Path
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, command: list[str]) -> None:
        with open(self.folder / f"{name}.log", "ab") as output:
            self.children[name] = processes.start(
                command, cwd=ROOT, env=self.environment, output=output
            )

    def run(self, *arguments: str, **env: str) -> str:
        """Run one of our programs with the stack's settings and return what it printed.

        Raises:
            CannotStart: it failed.
        """
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment | env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CannotStart(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
        return done.stdout

    def stop(self) -> None:
        for child in reversed(self.children.values()):
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
        for child in reversed(self.children.values()):
            processes.end(child, (signal.SIGTERM, 8.0))

    def alive(self) -> None:
        """Raise if a process has ended.

        Raises:
            CannotStart: naming it.
        """
        for name, child in self.children.items():
            if child.poll() is not None:
                log = (self.folder / f"{name}.log").read_text(errors="replace")
                raise CannotStart(f"{name} ended with {child.returncode}:\n{log[-3000:]}")

    def memory(self) -> dict[str, float]:
        """Return the PSS in MB of each process; of the largest where a name has several."""
        return {
            name: max((_pss(pid) for pid in _family(child.pid)), default=0.0)
            for name, child in self.children.items()
        }

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds that each process, with its children, and PostgreSQL have used."""
        found = {
            name: sum(_cpu(pid) for pid in _family(child.pid))
            for name, child in self.children.items()
        }
        found["postgres"] = sum(_cpu(pid) for pid in self._backends())
        return found

    def _backends(self) -> list[int]:
        """Return the server processes of our database, where they run on this machine."""
        mark = f" {self.dsn.rpartition('/')[2].partition('?')[0]} ".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if command.startswith(b"postgres") and mark in command:
                    found.append(int(entry.name))
        return found


@contextlib.contextmanager
def stack(*, keep_logs: Path | None = None) -> Iterator[Stack]:
    """Start everything, and leave nothing behind."""
    with contextlib.ExitStack() as at_end:
        folder = Path(tempfile.mkdtemp(prefix="sauda-bench-"))
        at_end.callback(shutil.rmtree, folder, ignore_errors=True)
        if keep_logs:
            at_end.callback(_copy_logs, folder, keep_logs)
        name = f"sauda_bench_{os.getpid()}_{secrets.token_hex(3)}"
        owner, role = at_end.enter_context(scratch.databases(folder, name, own=True))
        redis_url = at_end.enter_context(scratch.redis_pair(folder, own=True))
        port = _free_port()
        environment = _environment(role, redis_url, folder)
        running = Stack(owner, ("127.0.0.1", port), environment, folder)
        running.run("manage.py", "prepare", DATABASE_OWNER_URL=owner)
        at_end.callback(running.stop)
        for title, command in commands(port, folder).items():
            running.start(title, command)
        _wait(running)
        yield running


def commands(web_port: int, folder: Path) -> dict[str, list[str]]:
    """Return the processes of docker-compose.yml as commands for this machine."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    ports = {"8000": str(web_port), "8001": str(_free_port()), "0.0.0.0": "127.0.0.1"}
    found = {}
    for name in STARTED:
        program, *words = (str(word) for word in services[name]["command"])
        words = [re.sub("^/tmp/", f"{folder}/", ports.get(word, word)) for word in words]
        found[name] = [str(Path(sys.executable).with_name(program)), *words]
    return found


def _environment(dsn: str, redis_url: str, folder: Path) -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        **secretfile.fresh(),
        "DJANGO_SETTINGS_MODULE": "bench.settings",
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": dsn,
        "REDIS_URL": redis_url,
        "VAR_DIR": str(folder),
        "STATIC_ROOT": str(folder / "static"),
        "ALLOWED_HOSTS": HOST,
        "PUBLIC_URL": f"https://{HOST}",
        "EMAIL_HOST": "127.0.0.1",
        "DEFAULT_FROM_EMAIL": f"no-reply@{HOST}",
        "WORKER_SOFT_SHUTDOWN_SECONDS": "3",
        "SIMULATED_SESSION": "always",  # at any hour of the day
        "PAPER_STARTING_CASH": "900000000000",
        "ACCESS_TOKEN_MINUTES": "120",
    }


def _wait(running: Stack) -> None:
    url = f"http://{running.address[0]}:{running.address[1]}/livez"
    request = urllib.request.Request(url, headers={"Host": HOST})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        running.alive()
        with contextlib.suppress(OSError), opener.open(request, timeout=2):
            return
        time.sleep(0.1)
    raise CannotStart("the web server does not answer")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _family(pid: int) -> list[int]:
    """Return a process and its children, of every generation."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _pss(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _cpu(pid: int) -> float:
    """Return the CPU seconds of a process."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _copy_logs(folder: Path, to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*.log"):
        shutil.copy(log, to / log.name)
