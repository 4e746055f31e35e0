"""Results: waiting, states, many at once."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from caraway import AsyncResult, Caraway, ResultSet, as_completed, states
from caraway.errors import BackendError, TaskRevokedError
from caraway.errors import TimeoutError as LateError
from caraway.request import Request, current_request
from caraway.result import allow_join_result, denied_join_result

Store = Callable[..., None]


@pytest.fixture
def store(app: Caraway) -> Store:
    def put(task_id: str, value: Any = None, state: str = states.SUCCESS) -> None:
        app.store_state(task_id, state, value)

    return put


def soon(call: Callable[[], Any]) -> None:
    """From another thread, once this one waits (or a little before)."""
    threading.Timer(0.02, call).start()


# -- one -------------------------------------------------------------------------------


def test_a_result_that_is_there_is_given_at_once(app: Caraway, store: Store) -> None:
    store("a", {"x": 1})
    calls: list[Any] = []

    result = app.AsyncResult("a")

    assert result.get(timeout=0, callback=lambda *given: calls.append(given)) == {"x": 1}
    assert calls == [("a", {"x": 1})]
    assert (result.state, result.ready(), result.successful(), result.failed()) == (
        "SUCCESS", True, True, False,
    )  # fmt: skip
    assert result.date_done.tzinfo is not None


def test_a_result_that_comes_later_wakes_who_waits(app: Caraway, store: Store) -> None:
    soon(lambda: store("a", 5))

    assert app.AsyncResult("a").get(timeout=10) == 5


def test_a_result_that_does_not_come_is_a_timeout_with_advice(app: Caraway) -> None:
    with pytest.raises(LateError, match="explain a") as caught:
        app.AsyncResult("a").get(timeout=0.01)

    assert isinstance(caught.value, TimeoutError)


def test_a_failure_is_raised_or_returned(app: Caraway, store: Store) -> None:
    store("a", KeyError("k"), states.FAILURE)
    store("b", TaskRevokedError("gone"), states.REVOKED)
    result = app.AsyncResult("a")

    with pytest.raises(KeyError):
        result.get(timeout=1)
    assert isinstance(result.get(propagate=False), KeyError)
    assert result.failed()
    with pytest.raises(TaskRevokedError):
        app.AsyncResult("b").get(timeout=1)


def test_nothing_known_is_pending(app: Caraway) -> None:
    result = app.AsyncResult("a")

    assert (result.state, result.result, result.ready(), result.exists()) == (
        "PENDING", None, False, False,
    )  # fmt: skip


def test_a_state_on_the_way_is_not_kept(app: Caraway, store: Store) -> None:
    result = app.AsyncResult("a")
    store("a", {"pid": 1}, states.STARTED)
    assert (result.state, result.info) == ("STARTED", {"pid": 1})
    store("a", ValueError("again"), states.RETRY)
    assert isinstance(result.result, ValueError)
    store("a", 3)
    assert result.result == 3


def test_a_final_state_is_asked_for_once(
    app: Caraway, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store("a", 3)
    result = app.AsyncResult("a")
    result.get()
    app.backend.forget(["a"])

    assert (result.get(), result.state) == (3, "SUCCESS")
    result.forget()
    assert result.state == "PENDING"


def test_waiting_tells_the_time(app: Caraway, store: Store) -> None:
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 3:
            store("a", 1)

    assert app.AsyncResult("a").get(timeout=10, interval=0.001, on_interval=tick) == 1
    assert len(ticks) == 3


def test_a_parents_failure_is_raised_by_who_waits_for_the_child(app: Caraway, store: Store) -> None:
    grandparent = app.AsyncResult("g")
    parent = app.AsyncResult("p", parent=grandparent)
    child = app.AsyncResult("c", parent=parent)
    store("p", ValueError("no"), states.FAILURE)

    with pytest.raises(ValueError, match="no"):
        child.get(timeout=5)
    with pytest.raises(LateError):
        child.get(timeout=0.01, follow_parents=False)
    assert child.as_tuple() == (("c", (("p", (("g", None), None)), None)), None)
    assert child.as_list() == ["c", "p", "g"]


def test_inside_a_task_waiting_is_refused_unless_allowed(app: Caraway, store: Store) -> None:
    store("a", 1)
    token = current_request.set(Request({"id": "me"}))
    try:
        with pytest.raises(RuntimeError, match="within a task"):
            app.AsyncResult("a").get(timeout=1)
        with pytest.raises(RuntimeError, match="within a task"):
            list(as_completed([app.AsyncResult("a")]))
        with allow_join_result():
            assert app.AsyncResult("a").get(timeout=1) == 1
        assert app.AsyncResult("a").get(timeout=1, disable_sync_subtasks=False) == 1
    finally:
        current_request.reset(token)
    with denied_join_result(), pytest.raises(RuntimeError):
        app.AsyncResult("a").get(timeout=1)


def test_results_are_equal_by_id_and_travel(app: Caraway, store: Store) -> None:
    one = app.AsyncResult("a")

    assert one == app.AsyncResult("a") == "a"
    assert one != app.AsyncResult("b")
    assert {one: 1}[app.AsyncResult("a")] == 1
    assert str(one) == "a"
    store("a", 7)
    back = pickle.loads(pickle.dumps(one))
    assert back == one
    assert back.get(timeout=1) == 7


def test_results_on_their_own_belong_to_the_current_app(app: Caraway, store: Store) -> None:
    store("a", 7)

    assert AsyncResult("a").get(timeout=1) == 7  # type: ignore[var-annotated]


def test_collecting_a_result_does_nothing(app: Caraway, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not hasattr(AsyncResult, "__del__")


def test_extended_records_are_shown(app: Caraway) -> None:
    from caraway.protocol.result import encode_meta

    request = Request({"id": "a", "task": "shop.add", "retries": 2}, (1,), {"y": 2}, hostname="w")
    payload = encode_meta(app.result_serializer, "a", "SUCCESS", 3, request=request, extended=True)
    app.store_payload("a", "SUCCESS", payload)
    result = app.AsyncResult("a")

    assert (result.name, result.args, result.kwargs) == ("shop.add", [1], {"y": 2})
    assert (result.worker, result.retries, result.queue) == ("w", 2, None)


def test_then_calls_back(app: Caraway, store: Store) -> None:
    store("a", 1)
    store("b", ValueError(), states.FAILURE)
    seen: list[str] = []

    app.AsyncResult("a").then(lambda result: seen.append(result.id))
    app.AsyncResult("b").then(print, on_error=lambda result: seen.append(result.id))

    assert seen == ["a", "b"]


# -- many ------------------------------------------------------------------------------


def test_results_come_as_they_end(app: Caraway, store: Store) -> None:
    results = [app.AsyncResult(name) for name in "abc"]
    store("b", 2)
    iterator = iter(as_completed(results, timeout=10))

    assert next(iterator).id == "b"
    soon(lambda: store("c", 3))
    assert next(iterator).id == "c"
    soon(lambda: store("a", ValueError("no"), states.FAILURE))
    last = next(iterator)
    assert (last.id, last.failed()) == ("a", True)
    assert list(iterator) == []


def test_one_task_twice_is_given_twice(app: Caraway, store: Store) -> None:
    store("a", 1)

    assert [each.get() for each in as_completed([app.AsyncResult("a")] * 2, 5)] == [1, 1]


def test_as_completed_ends_in_time(app: Caraway, store: Store) -> None:
    store("a", 1)
    results = [app.AsyncResult("a"), app.AsyncResult("b")]
    ended = iter(as_completed(results, timeout=0.02))

    assert next(ended).id == "a"
    with pytest.raises(LateError, match="1 tasks"):
        next(ended)


def test_a_set_is_one_result(app: Caraway, store: Store) -> None:
    results = ResultSet([app.AsyncResult("a"), app.AsyncResult("b")])
    store("a", 1)

    assert (results.ready(), results.waiting(), results.completed_count()) == (False, True, 1)
    with pytest.raises(LateError):
        results.get(timeout=0.01)
    store("b", 2)
    assert results.get(timeout=5) == results.join(timeout=5) == [1, 2]
    assert results.successful()
    store("c", ValueError("no"), states.FAILURE)
    results.add(app.AsyncResult("c"))
    results.add(app.AsyncResult("c"))
    assert len(results) == 3
    assert results.failed()
    with pytest.raises(ValueError, match="no"):
        results.get(timeout=5)
    assert [type(each) for each in results.get(timeout=5, propagate=False)] == [
        int, int, ValueError,
    ]  # fmt: skip
    results.remove("c")
    results.discard("c")
    with pytest.raises(KeyError):
        results.remove("c")
    assert dict(results.iter_native(timeout=5))["b"]["result"] == 2
    results.forget()
    assert not results.ready()
    results.revoke()
    assert app.transport.revoked(["a", "b"]) == {"a", "b"}


# -- coroutines ------------------------------------------------------------------------


def test_a_coroutine_awaits_a_result(app: Caraway, store: Store) -> None:
    async def main() -> Any:
        store("b", 2)
        soon(lambda: store("a", 1))
        return await app.AsyncResult("a"), await app.AsyncResult("b")

    assert asyncio.run(main()) == (1, 2)


def test_a_coroutine_gets_the_exception(app: Caraway, store: Store) -> None:
    async def main() -> None:
        store("a", KeyError("k"), states.FAILURE)
        with pytest.raises(KeyError):
            await app.AsyncResult("a")
        assert isinstance(await app.AsyncResult("a").aget(propagate=False), KeyError)

    asyncio.run(main())


def test_a_coroutine_waits_no_longer_than_it_says(app: Caraway) -> None:
    async def main() -> None:
        with pytest.raises(LateError):
            await app.AsyncResult("a").aget(timeout=0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await app.AsyncResult("a")
        assert app.result_waiter._waiting == {}

    asyncio.run(main())


def test_a_thousand_coroutines_share_one_thread(app: Caraway, store: Store) -> None:
    async def main() -> list[Any]:
        names = [str(n) for n in range(1000)]
        waiting = [asyncio.ensure_future(app.AsyncResult(name).aget(10)) for name in names]
        await asyncio.sleep(0)
        assert [each.name for each in threading.enumerate()].count("caraway-results") == 1
        for name in names:
            store(name, int(name))
        return await asyncio.gather(*waiting)

    assert asyncio.run(main()) == list(range(1000))


def test_results_come_to_coroutines_as_they_end(app: Caraway, store: Store) -> None:
    async def main() -> list[str]:
        results = [app.AsyncResult(name) for name in "abc"]
        store("b", 2)
        await results[1]
        soon(lambda: (store("c"), soon(lambda: store("a"))))
        return [result.id async for result in as_completed(results, timeout=10)]

    assert asyncio.run(main()) == ["b", "c", "a"]


def test_results_for_coroutines_end_in_time(app: Caraway) -> None:
    async def main() -> None:
        with pytest.raises(LateError):
            async for _ in as_completed([app.AsyncResult("a")], timeout=0.01):
                pass

    asyncio.run(main())


def test_closing_the_app_ends_the_wait(app: Caraway) -> None:
    async def main() -> None:
        waiting = asyncio.ensure_future(app.AsyncResult("a").aget())
        await asyncio.sleep(0)
        app.close()
        with pytest.raises(BackendError, match="closed"):
            await waiting

    asyncio.run(main())
    assert "caraway-results" not in [each.name for each in threading.enumerate()]


def test_a_backend_that_fails_is_an_error_of_who_awaits(
    app: Caraway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise BackendError("away")

    async def main() -> None:
        monkeypatch.setattr(app.backend, "wait", fail)
        with pytest.raises(BackendError, match="away"):
            await app.AsyncResult("a")
        with pytest.raises(BackendError, match="away"):
            async for _ in as_completed([app.AsyncResult("a")]):
                pass

    asyncio.run(main())
