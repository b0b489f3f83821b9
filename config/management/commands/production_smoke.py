"""The processes of docker-compose.yml on this machine without Docker, shown to work by the demo."""

import contextlib
import logging
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
from pathlib import Path
from typing import Any

import psycopg
import yaml
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from config import scratch, secretfile
from config.supervisor import Child

STARTED = ("web", "stream", "worker-io", "worker-cpu", "beat", "feed", "order-stream")
START_SECONDS = 90.0
DEMO_SECONDS = 240.0
HOST = "sauda.invalid"


class Command(BaseCommand):
    help = (
        "Start every process of docker-compose.yml under production settings on a real PostgreSQL "
        "and Redis, run the demo against them, and kill a worker meanwhile."
    )
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        self.children: dict[str, Child] = {}
        with contextlib.ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="sauda-smoke-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            name = f"sauda_smoke_{os.getpid()}_{secrets.token_hex(3)}"
            owner, role = stack.enter_context(scratch.databases(self.folder, name))
            redis_url = stack.enter_context(scratch.redis_pair(self.folder))
            mail_port = stack.enter_context(self._mail_sink())
            self.env = self._environment(role, redis_url, mail_port)
            self._run("prepare", "prepare", DATABASE_OWNER_URL=owner)
            self._run("collectstatic", "collectstatic", "--no-input", "--verbosity", "0")
            stack.callback(self._stop)
            self._demo(self._start())
        self._say("production-smoke: OK")

    # --- The processes ---------------------------------------------------------------------------

    def _environment(self, database: str, redis_url: str, mail_port: int) -> dict[str, str]:
        kept = ("PATH", "HOME", "LANG", "TMPDIR")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            **secretfile.fresh(),
            "DJANGO_SETTINGS_MODULE": "config.settings.production",
            "PYTHONPATH": str(settings.BASE_DIR),
            "DATABASE_URL": database,
            "REDIS_URL": redis_url,
            "ALLOWED_HOSTS": f"{HOST},127.0.0.1",
            "PUBLIC_URL": f"https://{HOST}",
            "TRUSTED_PROXIES": "1",
            "EMAIL_HOST": "127.0.0.1",
            "EMAIL_PORT": str(mail_port),
            "EMAIL_USE_TLS": "false",
            "DEFAULT_FROM_EMAIL": f"no-reply@{HOST}",
            "STATIC_ROOT": str(self.folder / "static"),
            "VAR_DIR": str(self.folder),
            "WORKER_SOFT_SHUTDOWN_SECONDS": "3",
            # What the demo wants of a platform.
            "SIMULATED_SESSION": "always",
            "PAPER_STARTING_CASH": "10000000",
        }

    def _run(self, title: str, *command: str, **env: str) -> None:
        started = time.monotonic()
        done = subprocess.run(  # noqa: S603
            [sys.executable, "manage.py", *command],
            cwd=settings.BASE_DIR,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CommandError(f"{title} failed:\n{(done.stdout + done.stderr)[-3000:]}")
        self._say(f"{title}: {time.monotonic() - started:.1f} s")

    def _start(self) -> str:
        """Start the services of docker-compose.yml behind a front; return its address."""
        services = yaml.safe_load((settings.BASE_DIR / "docker-compose.yml").read_text())[
            "services"
        ]
        ports = {"8000": str(_free_port()), "8001": str(_free_port())}
        for name in STARTED:
            command = [str(word) for word in services[name]["command"]]
            command = [ports.get(word, word).replace("0.0.0.0", "127.0.0.1") for word in command]  # noqa: S104
            command = [re.sub("^/tmp/", f"{self.folder}/", word) for word in command]
            program = Path(sys.executable).with_name(command[0])
            own = {"TMPDIR": str(self._own_folder(name))}  # a container's /tmp
            self._add(name, [str(program), *command[1:]], own)
        front = str(_free_port())
        self._add(
            "proxy", [sys.executable, "-m", "config.front", front, ports["8000"], ports["8001"]], {}
        )
        url = f"http://127.0.0.1:{front}"
        self._wait(url)
        return url

    def _own_folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    def _add(self, name: str, command: list[str], env: dict[str, str]) -> None:
        log = open(self.folder / f"{name}.log", "wb")  # noqa: SIM115 - the child's, closed by _stop
        child = Child(name, command, {**self.env, **env}, patience=15.0, output=log)
        child.start()
        self.children[name] = child

    def _wait(self, url: str) -> None:
        started = time.monotonic()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() - started < START_SECONDS:
            for name, child in self.children.items():
                if event := child.keep():
                    raise CommandError(f"{event}\n{self._log(name)}")
            with contextlib.suppress(OSError), opener.open(f"{url}/health", timeout=5) as answer:
                if b'"status":"ok"' in answer.read():
                    seconds = time.monotonic() - started
                    self._say(f"{', '.join(STARTED)} behind one address: well in {seconds:.1f} s")
                    return
            time.sleep(0.1)
        raise CommandError(f"No answer:\n{self._log('web')}\n{self._log('proxy')}")

    def _demo(self, url: str) -> None:
        """Run the demo; kill the worker for orders in the middle of it, and start it again."""
        command = ["demo", "--url", url, "--mail-folder", str(self.folder / "mail")]
        started = time.monotonic()
        demo = subprocess.Popen(  # noqa: S603
            [sys.executable, "manage.py", *command],
            cwd=settings.BASE_DIR,
            env={**self.env, "DJANGO_SETTINGS_MODULE": "config.settings.embedded"},
        )
        killed = False
        try:
            while demo.poll() is None:
                if time.monotonic() - started > DEMO_SECONDS:
                    raise CommandError(f"The demo did not end within {DEMO_SECONDS:.0f} s.")
                worker = self.children["worker-io"].process
                if not killed and worker and self._is_trading():
                    worker.kill()
                    killed = True
                for name, child in self.children.items():
                    if event := child.keep():
                        self._say(event)
                        if not killed or name != "worker-io":
                            raise CommandError(self._log(name))
                time.sleep(0.1)
        finally:
            demo.kill()
        if demo.returncode:
            raise CommandError("\n".join(f"{name}:\n{self._log(name)}" for name in self.children))
        if not killed:
            raise CommandError("The demo ended before the worker was killed.")

    def _is_trading(self) -> bool:
        """Tell whether the demo has connected its broker: its first order comes within seconds."""
        with psycopg.connect(self.env["DATABASE_URL"]) as connection:
            found = connection.execute("SELECT EXISTS (SELECT FROM brokerages_brokerconnection)")
            return found.fetchone() == (True,)

    def _stop(self) -> None:
        started = time.monotonic()
        for child in reversed(self.children.values()):
            child.stop()
        self._say(f"stopped in {time.monotonic() - started:.1f} s")

    def _log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]

    # --- Mail ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _mail_sink(self) -> Any:
        """Take mails on a port of loopback and write each to the folder that the demo reads."""
        from aiosmtpd.controller import Controller

        folder = self.folder / "mail"
        folder.mkdir()
        logging.getLogger("mail.log").setLevel(logging.ERROR)

        class Sink:
            async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
                draft = folder / f".{time.time_ns()}"
                draft.write_bytes(envelope.content)
                draft.rename(folder / f"{draft.name[1:]}.eml")
                return "250 OK"

        port = _free_port()
        controller = Controller(Sink(), hostname="127.0.0.1", port=port)
        controller.start()
        try:
            yield port
        finally:
            controller.stop()

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
