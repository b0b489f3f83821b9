"""Children that are started again when they end, and the lock that keeps two supervisors apart."""

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from config import processes
from config.env import ConfigurationError

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
STEADY_SECONDS = 30.0  # a child that lived so long starts again at once


@dataclass
class Child:
    """One process of the tree; ``keep`` starts it again with growing pauses."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    patience: float = 10.0  # seconds to end by itself after SIGTERM
    pass_fds: tuple[int, ...] = ()
    output: IO[bytes] | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _since: float = field(default=0.0, init=False)
    _pause: float = field(default=0.0, init=False)
    _not_before: float = field(default=0.0, init=False)

    def start(self) -> None:
        # SIGKILL: after our death nothing of this tree may linger and meet the next one.
        self.process = processes.start(
            self.command,
            stop=signal.SIGKILL,
            env=self.env,
            pass_fds=self.pass_fds,
            output=self.output,
        )
        self._since = time.monotonic()

    def keep(self) -> str:
        """Start the child if it is time to; return what happened, or ''."""
        now = time.monotonic()
        if self.process is None:
            if now < self._not_before:
                return ""
            self.start()
            return f"{self.name} started again"
        code = self.process.poll()
        if code is None:
            return ""
        self.process = None
        steady = now - self._since > STEADY_SECONDS
        self._pause = 0.0 if steady else min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        self._not_before = now + self._pause
        return f"{self.name} ended ({_meaning(code)}), next start in {self._pause:.1f} s"

    def stop(self) -> None:
        if self.process is not None:
            processes.end(self.process, (signal.SIGTERM, self.patience))
            self.process = None


class Lock:
    """Held while a supervisor works in a folder; the kernel frees it however that one ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            ConfigurationError: another supervisor holds it.
        """
        processes.make_folder(self.path.parent)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = self.read()
            where = f" at {other['url']}" if "url" in other else ""
            raise ConfigurationError(
                f"Sauda is already running in {self.path.parent}{where} "
                f"(process {other.get('pid', 'unknown')}). Stop it first, or choose another --data."
            ) from None
        self.write({"pid": os.getpid()})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)

    def write(self, facts: Mapping[str, Any]) -> None:
        """Put what others may want to know, such as the address, into the file."""
        assert self._file is not None  # noqa: S101
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(facts).encode(), 0)

    def read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _meaning(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
