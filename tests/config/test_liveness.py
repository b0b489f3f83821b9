import os
import time

import pytest

from config import liveness
from config.celery import app, canary


@pytest.fixture
def mark(tmp_path, monkeypatch):
    monkeypatch.setattr(liveness, "MARK", tmp_path / "alive")
    monkeypatch.setattr(liveness, "_marked", {})
    return tmp_path / "alive"


def test_task_leaves_a_mark(mark):
    assert not liveness.working()

    canary.apply()

    assert liveness.working()


def test_old_mark_is_no_life(mark):
    liveness.mark()
    old = time.time() - 2 * liveness.LATEST_SECONDS
    os.utime(mark, (old, old))

    assert not liveness.working()


def test_every_worker_gets_a_canary_before_it_counts_as_dead():
    canaries = [e for e in app.conf.beat_schedule.values() if e["task"] == "config.canary"]

    assert {e["options"]["queue"] for e in canaries} == {"default", "marketdata"}
    assert all(2 * e["schedule"] < liveness.LATEST_SECONDS for e in canaries)


def test_closed_port_is_no_answer():
    assert not liveness.answers("http://127.0.0.1:1/")


def test_what_is_sent_does_not_hide_what_is_done(mark):
    """The embedded worker sends the schedule's tasks too, and each just before it does it."""
    assert liveness.mark(sender="a task")
    assert liveness.mark("done")
    assert not liveness.mark("done")
