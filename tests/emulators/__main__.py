"""``python -m tests.emulators zerodha [--port 9001]`` or ``all``: until Ctrl-C or SIGTERM.

All of them share one exchange, whose prices move by themselves. The first line that each prints is
its address; what a person needs to log in follows.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import signal
import sys
import threading

from tests.emulators.core.clock import Clock
from tests.emulators.core.dialect import Dialect
from tests.emulators.core.exchange import Exchange
from tests.emulators.core.instruments import full_list
from tests.emulators.core.server import EmulatorServer

# Where a dialect's class is: a module of this package, which may not exist in every checkout.
BROKERS = {"zerodha": "Zerodha", "upstox": "Upstox", "groww": "Groww"}
PORTS = {"zerodha": 9001, "upstox": 9002, "groww": 9003}


def dialect_class(name: str) -> type[Dialect]:
    module = importlib.import_module(f"tests.emulators.{name}")
    found: type[Dialect] = getattr(module, BROKERS[name])
    return found


def run(ports: dict[str, int], *, alive: bool) -> None:
    clock = Clock()
    exchange = Exchange(full_list(clock.local().date()), clock=clock)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    with contextlib.ExitStack() as stack:
        for count, (name, port) in enumerate(ports.items()):
            dialect = dialect_class(name)(exchange)
            server = EmulatorServer(dialect, port, alive=alive and count == 0)
            stack.enter_context(server)
            say(f"{name} {server.url} {server.ws_url}")
            for key, value in dialect.describe().items():
                say(f"  {key}: {value}")
        say("ready; Ctrl-C ends")
        stopping.wait()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.emulators", description=__doc__)
    parser.add_argument("broker", choices=[*BROKERS, "all"])
    parser.add_argument(
        "--port",
        type=int,
        nargs="*",
        default=[],
        help="one for each broker (default: 9001 zerodha, 9002 upstox, 9003 groww)",
    )
    parser.add_argument("--still", action="store_true", help="prices move only by hand")
    options = parser.parse_args()
    names = list(BROKERS) if options.broker == "all" else [options.broker]
    if options.port and len(options.port) != len(names):
        parser.error(f"--port takes {len(names)}, for {', '.join(names)}")
    ports = options.port or [PORTS[name] for name in names]
    run(dict(zip(names, ports, strict=True)), alive=not options.still)


if __name__ == "__main__":
    main()
