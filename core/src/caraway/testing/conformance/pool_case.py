"""What the tests of pools share."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

from caraway.testing.conformance.suite import Suite, load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from caraway.interfaces.context import Context
    from caraway.interfaces.pool import Executor, Job, Pool


class Probe:
    """A job that records what happens to it."""

    def __init__(self, name: object = "", body: Callable[[Probe], Any] | None = None) -> None:
        self.name = name
        self.slot = -1
        self.is_async = False
        self.body = body
        self.begun = threading.Event()
        self.error: BaseException | None = None
        self.runs = 0

    def run(self) -> Any:
        self.runs += 1
        self.begun.set()
        try:
            return self.body(self) if self.body is not None else ("ran", self.name)
        except BaseException as exc:  # noqa: BLE001 - a job never raises out of its methods
            self.error = exc
            return "raised"

    async def arun(self) -> Any:
        raise AssertionError("a sync job was awaited")


class AsyncProbe(Probe):
    """The same on an event loop; ``body`` makes a coroutine."""

    def __init__(self, name: object = "", body: Callable[[Probe], Any] | None = None) -> None:
        super().__init__(name, body)
        self.is_async = True

    def run(self) -> Any:
        raise AssertionError("an async job was called")

    async def arun(self) -> Any:
        self.runs += 1
        self.begun.set()
        try:
            return await self.body(self) if self.body is not None else ("ran", self.name)
        except BaseException as exc:  # noqa: BLE001 - a job never raises out of its methods
            self.error = exc
            return "raised"


class PoolCase(Suite):
    """Base of the pools' tests.

    Attributes:
        settings: given to the factory; None for Caraway's defaults.
        concurrency: what most tests ask for.
    """

    kind = "pool"
    main_thread = True
    settings: ClassVar[Mapping[str, Any] | None] = None
    concurrency: ClassVar[int] = 4

    def make(self, tmp_path: Path) -> Callable[[Context], Pool]:  # noqa: ARG002 - nothing is stored
        factory = load(self.plain("factory"))
        settings = self.settings
        if settings is None:
            from caraway.settings import Settings

            settings = Settings()
        return lambda _context: factory(self.concurrency, settings)

    def setup_method(self, method: object = None) -> None:
        super().setup_method(method)
        self.reports: list[tuple[Job, Any]] = []
        self._reported = threading.Condition()
        self._gates: list[threading.Event] = []

    def teardown_method(self, method: object = None) -> None:
        for gate in self._gates:
            gate.set()
        super().teardown_method(method)

    @property
    def pool(self) -> Pool:
        """The one that is tested."""
        found: Pool = self.subject
        return found

    def started(self) -> Executor:
        """A started executor, stopped at the end."""
        executor = self.pool.executor()
        executor.start()
        self._cleanups.append(lambda: executor.stop(self.patience))
        return executor

    def gate(self) -> threading.Event:
        """What jobs wait for; opened at the end if not before."""
        gate = threading.Event()
        self._gates.append(gate)
        return gate

    def report(self, job: Job, value: Any) -> None:
        """What executors call."""
        with self._reported:
            self.reports.append((job, value))
            self._reported.notify_all()

    def wait_for(self, count: int, timeout: float | None = None) -> None:
        """Wait until so many jobs were reported, and a little for one too many."""
        limit = self.patience if timeout is None else timeout
        with self._reported:
            if not self._reported.wait_for(lambda: len(self.reports) >= count, limit):
                raise AssertionError(f"{len(self.reports)} of {count} jobs were reported")
            self._reported.wait_for(lambda: len(self.reports) > count, 0.01)
        assert len(self.reports) == count, "a job was reported twice"

    def run_all(self, executor: Executor, jobs: Sequence[Probe]) -> None:
        """Execute and wait for all reports."""
        executor.execute(jobs, self.report)
        self.wait_for(len(self.reports) if executor.inline and not jobs else len(jobs))

    def stuck(self, executor: Executor) -> tuple[list[Probe], threading.Event]:
        """Sync jobs that occupy every slot there is for such, until the gate opens."""
        gate = self.gate()
        count = 1 if executor.inline else executor.slots
        return [Probe(f"stuck{i}", lambda _: gate.wait(30.0)) for i in range(count)], gate

    def settled(self, jobs: Sequence[Probe]) -> None:
        """Wait until no more of these jobs begin."""
        begun, since = -1, time.monotonic()
        deadline = since + self.patience
        while time.monotonic() < min(since + 0.1, deadline):
            now = sum(job.runs for job in jobs)
            if now != begun:
                begun, since = now, time.monotonic()
            time.sleep(0.005)

    def beside(self, executor: Executor, jobs: Sequence[Probe], action: Callable[[], Any]) -> Any:
        """Execute jobs in this thread, and ``action`` in another once the first runs."""

        def act() -> Any:
            if not jobs[0].begun.wait(self.patience):
                raise AssertionError("the first job did not begin")
            return action()

        acting = self.spawn(act)
        executor.execute(jobs, self.report)
        return acting.result(self.patience)
