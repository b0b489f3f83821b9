"""The matrix must not call anything good that did not run, or failed."""

from __future__ import annotations

import pytest

from brokerages.registry import BROKER_NAMES
from tests.brokerages.contract.__main__ import Matrix


def report(broker: str, outcome: str, when: str = "call", reason: str = "") -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=f"tests/brokerages/contract/test_orders.py::test_x[{broker}]",
        location=("", None, ""),
        keywords={},
        outcome=outcome,
        longrepr=("", 1, f"Skipped: {reason}") if outcome == "skipped" else None,
        when=when,
        user_properties=[("broker", broker), ("check", "x")],
    )


def matrix_of(*reports: pytest.TestReport) -> Matrix:
    matrix = Matrix()
    for one in reports:
        matrix.pytest_runtest_logreport(one)
    return matrix


def test_all_is_well():
    matrix = matrix_of(*(report(broker, "passed") for broker in BROKER_NAMES))
    assert matrix.failed() == 0
    count = len(BROKER_NAMES)
    assert matrix.lines()[-1] == f"contract: brokers={count} checks={count} failed=0"


def test_check_that_does_not_apply_says_why():
    matrix = matrix_of(
        report("paper", "skipped", "setup", "paper has no wire"),
        *(report(broker, "passed") for broker in BROKER_NAMES if broker != "paper"),
    )
    assert matrix.failed() == 0
    assert "  - 1  paper has no wire" in matrix.lines()


@pytest.mark.parametrize("when", ["setup", "call", "teardown"])
def test_failure_counts_wherever_it_happens(when):
    reports = [report(broker, "passed") for broker in BROKER_NAMES]
    matrix = matrix_of(*reports, report("zerodha", "failed", when))
    assert matrix.failed() == 1
    assert matrix.lines()[-1].endswith("failed=1")


def test_broker_without_a_result_failed():
    assert matrix_of(report("paper", "passed")).failed() == len(BROKER_NAMES) - 1


def test_nothing_that_ran_is_no_success():
    assert matrix_of().failed() == 1


def test_other_failures_count():
    matrix = matrix_of(*(report(broker, "passed") for broker in BROKER_NAMES))
    other = report("", "failed")
    other.user_properties = []
    matrix.pytest_runtest_logreport(other)
    assert matrix.failed() == 1
