"""Figures into lines, a table, verdicts and a file."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psycopg

from bench.paths import PATHS

WEB_MEMORY_MB = 250.0
PACKAGES = ("django", "djangorestframework", "granian", "psycopg", "celery", "redis", "msgspec")


@dataclass(frozen=True, slots=True)
class Result:
    """One path with one number of clients. Rates are medians over the slices."""

    path: str
    clients: int
    rate: float
    reference: float
    ratio: float  # the median of the ratios of neighbouring slices
    p50_ms: float
    p99_ms: float
    errors: int
    first_error: str = ""
    spread: float = 0.0  # (fastest - slowest) / median of the slices
    settled_per_second: float | None = (
        None  # what the workers got done, from the first order to the last
    )
    cpu_us: dict[str, int] = field(
        default_factory=dict
    )  # of each process for one request, workers' part included

    @property
    def name(self) -> str:
        return f"{self.path}_{self.clients}"

    def line(self) -> str:
        text = (
            f"bench {self.name} {self.rate:.0f} {PATHS[self.path].unit} ratio={self.ratio:.2f} "
            f"p50={self.p50_ms:.1f}ms p99={self.p99_ms:.1f}ms errors={self.errors}"
        )
        return (
            text
            if self.settled_per_second is None
            else f"{text} settled={self.settled_per_second:.0f}/s"
        )

    def cells(self) -> list[str]:
        """Return the columns of the table after the title."""
        settled = "" if self.settled_per_second is None else f"{self.settled_per_second:.0f}"
        used = [str(self.cpu_us.get(name, "")) for name in ("web", "worker-io", "postgres")]
        return [
            str(self.clients), f"{self.rate:.0f}", f"{self.reference:.0f}", f"{self.ratio:.2f}",
            f"{self.p50_ms:.1f}", f"{self.p99_ms:.1f}", str(self.errors), settled, *used,
        ]  # fmt: skip

    def missed(self) -> list[str]:
        """Return the bars that this result misses."""
        bars, missed = PATHS[self.path].bars, []
        if self.errors:
            missed.append(f"{self.name}: {self.errors} errors, first: {self.first_error}")
        if bars is None or self.clients == 1:
            return missed
        if self.rate < bars.rate:
            missed.append(f"{self.name}: {self.rate:.0f}/s, at least {bars.rate:.0f}/s wanted")
        if bars.p99_ms is not None and self.p99_ms > bars.p99_ms:
            missed.append(
                f"{self.name}: p99 {self.p99_ms:.0f} ms, at most {bars.p99_ms:.0f} ms wanted"
            )
        if bars.ratio is not None and self.ratio < bars.ratio:
            missed.append(f"{self.name}: ratio {self.ratio:.2f}, at least {bars.ratio:.2f} wanted")
        return missed


def result(
    path: str,
    clients: int,
    *,
    subjects: list[dict[str, Any]],
    references: list[dict[str, Any]],
    settled_per_second: float | None,
    cpu_seconds: Mapping[str, float],
) -> Result:
    """Sum up the slices of one step, subject and reference by turns."""
    rates = [part["done"] / part["seconds"] for part in subjects]
    bare = [part["done"] / part["seconds"] for part in references]
    latencies = sorted(ms for part in subjects for ms in part["latencies"]) or [0.0]
    rate = statistics.median(rates)
    failures = subjects + references
    done = sum(len(part["latencies"]) for part in subjects) or 1
    return Result(
        path=path,
        clients=clients,
        rate=round(rate, 1),
        reference=round(statistics.median(bare), 1),
        ratio=round(
            statistics.median(
                ours / (other or 1.0) for ours, other in zip(rates, bare, strict=True)
            ),
            3,
        ),
        p50_ms=round(latencies[len(latencies) // 2], 2),
        p99_ms=round(latencies[int(len(latencies) * 0.99)], 2),
        errors=sum(part["errors"] for part in failures),
        first_error=next((part["first_error"] for part in failures if part["first_error"]), ""),
        spread=round((max(rates) - min(rates)) / (rate or 1.0), 2),
        settled_per_second=None if settled_per_second is None else round(settled_per_second, 1),
        cpu_us={
            name: round(used / done * 1e6)
            for name, used in cpu_seconds.items()
            if used / done > 5e-6
        },
    )


@dataclass
class Report:
    """The whole run."""

    machine: dict[str, Any]
    results: list[Result] = field(default_factory=list)
    memory_mb: dict[str, float] = field(default_factory=dict)

    def add_memory(self, found: dict[str, float]) -> None:
        for name, size in found.items():
            self.memory_mb[name] = round(max(size, self.memory_mb.get(name, 0.0)), 1)

    def memory_line(self) -> str:
        return "bench memory " + " ".join(
            f"{name}={size:.0f}MB" for name, size in self.memory_mb.items()
        )

    def missed(self) -> list[str]:
        missed = [text for one in self.results for text in one.missed()]
        if (size := self.memory_mb.get("web", 0.0)) > WEB_MEMORY_MB:
            missed.append(f"a web process has {size:.0f} MB, at most {WEB_MEMORY_MB:.0f} MB wanted")
        return missed

    def table(self) -> str:
        head = [
            "path", "clients", "per second", "bare", "ratio", "p50 ms", "p99 ms", "errors",
            "settled/s", "CPU us: web", "worker", "PostgreSQL",
        ]  # fmt: skip
        rows = [[PATHS[one.path].title, *one.cells()] for one in self.results]
        widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
        lines = [head, ["-" * width for width in widths], *rows]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if n else cell.ljust(width)
                for n, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        )

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        body = {
            "machine": self.machine,
            "memory_mb": self.memory_mb,
            "results": [{"name": one.name, **asdict(one)} for one in self.results],
        }
        path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")


SETTINGS = ("synchronous_commit", "fsync", "autovacuum", "shared_buffers")


def machine(dsn: str) -> dict[str, Any]:
    """Return what the figures depend on."""
    with psycopg.connect(dsn) as connection:
        version = connection.info.server_version
        shown = {
            name: (connection.execute(f"SHOW {name}").fetchone() or [""])[0] for name in SETTINGS
        }
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git.stdout.strip(),
        "cores": os.cpu_count(),
        "idle_before": _idle(),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        "postgresql": f"{version // 10000}.{version % 10000}",
        **shown,
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def _idle() -> float:
    """Return the share of the cores that nobody used for a second: neighbours spoil the figures."""

    def times() -> tuple[int, int]:
        fields = [int(word) for word in Path("/proc/stat").read_text().split()[1:9]]
        return fields[3] + fields[4], sum(fields)

    idle, total = times()
    time.sleep(1)
    idle_later, total_later = times()
    return round((idle_later - idle) / (total_later - total), 2)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
