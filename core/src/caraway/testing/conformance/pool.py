"""The suite of pools and their executors.

::

    from caraway.testing.conformance import PoolSuite


    class TestShelfPool(PoolSuite):
        factory = "caraway_shelf.pool:ShelfPool"

The factory is called as ``factory(concurrency, settings)``.  Each sentence of
`caraway.interfaces.pool` has a test here.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import Any

from caraway.errors import SoftTimeLimitExceeded
from caraway.interfaces.context import Capability
from caraway.interfaces.pool import Executor, Job, Pool
from caraway.testing.conformance.pool_case import AsyncProbe, PoolCase, Probe
from caraway.testing.conformance.suite import needs, skip


class ExecuteTests(PoolCase):
    """`Executor.execute`."""

    def test_each_job_is_run_and_reported_once_with_what_it_returned(self) -> None:
        executor = self.started()
        jobs = [Probe(index) for index in range(500)]
        self.run_all(executor, jobs)
        assert {job.runs for job in jobs} == {1}
        values = {id(job): value for job, value in self.reports}
        assert [values.get(id(job)) for job in jobs] == [("ran", index) for index in range(500)]

    def test_one_job_is_run_and_reported(self) -> None:
        job = Probe("only")
        self.run_all(self.started(), [job])
        assert self.reports == [(job, ("ran", "only"))]

    def test_no_jobs_are_no_error(self) -> None:
        executor = self.started()
        executor.execute([], self.report)
        self.run_all(executor, [Probe("after")])

    def test_batches_follow_each_other(self) -> None:
        executor = self.started()
        for number in range(30):
            executor.execute([Probe(number) for _ in range(5)], self.report)
        self.wait_for(150)
        assert Counter(value[1] for _, value in self.reports) == dict.fromkeys(range(30), 5)

    def test_jobs_begin_in_order_where_one_runs_at_a_time(self) -> None:
        executor = self.started()
        if not executor.inline and executor.slots > 1:
            raise skip("several run at a time")
        begun: list[int] = []
        jobs = [Probe(i, lambda job: begun.append(job.name)) for i in range(50)]  # type: ignore[arg-type]
        self.run_all(executor, jobs)
        assert begun == list(range(50))

    def test_running_jobs_have_slots_of_their_own(self) -> None:
        executor = self.started()
        lock = threading.Lock()
        running: set[int] = set()
        faults: list[str] = []

        def body(job: Probe) -> None:
            with lock:
                if job.slot in running or not 0 <= job.slot < executor.slots:
                    faults.append(f"slot {job.slot} beside {sorted(running)}")
                running.add(job.slot)
            time.sleep(0.001)
            with lock:
                running.discard(job.slot)

        async def abody(job: Probe) -> None:
            with lock:
                if job.slot in running or not 0 <= job.slot < executor.slots:
                    faults.append(f"slot {job.slot} beside {sorted(running)}")
                running.add(job.slot)
            await asyncio.sleep(0.001)
            with lock:
                running.discard(job.slot)

        jobs = [(AsyncProbe(i, abody) if i % 2 else Probe(i, body)) for i in range(60)]
        self.run_all(executor, jobs)
        assert not faults, faults[:3]

    def test_no_more_jobs_run_than_there_are_slots(self) -> None:
        executor = self.started()
        lock = threading.Lock()
        now = [0, 0]

        def body(_: Probe) -> None:
            with lock:
                now[0] += 1
                now[1] = max(now)
            time.sleep(0.002)
            with lock:
                now[0] -= 1

        self.run_all(executor, [Probe(i, body) for i in range(60)])
        assert 1 <= now[1] <= executor.slots

    @needs(Capability.CONCURRENT)
    def test_jobs_run_at_the_same_time(self) -> None:
        executor = self.started()
        count = min(self.concurrency, executor.slots)
        meeting = threading.Barrier(count)
        jobs = [Probe(i, lambda _: meeting.wait(self.patience)) for i in range(count)]
        self.run_all(executor, jobs)
        assert [job.error for job in jobs] == [None] * count

    def test_async_jobs_run_at_the_same_time_on_one_loop(self) -> None:
        executor = self.started()
        count = min(4, executor.slots)
        loops = set()
        arrived = 0
        together: list[asyncio.Event] = []

        async def meet(_: Probe) -> str:
            nonlocal arrived
            loops.add(asyncio.get_running_loop())
            if not together:
                together.append(asyncio.Event())
            arrived += 1
            if arrived == count:
                together[0].set()
            await asyncio.wait_for(together[0].wait(), self.patience)
            return "met"

        jobs = [AsyncProbe(i, meet) for i in range(count)]
        self.run_all(executor, jobs)
        assert [job.error for job in jobs] == [None] * count
        assert {value for _, value in self.reports} == {"met"}
        assert len(loops) == 1

    def test_more_async_jobs_than_slots_all_run(self) -> None:
        executor = self.started()
        count = executor.slots * 2 + 3

        async def nap(job: Probe) -> Any:
            await asyncio.sleep(0.001)
            return job.name

        self.run_all(executor, [AsyncProbe(i, nap) for i in range(count)])
        assert sorted(value for _, value in self.reports) == list(range(count))

    def test_sync_and_async_jobs_may_be_mixed(self) -> None:
        executor = self.started()

        async def nap(job: Probe) -> Any:
            await asyncio.sleep(0)
            return "ran", job.name

        jobs = [AsyncProbe(i, nap) if i % 3 == 0 else Probe(i) for i in range(90)]
        self.run_all(executor, jobs)
        assert sorted(value[1] for _, value in self.reports) == list(range(90))

    def test_a_job_that_breaks_its_word_and_raises_takes_no_other_along(self) -> None:
        # A job never raises out of its methods; but an interrupt that comes late may
        # find it where it can't catch it any more.
        executor = self.started()

        class Raises(Probe):
            def run(self) -> Any:
                self.begun.set()
                raise SoftTimeLimitExceeded

        class AsyncRaises(AsyncProbe):
            async def arun(self) -> Any:
                self.begun.set()
                raise SoftTimeLimitExceeded

        bad = (Raises(1), AsyncRaises(2))
        good = [Probe(3), AsyncProbe(4), Probe(5)]
        try:
            executor.execute([bad[0], good[0], bad[1], good[1]], self.report)
        except SoftTimeLimitExceeded:
            raise AssertionError("execute raised what the job raised") from None
        executor.execute([good[2]], self.report)
        deadline = time.monotonic() + self.patience
        while {id(job) for job in good} - {id(job) for job, _ in self.reports}:
            assert time.monotonic() < deadline, "other jobs were lost"
            time.sleep(0.005)

    def test_executors_of_one_pool_are_independent(self) -> None:
        one, two = self.started(), self.started()
        self.run_all(one, [Probe(1)])
        one.stop(self.patience)
        two.execute([Probe(2)], self.report)
        self.wait_for(2)


class WithdrawTests(PoolCase):
    """`Executor.withdraw`."""

    def test_jobs_that_have_not_begun_are_taken_back(self) -> None:
        executor = self.started()
        stuck, gate = self.stuck(executor)
        jobs = [*stuck, *(Probe(f"waiting{i}", lambda _: gate.wait(30.0)) for i in range(20))]

        def action() -> list[Job]:
            self.settled(jobs)
            taken = list(executor.withdraw())
            gate.set()
            return taken

        taken = self.beside(executor, jobs, action)
        assert len(taken) >= 20
        self.wait_for(len(jobs) - len(taken))
        withdrawn = {id(job) for job in taken}
        assert {job.runs for job in jobs if id(job) in withdrawn} == {0}
        assert {id(job) for job, _ in self.reports} == {id(j) for j in jobs} - withdrawn

    def test_async_jobs_that_have_not_begun_are_taken_back(self) -> None:
        executor = self.started()
        loops: list[asyncio.AbstractEventLoop] = []
        opened: list[asyncio.Event] = []

        async def wait(_: Probe) -> None:
            loops.append(asyncio.get_running_loop())
            if not opened:
                opened.append(asyncio.Event())
            await opened[0].wait()

        jobs = [AsyncProbe(index, wait) for index in range(executor.slots + 10)]
        executor.execute(jobs, self.report)
        assert jobs[0].begun.wait(self.patience)
        self.settled(jobs)
        taken = list(executor.withdraw())
        assert len(taken) >= 10
        assert all(job.runs == 0 for job in jobs if job in taken)
        loops[0].call_soon_threadsafe(opened[0].set)
        self.wait_for(len(jobs) - len(taken))

    def test_there_is_nothing_to_withdraw_from_an_idle_executor(self) -> None:
        executor = self.started()
        assert not executor.withdraw()
        self.run_all(executor, [Probe(1)])
        assert not executor.withdraw()

    def test_a_job_is_either_reported_or_withdrawn(self) -> None:
        executor = self.started()
        for number in range(20):
            self.reports.clear()
            # They sleep, so that the thread that withdraws gets its turn.
            jobs = [Probe(i, lambda _: time.sleep(0.0003)) for i in range(60)]

            def action(pause: float = number / 20 * 0.01) -> list[Job]:
                time.sleep(pause)
                return list(executor.withdraw())

            taken = self.beside(executor, jobs, action)
            self.wait_for(len(jobs) - len(taken))
            reported = {id(job) for job, _ in self.reports}
            withdrawn = {id(job) for job in taken}
            assert not reported & withdrawn
            assert len(reported) + len(withdrawn) == len(jobs)
            assert all(job.runs == 0 for job in jobs if id(job) in withdrawn)


class InterruptTests(PoolCase):
    """`Executor.interrupt`."""

    def test_an_exception_lands_inside_the_running_job(self) -> None:
        executor = self.started()

        def body(_: Probe) -> None:
            deadline = time.monotonic() + self.patience
            while time.monotonic() < deadline:
                time.sleep(0.005)

        job = Probe("long", body)
        done = self.beside(executor, [job], lambda: executor.interrupt(job, SoftTimeLimitExceeded))
        self.wait_for(1, self.patience * 2)
        if done:
            assert isinstance(job.error, SoftTimeLimitExceeded)
        else:
            assert job.error is None

    def test_an_exception_lands_inside_a_running_async_job(self) -> None:
        executor = self.started()

        async def body(_: Probe) -> None:
            await asyncio.sleep(self.patience)

        job = AsyncProbe("long", body)
        executor.execute([job], self.report)
        assert job.begun.wait(self.patience)
        time.sleep(0.05)
        done = executor.interrupt(job, SoftTimeLimitExceeded)
        self.wait_for(1, self.patience * 2)
        if done:
            assert isinstance(job.error, SoftTimeLimitExceeded)
        else:
            assert job.error is None

    def test_a_job_may_survive_its_interrupt(self) -> None:
        executor = self.started()

        def body(_: Probe) -> str:
            try:
                deadline = time.monotonic() + self.patience
                while time.monotonic() < deadline:
                    time.sleep(0.005)
            except SoftTimeLimitExceeded:
                return "cleaned up"
            return "not interrupted"

        job = Probe("tidy", body)
        done = self.beside(executor, [job], lambda: executor.interrupt(job, SoftTimeLimitExceeded))
        self.wait_for(1, self.patience * 2)
        assert self.reports[0][1] == ("cleaned up" if done else "not interrupted")
        self.reports.clear()
        self.run_all(executor, [Probe(i) for i in range(20)])

    def test_a_job_that_has_ended_is_not_interrupted(self) -> None:
        executor = self.started()
        done = Probe("done")
        self.run_all(executor, [done])
        assert executor.interrupt(done, SoftTimeLimitExceeded) is False
        self.reports.clear()
        after = [Probe(i, lambda _: sum(range(1000))) for i in range(50)]
        self.run_all(executor, after)
        assert [job.error for job in after] == [None] * 50

    def test_an_interrupt_hits_its_own_job_only(self) -> None:
        executor = self.started()
        for number in range(100):
            self.reports.clear()
            jobs = [Probe(i, lambda _: sum(range(400))) for i in range(8)]
            target = jobs[number % 4]

            def action(target: Probe = target, pause: float = number / 100 * 1e-4) -> None:
                target.begun.wait(1.0)
                time.sleep(pause)
                executor.interrupt(target, SoftTimeLimitExceeded)

            self.beside(executor, jobs, action)
            self.wait_for(8)
            hit = [job.name for job in jobs if job.error is not None and job is not target]
            assert not hit, f"the interrupt of job {target.name} hit {hit}"


class LifecycleTests(PoolCase):
    """`Executor.start`, `Executor.stop`, and what a pool says of itself."""

    def test_a_pool_says_what_it_is(self) -> None:
        assert isinstance(self.pool, Pool)
        assert self.pool.name
        assert self.pool.lanes >= 1
        executor = self.pool.executor()
        assert isinstance(executor, Executor)
        assert executor.slots >= 1
        if self.pool.in_process:
            assert self.pool.lanes == 1

    def test_the_concurrency_is_that_of_lanes_or_of_slots(self) -> None:
        executor = self.pool.executor()
        if self.pool.in_process:
            raise skip("runs in the calling process")
        assert self.pool.lanes * executor.slots >= self.concurrency

    def test_stopping_waits_for_what_runs(self) -> None:
        executor = self.started()
        ended = threading.Event()

        async def nap(_: Probe) -> None:
            await asyncio.sleep(0.15)
            ended.set()

        job = AsyncProbe("nap", nap)
        executor.execute([job], self.report)
        assert job.begun.wait(self.patience)
        assert executor.stop(self.patience) is True
        assert ended.is_set()
        self.wait_for(1)

    def test_stopping_is_idempotent(self) -> None:
        executor = self.started()
        self.run_all(executor, [Probe(1)])
        assert executor.stop(self.patience) is True
        assert executor.stop(0) is True

    def test_an_executor_that_ran_nothing_stops_at_once(self) -> None:
        executor = self.started()
        started = time.monotonic()
        assert executor.stop(self.patience) is True
        assert time.monotonic() - started < self.patience / 2

    def test_an_executor_that_was_never_started_can_be_stopped(self) -> None:
        executor = self.pool.executor()
        assert executor.stop(self.patience) is True

    def test_stopping_gives_up_after_its_timeout(self) -> None:
        executor = self.started()
        stuck, gate = self.stuck(executor)

        def action() -> tuple[bool, float]:
            started = time.monotonic()
            ended = executor.stop(0.2)
            seconds = time.monotonic() - started
            gate.set()
            return ended, seconds

        ended, seconds = self.beside(executor, stuck[:1], action)
        assert ended is False
        assert 0.1 <= seconds < self.patience / 2
        self.wait_for(1)
        assert executor.stop(self.patience) is True

    def test_starting_and_stopping_leaves_no_threads(self) -> None:
        self.run_all(self.started(), [Probe(0)])
        self.reports.clear()
        before = threading.active_count()
        for number in range(15):
            executor = self.pool.executor()
            executor.start()
            executor.execute([Probe(number), AsyncProbe(number)], self.report)
            self.wait_for(2 * number + 2)
            assert executor.stop(self.patience) is True
        deadline = time.monotonic() + 1.0
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.active_count() <= before


class PoolSuite(ExecuteTests, WithdrawTests, InterruptTests, LifecycleTests):
    """All duties and extensions of a pool."""
