"""`python -m bench.limiter`: many processes send orders to one broker account, as fast as they may.

Each process has the real adapter, the broker's SDK and the real limiter; the broker is the emulated
Kite, in a process of its own kind: real sockets, and a record of every request with the time at
which it came. That record is the judge: how many orders came in the busiest rolling second, and how
much of the rate that the limiter is set to was used. With ``--kill-redis`` Redis dies in the middle
and comes back without its log; the processes go on with their shares.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CAP, RESERVE, SLACK_MS = 10, 2, 250  # the broker's orders a second; of them for cancels; our slack
RATE = CAP / (1 + SLACK_MS / 1000)  # what the limiter is set to, requests a second
LEAST_USED = 0.9
LEAST_ALONE = 0.5  # while Redis is gone for a third of the time: orders only, each its share
ORDERS = "POST /orders/*"
CANCELS = "DELETE /orders/*"
ACCOUNT = "AB1234"
READY_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Result:
    """``peak`` is the most requests in any rolling second by the broker's clock."""

    processes: int
    seconds: float
    requests: int
    orders: int
    cancels: int
    peak: int
    rate: float
    used: float  # of the configured rate
    refused: int  # answered as too many by the broker
    redis_killed: bool
    failed: int  # senders that ended with an error

    @property
    def kept(self) -> bool:
        return self.peak <= CAP and self.refused == 0

    @property
    def ok(self) -> bool:
        least = LEAST_ALONE if self.redis_killed else LEAST_USED
        return self.kept and not self.failed and self.used >= least

    def line(self) -> str:
        how = ", Redis killed and back" if self.redis_killed else ""
        return (
            f"limiter: {self.processes} processes, {self.seconds:.0f} s{how}: "
            f"{self.requests} requests ({self.orders} orders, {self.cancels} cancels), "
            f"at most {self.peak} in any second (cap {CAP}), "
            f"{self.rate:.2f}/s = {self.used:.0%} of the configured {RATE:.1f}/s: "
            f"{'OK' if self.ok else 'MISSED'}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.limiter", description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kill-redis", action="store_true")
    parser.add_argument("--sender", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sender:
        return send(json.loads(options.sender))
    result = run(options.processes, options.seconds, kill_redis=options.kill_redis)
    print(result.line())
    return 0 if result.ok else 1


# --- The run --------------------------------------------------------------------------------------


def run(processes: int, seconds: float, *, kill_redis: bool = False) -> Result:
    """Let ``processes`` send for ``seconds``; return what the broker saw."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.embedded")
    os.environ["NO_PROXY"] = "127.0.0.1"
    from tests.emulators.core.clock import IST, Clock
    from tests.emulators.core.exchange import Exchange
    from tests.emulators.core.server import EmulatorServer
    from tests.emulators.zerodha import Zerodha
    from tests.emulators.zerodha.dialect import API_KEY

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sauda-pace-")))
        folder.chmod(0o711)
        valkey, url = stack.enter_context(_valkey(folder))
        exchange = Exchange(clock=Clock(datetime.now(IST)))
        kite = stack.enter_context(EmulatorServer(Zerodha(exchange, heartbeat=5.0)))
        kite.dialect.limiter.on = False  # the record judges, and nothing that it refuses
        kite.dialect.account(ACCOUNT).cash = Decimal(10**9)
        exchange.show("NSE:RELIANCE", 100)
        token = kite.dialect.open_session(ACCOUNT, API_KEY).access_token
        told = {
            "api": kite.url,
            "redis": url,
            "token": token,
            "api_key": API_KEY,
            "senders": processes,
            "cancels": not kill_redis,
        }
        senders = [_sender(told) for _ in range(processes)]
        stack.callback(_end, senders)
        _ready(senders)
        kite.recorder.clear()
        begun = time.monotonic()
        for sender in senders:
            _tell(sender, f"{seconds}")
        if kill_redis:
            time.sleep(seconds / 3)
            valkey.stop()
            time.sleep(seconds / 3)
            valkey.prepare()
            valkey.start()
            valkey.wait()
        for sender in senders:
            sender.wait(seconds + 30)
        took = min(time.monotonic() - begun, seconds)
        requests = [r for pattern in (ORDERS, CANCELS) for r in kite.recorder.find(pattern)]
        times = sorted(record.at for record in requests)
        orders = kite.recorder.count(ORDERS)
        return Result(
            processes=processes,
            seconds=seconds,
            requests=len(requests),
            orders=orders,
            cancels=len(requests) - orders,
            peak=busiest(times, 1.0),
            rate=round(len(requests) / took, 3),
            used=round(len(requests) / took / RATE, 4),
            refused=sum(record.status == 429 for record in requests),
            redis_killed=kill_redis,
            failed=sum(sender.returncode != 0 for sender in senders),
        )


def busiest(times: list[float], seconds: float) -> int:
    """Return the most of ``times`` (sorted) within any rolling window of ``seconds``."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


@contextlib.contextmanager
def _valkey(folder: Path) -> Iterator[tuple[Any, str]]:
    import django

    django.setup()
    from config import servers

    valkey = servers.Valkey(folder, durable=False)
    valkey.prepare()
    valkey.start()
    valkey.wait()
    try:
        yield valkey, servers.redis_url(folder)
    finally:
        valkey.stop()


def _sender(told: dict[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.limiter", "--sender", json.dumps(told)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ready(senders: list[subprocess.Popen[str]]) -> None:
    watch = threading.Timer(READY_SECONDS, _end, [senders])
    watch.start()
    try:
        for sender in senders:
            assert sender.stdout
            if sender.stdout.readline().strip() != "ready":
                raise RuntimeError("a sender did not start")
    finally:
        watch.cancel()


def _tell(sender: subprocess.Popen[str], text: str) -> None:
    assert sender.stdin
    sender.stdin.write(f"{text}\n")
    sender.stdin.flush()


def _end(senders: list[subprocess.Popen[str]]) -> None:
    for sender in senders:
        if sender.poll() is None:
            sender.kill()
        sender.wait()


# --- One sender -----------------------------------------------------------------------------------


def send(told: dict[str, Any]) -> int:
    """Place orders, and cancel some of them, as fast as the limiter lets this process."""
    import django

    django.setup()
    from django.conf import settings
    from django.utils import timezone

    from brokerages.base import AdapterContext, Pace, PaceRule
    from brokerages.errors import BrokerError, RateLimited
    from brokerages.limiter import Limiter, Pacer, caller_of
    from brokerages.registry import adapter_class
    from brokerages.types import (
        Exchange,
        InstrumentKind,
        InstrumentRef,
        OrderRequest,
        OrderType,
        Product,
        Segment,
        SessionToken,
        Side,
    )  # fmt: skip

    settings.BROKER_PACE_SLACK_MS = SLACK_MS
    rule = PaceRule(frozenset({Pace.ORDER, Pace.CANCEL}), CAP, 1, RESERVE)
    pacer = Pacer(
        Limiter(told["redis"], senders=told["senders"]),
        caller_of("zerodha", [rule], account=ACCOUNT, app=told["api_key"]),
    )
    context = AdapterContext(
        "connection",
        quote=lambda instrument: None,
        now=timezone.now,
        endpoints={"api": told["api"], "login": told["api"]},
        pace=pacer,
    )
    token = SessionToken({"access_token": told["token"]}, broker_user_id=ACCOUNT)
    adapter = adapter_class("zerodha")(context, {"api_key": told["api_key"]}, token)
    adapter.fetch_profile()  # the SDK is loaded, and the connection stands
    share = InstrumentRef(
        1, Exchange.NSE, Segment.EQUITY, "RELIANCE", InstrumentKind.EQ, exchange_token="2885"
    )
    print("ready", flush=True)
    until = time.monotonic() + float(sys.stdin.readline())
    resting: list[tuple[str, OrderRequest]] = []
    count = 0
    while time.monotonic() < until:
        count += 1
        request = OrderRequest(
            f"T{os.getpid():09d}{count:010d}", share, Side.BUY, 1, OrderType.LIMIT, Product.CNC,
            price=Decimal(90),
        )  # fmt: skip
        wait = 0.0
        try:
            resting.append((adapter.place_order(request).broker_order_id, request))
        except RateLimited as e:
            wait = e.retry_after
        except BrokerError as e:
            print(f"sender: {type(e).__name__} {e}", file=sys.stderr)
            return 1
        if wait and told["cancels"] and resting:
            try:
                adapter.cancel_order(*resting[0])
                resting.pop(0)
            except RateLimited as e:
                wait = min(wait, e.retry_after)
        if wait:
            time.sleep(max(min(wait, until - time.monotonic()), 0.0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
