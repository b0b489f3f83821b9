"""`python -m bench`: start the platform as in production, load it, and say what it carried."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg

from bench import report
from bench.paths import PATHS
from bench.stack import ROOT, CannotStart, Stack, stack
from config.env import ConfigurationError

RESULTS = ROOT / "bench" / "results" / "latest.json"
SEED = "from bench import seed; seed.main(32)"  # as many users as clients at most
SLICES = 4  # of each step; between two of them the reference has its turn
REFERENCE_SHARE = 0.5  # of a slice's seconds
WARM_SECONDS = 1.0
SETTLE_SECONDS = 60.0


def main() -> int:
    options = _options()
    try:
        with stack(keep_logs=options.logs) as running:
            found = _run(running, options)
    except (CannotStart, ConfigurationError) as e:
        print(f"bench: {e}", file=sys.stderr)
        return 2
    print(f"\n{found.table()}\n")
    missed = found.missed()
    for text in missed:
        print(f"MISSED {text}")
    if options.results:
        found.write(options.results)
    errors = any(one.errors for one in found.results)
    return int(errors or (options.check and bool(missed)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each step (default: 5)")
    parser.add_argument("--only", nargs="*", choices=PATHS, help="paths to measure (default: all)")
    parser.add_argument("--clients", type=int, nargs="*", help="how many (default: 1 8 32)")
    parser.add_argument("--check", action="store_true", help="exit 1 if a bar is missed")
    parser.add_argument(
        "--results", type=Path, help="file for the results (default, for a whole run: latest.json)"
    )
    parser.add_argument("--logs", type=Path, help="copy the processes' logs into this folder")
    options = parser.parse_args()
    if options.results is None and not options.only and not options.clients:
        options.results = RESULTS
    return options


def _run(running: Stack, options: argparse.Namespace) -> report.Report:
    seed = json.loads(running.run("manage.py", "shell", "-v0", "--no-imports", "-c", SEED))
    with psycopg.connect(running.dsn, autocommit=True) as owner:
        owner.execute("ANALYZE")  # as autovacuum does after a while; the tables have just been made
    found = report.Report(report.machine(running.dsn))
    with Load(running, seed["callers"]) as load:
        for path in options.only or PATHS:
            for clients in options.clients or PATHS[path].clients:
                one = _step(running, load, path, clients, options.seconds)
                running.alive()
                found.results.append(one)
                found.add_memory(running.memory())
                print(one.line(), flush=True)
    print(found.memory_line(), flush=True)
    return found


class Load:
    """The load generator's process."""

    def __init__(self, running: Stack, callers: list[dict[str, Any]]) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", "bench.load"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._write({"address": running.address, "dsn": running.dsn, "callers": callers})

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.child.stdin
        self.child.stdin.close()
        self.child.wait(10)

    def ask(self, **order: Any) -> Any:
        assert self.child.stdout
        self._write(order)
        answer = self.child.stdout.readline()
        if not answer:
            raise CannotStart("the load generator ended")
        return json.loads(answer)

    def _write(self, order: dict[str, Any]) -> None:
        assert self.child.stdin
        self.child.stdin.write(json.dumps(order) + "\n")
        self.child.stdin.flush()


def _step(running: Stack, load: Load, path: str, clients: int, seconds: float) -> report.Result:
    """Measure one path: subject and reference by turns, so that a slow minute slows both."""
    each = seconds / SLICES
    gives_work = PATHS[path].gives_work
    for reference in (False, True):
        load.ask(do="run", path=path, clients=clients, seconds=WARM_SECONDS, reference=reference)
    if gives_work:
        load.ask(do="settle", seconds=SETTLE_SECONDS)
    subjects, references, worked = [], [], []
    used: Counter[str] = Counter()
    for _ in range(SLICES):
        begun, before = time.perf_counter(), running.cpu()
        subjects.append(
            load.ask(do="run", path=path, clients=clients, seconds=each, reference=False)
        )
        if gives_work:  # the reference must not share the cores with what is left to do
            _, left = load.ask(do="settle", seconds=SETTLE_SECONDS)
            worked.append((subjects[-1]["done"] + clients, time.perf_counter() - begun))
            if left:
                subjects[-1]["errors"] += left
                subjects[-1]["first_error"] = (
                    f"{left} commands not settled after {SETTLE_SECONDS:.0f} s"
                )
        after = running.cpu()
        used.update({name: after[name] - before[name] for name in after})
        references.append(
            load.ask(
                do="run", path=path, clients=clients, seconds=each * REFERENCE_SHARE, reference=True
            )
        )
    rate = sum(done for done, _ in worked) / sum(took for _, took in worked) if worked else None
    return report.result(
        path,
        clients,
        subjects=subjects,
        references=references,
        settled_per_second=rate,
        cpu_seconds=used,
    )


if __name__ == "__main__":
    sys.exit(main())
