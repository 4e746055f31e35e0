"""Routes and queues."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from caraway.errors import ImproperlyConfigured, QueueNotFound
from caraway.message import Queue
from caraway.routing import Route, Router, read_queues, topic_matches

# -- queues ----------------------------------------------------------------------------


def test_nothing_declared_is_the_default_queue() -> None:
    assert list(read_queues(None, default_queue="main")) == ["main"]


@pytest.mark.parametrize(
    "declared",
    [
        ["a", "b"],
        "a, b",
        [{"name": "a"}, Queue(name="b")],
        {"a": {}, "b": {"routing_key": "x"}},
        {"a": None, "b": None},
    ],
)
def test_queues_are_declared_in_many_ways(declared: Any) -> None:
    assert list(read_queues(declared)) == ["a", "b"]


def test_a_queue_of_kombus_shape_is_understood() -> None:
    class Exchange:
        name, type = "events", "topic"

    class KombuQueue:
        name, exchange, routing_key, durable = "a", Exchange(), "shop.#", True
        max_priority, queue_arguments = 9, {"x": 1}

    queue = read_queues([KombuQueue()])["a"]

    assert (queue.exchange, queue.exchange_type, queue.routing_key) == ("events", "topic", "shop.#")
    assert (queue.max_priority, queue.arguments) == (9, {"x": 1})


def test_the_default_queue_takes_the_default_exchange_and_key() -> None:
    queues = read_queues(
        ["main", "b"], default_queue="main", default_exchange="x", default_routing_key="k"
    )

    assert (queues["main"].exchange, queues["main"].routing_key) == ("x", "k")
    assert (queues["b"].exchange, queues["b"].routing_key) == ("b", "b")


@pytest.mark.parametrize("declared", [[7], [{"routing_key": "x"}], [None]])
def test_what_is_no_queue_says_so(declared: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="task_queues"):
        read_queues(declared)


# -- routes ----------------------------------------------------------------------------


def by_name(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> Any:
    return {"queue": "long"} if args == (1,) else None


class ByClass:
    def route_for_task(self, name: str, *_: Any, **__: Any) -> str | None:
        return "classy" if name == "shop.add" else None


@pytest.mark.parametrize(
    ("routes", "queue"),
    [
        (None, "celery"),
        ({"shop.add": "exact"}, "exact"),
        ({"shop.add": {"queue": "exact"}}, "exact"),
        ({"shop.*": "glob"}, "glob"),
        ({re.compile(r"(shop|store)\.\w+"): "regex"}, "regex"),
        ({"other.*": "no"}, "celery"),
        ({"shop.*": "glob", "shop.add": "exact"}, "exact"),
        ([("shop.*", "pair")], "pair"),
        (("shop.*", {"queue": "pair"}), "pair"),
        ([{"no": "x"}, {"shop.*": "second"}], "second"),
        (ByClass, "classy"),
        (ByClass(), "classy"),
        ([by_name, ByClass()], "classy"),
    ],
)
def test_a_route_says_the_queue(routes: Any, queue: str) -> None:
    assert Router(routes).route("shop.add").queue == queue


def test_a_function_sees_the_arguments() -> None:
    router = Router(by_name)

    assert not router.is_static
    assert router.route("shop.add", (1,)).queue == "long"
    assert router.route("shop.add", (2,)).queue == "celery"


def test_tables_are_static() -> None:
    assert Router({"a": "b"}).is_static
    assert Router().is_static


def test_the_call_overrules_the_route_as_a_whole() -> None:
    router = Router({"a": {"queue": "routed", "routing_key": "k", "priority": 5, "expires": 3}})

    route = router.route("a", options={"queue": "mine"})

    assert route == Route("mine", "", "", 5, {"expires": 3})
    assert router.route("a", options={"priority": 1}).priority == 1


def test_a_routing_key_finds_the_queue_that_is_bound_to_it() -> None:
    queues = read_queues(
        [
            {"name": "direct", "exchange": "x", "routing_key": "one"},
            {"name": "topic", "exchange": "t", "exchange_type": "topic", "routing_key": "a.#"},
            {"name": "fan", "exchange": "f", "exchange_type": "fanout"},
        ]
    )
    router = Router(queues=queues)

    assert router.route("a", options={"exchange": "x", "routing_key": "one"}) == Route("direct")
    assert router.route("a", options={"routing_key": "one"}).queue == "direct"
    assert router.route("a", options={"routing_key": "a.b.c"}) == Route("topic", "t", "a.b.c")
    assert router.route("a", options={"exchange": "f"}).queue == "fan"
    assert router.route("a", options={"exchange": "new", "routing_key": "k"}) == Route(
        "k", "new", "k"
    )
    assert router.route("a", options={"routing_key": "unbound"}).queue == "unbound"


def test_a_queue_that_is_not_declared_is_refused_where_creating_is_off() -> None:
    router = Router(queues=read_queues(["a"]), create_missing=False)

    assert router.route("t", options={"queue": "a"}).queue == "a"
    with pytest.raises(QueueNotFound, match="'b'"):
        router.route("t", options={"queue": "b"})


@pytest.mark.parametrize(
    "routes", [7, [7], "no.such.module", "os.nothing", {"a": 7}, [("a", "b", "c")]]
)
def test_what_is_no_route_says_so(routes: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="route"):
        Router(routes).route("a")


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("#", "", True),
        ("#.c", "a.b.c", True),
        ("#.c", "a.b", False),
        ("*.b.#.d", "a.b.c.c.d", True),
        ("a.#.#", "a", True),
    ],
)
def test_topics_match_as_in_amqp(pattern: str, key: str, *, matches: bool) -> None:
    assert topic_matches(pattern, key) is matches


def test_an_evil_topic_does_not_take_for_ever() -> None:
    started = time.perf_counter()

    assert not topic_matches(".".join(["#"] * 30 + ["x"]), ".".join("a" * 200))

    assert time.perf_counter() - started < 1
