"""Whether a process without an address works: each task leaves a mark, and this looks at it.

``python -m config.liveness`` asks about the worker or schedule of this machine or container,
``python -m config.liveness http://127.0.0.1:8001/`` about a server. Exit code 0 is alive.
"""

import contextlib
import http.client
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# Beside the platform's data, or by user: two platforms on a machine must not vouch for each other.
MARK = Path(os.environ.get("VAR_DIR") or tempfile.gettempdir()) / f"sauda-alive-{os.getuid()}"
MARK_SECONDS = 5.0  # no more often than this
LATEST_SECONDS = 90.0  # the canary below comes every 30
CANARY_SECONDS = 30.0
WORKER_KEY, WORKER_SECONDS = "health:worker", 60  # in the cache: what /health tells of workers

_marked: dict[str, float] = {}  # when a task was last marked as sent, and as done


def mark(what: str = "sent", **_: Any) -> bool:
    """Receive a signal of Celery, a task is sent or done; return whether it is time for a mark.

    Each has its own time: where one process sends and does, what is sent must not hide what is not
    done.
    """
    if time.monotonic() - _marked.get(what, float("-inf")) < MARK_SECONDS:
        return False
    _marked[what] = time.monotonic()
    with contextlib.suppress(OSError):  # without a mark we are taken for dead, which is the answer
        MARK.touch()
    return True


def working() -> bool:
    try:
        return time.time() - MARK.stat().st_mtime < LATEST_SECONDS
    except FileNotFoundError:
        return False


def answers(url: str) -> bool:
    """Tell whether a server gives any answer but an error of its own."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status < http.HTTPStatus.INTERNAL_SERVER_ERROR
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if (answers(sys.argv[1]) if len(sys.argv) > 1 else working()) else 1)
