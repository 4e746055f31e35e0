"""What all four executors have in common."""

from __future__ import annotations

import asyncio
import os
import selectors
import sys
import threading
import time

import pytest

ALL = ["prefork", "solo", "threads", "asyncio"]
CONCURRENT = ["threads", "asyncio"]


@pytest.mark.parametrize("pool", ALL)
def test_each_job_runs_once_and_is_reported_once(pool, start, make_job, reports):
    executor = start(pool)
    jobs = [make_job(lambda n=n: n) for n in range(50)]
    executor.execute(jobs, reports)
    reports.wait(50)
    assert [reports.result(job) for job in jobs] == list(range(50))
    assert {job.runs for job in jobs} == {1}


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_inline_executors_run_jobs_in_order_in_the_calling_thread(pool, start, make_job, reports):
    executor = start(pool)
    where = []
    jobs = [make_job(lambda n=n: where.append((n, threading.get_ident()))) for n in range(5)]
    executor.execute(jobs, reports)
    assert where == [(n, threading.get_ident()) for n in range(5)]
    assert len(reports.seen) == 5
    assert {job.slot for job in jobs} == {0}


@pytest.mark.parametrize("pool", ALL)
def test_what_a_job_lets_out_is_reported_and_harms_nothing(pool, start, make_job, reports):
    def leave():
        raise SystemExit(3)

    async def leave_async():
        raise KeyboardInterrupt

    executor = start(pool)
    bad, worse = make_job(leave), make_job(leave_async, is_async=True)
    good = make_job(lambda: "fine")
    executor.execute([bad, worse, good], reports)
    reports.wait(3)
    assert isinstance(reports.result(bad), SystemExit)
    assert isinstance(reports.result(worse), KeyboardInterrupt)
    assert reports.result(good) == "fine"
    again = make_job(lambda: "still here")
    executor.execute([again], reports)
    reports.wait(4)
    assert reports.result(again) == "still here"


@pytest.mark.parametrize("pool", ALL)
def test_async_jobs_run_at_the_same_time_in_every_pool(pool, start, make_job, reports):
    executor = start(pool)
    meeting = asyncio.Barrier(3)
    jobs = [make_job(meeting.wait, is_async=True) for _ in range(3)]
    executor.execute(jobs, reports)
    reports.wait(3)
    assert {reports.result(job) for job in jobs} == {0, 1, 2}
    assert len({job.slot for job in jobs}) == 3
    assert all(0 <= job.slot < executor.slots for job in jobs)


@pytest.mark.parametrize("pool", ALL)
def test_jobs_beyond_the_slots_wait_and_can_be_withdrawn(pool, start, make_job, reports):
    executor = start(pool, 2, worker_async_concurrency=2)
    loop_gate: list[asyncio.Event] = []
    loops: list[asyncio.AbstractEventLoop] = []
    begun = threading.Semaphore(0)

    async def hold():
        gate = asyncio.Event()
        loop_gate.append(gate)
        loops.append(asyncio.get_running_loop())
        begun.release()
        await gate.wait()

    jobs = [make_job(hold, is_async=True) for _ in range(5)]
    executor.execute(jobs, reports)
    assert begun.acquire(timeout=10)
    assert begun.acquire(timeout=10)
    withdrawn = executor.withdraw()
    assert len(withdrawn) == 3
    assert all(job.runs == 0 for job in withdrawn)
    for loop, gate in zip(loops, loop_gate, strict=True):
        loop.call_soon_threadsafe(gate.set)
    reports.wait(2)
    assert executor.stop(10.0)
    assert len(reports.seen) == 2


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_inline_executors_give_back_what_waits_behind_a_running_job(pool, start, make_job, reports):
    executor = start(pool)
    taken = []
    # From inside the first job: the others have not begun.
    first = make_job(lambda: taken.extend(executor.withdraw()))
    others = [make_job(lambda: None) for _ in range(3)]
    executor.execute([first, *others], reports)
    assert taken == others
    assert [job for job, _ in reports.seen] == [first]


