"""The one event loop that the SDK's sockets of this process share, in a thread of its own.

Twisted's reactor runs once in the life of a process and is never stopped here. Only a process that
is there for streams starts it; the web process never does. Importing this module installs it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _installed

# its type is only known once it runs
_reactor: Any = _installed

START_SECONDS = 10.0

_lock = threading.Lock()
_thread: threading.Thread | None = None


def start() -> None:
    """Let the loop run, if it does not yet.

    Raises:
        TimeoutError: it does not come up.
    """
    global _thread  # noqa: PLW0603
    with _lock:
        if _thread is None:
            up = threading.Event()
            _reactor.callWhenRunning(up.set)
            _thread = threading.Thread(
                target=_reactor.run,
                kwargs={"installSignalHandlers": False},
                name="kite-reactor",
                daemon=True,
            )
            _thread.start()
            if not up.wait(START_SECONDS):
                raise TimeoutError("the event loop did not start")


def run_soon(call: Callable[..., Any], *arguments: Any) -> None:
    """Call from the loop's thread: nothing of Twisted may be touched from another."""
    _reactor.callFromThread(call, *arguments)


def run_later(seconds: float, call: Callable[[], Any]) -> Any:
    """Call from the loop's thread later; only for what runs in it already. Returns a timer."""
    return _reactor.callLater(seconds, call)
