"""Where the time of one task goes: samples a drain by a worker in this process.

``python -m bench.profiler`` runs no-ops on the embedded default with the pool ``solo`` and
prints, in microseconds a task, the functions and lines in which the time was spent.
``--what send`` does so for `Task.delay`, ``--what bulk`` for `Task.delay_many`, ``--what wait``
for one that waits for each result of a worker in another process.

``--on redis`` does it on a Redis of its own, ``--on far`` on the same 2 ms away, ``--on amqp``
on a RabbitMQ node of its own without results, ``--on rpc`` there with results sent; with
``--events`` task events are on.  Time that a lane waits for the server is by the clock, not of
the processor: the difference of the two figures is what round trips cost.

It samples by a timer of processor time, so that C code (SQLite, msgspec) counts to the line
that calls it; ``--exact`` counts every call instead (cProfile), which makes small functions
look dearer than they are.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

from bench.processes import Worker as WorkerProcess
from bench.processes import end_on_term
from bench.servers import Servers
from bench.suite import AMQP, FAR, REDIS, RPC
from bench.work import MARKS, read_marks

HOME = Path(__file__).resolve().parent.parent / ".bench"
STORES: dict[str, dict[str, str]] = {
    "sqlite": {}, "redis": REDIS, "far": FAR, "amqp": AMQP, "rpc": RPC,
}  # fmt: skip
INTERVAL = 0.001


class Sampler:
    """Counts where the main thread is, at each tick of its processor time."""

    def __init__(self) -> None:
        self.ticks = 0
        self.own: Counter[str] = Counter()
        self.lines: Counter[str] = Counter()
        self.within: Counter[str] = Counter()

    def __enter__(self) -> Self:
        signal.signal(signal.SIGPROF, self._tick)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _tick(self, _signal: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        self.ticks += 1
        self.own[_function(frame)] += 1
        self.lines[f"{_place(frame)}:{frame.f_lineno}"] += 1
        seen = set()
        while frame is not None:
            seen.add(_function(frame))
            frame = frame.f_back
        self.within.update(seen)

    def show(self, count: int, seconds: float, top: int) -> None:
        """Print the tables; ``seconds`` of processor time for ``count`` tasks."""
        each = seconds / max(self.ticks, 1) / count * 1e6
        for title, counter in (
            ("in the function itself, C code it calls included", self.own),
            ("in the function and all below it", self.within),
            ("at the line", self.lines),
        ):
            print(f"\nus a task {title}:")
            for name, ticks in counter.most_common(top):
                print(f"{ticks * each:8.2f}  {100 * ticks / self.ticks:5.1f} %  {name}")


def _place(frame: FrameType) -> str:
    path = frame.f_code.co_filename
    _, found, rest = path.rpartition("/caraway/")
    return rest if found else "/".join(path.split("/")[-2:])


def _function(frame: FrameType) -> str:
    return f"{_place(frame)} {frame.f_code.co_qualname}"


def drain(app: Any, count: int) -> tuple[Callable[[], object], int]:
    """A worker that runs ``count`` no-ops and stops."""
    from bench.apps import caraway_app
    from caraway.worker import Worker

    caraway_app.mark.delay("first")
    caraway_app.noop.delay_many(() for _ in range(count))
    caraway_app.mark.delay("last")
    caraway_app.stop.delay()
    worker = Worker(app, pool="solo", concurrency=1)
    return worker.run, count


def wait(count: int) -> tuple[Callable[[], object], WorkerProcess]:
    """``count`` round trips with a worker in another process, which is warm."""
    from bench.apps import caraway_app

    command = caraway_app.make().worker(processes=1, concurrency=1, pool="prefork")
    worker = WorkerProcess(command, cwd=Path.cwd(), log=Path("worker.log"))
    caraway_app.noop.delay().get(timeout=30)

    def run() -> None:
        for _ in range(count):
            caraway_app.noop.delay().get(timeout=30)

    return run, worker


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.profiler", description=__doc__)
    parser.add_argument("--what", choices=["drain", "send", "bulk", "wait"], default="drain")
    parser.add_argument("--on", choices=sorted(STORES), default="sqlite", help="the broker")
    parser.add_argument("--events", action="store_true", help="task events on")
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--top", type=int, default=25)
    parser.add_argument("--exact", action="store_true", help="cProfile, every call counted")
    parser.add_argument("--keep", type=Path, help="with --exact: write the statistics here")
    options = parser.parse_args()
    HOME.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="profile-", dir=HOME))
    (directory / "caraway.toml").write_text("")
    os.environ[MARKS] = str(directory / "marks")
    keep = options.keep.resolve() if options.keep else None
    os.chdir(directory)
    end_on_term()
    servers = Servers(HOME)
    worker: WorkerProcess | None = None
    try:
        os.environ.update(servers.provide(STORES[options.on]))
        os.environ["PYTHONPATH"] = str(HOME.parent)
        if options.events:
            os.environ["BENCH_EVENTS"] = "1"
        from bench.apps import caraway_app

        app, count = caraway_app.app, options.count
        if options.what == "drain":
            run, count = drain(app, count)
        elif options.what == "send":
            caraway_app.noop.delay()

            def run() -> None:
                for _ in range(count):
                    caraway_app.noop.delay()
        elif options.what == "wait":
            run, worker = wait(count)
        else:
            caraway_app.noop.delay()

            def run() -> None:
                caraway_app.noop.delay_many(() for _ in range(count))

        wall, cpu = time.perf_counter(), time.process_time()
        if options.exact:
            profiler = cProfile.Profile()
            try:
                profiler.runcall(run)
            except SystemExit:
                pass
            statistics = pstats.Stats(profiler, stream=sys.stdout)
            statistics.sort_stats("tottime").print_stats(options.top)
            if keep:
                profiler.dump_stats(keep)
        else:
            with Sampler() as sampler:
                try:
                    run()
                except SystemExit:
                    pass
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        marks = read_marks(directory / "marks")
        if len(marks) > 1:
            wall = marks[-1][1] - marks[0][1]
        print(f"{count:,} tasks: {wall / count * 1e6:.1f} us each by the clock,", end=" ")
        print(f"{cpu / count * 1e6:.1f} us of processor time ({count / wall:,.0f}/s)")
        if not options.exact:
            sampler.show(count, cpu, options.top)
    finally:
        if worker is not None:
            worker.stop()
        servers.close()
        os.chdir(HOME)
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
