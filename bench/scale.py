"""A million messages: does a full queue slow a lane down, does its memory grow?

``python -m bench.scale`` or ``python -m bench --scale``.  Drains, one lane, on the embedded
default, each from an empty store:

- ``small``: 10,000 queued, the measure for the others
- ``queued``: 1,000,000 queued; all are run, tenth by tenth
- ``beside``: 10,000 queued beside 1,000,000 that are not due
- ``due``: 1,000,000 delayed that have all become due

At least 0.8 of the rate of ``small``, and the memory of the worker at the end at most 10 MB
over what it was after the first tenth.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.processes import Worker, has_proc
from bench.report import table
from bench.work import MARKS, read_marks

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".bench"
CASES = ("small", "queued", "beside", "due")
FLOOR = 0.8
GROWTH = 10.0
"""MB that a worker may grow by."""
SMALL = 10_000


def measure(case: str, count: int) -> dict[str, float]:
    """One case, in this process, in the current (empty) directory."""
    from bench.apps import caraway_app

    side = caraway_app.make()
    marks = Path(os.environ[MARKS])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    due = 0.0
    if case == "beside":
        side.publish_delayed(count, 7200.0)
    elif case == "due":
        # long enough that all are stored before the first is due
        due = time.time() + 10 + count / 10_000
        side.publish_delayed(count, due - time.time())
    number = {"small": SMALL, "beside": SMALL, "queued": count, "due": 0}[case]
    for part in range(10 if number else 0):
        side.publish_mark(str(part))
        side.publish_many(number // 10 - 1)
    filled = time.perf_counter() - begin
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    store = sum(path.stat().st_size for path in Path(".caraway").glob("*.db*")) / 2**20
    if due:
        time.sleep(max(0.0, due - time.time()) + 0.5)
    worker = Worker(
        side.worker(processes=1, concurrency=1, pool="prefork"),
        cwd=Path.cwd(),
        log=Path("worker.log"),
    )
    memory: list[tuple[float, float]] = []
    rest = count if case == "beside" else 0
    deadline = time.monotonic() + 600
    try:
        first = 0.0
        while True:
            worker.check()
            now = time.monotonic()
            if now > deadline:
                raise TimeoutError(case)
            if has_proc():
                memory.append((now, worker.memory()["pss"]))
            left = side.unfinished()
            if case == "due" and left < count and not first:
                first = now
                begun = count - left
            if left <= rest:
                end = time.monotonic()
                break
            time.sleep(0.02 if number == SMALL else 0.2)
    finally:
        worker.stop()
    found = {"fill": filled, "grown": grown, "store": store}
    if case == "due":
        found["rate"] = (count - begun) / (end - first)
    else:
        times = [mark[1] for mark in read_marks(marks)]
        found["rate"] = number / (end - times[0])
        if case == "queued":
            tenths = [b - a for a, b in itertools.pairwise(times)]
            found["slowest"] = number / 10 / max(tenths)
    if len(memory) > 10:
        tenth = memory[len(memory) // 10][1]
        found["memory"] = max(size for _, size in memory)
        found["growth"] = max(size for _, size in memory[len(memory) // 10 :]) - tenth
    return found


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages")
    parser.add_argument("--case", choices=CASES, help="only this one (and small)")
    parser.add_argument("--measure", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    count = options.count // 10 if options.quick else options.count
    if options.measure:
        print(json.dumps(measure(options.measure, count)))
        return 0
    HOME.mkdir(exist_ok=True)
    (HOME / ".gitignore").write_text("*\n")
    found: dict[str, dict[str, float]] = {}
    for case in CASES:
        if options.case and case not in {"small", options.case}:
            continue
        tries = [_apart(case, count) for _ in range(3 if case == "small" else 1)]
        found[case] = max(tries, key=lambda one: one["rate"])
    lines = []
    for case, one in found.items():
        ratio = one["rate"] / found["small"]["rate"]
        good = ratio >= FLOOR and one.get("growth", 0.0) <= GROWTH
        lines.append(
            [
                case,
                f"{one['rate']:,.0f}/s",
                f"{ratio:.2f}",
                f"{one['growth']:.1f} MB" if "growth" in one else "-",
                f"{one['grown']:.1f} MB",
                f"{one['store']:,.0f} MB",
                f"{one['fill']:.1f} s",
                "ok" if good else "MISSED",
            ]
        )
    head = ["case", "drain", f">= {FLOOR}", "worker grew", "client grew", "store", "filled in", ""]
    print("\n" + table(head, lines))
    (HOME / "scale.json").write_text(json.dumps(found, indent=2) + "\n")
    return 0


def _apart(case: str, count: int) -> dict[str, float]:
    """`measure` in a process and a directory of its own."""
    print(f"{case} ({count:,}) ...", file=sys.stderr, flush=True)
    directory = Path(tempfile.mkdtemp(prefix="scale-", dir=HOME))
    try:
        (directory / "caraway.toml").write_text("")
        env = {key: value for key, value in os.environ.items() if not key.startswith("CARAWAY_")}
        env |= {"PYTHONPATH": str(ROOT), MARKS: str(directory / "marks")}
        done = subprocess.run(
            [sys.executable, "-m", "bench.scale", "--measure", case, "--count", str(count)],
            cwd=directory,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    answer: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"    {answer['rate']:,.0f}/s", file=sys.stderr, flush=True)
    return answer


if __name__ == "__main__":
    sys.exit(main())
