"""What delay, apply_async and bulk calls put into the broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from caraway import Caraway, signals
from caraway.errors import EncodeError, PublishError, StoreFull
from caraway.message import Delivery, Publication
from caraway.request import Request, current_request
from caraway.result import AsyncResult
from caraway.task import Task
from caraway.task.send import BulkError

Make = Callable[..., Caraway]
NOW = 1_700_000_000.0


@pytest.fixture
def add(app: Caraway) -> Any:
    app.context = replace(app.context, clock=lambda: NOW)

    @app.task(name="shop.add")
    def add(x: int, y: int = 1, *, z: int = 0) -> int:
        return x + y + z

    return add


@pytest.fixture
def published(app: Caraway, monkeypatch: pytest.MonkeyPatch) -> list[Publication]:
    """What reaches the transport."""
    found: list[Publication] = []
    publish = app.transport.publish

    def spy(publications: Any, *, timeout: float = 5.0) -> None:
        publish(publications, timeout=timeout)
        found.extend(publications)

    monkeypatch.setattr(app.transport, "publish", spy)
    return found


def body(publication: Publication) -> Any:
    return json.loads(publication.message.body)


# -- the two ways ----------------------------------------------------------------------


def test_the_short_way_makes_the_same_message_as_the_long_one(
    add: Any, published: list[Publication]
) -> None:
    add.delay(1, z=2)
    add.apply_async((1,), {"z": 2})

    short, long = published
    for name in ("id", "root_id"):
        short.message.headers.pop(name)
        long.message.headers.pop(name)
    for each in (short, long):
        each.message.properties.pop("correlation_id")
    assert body(short) == body(long)
    assert replace(short, message=replace(short.message, body=b"")) == replace(
        long, message=replace(long.message, body=b"")
    )


def test_the_short_way_carries_what_the_task_says(
    app: Caraway, published: list[Publication]
) -> None:
    @app.task(
        queue="slow", priority=7, time_limit=9, soft_time_limit=5, ignore_result=True,
        delivery_mode=1,
    )  # fmt: skip
    def slow() -> None: ...

    slow.delay()
    slow.apply_async()

    for each in published:
        assert (each.queue, each.priority) == ("slow", 7)
        assert each.message.headers["timelimit"] == [9, 5]
        assert each.message.headers["ignore_result"] is True
        assert each.message.properties["priority"] == 7
        assert each.message.properties["delivery_mode"] == 1


@pytest.mark.parametrize(
    ("options", "settings"),
    [({"expires": 60}, {}), ({"compression": "zlib"}, {}), ({}, {"task_compression": "zlib"}),
     ({}, {"task_routes": lambda *_, **__: None}), ({}, {"task_send_argsrepr": True})],
)  # fmt: skip
def test_tasks_that_need_more_take_the_long_way(
    make_app: Make, sent: Any, options: dict[str, Any], settings: dict[str, Any]
) -> None:
    app = make_app(**settings)

    @app.task(**options)
    def add(x: int) -> int:
        return x

    app.finalize()
    assert add.build((), {}) is None
    add.delay(1)
    (delivery,) = sent(app)
    headers = delivery.message.headers
    assert bool(delivery.expires) == ("expires" in options)
    assert ("compression" in headers) == ("compression" in str([options, settings]))
    assert ("argsrepr" in headers) == ("task_send_argsrepr" in settings)


def test_a_task_class_that_overrides_apply_async_is_asked(app: Caraway, sent: Any) -> None:
    class Mine(Task[Any, Any]):
        def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            return super().apply_async(args, kwargs, **{**options, "queue": "mine"})

    @app.task(base=Mine)
    def add(x: int) -> int:
        return x

    add.delay(1)
    add.delay(1)

    assert len(sent(app, "mine")) == 2


def test_a_task_class_that_overrides_delay_is_asked_each_time(app: Caraway) -> None:
    calls: list[Any] = []

    class Mine(Task[Any, Any]):
        def delay(self, *args: Any, **kwargs: Any) -> Any:
            calls.append(args)
            return super().delay(*args, **kwargs)

    @app.task(base=Mine)
    def add(x: int) -> int:
        return x

    add.delay(1)
    add.delay(2)

    assert calls == [(1,), (2,)]


def test_an_attribute_that_is_set_later_holds(add: Any, published: list[Publication]) -> None:
    add.delay(1)
    add.queue = "later"
    add.delay(1)

    assert [each.queue for each in published] == ["celery", "later"]


# -- arguments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"w": 1})]
)
def test_arguments_that_the_task_does_not_take_are_refused(
    add: Any, published: list[Publication], args: Any, kwargs: Any
) -> None:
    for call in (
        lambda: add.delay(*args, **kwargs),
        lambda: add.apply_async(args, kwargs),
        lambda: asyncio.run(add.adelay(*args, **kwargs)),
        lambda: add.apply_async(args, kwargs, countdown=3),
    ):
        with pytest.raises(TypeError, match=r"add\(\)"):
            call()

    assert published == []


def test_arguments_are_not_checked_where_it_is_switched_off(make_app: Make, sent: Any) -> None:
    loose = make_app(strict_typing=False)

    @loose.task
    def one(x: int) -> int:
        return x

    @loose.task(typing=True)
    def two(x: int) -> int:
        return x

    one.delay()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        two.delay()  # type: ignore[call-arg]
    assert len(sent(loose)) == 1


@pytest.mark.parametrize("args", ["ab", b"ab", 7])
def test_arguments_must_be_a_list(add: Any, args: Any) -> None:
    with pytest.raises(TypeError, match="list or tuple"):
        add.apply_async(args)


def test_what_cannot_be_written_is_an_error_of_the_call(
    add: Any, published: list[Publication]
) -> None:
    for call in (lambda: add.delay(object()), lambda: add.apply_async((object(),))):
        with pytest.raises(EncodeError, match="object"):
            call()

    assert published == []


# -- options ---------------------------------------------------------------------------


def test_times(add: Any, published: list[Publication]) -> None:
    later = datetime.fromtimestamp(NOW, UTC) + timedelta(hours=1)
    add.apply_async((1,), countdown=10, expires=20)
    add.apply_async((1,), eta=later, expires=later + timedelta(minutes=1))

    first, second = published
    assert (first.due, first.expires) == (NOW + 10, NOW + 20)
    assert first.message.headers["eta"] == "2023-11-14T22:13:30+00:00"
    assert first.message.headers["expires"] == "2023-11-14T22:13:40+00:00"
    assert first.message.properties["expiration"] == "20000"
    assert (second.due, second.expires) == (NOW + 3600, NOW + 3660)


def test_place_and_priority(add: Any, published: list[Publication]) -> None:
    add.apply_async((1,), queue="q", priority=9)

    assert (published[0].queue, published[0].priority) == ("q", 9)
    assert published[0].message.properties["priority"] == 9


def test_headers_and_properties(add: Any, published: list[Publication]) -> None:
    add.apply_async(
        (1,), headers={"mine": 1}, shadow="other", time_limit=3, soft_time_limit=2,
        ignore_result=True, reply_to="me", message_id="m", stamped_headers=["colour"],
        colour="red", task_id="own-id", group_id="g", group_index=2, root_id="r", parent_id="p",
    )  # fmt: skip

    message = published[0].message
    wanted = {
        "mine": 1, "shadow": "other", "timelimit": [3, 2], "ignore_result": True, "id": "own-id",
        "stamped_headers": ["colour"], "stamps": {"colour": "red"}, "group": "g",
        "group_index": 2, "root_id": "r", "parent_id": "p",
    }  # fmt: skip
    assert {name: message.headers[name] for name in wanted} == wanted
    assert message.properties["reply_to"] == "me"
    assert message.properties["message_id"] == "m"
    assert message.properties["correlation_id"] == "own-id"


def test_links_travel_as_signatures(add: Any, published: list[Publication]) -> None:
    add.apply_async((1,), link=add.s(2), link_error=[add.si(3), add.s()])

    embed = body(published[0])[2]
    assert [link["args"] for link in embed["callbacks"]] == [[2]]
    assert [link["immutable"] for link in embed["errbacks"]] == [True, False]


def test_an_unknown_option_is_refused_with_the_nearest(add: Any) -> None:
    with pytest.raises(TypeError, match="did you mean 'countdown'"):
        add.apply_async((1,), count_down=3)


def test_options_of_celerys_that_mean_nothing_here_are_accepted(add: Any) -> None:
    add.apply_async((1,), connection=None, producer=None, declare=[], mandatory=True)


def test_a_publish_may_have_a_policy_of_its_own(
    app: Caraway, add: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from caraway.errors import TransportUnavailable

    timeouts: list[float] = []

    def away(publications: Any, *, timeout: float = 5.0) -> None:
        timeouts.append(timeout)
        raise TransportUnavailable("away")

    monkeypatch.setattr(app.transport, "publish", away)
    monkeypatch.setattr(app.producer, "_sleep", lambda _: None)

    for options, attempts in (
        ({"retry": False}, 1),
        ({"retry_policy": {"max_retries": 1}}, 2),
        ({"timeout": 0.5}, 4),
        ({}, 4),
    ):
        timeouts.clear()
        with pytest.raises(TransportUnavailable):
            add.apply_async((1,), **options)
        assert len(timeouts) == attempts
        whole = options.get("timeout", 5.0)
        assert timeouts[0] == whole
        # Each further attempt has what the ones before it left.
        assert timeouts == sorted(timeouts, reverse=True)
        assert 0 < timeouts[-1] <= whole


# -- from inside of a task -------------------------------------------------------------


@pytest.fixture
def inside() -> Iterator[Request]:
    request = Request({"id": "parent", "root_id": "root"})
    token = current_request.set(request)
    yield request
    current_request.reset(token)


def test_a_task_sent_by_a_task_knows_its_parent_and_root(
    add: Any, published: list[Publication], inside: Request
) -> None:
    add.delay(1)
    add.apply_async((1,))

    for each in published:
        assert each.message.headers["parent_id"] == "parent"
        assert each.message.headers["root_id"] == "root"


def test_a_task_sent_by_a_task_may_take_its_priority(
    make_app: Make, sent: Any, inside: Request
) -> None:
    from caraway.message import Message

    app = make_app(task_inherit_parent_priority=True)
    inside.delivery = Delivery(Message(b""), tag=1, queue="q", priority=8)

    @app.task
    def add() -> None: ...

    add.delay()
    add.apply_async()
    add.apply_async(priority=2)

    assert [each.priority for each in sent(app)] == [8, 8, 2]


# -- signals and middleware ------------------------------------------------------------


@pytest.fixture
def listening() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    heard: list[tuple[str, dict[str, Any]]] = []

    def before(**fields: Any) -> None:
        heard.append(("before", fields))
        fields["headers"]["traced"] = True
        fields["body"][1]["z"] = 5

    def after(**fields: Any) -> None:
        heard.append(("after", fields))

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    yield heard
    signals.before_task_publish.disconnect(before)
    signals.after_task_publish.disconnect(after)


@pytest.mark.parametrize("way", ["delay", "apply_async", "adelay", "delay_many", "send_task"])
def test_listeners_hear_of_each_publish_and_may_change_headers_and_arguments(
    app: Caraway, add: Any, published: list[Publication], listening: Any, way: str
) -> None:
    if way == "delay":
        add.delay(1)
    elif way == "apply_async":
        add.apply_async((1,))
    elif way == "adelay":
        asyncio.run(add.adelay(1))
    elif way == "delay_many":
        add.delay_many([(1,)])
    else:
        app.send_task("shop.add", (1,))

    assert [(kind, fields["sender"]) for kind, fields in listening] == [
        ("before", "shop.add"),
        ("after", "shop.add"),
    ]
    assert listening[1][1]["routing_key"] == "celery"
    assert published[0].message.headers["traced"] is True
    assert body(published[0])[:2] == [[1], {"z": 5}]


def test_middleware_sees_all_that_is_published(make_app: Make, sent: Any) -> None:
    class Tagging:
        def publish(self, publications: Any, call_next: Any) -> None:
            for each in publications:
                each.message.headers["tagged"] = True
            call_next(publications)

    app = make_app(middleware=[Tagging()])

    @app.task
    def add(x: int) -> int:
        return x

    add.delay(1)
    add.apply_async((1,), retry=False)
    add.delay_many([(1,), (2,)])
    asyncio.run(add.adelay(1))
    app.send_task("other")
    app.publish([add.s(1)])

    assert [each.message.headers.get("tagged") for each in sent(app)] == [True] * 7


# -- by name ---------------------------------------------------------------------------


def test_a_task_is_sent_by_name_unseen(app: Caraway, published: list[Publication]) -> None:
    result = app.send_task("far.away", (1,), {"a": 2}, queue="q", task_id="i")

    assert isinstance(result, AsyncResult)
    assert result.id == "i"
    assert published[0].message.headers["task"] == "far.away"
    assert (published[0].queue, body(published[0])[:2]) == ("q", [[1], {"a": 2}])


def test_a_coroutine_sends_by_name(app: Caraway, published: list[Publication]) -> None:
    asyncio.run(app.asend_task("far.away", (1,)))

    assert published[0].message.headers["task"] == "far.away"


# -- bulk ------------------------------------------------------------------------------


def test_many_calls_are_sent_in_few_batches_and_taken_in_lazily(
    app: Caraway, add: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    ahead: list[int] = []
    taken = 0
    publish = app.transport.publish

    def spy(publications: Any, *, timeout: float = 5.0) -> None:
        batches.append(len(publications))
        ahead.append(taken - sum(batches))
        publish(publications, timeout=timeout)

    monkeypatch.setattr(app.transport, "publish", spy)

    def calls() -> Iterator[Any]:
        nonlocal taken
        for n in range(250):
            taken += 1
            yield (n,) if n % 2 else {"x": n}

    results = add.delay_many(calls(), chunk=100)

    assert batches == [100, 100, 50]
    assert ahead == [0, 0, 0]
    assert len(results) == 250
    assert len({result.id for result in results}) == 250
    assert results[-1].id == results[249].id
    assert [each.id for each in results[:2]] == results.ids[:2]
    with pytest.raises(IndexError):
        results[250]


def test_many_calls_take_options(add: Any, published: list[Publication]) -> None:
    results = add.delay_many([(1,), (2,)], countdown=5, queue="q")

    assert [(each.due, each.queue) for each in published] == [(NOW + 5, "q")] * 2
    assert [each.message.headers["id"] for each in published] == results.ids


def test_nothing_to_send_is_no_error(add: Any, published: list[Publication]) -> None:
    assert len(add.delay_many([])) == 0
    assert published == []


@pytest.mark.parametrize("bad", [3, "text", ("a", "b", "c"), {"w": 1}])
def test_a_bad_call_among_many_says_how_many_went_before(
    add: Any, published: list[Publication], bad: Any
) -> None:
    with pytest.raises(TypeError) as caught:
        add.delay_many([(1,), (2,), bad, (4,)])

    assert caught.value.__notes__ == ["delay_many: 2 calls were sent before this one"]
    assert len(published) == 2


def test_a_chunk_that_fails_says_where(
    app: Caraway, add: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = app.transport.publish
    faults: list[Any] = [None, PublishError("no room", failed=[1])]

    def spy(publications: Any, *, timeout: float = 5.0) -> None:
        fault = faults.pop(0)
        if fault:
            raise fault
        publish(publications, timeout=timeout)

    monkeypatch.setattr(app.transport, "publish", spy)

    with pytest.raises(BulkError) as caught:
        add.delay_many([(n,) for n in range(4)], chunk=2)

    assert (caught.value.sent, caught.value.failed, len(caught.value.results)) == (2, (1,), 2)
    faults[:] = [StoreFull("full")]
    with pytest.raises(StoreFull) as full:
        add.delay_many([(1,)])
    assert full.value.__notes__


def test_signatures_of_any_tasks_are_sent_in_bulk(
    app: Caraway, add: Any, published: list[Publication]
) -> None:
    other = app.signature("far.away", (7,), queue="q")

    results = app.publish([add.s(1), dict(add.s(2)), other], chunk=2)

    assert [each.message.headers["task"] for each in published] == [
        "shop.add",
        "shop.add",
        "far.away",
    ]
    assert [each.queue for each in published] == ["celery", "celery", "q"]
    assert results.ids == [each.message.headers["id"] for each in published]


def test_calls_of_coroutines_reach_the_broker(add: Any, published: list[Publication]) -> None:
    async def main() -> list[AsyncResult[Any]]:
        return await asyncio.gather(*(add.adelay(n) for n in range(50)))

    results = asyncio.run(main())

    assert {each.message.headers["id"] for each in published} == {each.id for each in results}
    assert len(published) == 50
