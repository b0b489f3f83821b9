"""The whole platform on one machine, as one process tree."""

import contextlib
import io
import os
import signal
import socket
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from config import emulated, servers
from config.env import ConfigurationError
from config.supervisor import Child, Lock

PORTS_TO_TRY = 50
LOOK_SECONDS = 0.2
FIRST_ANSWER_SECONDS = 60.0
ALL_WELL_SECONDS = 15.0


# What a person needs to connect to an emulated broker.
_SHOWN = ("api_key", "api_secret", "totp_token", "totp_secret", "log in as")


class Stopped(Exception):
    """A signal asked us to end."""


class Command(BaseCommand):
    help = (
        "Run everything on this machine: PostgreSQL and Valkey (unless DATABASE_URL and REDIS_URL "
        "name others), web, worker with schedule, and simulated prices. Ctrl-C stops it."
    )
    requires_system_checks: list[str] = []  # `make check` has them; the start is to be quick

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument(
            "--port", type=int, default=8000, help="the next free one if taken; 0: any"
        )
        parser.add_argument("--data", type=Path, help="folder for all data (default: var)")
        parser.add_argument(
            "--brokers",
            choices=["emulated"],
            help="run emulated Zerodha, Upstox and Groww beside it, to connect to",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["data"] and options["data"].absolute() != settings.VAR_DIR:
            # The settings have been read with another folder: begin again with this one.
            os.environ["VAR_DIR"] = str(options["data"].absolute())
            os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        self.own_servers: list[Any] = []
        self.children: list[Child] = []
        with Lock(settings.VAR_DIR / "platform.json") as self.lock:
            try:
                self._start(options["host"], options["port"], emulate=bool(options["brokers"]))
                self._watch()
            except Stopped:
                self._say("Stopping ...")
            finally:
                self._end()
        self._say("Stopped.")

    def _start(self, host: str, port: int, *, emulate: bool) -> None:
        # Kept open here: while the web child is being started again, callers wait in its queue.
        self.listener, url = self._listen(host, port)
        self._start_servers()
        self._migrate()
        call_command("load_instruments", stdout=io.StringIO())
        env = {
            **os.environ,
            "VAR_DIR": str(settings.VAR_DIR),
            "PUBLIC_URL": os.environ.get("PUBLIC_URL") or url,
            "PYTHONPATH": str(settings.BASE_DIR),
        }
        ports = emulated.ports_choose() if emulate else {}
        if emulate:
            env["BROKER_ENDPOINTS"] = emulated.endpoints(ports)
            log = open(settings.VAR_DIR / "brokers.log", "ab")  # noqa: SIM115 - the child's
            self.children.append(emulated.child(ports, env, settings.BASE_DIR, log))
            self.children[0].start()
        manage = [sys.executable, str(settings.BASE_DIR / "manage.py")]
        connections.close_all()
        fd = self.listener.fileno()
        web = Child(
            "web", [sys.executable, "-m", "config.webserver", "--fd", str(fd)], env, 8.0, (fd,)
        )
        worker = Child("worker", [sys.executable, "-m", "config.worker"], env, 15.0)
        self.children.append(web)
        web.start()
        others = [Child("feed", [*manage, "run_feed"], env), worker]
        self.children += others
        for child in others:
            child.start()
        self._wait_for_answer(f"{url}/livez", FIRST_ANSWER_SECONDS)
        with contextlib.suppress(ConfigurationError):  # /health goes on telling what is missing
            self._wait_for_answer(f"{url}/health", ALL_WELL_SECONDS, b'"status":"ok"')
        # Not before: nobody has a broker session in the first second, and all start on few cores.
        self.children.append(Child("order-stream", [*manage, "run_order_stream"], env, 15.0))
        self.children[-1].start()
        logins = emulated.introduce(ports, url)
        facts = {"pid": os.getpid(), "url": url, "mail": str(settings.MAIL_FOLDER)}
        self.lock.write(facts | ({"brokers": logins} if logins else {}))
        self._greet(url)
        for name, login in logins.items():
            words = ", ".join(f"{key} {value}" for key, value in login.items() if key in _SHOWN)
            self._say(f"  emulated {name:8} {words}")

    def _listen(self, host: str, port: int) -> tuple[socket.socket, str]:
        """Open the port, or the next free one; it is ours from here on."""
        for number in range(port, port + (PORTS_TO_TRY if port else 1)):
            listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, number))
                listener.listen(512)
            except OSError as e:
                listener.close()
                reason = e
                continue
            found = listener.getsockname()[1]
            if port and found != port:
                self._say(f"Port {port} is taken; using {found}.")
            listener.set_inheritable(True)
            shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104
            return listener, f"http://{f'[{shown}]' if ':' in shown else shown}:{found}"
        raise ConfigurationError(f"Cannot listen on {host} port {port}: {reason}")

    def _start_servers(self) -> None:
        if not os.environ.get("DATABASE_URL"):
            self.own_servers.append(servers.Postgres(settings.VAR_DIR))
        if not os.environ.get("REDIS_URL"):
            self.own_servers.append(servers.Valkey(settings.VAR_DIR))
        if any(not server.data.exists() for server in self.own_servers):
            self._say(f"First start: making a database in {settings.VAR_DIR} ...")
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda server: server.prepare(), self.own_servers))
        for server in self.own_servers:  # in this thread, with which they shall die
            server.start()
        for server in self.own_servers:
            server.wait()

    def _migrate(self) -> None:
        """Bring the database up to this code, if it is not."""
        on_disk = {
            (app.label, file.stem)
            for app in apps.get_app_configs()
            for file in Path(app.path, "migrations").glob("[0-9]*.py")
        }
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT to_regclass('django_migrations') IS NOT NULL")
            applied: set[tuple[str, str]] = set()
            if cursor.fetchone()[0]:
                cursor.execute("SELECT app, name FROM django_migrations")
                applied = set(cursor.fetchall())
        if not on_disk <= applied:
            call_command("migrate", verbosity=0, interactive=False)

    def _wait_for_answer(self, url: str, seconds: float, words: bytes = b"") -> None:
        until = time.monotonic() + seconds
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < until:
            try:
                with opener.open(url, timeout=2) as answer:
                    if words in answer.read():
                        return
            except OSError:
                pass
            self._look()
            time.sleep(0.05)
        raise ConfigurationError("The web server does not answer; its messages are above.")

    def _greet(self, url: str) -> None:
        self._say(
            f"\nSauda is running:  {url}\n"
            f"  API              {url}/docs\n"
            f"  mail             {settings.MAIL_FOLDER}\n"
            f"  administration   {url}/admin/  (make an administrator with: make admin)\n"
            f"Prices are {settings.DATA_SOURCE}; orders of the paper broker reach no exchange.\n"
            "Ctrl-C stops it.\n"
        )

    def _watch(self) -> None:
        while True:
            self._look()
            time.sleep(LOOK_SECONDS)

    def _look(self) -> None:
        for server in self.own_servers:
            if server.child is not None and server.child.poll() is not None:
                self._say(f"{type(server).__name__} ended; starting it again.")
                server.prepare()
                server.start()
                server.wait()
        for child in self.children:
            if event := child.keep():
                self._say(event)

    def _end(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(
                number, signal.SIG_IGN
            )  # ending takes seconds; a second Ctrl-C hurts nothing
        for child in self.children:
            child.stop()
        for server in reversed(self.own_servers):
            server.stop()

    def _stop(self, number: int, frame: Any) -> None:
        raise Stopped

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
