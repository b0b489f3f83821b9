"""The platform as in production, for a while: servers, a database of its own, every process."""

from __future__ import annotations

import contextlib
import os
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

import psycopg
import redis
from psycopg import sql

from bench.paths import HOST
from config import processes, secretfile, servers

ROOT = Path(__file__).resolve().parent.parent
LOOPBACK_POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"
LOOPBACK_REDIS = "redis://127.0.0.1:6379"
REDIS_LAST = 14  # of the 16 databases that a Redis has by default, in pairs
PREFIX = "sauda_bench_"
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

    def memory(self) -> dict[str, float]:
        """Return the PSS in MB of each process; the largest where a name has several."""
        found: dict[str, float] = {}
        for name, child in self.children.items():
            sizes = [_pss(pid) for pid in _family(child.pid)]
            # A server's first process only watches its workers; they are what is measured.
            found[name] = max(sizes) if sizes else 0.0
        return found

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

    def alive(self) -> None:
        """Raise if a process has ended.

        Raises:
            CannotStart: naming it.
        """
        for name, child in self.children.items():
            if child.poll() is not None:
                raise CannotStart(f"{name} ended with {child.returncode}:\n{self.log(name)}")

    def log(self, name: str, lines: int = 20) -> str:
        text = (self.folder / f"{name}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def start(self, name: str, command: list[str]) -> None:
        with open(self.folder / f"{name}.log", "ab") as output:
            self.children[name] = processes.start(
                command, cwd=ROOT, env=self.environment, output=output
            )

    def stop(self) -> None:
        for child in reversed(self.children.values()):
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
        for child in reversed(self.children.values()):
            processes.end(child, (signal.SIGTERM, 8.0))


@contextlib.contextmanager
def stack(*, keep_logs: Path | None = None, web: list[str] | None = None) -> Iterator[Stack]:
    """Start everything, and leave nothing behind."""
    with contextlib.ExitStack() as at_end:
        folder = Path(tempfile.mkdtemp(prefix="sauda-bench-"))
        at_end.callback(shutil.rmtree, folder, ignore_errors=True)
        if keep_logs:
            at_end.callback(_copy_logs, folder, keep_logs)
        postgres = at_end.enter_context(_postgres(folder))
        redis_url = at_end.enter_context(_redis(folder))
        dsn = at_end.enter_context(_database(postgres))
        port = _free_port()
        running = Stack(dsn, ("127.0.0.1", port), _environment(dsn, redis_url, folder), folder)
        for arguments in (["migrate", "--verbosity", "0"], ["load_instruments"]):
            _manage(running, *arguments)
        at_end.callback(running.stop)
        for name, command in commands(port, _free_port(), folder).items():
            running.start(name, command)
        _wait(running)
        yield running


def commands(web_port: int, stream_port: int, folder: Path) -> dict[str, list[str]]:
    """Return the processes of a production machine with two cores."""
    binaries = Path(sys.executable).parent
    celery = [
        str(binaries / "celery"),
        "-A",
        "config.celery",
        "worker",
        "--without-gossip",
        "--without-mingle",
    ]
    return {
        "web": [
            str(binaries / "granian"), "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(web_port),
            "--workers", "2", "--blocking-threads", "2", "--backpressure", "128", "--no-ws",
            "--respawn-failed-workers", "--log-level", "warning", "config.wsgi:application",
        ],
        "stream": [
            str(binaries / "uvicorn"), "config.stream:application", "--host", "127.0.0.1", "--port", str(stream_port),
            "--ws", "websockets-sansio", "--ws-per-message-deflate", "false", "--log-level", "warning",
        ],
        "worker-io": [*celery, "-n", "io@%h", "-P", "threads", "-c", "32", "-Q", "orders,webhooks,sessions,default"],
        "worker-cpu": [*celery, "-n", "cpu@%h", "-P", "prefork", "-c", "2", "-Q", "marketdata"],
        "beat": [str(binaries / "celery"), "-A", "config.celery", "beat", "-s", str(folder / "schedule")],
        "feed": [sys.executable, "manage.py", "run_feed"],
    }  # fmt: skip


def _environment(dsn: str, redis_url: str, folder: Path) -> dict[str, str]:
    kept = {
        name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ
    }
    return {
        **kept,
        **secretfile.fresh(),
        "DJANGO_SETTINGS_MODULE": "bench.settings",
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": dsn,
        "REDIS_URL": redis_url,
        "VAR_DIR": str(folder),
        "ALLOWED_HOSTS": HOST,
        "PUBLIC_URL": f"https://{HOST}",
        "EMAIL_HOST": "127.0.0.1",
        "DEFAULT_FROM_EMAIL": f"no-reply@{HOST}",
        "SIMULATED_SESSION": "always",  # at any hour of the day
        "PAPER_STARTING_CASH": "900000000000",
        "ACCESS_TOKEN_MINUTES": "120",
    }


def manage_environment(running: Stack, *arguments: str) -> str:
    """Run one of our programs with the stack's settings and return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=running.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CannotStart(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def _manage(running: Stack, *arguments: str) -> None:
    manage_environment(running, "manage.py", *arguments)


def _wait(running: Stack) -> None:
    url = f"http://{running.address[0]}:{running.address[1]}/livez"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        running.alive()
        with contextlib.suppress(OSError):
            with opener.open(urllib.request.Request(url, headers={"Host": HOST}), timeout=2):
                return
        time.sleep(0.1)
    raise CannotStart(f"the web server does not answer:\n{running.log('web')}")


# --- Servers -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    """Give the address of a PostgreSQL: the one named, the machine's, or one of ours."""
    for url in filter(None, (os.environ.get("DATABASE_URL"), LOOPBACK_POSTGRES)):
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError as e:
            if url == os.environ.get("DATABASE_URL"):
                raise CannotStart(f"DATABASE_URL: {e}") from None
            continue
        yield url
        return
    server = servers.Postgres(folder)
    server.prepare()
    server.start()
    try:
        server.wait()
        yield servers.postgres_url(folder, servers.SUPERUSER, "postgres")
    finally:
        server.stop()


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """Give the address of two Redis databases in a row that nobody uses, and empty them afterwards."""
    given = os.environ.get("REDIS_URL")
    server = None
    if given:
        url = given
    elif (free := _free_redis()) is not None:
        url = free
    else:
        server = servers.Valkey(folder)
        server.prepare()
        server.start()
        server.wait()
        url = servers.redis_url(folder)
    try:
        yield url
    finally:
        for further in (0, 1):
            with contextlib.suppress(redis.RedisError):
                redis.Redis.from_url(servers.redis_database(url, further)).flushdb()
        if server:
            server.stop()


def _free_redis() -> str | None:
    for number in range(REDIS_LAST, 0, -2):
        url = f"{LOOPBACK_REDIS}/{number}"
        try:
            sizes = [redis.Redis.from_url(servers.redis_database(url, n)).dbsize() for n in (0, 1)]
        except redis.RedisError:
            return None
        if not any(sizes):
            return url
    return None


@contextlib.contextmanager
def _database(server: str) -> Iterator[str]:
    """Make a database of this run; drop it afterwards, and those of runs that were killed."""
    name = f"{PREFIX}{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [PREFIX]
        )
        for (old,) in rows.fetchall():
            if not Path(f"/proc/{old.removeprefix(PREFIX)}").exists() or old == name:
                _drop(connection, old)
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    parts = server.rpartition("/")
    _, mark, options = parts[2].partition("?")
    try:
        yield f"{parts[0]}/{name}{mark}{options}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            _drop(connection, name)


def _drop(connection: psycopg.Connection, name: str) -> None:
    connection.execute(
        sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    )


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# --- Memory and CPU ----------------------------------------------------------------------------------


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
    """Return the CPU seconds of a process: unlike its share of the clock, no neighbour changes them much."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _copy_logs(folder: Path, to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*.log"):
        shutil.copy(log, to / log.name)