def test_waiting_jobs_of_both_kinds_begin_as_slots_become_free(start, make_job, reports):
    executor = start("threads", 3)

    async def later():
        await asyncio.sleep(0)
        return "async"

    jobs = [
        make_job(later, is_async=True) if n % 2 else make_job(lambda: "sync") for n in range(400)
    ]
    for n in range(0, 400, 40):
        executor.execute(jobs[n : n + 40], reports)
    reports.wait(400)
    assert [reports.result(job) for job in jobs] == ["sync", "async"] * 200
    assert {job.slot for job in jobs} <= {0, 1, 2}


def test_no_two_running_jobs_have_one_slot(start, make_job, reports):
    executor = start("threads", 4)
    taken: list[int] = []
    doubled: list[int] = []

    def body(own):
        def run():
            slot = own[0].slot
            doubled.extend([slot] if slot in taken else [])
            taken.append(slot)
            taken.remove(slot)

        return run

    jobs = []
    for _ in range(2000):
        own: list[object] = []
        own.append(make_job(body(own)))
        jobs.append(own[0])
    executor.execute(jobs, reports)
    reports.wait(2000, 30)
    assert doubled == []


def test_threads_give_back_what_waits(start, make_job, reports):
    executor = start("threads", 2)
    gate, begun = threading.Event(), threading.Semaphore(0)

    def hold():
        begun.release()
        gate.wait(10)

    jobs = [make_job(hold) for _ in range(6)]
    executor.execute(jobs, reports)
    for _ in range(2):
        assert begun.acquire(timeout=10)
    assert len(executor.withdraw()) == 4
    gate.set()
    reports.wait(2)
    more = [make_job(lambda: 1) for _ in range(4)]
    executor.execute(more, reports)
    reports.wait(6)


@pytest.mark.parametrize("pool", CONCURRENT)
def test_as_many_sync_jobs_as_the_concurrency_run_at_a_time(pool, start, make_job, reports):
    executor = start(pool, 8)
    meeting = threading.Barrier(8)
    for _ in range(20):  # a thread too few in any round would hang the meeting
        jobs = [make_job(lambda: meeting.wait(10)) for _ in range(8)]
        executor.execute(jobs, reports)
        reports.wait(8)
        assert sorted(reports.result(job) for job in jobs) == list(range(8))
        assert len({job.slot for job in jobs}) == 8
        reports.seen.clear()


@pytest.mark.parametrize("pool", CONCURRENT)
def test_threads_start_when_they_are_needed(pool, start, make_job, reports):
    executor = start(pool, 50)
    before = threading.active_count()
    executor.execute([make_job(lambda: 1)], reports)
    reports.wait(1)
    assert threading.active_count() - before <= 2


@pytest.mark.parametrize("pool", CONCURRENT)
def test_sync_and_async_jobs_share_the_limit(pool, start, make_job, reports):
    executor = start(pool, 2)
    gate, begun = threading.Event(), threading.Semaphore(0)

    def hold():
        begun.release()
        gate.wait(10)

    async def hold_async():
        begun.release()
        await asyncio.to_thread(gate.wait, 10)

    jobs = [make_job(hold), make_job(hold_async, is_async=True), make_job(hold)]
    executor.execute(jobs, reports)
    for _ in range(2):
        assert begun.acquire(timeout=10)
    assert executor.withdraw() == [jobs[2]]
    gate.set()
    reports.wait(2)


@pytest.mark.parametrize("pool", CONCURRENT)
def test_stop_waits_for_what_runs_and_says_if_it_did_not_end(pool, start, make_job, reports):
    executor = start(pool, 2)
    gate, begun = threading.Event(), threading.Event()

    def hold():
        begun.set()
        gate.wait(10)

    executor.execute([make_job(hold)], reports)
    assert begun.wait(10)
    assert executor.stop(0.01) is False
    gate.set()
    assert executor.stop(10.0) is True
    assert executor.stop(0.0) is True
    assert len(reports.seen) == 1


