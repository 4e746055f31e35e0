"""A million messages: does a full queue slow a lane down, does its memory grow?

``python -m bench.scale`` or ``python -m bench --scale``.  Drains, one lane, on the embedded
default, or with ``--store redis`` on a Redis of its own, which holds some 2 GB then; each from
an empty store:

- ``small``: 10,000 queued, the measure for the others; drained anew before each of them, as a
  machine that others share is not the same after some minutes
- ``queued``: 1,000,000 queued; all are run, tenth by tenth
- ``beside``: 10,000 queued beside 1,000,000 that are not due
- ``due``: 1,000,000 delayed that have all become due

At least 0.8 of the rate of ``small``, and the memory of the worker at the end at most 10 MB
over what it was when three tenths were done.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from bench.processes import Worker, end_on_term, finish, has_proc
from bench.redis_wire import evaluate
from bench.report import table
from bench.servers import Servers
from bench.suite import REDIS
from bench.work import MARKS, read_marks

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".bench"
if TYPE_CHECKING:
    from bench.apps.caraway_app import CarawaySide

CASES = ("queued", "beside", "due")
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
        side.publish_many(count, countdown=7200.0)
    elif case == "due":
        # long enough that all are stored before the first is due
        due = time.time() + 10 + count / 20_000
        fill(side, count, datetime.fromtimestamp(due, UTC))
    elif case == "queued":
        fill(side, count)
    found = {"fill": time.perf_counter() - begin}
    found["grown"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found["store"] = store_bytes() / 2**20
    if due:
        time.sleep(max(0.0, due - time.time()) + 0.5)
    if case in {"queued", "due"}:
        found |= drain(side, 0)
        # on Redis, the results: all else is to be gone
        return found | {"left": store_bytes() / 2**20}
    # a short drain is noisy: the best of three
    for _ in range(3):
        marks.unlink(missing_ok=True)
        fill(side, SMALL)
        rate = drain(side, count if case == "beside" else 0)["rate"]
        found["rate"] = max(rate, found.get("rate", 0.0))
    return found


def store_bytes() -> int:
    """What the store holds: on the disk, or in the memory of Redis."""
    url = os.environ.get("BENCH_REDIS")
    if url:
        return evaluate(
            url, "return tonumber(redis.call('INFO', 'memory'):match('used_memory:(%d+)'))"
        )
    return sum(path.stat().st_size for path in Path(".caraway").glob("*.db*"))


def fill(side: CarawaySide, count: int, eta: datetime | None = None) -> None:
    """Queue so many, with a mark after each tenth and one at the start."""
    # Not a countdown, which begins anew with each: the last would be due much later.
    options = {"eta": eta} if eta else {}
    side.publish_mark("start", **options)
    for part in range(10):
        side.publish_many(count // 10 - 1, **options)
        side.publish_mark(str(part), **options)


def drain(side: CarawaySide, rest: int) -> dict[str, float]:
    """Run all but ``rest`` with one lane; rate and memory.

    The end is told by the marks: to count a million rows again and again would be to
    measure the counting.
    """
    marks = Path(os.environ[MARKS])
    command = side.worker(processes=1, concurrency=1, pool="prefork")
    total = side.unfinished() - rest
    memory: list[float] = []
    worker = Worker(command, cwd=Path.cwd(), log=Path("worker.log"))
    deadline = time.monotonic() + 600
    try:
        while (done := len(read_marks(marks))) < 11:
            worker.check()
            if time.monotonic() > deadline:
                raise TimeoutError("the tasks did not end in time")
            time.sleep(0.01 if total < 2 * SMALL else 0.1)
            # what it is made of is loaded and its page cache is full after some tasks
            if has_proc() and done > 3:
                memory.append(worker.memory()["pss"])
        while side.unfinished() > rest:
            worker.check()
            time.sleep(0.01)
    finally:
        worker.stop()
    times = sorted(mark[1] for mark in read_marks(marks))
    tenths = [later - earlier for earlier, later in pairwise(times)]
    found = {"rate": total / (times[-1] - times[0]), "slowest": total / 10 / max(tenths)}
    if len(memory) > 4:
        found |= {"memory": max(memory), "growth": max(memory) - memory[0]}
    return found


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages")
    parser.add_argument("--case", choices=CASES, help="only this one")
    parser.add_argument("--store", choices=["sqlite", "redis"], default="sqlite")
    parser.add_argument("--measure", choices=("small", *CASES), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    end_on_term()
    count = options.count // 10 if options.quick else options.count
    if options.measure:
        print(json.dumps(measure(options.measure, count)))
        return 0
    HOME.mkdir(exist_ok=True)
    (HOME / ".gitignore").write_text("*\n")
    found: dict[str, dict[str, float]] = {}
    servers = Servers(HOME)
    needs = REDIS if options.store == "redis" else {}
    try:
        for case in CASES:
            if options.case in {None, case}:
                small = _apart("small", SMALL, servers.provide(needs))["rate"]
                found[case] = _apart(case, count, servers.provide(needs)) | {"small": small}
    finally:
        servers.close()
    lines = []
    for case, one in found.items():
        ratio = one["rate"] / one["small"]
        good = ratio >= FLOOR and one.get("growth", 0.0) <= GROWTH
        lines.append(
            [
                case,
                f"{one['rate']:,.0f}/s",
                f"{one['small']:,.0f}/s",
                f"{ratio:.2f}",
                f"{one['slowest']:,.0f}/s" if "slowest" in one else "-",
                f"{one['growth']:.1f} MB" if "growth" in one else "-",
                f"{one['grown']:.1f} MB",
                f"{one['store']:,.0f} MB",
                f"{one['left']:,.0f} MB" if "left" in one else "-",
                f"{one['fill']:.1f} s",
                "ok" if good else "MISSED",
            ]
        )
    head = [
        "case",
        "drain",
        "of 10,000",
        f">= {FLOOR}",
        "slowest tenth",
        "worker grew",
        "client grew",
        "store",
        "store after",
        "filled in",
        "",
    ]
    print("\n" + table(head, lines))
    name = "scale.json" if options.store == "sqlite" else f"scale-{options.store}.json"
    (HOME / name).write_text(json.dumps(found, indent=2) + "\n")
    return 0


def _apart(case: str, count: int, more: dict[str, str]) -> dict[str, float]:
    """`measure` in a process and a directory of its own."""
    print(f"{case} ({count:,}) ...", file=sys.stderr, flush=True)
    directory = Path(tempfile.mkdtemp(prefix="scale-", dir=HOME))
    try:
        (directory / "caraway.toml").write_text("")
        env = {key: value for key, value in os.environ.items() if not key.startswith("CARAWAY_")}
        env |= more | {"PYTHONPATH": str(ROOT), MARKS: str(directory / "marks")}
        command = [sys.executable, "-m", "bench.scale"]
        command += ["--measure", case, "--count", str(count)]
        output, errors = finish(command, cwd=directory, env=env, timeout=900)
        if not output:
            log = directory / "worker.log"
            tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise RuntimeError(f"{case}: {errors}\n{tail}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    answer: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    print(f"    {answer['rate']:,.0f}/s", file=sys.stderr, flush=True)
    return answer


if __name__ == "__main__":
    sys.exit(main())
