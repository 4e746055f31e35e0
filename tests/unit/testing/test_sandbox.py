from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from caraway.testing import Sandbox, VirtualClock, isolate

if TYPE_CHECKING:
    from caraway import Caraway


@pytest.fixture
def tasks(caraway_app: Caraway) -> Any:
    return {name.removeprefix("shop."): task for name, task in caraway_app.tasks.items()}


def states(ran: list[Any]) -> list[tuple[str, str]]:
    return [(run.task, run.state) for run in ran]


def test_tasks_run_and_their_results_are_there(caraway_sandbox: Sandbox, tasks: Any) -> None:
    result = tasks["add"].delay(2, 3)

    assert states(caraway_sandbox.run_tasks()) == [("shop.add", "SUCCESS")]
    assert result.get(timeout=1) == 5


def test_async_tasks_run_too(caraway_sandbox: Sandbox, tasks: Any) -> None:
    results = [tasks["double"].delay(number) for number in range(3)]

    caraway_sandbox.run_tasks()

    assert [result.get(timeout=1) for result in results] == [0, 2, 4]


def test_a_test_that_is_a_coroutine_may_run_async_tasks(
    caraway_sandbox: Sandbox, tasks: Any
) -> None:
    import asyncio

    async def test() -> Any:
        result = await tasks["double"].adelay(4)
        caraway_sandbox.run_tasks()
        return await result

    assert asyncio.run(test()) == 8


def test_what_tasks_send_runs_as_well(caraway_sandbox: Sandbox, tasks: Any) -> None:
    tasks["fan"].delay(3)

    ran = caraway_sandbox.run_tasks()

    assert states(ran) == [("shop.fan", "SUCCESS")] + 3 * [("shop.add", "SUCCESS")]
    caraway_sandbox.assert_nothing_enqueued()


def test_what_goes_to_a_new_queue_meanwhile_runs_as_well(
    caraway_sandbox: Sandbox, tasks: Any
) -> None:
    tasks["add"].apply_async((1, 1), queue="other", link=tasks["add"].si(1, 2).set(queue="third"))

    assert [run.queue for run in caraway_sandbox.run_tasks()] == ["other", "third"]


def test_queues_can_be_run_one_by_one(caraway_sandbox: Sandbox, tasks: Any) -> None:
    tasks["add"].apply_async((1, 1), queue="a")
    tasks["add"].apply_async((1, 1), queue="b")

    assert [run.queue for run in caraway_sandbox.run_tasks(["b"])] == ["b"]
    caraway_sandbox.assert_enqueued("shop.add", queue="a", count=1)


def test_a_retry_waits_until_the_clock_is_moved(caraway_sandbox: Sandbox, tasks: Any) -> None:
    result = tasks["flaky"].delay(2)

    assert states(caraway_sandbox.run_tasks()) == [("shop.flaky", "RETRY")]
    assert caraway_sandbox.run_tasks() == []
    assert result.state == "RETRY"
    caraway_sandbox.assert_enqueued(tasks["flaky"], args=[2], countdown=60)

    caraway_sandbox.advance(59.9)
    assert caraway_sandbox.run_tasks() == []
    caraway_sandbox.advance(0.2)
    assert states(caraway_sandbox.run_tasks()) == [("shop.flaky", "RETRY")]
    caraway_sandbox.advance(61)
    caraway_sandbox.run_tasks()
    assert result.get(timeout=1) == "done after 2 retries"


def test_waits_can_be_skipped(caraway_sandbox: Sandbox, tasks: Any) -> None:
    started = caraway_sandbox.clock()
    result = tasks["flaky"].apply_async((3,), countdown=3600)

    ran = caraway_sandbox.run_tasks(skip_waits=True)

    assert [run.state for run in ran] == ["RETRY", "RETRY", "RETRY", "SUCCESS"]
    assert result.get(timeout=1) == "done after 3 retries"
    assert caraway_sandbox.clock() - started == pytest.approx(3600 + 3 * 60, abs=0.1)


def test_a_failure_is_a_result_unless_it_is_to_be_thrown(
    caraway_sandbox: Sandbox, tasks: Any
) -> None:
    result = tasks["broken"].delay()
    assert states(caraway_sandbox.run_tasks()) == [("shop.broken", "FAILURE")]
    assert isinstance(result.result, ValueError)

    tasks["broken"].delay()
    tasks["add"].delay(1, 1)
    with pytest.raises(ValueError, match="on purpose") as caught:
        caraway_sandbox.run_tasks(throw=True)
    assert any("shop.broken" in note for note in caught.value.__notes__)
    caraway_sandbox.assert_nothing_enqueued()


def test_tasks_that_call_each_other_for_ever_are_an_error(
    caraway_sandbox: Sandbox, tasks: Any
) -> None:
    tasks["forever"].delay()

    with pytest.raises(AssertionError, match="after 50 runs"):
        caraway_sandbox.run_tasks(limit=50)


