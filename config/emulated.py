"""Emulated brokers beside an embedded platform: started with it, and told where it is.

They speak the wire of the real ones on loopback, so a newcomer can connect an account, log in and
trade with no account anywhere. They live with the tests, which is why a deployment has none.
"""

import json
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from config.env import ConfigurationError
from config.supervisor import Child

PORTS = {"zerodha": 9001, "upstox": 9002, "groww": 9003}
READY_SECONDS = 30.0
CALLBACK = "/api/v1/connections/callback"


def ports_choose() -> dict[str, int]:
    """Return a port for each broker: the usual one, or any free one where that is taken."""
    found: dict[str, int] = {}
    with ExitStack() as held:
        for name, usual in PORTS.items():
            for port in (usual, 0):
                sock = held.enter_context(socket.socket())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    sock.bind(("127.0.0.1", port))
                except OSError:
                    continue
                found[name] = sock.getsockname()[1]
                break
    return found


def endpoints(ports: Mapping[str, int]) -> str:
    """Return the value of BROKER_ENDPOINTS."""
    return json.dumps(
        {
            name: {
                **dict.fromkeys(("api", "login", "assets"), f"http://127.0.0.1:{port}"),
                "stream": f"ws://127.0.0.1:{port}",
            }
            for name, port in ports.items()
        }
    )


def child(ports: Mapping[str, int], env: Mapping[str, str], folder: Path, log: IO[bytes]) -> Child:
    """Return the process that runs all of them on one exchange; it writes to ``log``.

    Raises:
        ConfigurationError: this copy of the platform came without its tests.
    """
    if not (folder / "tests" / "emulators").is_dir():
        raise ConfigurationError("There are no emulated brokers here: tests/emulators is missing.")
    command = [sys.executable, "-m", "tests.emulators", "all", "--port", *map(str, ports.values())]
    return Child("brokers", command, env, output=log)


def introduce(ports: Mapping[str, int], platform_url: str) -> dict[str, dict[str, Any]]:
    """Tell each emulator where to send users back to; return what a person needs to log in.

    Raises:
        ConfigurationError: one does not answer.
    """
    return {name: _introduce(name, port, platform_url) for name, port in ports.items()}


def _introduce(name: str, port: int, platform_url: str) -> dict[str, Any]:
    until = time.monotonic() + READY_SECONDS
    while True:
        try:
            found: dict[str, Any] = _ask(port, "")
            break
        except (OSError, ValueError):
            if time.monotonic() > until:
                raise ConfigurationError(f"The emulated {name} does not answer.") from None
            time.sleep(0.05)
    if "redirect_url" in found:
        found["redirect_url"] = f"{platform_url}{CALLBACK}/{name}"
        app = {"api_key": found["api_key"], "redirect_url": found["redirect_url"]}
        _ask(port, "do/app", app)
    return found | {"url": f"http://127.0.0.1:{port}"}


def _ask(port: int, lever: str, body: Mapping[str, Any] | None = None) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/__emulator__/{lever}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5) as answer:
        return json.loads(answer.read())
