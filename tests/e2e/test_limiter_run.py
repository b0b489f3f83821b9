"""Processes at full speed against an emulated broker: its own record says what came when.

A short form of `python -m bench.limiter`, which runs for a minute.
"""

from __future__ import annotations

import pytest

from bench.limiter import CAP, busiest, run

pytestmark = [pytest.mark.timeout(240)]


def test_eight_processes_keep_the_cap_and_use_it():
    result = run(8, 10.0)

    assert result.peak <= CAP, result
    assert result.refused == result.failed == 0
    assert result.used >= 0.75, result  # of a busy machine; the bar of the whole run is higher
    assert result.cancels  # they had their reserve


def test_the_cap_holds_while_redis_dies_and_comes_back():
    result = run(8, 15.0, kill_redis=True)

    assert result.peak <= CAP, result
    assert result.refused == result.failed == 0
    assert result.orders >= 8 * 5  # they went on alone


def test_the_judge_sees_too_many():
    assert busiest([0.0, 0.5, 0.999, 1.0], 1.0) == 3
    assert busiest([0.0, 0.1, 0.2, 5.0], 1.0) == 3
    assert busiest([], 1.0) == 0
