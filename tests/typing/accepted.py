"""What type checkers must accept, and see as these types."""

from collections.abc import Sequence
from typing import Any, assert_type

from caraway import (
    AsyncResult,
    Caraway,
    EagerResult,
    ResultSet,
    Signature,
    Task,
    as_completed,
    shared_task,
)
from caraway.result.sets import ResultList
from caraway.task import AsyncTask

app = Caraway("shop")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(name="shop.greet", max_retries=5)
def greet(name: str, *, loud: bool = False) -> str:
    return name.upper() if loud else name


@app.task
async def fetch(url: str) -> bytes:
    return url.encode()


@app.task(queue="slow")
async def fetch_slowly(url: str) -> bytes:
    return url.encode()


@app.task(bind=True)
def bound(self: Task[Any, Any], count: int) -> list[int]:
    return [count, self.request.retries]


@app.task(bind=True, max_retries=None)
async def bound_async(self: Task[Any, Any], count: int) -> float:
    return float(count + self.request.retries)


@shared_task
def shared(x: float) -> float:
    return x


assert_type(add.delay(1), AsyncResult[int])
assert_type(add.delay(1, y=2), AsyncResult[int])
assert_type(add.delay(1, 2).get(timeout=1.0), int)
assert_type(add.apply_async((1, 2), countdown=3), AsyncResult[int])
assert_type(add.apply((1, 2)), EagerResult[int])
assert_type(add.apply((1, 2)).get(), int)
assert_type(add(1, 2), int)
assert_type(add.s(1, 2), Signature[int])
assert_type(add.s(1, 2).delay().get(), int)
assert_type(add.delay_many([(1, 2), {"x": 3}]), ResultList[int])
assert_type(add.delay_many([(1, 2)])[0].get(), int)
assert_type(add.AsyncResult("id"), AsyncResult[int])

assert_type(greet.delay("a", loud=True), AsyncResult[str])
assert_type(bound.delay(3), AsyncResult[list[int]])
assert_type(bound_async.delay(3), AsyncResult[float])
assert_type(shared.delay(1.5), AsyncResult[float])

# the result of an async task is what its coroutine returns
assert_type(fetch.delay("u"), AsyncResult[bytes])
assert_type(fetch_slowly.delay("u").get(), bytes)


async def client() -> None:
    assert_type(await add.adelay(1, 2), AsyncResult[int])
    assert_type(await (await add.adelay(1, 2)), int)
    assert_type(await add.delay(1), int)
    assert_type(await fetch("u"), bytes)
    assert_type(await (await fetch.adelay("u")), bytes)
    assert_type(await bound_async.apply_async((1,)), float)
    async for result in as_completed([add.delay(1), add.delay(2)]):
        assert_type(result, AsyncResult[int])


def many(results: Sequence[AsyncResult[int]]) -> list[int]:
    for result in as_completed(results):
        assert_type(result.get(), int)
    return ResultSet(results).get()


def takes_tasks(plain: Task[[int, int], int], asynchronous: AsyncTask[[str], bytes]) -> None:
    plain.delay(1, 2)
    asynchronous.delay("u")


takes_tasks(add, fetch)

assert_type(app.conf.task_acks_late, bool)
assert_type(app.conf.task_time_limit, float | None)
assert_type(app.conf.accept_content, tuple[str, ...])
assert_type(app.conf["worker_pool"], Any)
app.conf.task_acks_late = False
