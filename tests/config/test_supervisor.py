import json
import os
import signal
import subprocess
import sys
import time

import pytest

from config.env import ConfigurationError
from config.supervisor import Child, Lock


def wait_for(condition, seconds=10.0):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
    return found


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_second_supervisor_is_told_where_the_first_is(tmp_path):
    with Lock(tmp_path / "platform.json") as first:
        first.write({"pid": 4242, "url": "http://127.0.0.1:8123"})

        with (
            pytest.raises(ConfigurationError, match=r"already running.*8123.*4242"),
            Lock(first.path),
        ):
            pass

    with Lock(first.path):
        pass


def test_child_that_ends_is_started_again_with_growing_pauses():
    child = Child("feed", [sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ))
    child.start()

    pauses = []
    while len(pauses) < 3:
        event = wait_for(child.keep)
        if "exit code 3" in event:
            pauses.append(event.rpartition("in ")[2])

    assert pauses == ["0.5 s", "1.0 s", "2.0 s"]
    child.stop()


def test_child_is_ended_politely_then_not():
    ignore = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    child = Child("web", [sys.executable, "-c", ignore], dict(os.environ), patience=0.3)
    child.start()
    process = child.process
    time.sleep(0.5)

    child.stop()

    assert process.returncode == -signal.SIGKILL


def test_children_die_with_a_killed_supervisor(tmp_path):
    program = (
        "import os, sys, time\n"
        "from config.supervisor import Child\n"
        "c = Child('x', [sys.executable, '-c', 'import time; time.sleep(60)'], dict(os.environ))\n"
        "c.start()\n"
        "print(c.process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert alive(child)

    parent.kill()
    parent.wait()

    wait_for(lambda: not alive(child))


def test_lock_file_is_emptied_for_readers(tmp_path):
    with Lock(tmp_path / "platform.json") as lock:
        assert json.loads(lock.path.read_text()) == {"pid": os.getpid()}

    assert lock.path.read_text() == ""
