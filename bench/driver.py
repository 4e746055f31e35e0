"""Runs one workload on one task queue and prints what it measured as one line of JSON.

Imported with the interpreter of that queue's own environment: standard library only.
``python -m bench.driver caraway drain --count 50000 --directory DIR``
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path
from threading import Barrier, Thread
from typing import TYPE_CHECKING

from bench.processes import Worker, end_on_term
from bench.work import BURN, MARKS, NAP, read_marks

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.side import Side

MARKED = 20
"""Marks spread over a drain."""
EDGE = 20
"""Tasks that leave a mark at each end of a row of equal ones."""


def _edges(count: int) -> list[str]:
    return ["first"] * EDGE + [""] * (count - 2 * EDGE) + ["last"] * EDGE


class Driver:
    """The workloads, over any `Side`."""

    def __init__(self, side: Side, directory: Path, options: argparse.Namespace) -> None:
        self.side = side
        self.directory = directory
        self.options = options
        self.marks = Path(os.environ[MARKS])

    # -- sending -----------------------------------------------------------------------

    def single(self) -> dict[str, float]:
        """Send one at a time from one thread; tasks a second."""
        count = self.options.count
        publish = self.side.publish
        for _ in range(50):
            publish()
        each = getattr(self.side, "publish_each", None)
        begin = time.perf_counter()
        if each is not None:
            each(count)
        else:
            for _ in range(count):
                publish()
        return {"rate": count / (time.perf_counter() - begin)}

    def threads(self) -> dict[str, float]:
        """Send one at a time from each of many threads; tasks a second of all together."""
        threads, publish = self.options.threads, self.side.publish
        count = max(self.options.count // threads, 1)
        publish()
        gate = Barrier(threads + 1)

        def send() -> None:
            publish()  # whatever a thread sets up for itself
            gate.wait()
            for _ in range(count):
                publish()
            gate.wait()

        workers = [Thread(target=send, daemon=True) for _ in range(threads)]
        for thread in workers:
            thread.start()
        gate.wait()
        begin = time.perf_counter()
        gate.wait()
        return {"rate": threads * count / (time.perf_counter() - begin)}

    def bulk(self) -> dict[str, float]:
        """Send many with one call; tasks a second."""
        count = self.options.count
        self.side.publish_many(100)
        begin = time.perf_counter()
        self.side.publish_many(count)
        return {"rate": count / (time.perf_counter() - begin)}

    # -- running -----------------------------------------------------------------------

    def drain(self) -> dict[str, float]:
        """Run a full queue empty; tasks a second from the first task to the last result."""
        count, side = self.options.count, self.side
        part = count // MARKED
        side.publish_mark("0")
        for number in range(MARKED):
            side.publish_many(part)
            side.publish_mark(str(number + 1))
        total = part * MARKED + MARKED + 1
        listener = None
        if os.environ.get("BENCH_EVENTS"):
            from bench.listening import Listener

            listener = Listener()
        worker = self.start()
        try:
            self.await_marks(worker, MARKED + 1)
            end = self.await_finished(worker, total)
            if getattr(side, "by_marks", False):
                time.sleep(0.3)  # another lane may still run what it has fetched
            memory = worker.memory()
        finally:
            stopping = worker.stop()
        if listener is not None and listener.stop() < 100 * total:
            raise NotImplementedError("the worker sent no event for each task")
        by_marks = getattr(side, "by_marks", False)
        if by_marks and not side.finished(total):
            raise RuntimeError("messages that had been run were back in the queue")
        times = sorted(mark[1] for mark in read_marks(self.marks))
        if by_marks:
            end = times[-1]
        steady = (MARKED - 4) * (part + 1) / (times[-3] - times[2])
        return {
            "rate": (total - 1) / (end - times[0]),
            "steady": steady,
            "first": times[0] - worker.started,
            "stop": stopping,
            **memory,
        }

    def nap(self) -> dict[str, float]:
        """Many waiting tasks at once; the share of the ideal that is reached."""
        count = self.options.count
        coroutine = self.options.pool == "asyncio"
        self.side.publish_naps(_edges(count), coroutine=coroutine)
        ideal = count * NAP / (self.options.concurrency * self.options.processes)
        return self.timed(count, ideal)

    def burn(self) -> dict[str, float]:
        """Many computing tasks; the share of the ideal that is reached."""
        count = self.options.count
        self.side.publish_burns(_edges(count))
        return self.timed(count, count * BURN / self.options.processes)

    def timed(self, count: int, ideal: float) -> dict[str, float]:
        worker = self.start()
        try:
            # It can't be done before; and a look costs what the tasks would need, which the
            # bare loops have for themselves.
            time.sleep(ideal)
            self.await_marks(worker, 2 * EDGE)
            end = self.await_finished(worker, count)
        finally:
            worker.stop()
        took = end - min(mark[1] for mark in read_marks(self.marks))
        return {"share": ideal / took, "seconds": took, "ideal": ideal}

    def roundtrip(self) -> dict[str, float]:
        """From sending to having the result, on an idle worker; seconds.

        ``hot`` are those that follow one another; the others come after a rest.
        """

        def plain(timeout: float) -> None:
            side.wait(side.publish(), timeout)

        side = self.side
        once: Callable[[float], None] = getattr(side, "roundtrip", plain)
        worker = self.start()
        try:
            for _ in range(21):
                once(30)
            times = []
            for _ in range(self.options.count):
                time.sleep(0.003)  # so that the worker is asleep again
                begin = time.perf_counter()
                once(30)
                times.append(time.perf_counter() - begin)
            hot = []
            for _ in range(self.options.count):
                begin = time.perf_counter()
                once(30)
                hot.append(time.perf_counter() - begin)
        finally:
            worker.stop()
        times.sort()
        hot.sort()
        return {
            "p50": times[len(times) // 2],
            "p99": times[int(len(times) * 0.99)],
            "max": times[-1],
            "hot50": hot[len(hot) // 2],
            "hot99": hot[int(len(hot) * 0.99)],
        }

    # -- size --------------------------------------------------------------------------

    def idle(self) -> dict[str, float]:
        """Processor time, wake-ups and memory of a worker with nothing to do."""
        worker = self.start()
        try:
            self.side.wait(self.side.publish(), 30)
            time.sleep(2.0)
            cpu, woken, begin = worker.cpu_seconds(), worker.wakeups(), time.monotonic()
            time.sleep(self.options.seconds)
            took = time.monotonic() - begin
            share = (worker.cpu_seconds() - cpu) / took
            wakeups = (worker.wakeups() - woken) / took
            memory = worker.memory()
        finally:
            stopping = worker.stop()
        return {"cpu": share, "wakeups": wakeups, "stop": stopping, **memory}

    def startup(self) -> dict[str, float]:
        """From starting the worker's process to its first task, in seconds."""
        self.side.publish_mark("0")
        worker = self.start()
        try:
            self.await_marks(worker, 1)
            end = self.await_finished(worker, 1)
        finally:
            stopping = worker.stop()
        first = read_marks(self.marks)[0][1]
        return {"first": first - worker.started, "stored": end - worker.started, "stop": stopping}

    # -- parts -------------------------------------------------------------------------

    def start(self) -> Worker:
        command = self.side.worker(
            processes=self.options.processes,
            concurrency=self.options.concurrency,
            pool=self.options.pool,
        )
        whole = getattr(self.side, "signal_all", False)
        return Worker(command, cwd=self.directory, log=self.directory / "worker.log", whole=whole)

    def await_marks(self, worker: Worker, count: int) -> None:
        deadline = time.monotonic() + self.options.limit
        size = -1
        while True:
            # Seldom more than a look at its size: the tasks run on these processors, too.
            now = self.marks.stat().st_size if self.marks.exists() else 0
            if now != size:
                size = now
                if len(read_marks(self.marks)) >= count:
                    return
            self.pause(worker, deadline)

    def await_finished(self, worker: Worker, count: int) -> float:
        deadline = time.monotonic() + self.options.limit
        while True:
            now = time.monotonic()
            if self.side.finished(count):
                return now
            self.pause(worker, deadline, 0.002)  # the end of the time that is measured

    def pause(self, worker: Worker, deadline: float, seconds: float = 0.005) -> None:
        worker.check()
        if time.monotonic() > deadline:
            raise TimeoutError("the tasks did not end in time")
        time.sleep(seconds)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", help="module of bench.apps, without _app")
    parser.add_argument("workload")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--threads", type=int, default=8, help="that send")
    parser.add_argument("--pool", default="prefork")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the idle watch")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds until giving up")
    options = parser.parse_args()
    end_on_term()
    os.environ[MARKS] = str(options.directory / "marks")
    os.environ["BENCH_DIRECTORY"] = str(options.directory)
    os.environ["BENCH_WORKLOAD"] = options.workload  # some have options for some
    os.chdir(options.directory)
    module = importlib.import_module(f"bench.apps.{options.side}_app")
    side: Side = module.make()
    driver = Driver(side, options.directory, options)
    run: Callable[[], dict[str, float]] = getattr(driver, options.workload)
    try:
        figures = run()
    except NotImplementedError as exc:
        figures, note = {}, str(exc) or "not offered"
    else:
        note = ""
    finally:
        side.close()
    sys.stdout.write(json.dumps({"figures": figures, "note": note}) + "\n")
    sys.stdout.flush()
    os._exit(0)  # some clients leave threads behind that wait for ever


if __name__ == "__main__":
    main()
