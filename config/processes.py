"""Child processes that do not outlive us, and orphans of a supervisor that was killed."""

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any


def _nobody() -> int:
    """Return the user that root lowers servers to. PostgreSQL wants one that has a name."""
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(65534).pw_uid
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("nobody").pw_uid
    return 65534


LOWERED_ID = _nobody()
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def lowered() -> dict[str, Any]:
    """Return the ``subprocess`` arguments that lower root to an ordinary user; empty for others."""
    if os.geteuid() != 0:
        return {}
    return {"user": LOWERED_ID, "group": LOWERED_ID, "extra_groups": []}


def die_with_parent(stop: signal.Signals) -> Callable[[], None]:
    """Return a function for the child to run before exec: it gets ``stop`` when its parent dies.

    Linux only; elsewhere nothing happens. The parent is the *thread* that starts the child, so
    start children from a thread that lives as long as the process.
    """
    parent = os.getpid()

    def in_child() -> None:
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, int(stop))
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)

    return in_child


def start(
    command: Sequence[str | Path],
    *,
    stop: signal.Signals = signal.SIGTERM,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
    lower: bool = False,
    pass_fds: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start a child in its own session: Ctrl-C reaches only us, and we stop children in order."""
    return subprocess.Popen(  # noqa: S603
        [str(part) for part in command],
        cwd=cwd,
        env=None if env is None else dict(env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        start_new_session=True,
        pass_fds=pass_fds,
        preexec_fn=die_with_parent(stop),  # noqa: PLW1509
        **(lowered() if lower else {}),
    )


def end(child: subprocess.Popen[bytes], *steps: tuple[signal.Signals, float]) -> None:
    """Send each signal and wait its seconds until the child is gone; at last SIGKILL."""
    for number, seconds in (*steps, (signal.SIGKILL, 5.0)):
        if child.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(seconds)


def program(process: int) -> str:
    """Return the name of the program that a process runs; '' if there is none, or a dead one."""
    if not Path("/proc/self").exists():
        answer = subprocess.run(  # noqa: S603
            ["ps", "-o", "comm=", "-p", str(process)],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
        return Path(answer.stdout.strip()).name
    try:
        # number (name) state ...; a name may hold anything
        name, _, fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")
    except OSError:
        return ""
    return "" if fields.split()[0] in {"Z", "X"} else name.partition("(")[2]


def end_other(process: int, *steps: tuple[signal.Signals, float]) -> None:
    """Like ``end``, for a process that is not our child."""
    name = program(process)
    for number, seconds in (*steps, (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if program(process) != name:
                return
            time.sleep(0.02)


def living_in(folder: Path) -> list[int]:
    """Return the processes, other than ours, whose working directory is ``folder``. Linux only."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "cwd") == str(folder) and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        except OSError:  # gone meanwhile, or another user's
            continue
    return sorted(found)


def end_orphans(folder: Path, *steps: tuple[signal.Signals, float]) -> int:
    """Stop every process that still works in ``folder``; return how many there were."""
    count = len(living_in(folder))
    for number, seconds in (*steps, (signal.SIGKILL, 5.0)):
        for process in _leaders(living_in(folder)):  # their children follow them
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        until = time.monotonic() + seconds
        while living_in(folder):
            if time.monotonic() > until:
                break
            time.sleep(0.02)
        else:
            return count
    for process in living_in(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return count


def _leaders(found: list[int]) -> list[int]:
    """Return those whose parent is not among them."""
    leaders = []
    for process in found:
        with contextlib.suppress(OSError, ValueError):
            # The fields after the command's name, which may itself hold spaces: state, parent, ...
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) not in found:
                leaders.append(process)
    return leaders


def make_folder(path: Path) -> None:
    """Make a folder that others may pass through, to what they own below it, but not list."""
    path.mkdir(parents=True, exist_ok=True)
    mode, owner = path.stat().st_mode, path.stat().st_uid
    if owner == os.geteuid() and mode & 0o011 != 0o011:  # whatever made it, or the umask
        path.chmod(mode & 0o777 | 0o011)


def reachable(path: Path) -> bool:
    """Tell whether the lowered user can go down to ``path`` through every folder above it."""
    for folder in path.absolute().parents:
        try:
            status = folder.stat()
        except FileNotFoundError:
            continue  # we shall make it
        if not status.st_mode & 0o001 and status.st_uid != LOWERED_ID:
            return False
    return True
