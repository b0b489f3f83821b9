"""The harness itself: what it counts, and what it says of it."""

import socket
import threading

import pytest
from django.db import connection

from bench import report
from bench.load import Generator
from bench.paths import PATHS, Caller
from bench.stack import STARTED, commands

CALLER = Caller("bench@example.invalid", "a password", "a.b.c", "2100.00", "d.e.f")
ANSWER = b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def server():
    """Answer every request of every connection with the status that is set."""
    listener = _Listener(socket.create_server(("127.0.0.1", 0)))

    def serve(line):
        with line:
            while line.recv(65536):
                line.sendall(ANSWER % listener.status)

    def accept():
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[line], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener
    listener.close()


class _Listener:
    """A listening socket with a status beside it."""

    def __init__(self, sock):
        self.sock, self.status = sock, 200

    def __getattr__(self, name):
        return getattr(self.sock, name)


def generator(server):
    info = connection.get_connection_params()
    names = {"host": "host", "port": "port", "user": "user", "dbname": "dbname"}
    dsn = " ".join(f"{key}={info[name]}" for key, name in names.items() if info.get(name))
    return Generator(server.getsockname(), [CALLER], dsn)


@pytest.mark.django_db
def test_what_was_answered_in_time_is_counted(server):
    figures = generator(server).run("quote", 4, 0.3, reference=False)

    assert figures.done == len(figures.latencies) > 4
    assert figures.errors == 0


@pytest.mark.django_db
def test_another_status_is_an_error_and_is_shown(server):
    server.status = 503

    figures = generator(server).run("place", 2, 0.1, reference=True)

    assert figures.done == 0
    assert figures.errors > 0
    assert "503" in figures.first_error


def test_requests_are_whole():
    for plan in PATHS.values():
        for make in (plan.request, plan.reference):
            head, _, body = make(CALLER, 7).partition(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            lengths = [line for line in lines if line.startswith(b"Content-Length")]
            assert lengths == ([f"Content-Length: {len(body)}".encode()] if body else [])


def part(done, errors=0):
    return {
        "seconds": 1.0,
        "done": done,
        "errors": errors,
        "first_error": "503" if errors else "",
        "latencies": [float(n) for n in range(100)],
    }


def test_medians_of_neighbouring_slices():
    one = report.result(
        "place",
        8,
        subjects=[part(500), part(100), part(450)],
        references=[part(1000), part(250), part(1000)],
        settled_per_second=200.0,
        cpu_seconds={"web": 0.3, "feed": 0.0},
    )

    assert (one.rate, one.reference, one.ratio) == (450, 1000, 0.45)
    assert (one.p50_ms, one.p99_ms) == (50, 99)
    assert one.cpu_us == {"web": 1000}
    assert one.missed() == []
    assert one.line().startswith("bench place_8 450 orders/s ratio=0.45 p50=50.0ms p99=99.0ms")


def test_missed_bars_are_named():
    one = report.result(
        "place",
        8,
        subjects=[part(100, errors=1)],
        references=[part(1000)],
        settled_per_second=None,
        cpu_seconds={},
    )
    whole = report.Report({}, [one], {"web": 300.0})

    assert [text.split(",")[0] for text in whole.missed()] == [
        "place_8: 1 errors",
        "place_8: 100/s",
        "place_8: ratio 0.10",
        "a web process has 300 MB",
    ]


def test_every_process_of_production_is_started(tmp_path):
    found = commands(18000, tmp_path)

    assert tuple(found) == STARTED
    assert "18000" in found["web"]
    assert not any("0.0.0.0" in word for command in found.values() for word in command)
