"""The emulators as a program: addresses printed, one exchange for all, ended by a signal."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import requests

BROKERS = ("zerodha", "upstox", "groww")


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
        return port


@pytest.fixture
def program() -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """All emulators, and the address that each printed."""
    ports = [str(free_port()) for _ in BROKERS]
    command = [sys.executable, "-m", "tests.emulators", "all", "--port", *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        addresses = {}
        for line in process.stdout:
            words = line.split()
            if words[0] in BROKERS:
                addresses[words[0]] = words[1]
            if line.startswith("ready"):
                break
        try:
            yield process, addresses
        finally:
            process.kill()


def lever(address: str, name: str, body: object = None) -> dict[str, object]:
    method = "GET" if body is None else "POST"
    answer = requests.request(method, f"{address}/__emulator__/{name}", json=body, timeout=10)
    found: dict[str, object] = answer.json()
    return found


def test_program(program):
    process, addresses = program
    assert set(addresses) == set(BROKERS)
    for name, address in addresses.items():
        about = lever(address, "")
        assert about["broker"] == name
        assert int(about["listed"]) > 1000

    # One exchange: what is shown at one is seen at all; prices move by themselves.
    first = lever(addresses["zerodha"], "show", {"key": "NSE:RELIANCE", "last": 1400})
    later = lever(addresses["groww"], "show", {"key": "NSE:RELIANCE", "last": 1401})
    assert later["sequence"] > first["sequence"]
    time.sleep(2.5)
    moved = lever(addresses["upstox"], "show", {"key": "NSE:RELIANCE", "last": 1402})
    assert moved["sequence"] > later["sequence"] + 1

    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    with pytest.raises(requests.ConnectionError):
        lever(addresses["zerodha"], "")


def test_ports_must_fit():
    command = [sys.executable, "-m", "tests.emulators", "all", "--port", "1"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
