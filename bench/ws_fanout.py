"""How many ticks reach clients over the socket: `python -m bench.ws_fanout`.

One stream process as in production, a Valkey of its own, all over loopback. Sign-in and prices from
the database are left out: what is measured is the way from the publisher to the clients. Latency is
from the publishing of the tick that arrives, so conflation makes half of a flush period of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec
import psutil

ROOT = Path(__file__).resolve().parent.parent
ALL_SYMBOLS = [f"NSE:S{number}" for number in range(2000)]
BATCH_SECONDS = 0.02
WARM_SECONDS = 2.0
CONNECTING = 25  # at a time


def application() -> Any:
    """Return the stream application with the database left out."""
    from config.stream import Application, Questions

    class Bare(Questions):
        def principal(self, kind: str, value: str) -> Any:
            return SimpleNamespace(id=uuid5(NAMESPACE_URL, value))

        def names(self, user_id: str, symbols: Iterable[str]) -> dict[str, str]:
            return {symbol: symbol for symbol in symbols}

        def ticks(self, symbols: Iterable[str]) -> dict[str, bytes]:
            return {}

    return Application(Bare())


def main() -> int:
    options = _options()
    sys.path.insert(0, str(ROOT))
    if options.role == "publish":
        _publish(options)
        return 0
    from config import servers

    folder = Path(tempfile.mkdtemp(prefix="sauda-fanout-"))
    valkey = servers.Valkey(folder, durable=False)
    children: list[subprocess.Popen[bytes]] = []
    try:
        valkey.prepare()
        valkey.start()
        valkey.wait()
        options.redis = servers.redis_url(folder)
        options.port = _free_port()
        server = _server(options)
        children.append(server)
        _wait(options.port)
        children.append(_publisher(options))
        found = asyncio.run(_measure(options, psutil.Process(server.pid)))
    finally:
        for child in reversed(children):
            child.terminate()
            child.wait(10)
        valkey.stop()
        for used in (folder, servers.home(folder), servers.socket_dir(folder)):
            shutil.rmtree(used, ignore_errors=True)
    print(json.dumps(found) if options.json else _table(options, found))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.ws_fanout", description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--symbols", type=int, default=30, help="of each client")
    parser.add_argument("--ticks", type=int, default=5000, help="published a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--single", action="store_true", help="one quote a frame, not a batch")
    parser.add_argument("--stalled", type=int, default=0, help="further clients that read nothing")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--redis", help=argparse.SUPPRESS)
    return parser.parse_args()


def _server(options: argparse.Namespace) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "uvicorn", "--factory", "bench.ws_fanout:application",
        "--port", str(options.port), "--ws", "websockets-sansio", "--loop", "uvloop",
        "--ws-per-message-deflate", "false", "--ws-max-size", "65536",
        "--no-access-log", "--log-level", "warning",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1/none",
        "REDIS_URL": options.redis,
    }
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def _publisher(options: argparse.Namespace) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench.ws_fanout", "--role", "publish"]
    more = ["--redis", options.redis, "--ticks", str(options.ticks)]
    return subprocess.Popen([*command, *more], cwd=ROOT)


def _publish(options: argparse.Namespace) -> None:
    """Publish random ticks, as the feed shapes them, until terminated."""
    import redis

    client = redis.Redis.from_url(options.redis)
    encoder = msgspec.json.Encoder()
    size = max(round(options.ticks * BATCH_SECONDS), 1)
    due = time.monotonic()
    while True:
        now = time.time()
        batch = [(symbol, _tick(symbol, now)) for symbol in random.sample(ALL_SYMBOLS, size)]
        client.publish("sauda:ticks", encoder.encode(batch))
        due += BATCH_SECONDS
        time.sleep(max(due - time.monotonic(), 0))


def _tick(symbol: str, now: float) -> dict[str, Any]:
    return {
        "symbol": symbol, "last_price": "1450.05", "open": "1440.00", "high": "1460.00",
        "low": "1431.50", "previous_close": "1445.00", "change": "5.05", "change_percent": "0.35",
        "volume": 1234567, "bid": "1450.00", "ask": "1450.10", "at": now, "source": "bench",
        "simulated": True,
    }  # fmt: skip


class _Count:
    def __init__(self) -> None:
        self.ticks = self.frames = 0
        self.late: list[float] = []
        self.on = False


async def _measure(options: argparse.Namespace, server: psutil.Process) -> dict[str, Any]:
    count, gate = _Count(), asyncio.Semaphore(CONNECTING)
    signed_in: list[int] = []
    tasks = [
        asyncio.create_task(_read(options, number, count, gate, signed_in))
        for number in range(options.clients + options.stalled)
    ]
    while len(signed_in) < len(tasks):
        await asyncio.sleep(0.05)
        for task in tasks:
            if task.done():
                task.result()
    await asyncio.sleep(WARM_SECONDS)
    before, started = server.cpu_times(), time.monotonic()
    count.on = True
    await asyncio.sleep(options.seconds)
    count.on = False
    seconds, after = time.monotonic() - started, server.cpu_times()
    memory = server.memory_info().rss
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    late = sorted(count.late)
    return {
        "delivered_per_second": round(count.ticks / seconds),
        "frames_per_second": round(count.frames / seconds),
        "p50_ms": round(late[len(late) // 2] * 1000, 1),
        "p99_ms": round(late[len(late) * 99 // 100] * 1000, 1),
        "server_cores": round((sum(after[:2]) - sum(before[:2])) / seconds, 3),
        "server_rss_mb": round(memory / 2**20),
    }


async def _read(
    options: argparse.Namespace,
    number: int,
    count: _Count,
    gate: asyncio.Semaphore,
    signed_in: list[int],
) -> None:
    from websockets.asyncio.client import connect

    stalled = number >= options.clients
    symbols = random.Random(number).sample(ALL_SYMBOLS, options.symbols)
    decoder = msgspec.json.Decoder(_Message)
    async with gate:
        connection = await connect(
            f"ws://127.0.0.1:{options.port}/ws",
            compression=None,
            ping_interval=None,
            max_queue=1 if stalled else 16,
        )
        await connection.send(json.dumps({"type": "auth", "token": f"user {number // 10}"}))
        await connection.recv()
        subscribe = {"type": "subscribe", "channel": "quotes", "symbols": symbols}
        await connection.send(json.dumps({**subscribe, "batch": not options.single}))
        signed_in.append(number)
    while True:
        if stalled:
            await asyncio.sleep(3600)
        text = await connection.recv(decode=False)
        if not count.on:
            continue
        now = time.time()
        message = decoder.decode(text)
        count.frames += 1
        for tick in message.quotes or [message]:
            count.ticks += 1
            count.late.append(now - tick.at)


class _Message(msgspec.Struct):
    type: str
    at: float = 0.0
    quotes: list[_Message] | None = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the stream process did not start")


def _table(options: argparse.Namespace, found: dict[str, Any]) -> str:
    title = (
        f"{options.clients} clients x {options.symbols} symbols, {options.ticks} ticks/s published"
    )
    lines = [f"{title}, {options.seconds:g} s"]
    if options.stalled:
        lines[0] += f", {options.stalled} more clients stalled"
    lines += [f"  {name:22} {value:>10,}" for name, value in found.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
