"""Eager runs, retry, handlers, states."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from caraway import Caraway, states
from caraway.errors import Ignore, MaxRetriesExceededError, Reject, Retry
from caraway.message import Delivery, Message
from caraway.request import Request, current_request
from caraway.result import EagerResult
from caraway.task import Task

Make = Callable[..., Caraway]


# -- apply -----------------------------------------------------------------------------


def test_apply_runs_here_with_a_request_of_its_own(app: Caraway) -> None:
    @app.task(bind=True)
    def show(self: Any, x: int) -> Any:
        request = self.request
        return request.id, request.is_eager, request.called_directly, request.retries, x

    result = show.apply((3,), task_id="i", retries=2)

    assert isinstance(result, EagerResult)
    assert result.get() == ("i", True, False, 2, 3)
    assert (result.state, result.ready(), result.successful()) == (states.SUCCESS, True, True)
    assert current_request.get() is None


def test_a_failure_is_kept_or_thrown(make_app: Make) -> None:
    app = make_app()

    @app.task
    def fail() -> None:
        raise ValueError("no")

    result = fail.apply()
    assert (result.state, repr(result.result)) == (states.FAILURE, "ValueError('no')")
    assert "raise ValueError" in str(result.traceback)
    assert result.get(propagate=False) is result.result
    with pytest.raises(ValueError, match="no"):
        result.get()
    with pytest.raises(ValueError, match="no"):
        fail.apply(throw=True)
    app.conf.task_eager_propagates = True
    with pytest.raises(ValueError, match="no"):
        fail.apply()


def test_an_async_task_runs_in_place_with_or_without_a_loop(app: Caraway) -> None:
    @app.task
    async def add(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    assert add.apply((1,)).get() == 2

    async def main() -> int:
        return int(add.apply((2,)).get())

    assert asyncio.run(main()) == 3


def test_ignore_and_reject_are_states_of_their_own(app: Caraway) -> None:
    @app.task
    def ignore() -> None:
        raise Ignore

    @app.task
    def reject() -> None:
        raise Reject("no")

    assert ignore.apply().state == states.IGNORED
    assert reject.apply().state == states.REJECTED


def test_links_of_an_eager_task_run_after_it(app: Caraway) -> None:
    seen: list[Any] = []

    @app.task
    def first(x: int) -> int:
        if x < 0:
            raise ValueError(x)
        return x

    @app.task
    def then(value: Any, more: int = 0) -> None:
        seen.append((value, more))

    first.apply((1,), link=[then.s(), then.s(5), then.si(0, 7)])
    failed = first.apply((-1,), link_error=then.s(9))

    assert seen == [(1, 0), (1, 5), (0, 7), (failed.id, 9)]


# -- always eager ----------------------------------------------------------------------


def test_everything_runs_in_place_where_the_setting_says_so(make_app: Make, sent: Any) -> None:
    app = make_app()

    @app.task
    def add(x: int) -> int:
        return x + 1

    @app.task
    async def async_add(x: int) -> int:
        return x + 1

    add.delay(1)
    assert len(sent(app)) == 1
    app.conf.task_always_eager = True

    assert add.delay(1).get() == 2
    assert add.apply_async((1,), countdown=60).get() == 2
    assert [result.get() for result in add.delay_many([(1,), (2,)])] == [2, 3]
    assert [result.get() for result in app.publish([add.s(4)])] == [5]
    assert add.s(1).delay().get() == 2
    with pytest.raises(TypeError):
        add.delay()  # type: ignore[call-arg]

    async def main() -> list[int]:
        return [
            await (await add.adelay(1)),
            await (await async_add.adelay(2)),
            await async_add.delay(3),
        ]

    assert asyncio.run(main()) == [2, 3, 4]
    with pytest.warns(UserWarning, match="always_eager"):
        app.send_task("far.away")
    assert len(sent(app)) == 1


def test_results_of_eager_tasks_are_stored_where_asked_for(make_app: Make) -> None:
    app = make_app(task_store_eager_result=True)

    @app.task
    def add(x: int) -> int:
        return x + 1

    result = add.apply((1,))

    assert app.AsyncResult(result.id).get(timeout=1) == 2


# -- retry -----------------------------------------------------------------------------


def test_an_eager_task_is_retried_at_once(app: Caraway) -> None:
    @app.task(bind=True, default_retry_delay=1000)
    def again(self: Any, x: int) -> tuple[int, int]:
        if self.request.retries < 2:
            self.retry(args=(x + 1,))
        return x, self.request.retries

    assert again.apply((0,)).get() == (2, 2)


def test_after_the_last_retry_the_cause_is_raised(app: Caraway) -> None:
    runs = 0

    @app.task(bind=True, max_retries=2)
    def with_cause(self: Any) -> None:
        nonlocal runs
        runs += 1
        try:
            raise ValueError("no")
        except ValueError as exc:
            raise self.retry(exc=exc, countdown=0) from exc

    @app.task(bind=True)
    def without(self: Any) -> None:
        self.retry(max_retries=0)

    assert repr(with_cause.apply().result) == "ValueError('no')"
    assert runs == 3
    with pytest.raises(MaxRetriesExceededError, match="Can't retry"):
        without.apply().get()


def test_without_a_limit_it_is_retried_for_ever(app: Caraway) -> None:
    @app.task(bind=True, max_retries=None)
    def again(self: Any) -> int:
        if self.request.retries < 50:
            self.retry(countdown=0)
        return int(self.request.retries)

    assert again.apply().get() == 50


def test_a_task_called_directly_has_nothing_to_retry(app: Caraway) -> None:
    @app.task(bind=True)
    def again(self: Any) -> None:
        try:
            raise KeyError("cause")
        except KeyError:
            self.retry()

    assert again.request.called_directly
    with pytest.raises(KeyError):
        again()
    with pytest.raises(ValueError, match="given"):
        again.retry(exc=ValueError("given"))
    with pytest.raises(Retry):
        again.retry()


@pytest.fixture
def running(app: Caraway) -> Any:
    @app.task(bind=True, name="shop.again", default_retry_delay=7)
    def again(self: Any, x: int) -> None: ...

    app.finalize()
    delivery = Delivery(
        Message(b"[[1],{},{}]", {"id": "i", "task": "shop.again"}), tag=1, queue="q", priority=4
    )
    request = Request(delivery.message.headers, (1,), {}, {}, delivery)
    request.task_object = again
    token = current_request.set(request)
    yield again
    current_request.reset(token)


def test_a_retry_in_a_worker_is_raised_with_what_changes(running: Any, sent: Any) -> None:
    with pytest.raises(Retry) as caught:
        running.retry(args=(2,), countdown=3, queue="other")

    assert caught.value.when == 3
    assert caught.value.sig == {"args": [2], "queue": "other"}
    assert sent(running.app, "q", "other") == []

    with pytest.raises(Retry) as caught:
        running.retry()
    assert caught.value.when == 7


def test_a_retry_that_is_not_thrown_is_published_at_once(running: Any, sent: Any) -> None:
    again = running.retry(throw=False, countdown=0)

    assert isinstance(again, Retry)
    (delivery,) = sent(running.app, "q")
    assert delivery.message.headers["retries"] == 1
    assert delivery.priority == 4


def test_autoretry_backs_off_and_ends_with_the_cause(app: Caraway) -> None:
    runs: list[int] = []

    @app.task(
        bind=True, autoretry_for=(OSError,), dont_autoretry_for=(FileNotFoundError,),
        retry_kwargs={"max_retries": 2}, retry_backoff=3, retry_jitter=False,
    )  # fmt: skip
    def flaky(self: Any, cause: str) -> None:
        runs.append(self.request.retries)
        raise {"os": OSError, "missing": FileNotFoundError, "value": ValueError}[cause](cause)

    assert isinstance(flaky.apply(("os",)).result, OSError)
    assert runs == [0, 1, 2]
    runs.clear()
    assert isinstance(flaky.apply(("missing",)).result, FileNotFoundError)
    assert isinstance(flaky.apply(("value",)).result, ValueError)
    assert runs == [0, 0]

    request = Request({"retries": 1})
    request.task_object = flaky
    token = current_request.set(request)
    try:
        with pytest.raises(Retry) as caught:
            flaky.autoretry(OSError(), request)
    finally:
        current_request.reset(token)
    assert caught.value.when == 6


# -- handlers and states ---------------------------------------------------------------


def test_handlers_hear_of_each_run(app: Caraway) -> None:
    heard: list[tuple[str, Any]] = []

    class Hearing(Task[Any, Any]):
        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
            heard.append(("before_start", args))

        def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
            heard.append(("on_success", retval))

        def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            heard.append(("on_failure", type(exc)))

        def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            heard.append(("on_retry", type(exc)))

        def after_return(
            self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
        ) -> None:
            heard.append(("after_return", status))

    @app.task(base=Hearing, bind=True)
    def run(self: Any, how: str) -> str:
        if how == "fail" or (how == "retry" and self.request.retries):
            raise KeyError(how)
        if how == "retry":
            self.retry(exc=OSError(), countdown=0)
        return how

    run.apply(("well",))
    run.apply(("fail",))
    run.apply(("retry",))

    assert heard == [
        ("before_start", ("well",)), ("on_success", "well"), ("after_return", "SUCCESS"),
        ("before_start", ("fail",)), ("on_failure", KeyError), ("after_return", "FAILURE"),
        ("before_start", ("retry",)), ("on_retry", OSError), ("after_return", "RETRY"),
        ("before_start", ("retry",)), ("on_failure", KeyError), ("after_return", "FAILURE"),
    ]  # fmt: skip


def test_a_task_tells_its_progress(app: Caraway) -> None:
    @app.task(bind=True)
    def work(self: Any) -> Any:
        self.update_state(state="PROGRESS", meta={"done": 3})
        result = app.AsyncResult(self.request.id)
        return result.state, result.info, result.ready()

    assert work.apply().get() == ("PROGRESS", {"done": 3}, False)
    with pytest.raises(ValueError, match="task_id"):
        work.update_state(state="PROGRESS")
    work.update_state("other", "FAILURE", ValueError("x"))
    assert repr(app.AsyncResult("other").result) == "ValueError('x')"


def test_what_comes_with_the_canvas_says_so(app: Caraway) -> None:
    @app.task
    def add() -> None: ...

    for call in (lambda: add.replace(add.s()), lambda: add.add_to_chord(add.s())):
        with pytest.raises(NotImplementedError, match="canvas"):
            call()


def test_a_task_is_pickled_by_its_name(app: Caraway) -> None:
    @app.task(name="shop.add")
    def add() -> None: ...

    assert pickle.loads(pickle.dumps(add)) is add
