"""``make contract``: the checks of every broker, as a matrix.

Runs the package's tests with pytest (arguments are pytest's) and prints brokers × checks: ``ok``,
``-`` with a number where a check does not apply (the reasons follow), ``FAIL``. Exit code 1 when
one failed.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import pytest

from brokerages.registry import BROKER_NAMES

HERE = Path(__file__).parent
FAIL = "FAIL"


class Matrix:
    """Collects results, also those that other processes of pytest-xdist send."""

    def __init__(self) -> None:
        self.results: dict[str, dict[str, str]] = defaultdict(dict)  # check: broker: result
        self.section: dict[str, str] = {}  # of a check
        self.reasons: dict[str, int] = {}
        self.other_failures: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        about = dict(report.user_properties)
        broker, check = about.get("broker"), about.get("check")
        if broker is None or check is None:
            if report.failed:
                self.other_failures.append(report.nodeid)
            return
        module = Path(report.nodeid.partition("::")[0]).stem
        section = module.removeprefix("test_").replace("_", " ")
        name = f"{section}: {check}"
        self.section[name] = section
        known = self.results[name]
        if report.failed:
            known[broker] = FAIL
        elif report.skipped and known.get(broker) != FAIL:
            known[broker] = f"- {self._reason(report)}"
        elif report.when == "call":
            known.setdefault(broker, "ok")

    def _reason(self, report: pytest.TestReport) -> int:
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        return self.reasons.setdefault(text.removeprefix("Skipped: "), len(self.reasons) + 1)

    def failed(self) -> int:
        """Return how many checks failed, over all brokers. One without a result failed, too, and
        so did everything where nothing ran.
        """
        if not self.results:
            return 1
        return len(self.other_failures) + sum(
            self.results[name].get(broker, FAIL) == FAIL
            for name in self.results
            for broker in BROKER_NAMES
        )

    def lines(self) -> list[str]:
        width = max([len(check.partition(": ")[2]) for check in self.results] + [20])
        each, total = len(self.results), len(self.results) * len(BROKER_NAMES)
        head = "".join(f"{broker:>10}" for broker in BROKER_NAMES)
        lines = ["", f"{each} checks for each of {len(BROKER_NAMES)} brokers, {total} in all"]
        section = ""
        for name in sorted(self.results, key=lambda name: self.section[name]):
            if self.section[name] != section:
                section = self.section[name]
                lines += ["", f"{section.upper():<{width}}{head}"]
            row = "".join(f"{self.results[name].get(b, FAIL):>10}" for b in BROKER_NAMES)
            lines.append(f"{name.partition(': ')[2]:<{width}}{row}")
        lines += ["", "Why a check does not apply:"]
        lines += [f"  - {number}  {text}" for text, number in self.reasons.items()]
        for broker in BROKER_NAMES:
            told = [self.results[name].get(broker, FAIL) for name in self.results]
            passed, failed = told.count("ok"), told.count(FAIL)
            skipped = each - passed - failed
            lines.append(f"{broker:<10} {passed} ok, {skipped} do not apply, {failed} failed")
        lines += [f"failed besides: {name}" for name in self.other_failures]
        lines.append(f"contract: brokers={len(BROKER_NAMES)} checks={total} failed={self.failed()}")
        return lines


def main() -> int:
    matrix = Matrix()
    options = ["-q", "-rN", "--no-header", "--tb=short", str(HERE), *sys.argv[1:]]
    code = pytest.main(options, plugins=[matrix])
    sys.stdout.write("\n".join(matrix.lines()) + "\n")
    return int(bool(code or matrix.failed()))


if __name__ == "__main__":
    sys.exit(main())