def test_unknown_tasks_are_parked_as_a_worker_does(caraway_sandbox: Sandbox) -> None:
    caraway_sandbox.app.send_task("shop.unheard_of")

    assert states(caraway_sandbox.run_tasks()) == [("shop.unheard_of", "PARKED")]
    (letter,) = caraway_sandbox.dead()
    assert letter.kind == "parked"
    assert "unheard_of" in letter.reason


def test_expired_and_revoked_tasks_do_not_run(caraway_sandbox: Sandbox, tasks: Any) -> None:
    expired = tasks["add"].apply_async((1, 1), expires=10)
    revoked = tasks["add"].delay(1, 1)
    caraway_sandbox.app.revoke(revoked.id)
    caraway_sandbox.advance(11)

    assert states(caraway_sandbox.run_tasks()) == 2 * [("shop.add", "REVOKED")]
    assert (expired.state, revoked.state) == ("REVOKED", "REVOKED")


def test_what_waits_is_told_with_its_arguments(caraway_sandbox: Sandbox, tasks: Any) -> None:
    tasks["add"].apply_async((1,), {"y": 2}, countdown=5, priority=7, queue="q")

    (message,) = caraway_sandbox.enqueued()

    assert (message.task, message.args, message.kwargs) == ("shop.add", [1], {"y": 2})
    assert (message.queue, message.priority) == ("q", 7)
    assert message.countdown == pytest.approx(5, abs=0.01)
    assert str(message) == "shop.add(1, y=2) in queue 'q' in 5 s"


def test_an_assertion_that_holds_returns_the_matches(caraway_sandbox: Sandbox, tasks: Any) -> None:
    first = tasks["add"].delay(1, 2)
    tasks["add"].delay(1, 3)
    tasks["double"].delay((1, 2))

    (match,) = caraway_sandbox.assert_enqueued(tasks["add"], args=(1, 2))
    assert match.task_id == first.id
    assert len(caraway_sandbox.assert_enqueued("shop.add", count=2)) == 2
    caraway_sandbox.assert_enqueued("shop.add", kwargs={}, queue="celery", countdown=0, count=2)
    caraway_sandbox.assert_enqueued("shop.double", args=[(1, 2)])
    caraway_sandbox.assert_nothing_enqueued("shop.flaky")


@pytest.mark.parametrize(
    "wanted",
    [
        {"args": (1, 4)},
        {"kwargs": {"y": 2}},
        {"queue": "other"},
        {"countdown": 10},
        {"count": 2},
        {"count": 0},
    ],
)
def test_an_assertion_that_fails_shows_what_waits(
    caraway_sandbox: Sandbox, tasks: Any, wanted: dict[str, Any]
) -> None:
    tasks["add"].delay(1, 2)

    with pytest.raises(AssertionError, match=r"shop\.add\(1, 2\) in queue 'celery'"):
        caraway_sandbox.assert_enqueued("shop.add", **wanted)


def test_nothing_enqueued_fails_where_something_is(caraway_sandbox: Sandbox, tasks: Any) -> None:
    with pytest.raises(AssertionError, match="the queues are empty"):
        caraway_sandbox.assert_enqueued("shop.add")
    tasks["add"].delay(1, 2)
    with pytest.raises(AssertionError, match=r"shop\.add\(1, 2\)"):
        caraway_sandbox.assert_nothing_enqueued()


def test_within_the_sandbox_the_app_has_the_test_s_clock(
    caraway_sandbox: Sandbox, caraway_clock: VirtualClock
) -> None:
    assert caraway_sandbox.clock is caraway_clock
    before = caraway_sandbox.app.now()
    caraway_clock.advance(3600)
    assert (caraway_sandbox.app.now() - before).total_seconds() == 3600


def test_after_the_sandbox_the_app_is_as_before(caraway_app: Caraway, tasks: Any) -> None:
    urls = (caraway_app.conf.broker_url, caraway_app.conf.result_backend)
    source = caraway_app.conf.source_of("broker_url")
    clock = caraway_app.context.clock
    with isolate(caraway_app, task_default_queue="inside") as sandbox:
        tasks["add"].delay(1, 2)
        sandbox.assert_enqueued("shop.add", queue="inside")
        assert caraway_app.conf.broker_url.startswith("memory://sandbox")

    assert (caraway_app.conf.broker_url, caraway_app.conf.result_backend) == urls
    assert caraway_app.conf.source_of("broker_url") == source
    assert caraway_app.context.clock is clock
    assert caraway_app.conf.task_default_queue == "celery"
    assert [stats.ready for stats in caraway_app.transport.stats(["celery"])] == [0]


def test_sandboxes_know_nothing_of_each_other(caraway_app: Caraway, tasks: Any) -> None:
    with isolate(caraway_app):
        tasks["add"].delay(1, 2)
    with isolate(caraway_app) as sandbox:
        assert sandbox.enqueued() == []
