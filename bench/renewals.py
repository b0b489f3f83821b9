"""`python -m bench.renewals`: 10,000 broker sessions are renewed in chunks, by several workers.

A broker of this file answers over real sockets after 50 ms; some of its answers are lost or fail.
The workers claim chunks as Celery's do. At the end every session has been renewed, each by one
answer of the broker but for those that were tried again because an answer was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.test")

SIX = datetime(2026, 11, 25, 0, 30, tzinfo=UTC)  # 06:00 in India
DELAY = 0.05
ANSWER = b"HTTP/1.1 %d\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


class Broker:
    """Answers each request after 50 ms; one in ``trouble`` of the first tries fails."""

    def __init__(self, trouble: float) -> None:
        self.asked: Counter[str] = Counter()
        self.given: Counter[str] = Counter()
        self.trouble, self.chance = trouble, random.Random(7)
        self.loop = asyncio.new_event_loop()
        self.port = 0
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ready,), daemon=True).start()
        ready.wait(10)

    def _run(self, ready: threading.Event) -> None:
        async def serve() -> None:
            server = await asyncio.start_server(self._answer, "127.0.0.1", 0, backlog=512)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()

        self.loop.run_until_complete(serve())
        self.loop.run_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        who = head.split()[1].decode()
        self.asked[who] += 1
        fails = self.asked[who] == 1 and self.chance.random() < self.trouble
        await asyncio.sleep(DELAY * self.chance.uniform(0.5, 1.5))
        if not fails:
            self.given[who] += 1
        writer.write(ANSWER % (503 if fails else 200))
        await writer.drain()
        writer.close()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)


def _set_up(folder: Path) -> list[Any]:
    """Start our own servers and the tables; return what has to be stopped."""
    os.environ["SAUDA_TEST_DIR"] = str(folder)
    import django
    from django.conf import settings

    from config import servers

    django.setup()
    running: list[Any] = []
    kinds = ((servers.Postgres, "DATABASE_URL"), (servers.Valkey, "REDIS_URL"))
    for kind, variable in kinds:
        if not os.environ.get(variable):
            server = kind(settings.VAR_DIR, durable=False)
            server.prepare()
            server.start()
            running.append(server)
            server.wait()
    from django.test.utils import get_runner

    runner = get_runner(settings)(verbosity=0, interactive=False)
    databases = runner.setup_databases()
    running.append(_Databases(runner, databases))
    return running


class _Databases:
    def __init__(self, runner: Any, databases: Any) -> None:
        self.runner, self.databases = runner, databases

    def stop(self) -> None:
        self.runner.teardown_databases(self.databases)


def run(accounts: int, workers: int, trouble: float) -> dict[str, Any]:
    from django.conf import settings
    from django.db import connections
    from django.utils import timezone

    from accounts.models import User
    from brokerages import crypto, registry
    from brokerages.adapters.paper.adapter import PaperAdapter
    from brokerages.base import SessionRenewal as Kind
    from brokerages.errors import OutcomeUnknown
    from brokerages.models import BrokerConnection, BrokerCredential, BrokerSession, SessionRenewal
    from brokerages.services import renewals
    from brokerages.services.adapters import place_of
    from brokerages.types import SessionToken

    broker = Broker(trouble)

    class BenchAdapter(PaperAdapter):
        name = label = "bench"
        capabilities = replace(PaperAdapter.capabilities, session_renewal=Kind.UNATTENDED)
        port: ClassVar[int] = broker.port

        def renew_session(self, token: SessionToken) -> SessionToken:
            import http.client

            link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            try:
                link.request("POST", f"/{self.context.connection_id}")
                status = link.getresponse().status
            except OSError as e:
                raise OutcomeUnknown(str(e), broker=self.name) from e
            finally:
                link.close()
            if status != 200:
                raise OutcomeUnknown("The broker is busy.", broker=self.name, code=str(status))
            return SessionToken({"access_token": "next"}, SIX + timedelta(days=1), "B1")

    globals()["BenchAdapter"] = BenchAdapter
    registry._ADAPTERS["bench"] = f"{__name__}:BenchAdapter"
    renewals.BROKER_NAMES = ("bench",)  # type: ignore[assignment]
    settings.RENEWAL_SPREAD_SECONDS = 0
    moment = [SIX]
    timezone.now = lambda: moment[0]
    user = User.objects.create(email="bench@example.com")
    made = BrokerConnection.objects.bulk_create(
        BrokerConnection(user=user, broker="bench", label="Bench", data_source="broker")
        for _ in range(accounts)
    )
    sealed = [crypto.seal_secret(place_of(one, "totp_secret"), "JBSWY3DP") for one in made]
    BrokerCredential.objects.bulk_create(
        BrokerCredential(connection=one, field="totp_secret", ciphertext=seal.ciphertext,
                         key_id=seal.key_id, fingerprint="00000000")
        for one, seal in zip(made, sealed, strict=True)
    )  # fmt: skip
    BrokerSession.objects.bulk_create(
        BrokerSession(connection=one, state="EXPIRED", expires_at=SIX, opened_at=SIX)
        for one in made
    )

    def work(at: datetime) -> None:
        try:
            renewals.renewals_plan(at)  # each worker's own beat: rows are unique
            while renewals.renewals_run(at):
                pass
        finally:
            connections.close_all()

    started, rounds = time.perf_counter(), 0
    while rounds < 10:
        team = [threading.Thread(target=work, args=(moment[0],)) for _ in range(workers)]
        for one in team:
            one.start()
        for one in team:
            one.join()
        rounds += 1
        if not SessionRenewal.objects.filter(state__in=["WAITING", "RUNNING"]).exists():
            break
        moment[0] += timedelta(minutes=2)  # the next tries are due
    seconds = time.perf_counter() - started
    broker.stop()
    states = Counter(SessionRenewal.objects.values_list("state", flat=True))
    return {
        "accounts": accounts,
        "workers": workers,
        "seconds": round(seconds, 1),
        "per_second": round(accounts / seconds),
        "rounds": rounds,
        "states": dict(states),
        "active": BrokerSession.objects.filter(state="ACTIVE").count(),
        "requests": broker.asked.total(),
        "most_sessions_of_one_account": max(broker.given.values()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.renewals")
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--trouble", type=float, default=0.05)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sauda-renewals-") as folder:
        running = _set_up(Path(folder))
        try:
            found = run(chosen.accounts, chosen.workers, chosen.trouble)
        finally:
            while running:
                running.pop().stop()
    print(json.dumps(found, indent=1))
    good = found["states"] == {"DONE": chosen.accounts} and found["active"] == chosen.accounts
    return 0 if good and found["most_sessions_of_one_account"] == 1 else 1


if __name__ == "__main__":
    sys.modules["bench.renewals"] = sys.modules[__name__]
    sys.exit(main())