@pytest.mark.parametrize("pool", ALL)
def test_stop_waits_for_coroutines(pool, start, make_job, reports):
    executor = start(pool, 2)
    held: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    begun = threading.Event()

    async def hold():
        event = asyncio.Event()
        held.append((asyncio.get_running_loop(), event))
        begun.set()
        await event.wait()
        return "ended"

    job = make_job(hold, is_async=True)
    executor.execute([job], reports)
    assert begun.wait(10)
    assert executor.stop(0.01) is False
    loop, event = held[0]
    loop.call_soon_threadsafe(event.set)
    assert executor.stop(10.0) is True
    assert reports.result(job) == "ended"


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_stop_waits_for_the_job_of_an_inline_executor(pool, start, make_job, reports, in_thread):
    executor = start(pool)
    begun, gate = threading.Event(), threading.Event()
    answers = []

    def stopper():
        begun.wait(10)
        answers.append(executor.stop(0.01))
        gate.set()
        answers.append(executor.stop(10.0))

    thread = in_thread(stopper)
    late = make_job(lambda: "never")
    executor.execute([make_job(lambda: (begun.set(), gate.wait(10))), late], reports)
    thread.join(10)
    assert answers == [False, True]
    assert late.runs == 0
    assert executor.withdraw() == [late]


@pytest.mark.parametrize("pool", ALL)
def test_after_a_stop_nothing_begins_and_all_can_be_withdrawn(pool, start, make_job, reports):
    executor = start(pool)
    assert executor.stop(10.0)
    jobs = [make_job(lambda: 1), make_job(asyncio.sleep, is_async=True)]
    executor.execute(jobs, reports)
    assert sorted(executor.withdraw(), key=id) == sorted(jobs, key=id)
    assert reports.seen == []


@pytest.mark.parametrize("pool", ALL)
def test_an_executor_that_never_ran_anything_stops_at_once(pool, start):
    executor = start(pool)
    assert executor.stop(0.0) is True
    assert executor.stop(0.0) is True


@pytest.mark.parametrize("pool", ALL)
def test_a_hundred_executors_start_and_stop_and_leave_no_thread(pool, start, make_job, reports):
    before = threading.active_count()
    for _ in range(100):
        executor = start(pool, 2)
        executor.execute([make_job(lambda: 1)], reports)
        assert executor.stop(10.0)
    assert threading.active_count() == before
    # Each job ran, or stayed where withdraw finds it: `stop` may come before it began.
    assert len(reports.seen) <= 100


def test_an_ended_job_is_not_kept_alive_by_an_idle_thread(start, make_job, reports):
    import gc
    import weakref

    executor = start("threads", 1)
    job = make_job(lambda: 1)
    watch = weakref.ref(job)
    executor.execute([job], reports)
    reports.wait(1)
    reports.seen.clear()
    # A second job passes through the thread, so it has surely left the first one.
    executor.execute([make_job(lambda: 2)], reports)
    reports.wait(1)
    del job
    gc.collect()
    assert watch() is None


def test_a_task_left_running_by_a_coroutine_is_cancelled_at_the_end(start, make_job, reports):
    executor = start("asyncio", 2)
    ended = threading.Event()

    async def stray():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    kept = []

    async def leave_behind():
        kept.append(asyncio.create_task(stray()))
        await asyncio.sleep(0)

    executor.execute([make_job(leave_behind, is_async=True)], reports)
    reports.wait(1)
    assert executor.stop(10.0)
    assert ended.is_set()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere asyncio's own selector is used")
def test_short_sleeps_are_not_rounded_up_to_whole_milliseconds():
    from caraway.builtin.pools.event_loop import _exact_selector

    reading, writing = os.pipe()
    try:
        with _exact_selector() as selector:
            selector.register(reading, selectors.EVENT_READ)
            took = []
            for _ in range(20):
                before = time.perf_counter()
                assert selector.select(0.0002) == []
                took.append(time.perf_counter() - before)
            assert min(took) < 0.001
            os.write(writing, b"x")
            assert [key.fd for key, _ in selector.select(0.01)] == [reading]
            assert [key.fd for key, _ in selector.select(10.0)] == [reading]
            assert [key.fd for key, _ in selector.select(None)] == [reading]
    finally:
        os.close(reading)
        os.close(writing)


def test_an_event_loop_policy_that_was_set_is_respected(start, make_job, reports):
    class OwnLoop(asyncio.SelectorEventLoop):
        pass

    class OwnPolicy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self):
            return OwnLoop()

    async def which():
        return type(asyncio.get_running_loop())

    asyncio.set_event_loop_policy(OwnPolicy())
    try:
        job = make_job(which, is_async=True)
        start("asyncio").execute([job], reports)
        reports.wait(1)
    finally:
        asyncio.set_event_loop_policy(None)
    assert reports.result(job) is OwnLoop
