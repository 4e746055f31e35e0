"""A round of remote control: who is asked, and when nobody is waited for any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from caraway import Caraway
from caraway.control.rounds import Round, _complete, matches
from caraway.message import Message, Notice, Owner, Topic, new_owner_id

LONG = 30.0


@pytest.fixture
def app() -> Iterator[Caraway]:
    app = Caraway("asks", broker=f"memory://asks-{new_owner_id()}", set_as_current=False)
    yield app
    app.close()


class Node:
    """Answers like a worker, of Celery's kind: not among the broker's owners."""

    def __init__(
        self, app: Caraway, name: str, answer: Any = "pong", abstains: bool = False
    ) -> None:
        self.requests: list[Message] = []
        self._app, self._name, self._answer, self._abstains = app, name, answer, abstains
        self._subscription = app.transport.broadcast().subscribe([Topic("celery.pidbox")])
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        channel = self._app.transport.broadcast()
        while not self._ended:
            for notice in self._subscription.receive(LONG):
                self.requests.append(notice.message)
                request = msgspec.json.decode(notice.message.body)
                reply_to = request.get("reply_to")
                if reply_to is None or self._answer is None:
                    continue
                topic = Topic(reply_to["exchange"], reply_to["routing_key"], "direct")
                body = msgspec.json.encode({self._name: self._answer})
                headers = {"ticket": request["ticket"], "clock": 99}
                if self._abstains:
                    body, headers = b"{}", {**headers, "caraway-abstain": True}
                wrong = {"ticket": "another"}
                channel.publish([Notice(topic, Message(body, wrong))])
                channel.publish([Notice(topic, Message(b"["))])
                channel.publish([Notice(topic, Message(body, headers))])

    def end(self) -> None:
        self._ended = True
        self._subscription.wake()
        self._thread.join(LONG)
        self._subscription.close()


@pytest.fixture
def nodes(app: Caraway) -> Iterator[Callable[..., Node]]:
    made: list[Node] = []

    def make(name: str, answer: Any = "pong", abstains: bool = False) -> Node:
        made.append(Node(app, name, answer, abstains))
        return made[-1]

    yield make
    for node in made:
        node.end()


def test_a_round_ends_with_the_last_answer(app: Caraway, nodes: Callable[..., Node]) -> None:
    for name in ("a@x", "b@x", "c@x"):
        nodes(name)
    began = time.monotonic()
    heard: list[Any] = []

    answers = app.control.broadcast("ping", reply=True, timeout=LONG, callback=heard.append)

    assert sorted(node for answer in answers for node in answer) == ["a@x", "b@x", "c@x"]
    assert heard == answers
    assert app.clock.value >= 100
    assert time.monotonic() - began < LONG / 2


def test_who_is_silent_is_waited_for_until_the_time_is_over(
    app: Caraway, nodes: Callable[..., Node]
) -> None:
    nodes("a@x")
    nodes("b@x", answer=None)
    began = time.monotonic()
    assert app.control.ping(timeout=0.2) == [{"a@x": "pong"}]
    assert time.monotonic() - began >= 0.2


def test_where_nobody_listens_nobody_is_waited_for(app: Caraway) -> None:
    assert app.control.ping(timeout=LONG) == []
    assert app.control.inspect(timeout=LONG).ping() is None
    assert app.control.ping(destination=[], timeout=LONG) == []


def test_a_limit_or_named_nodes_end_it_earlier(app: Caraway, nodes: Callable[..., Node]) -> None:
    nodes("a@x")
    nodes("b@x", answer=None)
    assert len(app.control.ping(limit=1, timeout=LONG)) == 1
    assert app.control.inspect("a@x", timeout=LONG).ping() == {"a@x": "pong"}


def test_who_is_not_meant_says_so_and_is_not_waited_for(
    app: Caraway, nodes: Callable[..., Node]
) -> None:
    nodes("a@x")
    other = nodes("b@x", abstains=True)
    heard: list[Any] = []
    answers = app.control.ping(pattern="a@*", timeout=LONG, callback=heard.append)
    assert answers == heard == [{"a@x": "pong"}]
    assert app.control.ping(pattern="a@*", timeout=LONG, limit=1) == [{"a@x": "pong"}]
    assert other.requests[0].headers["caraway-abstain"] is True
    nodes("silent@x", answer=None)
    began = time.monotonic()
    assert app.control.ping(pattern="a@*", timeout=0.2) == [{"a@x": "pong"}]
    assert time.monotonic() - began >= 0.2


def test_only_of_patterns_everybody_is_to_say_something(
    app: Caraway, nodes: Callable[..., Node]
) -> None:
    """Of a thousand workers, one that is named answers alone."""
    node = nodes("a@x")
    app.control.ping(timeout=LONG)
    app.control.ping(["a@x"], timeout=LONG)
    app.control.ping(["a@x"], pattern="a@*", timeout=LONG)
    app.control.heartbeat(pattern="a@*")
    app.control.ping(timeout=LONG)
    assert [each.headers.get("caraway-abstain") for each in node.requests] == [None] * 5


def test_a_request_is_celerys(app: Caraway, nodes: Callable[..., Node]) -> None:
    node = nodes("a@x")
    app.control.ping(timeout=LONG)
    app.control.inspect(pattern="a@*", timeout=LONG).active(safe=True)
    app.control.revoke("id", terminate=True, signal="SIGKILL", destination=["a@x"])

    def third() -> bool:
        return len(node.requests) == 3

    end = time.monotonic() + LONG
    while not third() and time.monotonic() < end:
        time.sleep(0.001)
    ping, active, revoke = node.requests
    body = msgspec.json.decode(ping.body)
    assert body.keys() == {
        "method", "arguments", "destination", "pattern", "matcher", "ticket", "reply_to",
    }  # fmt: skip
    assert body["reply_to"]["exchange"] == "reply.celery.pidbox"
    assert ping.headers.keys() == {"clock", "expires"}
    assert 0 < ping.headers["expires"] - time.time() <= LONG
    body = msgspec.json.decode(active.body)
    assert (body["pattern"], body["matcher"], body["arguments"]) == ("a@*", "glob", {"safe": True})
    assert active.headers.keys() == {"clock", "expires", "caraway-abstain"}
    body = msgspec.json.decode(revoke.body)
    assert "ticket" not in body
    assert revoke.headers["expires"] == 0
    assert body["arguments"] == {"task_id": ["id"], "terminate": True, "signal": "SIGKILL"}


def test_the_exchange_is_a_setting(app: Caraway) -> None:
    app.conf.control_exchange = "others"
    heard = app.transport.broadcast().subscribe([Topic("others.pidbox")])
    app.control.shutdown()
    assert len(heard.receive(0.0)) == 1
    heard.close()


def test_a_revocation_is_kept_by_the_broker(app: Caraway) -> None:
    app.control.revoke(["a", "b"])
    app.AsyncResult("c").revoke()
    assert app.transport.revoked(["a", "b", "c", "d"]) == {"a", "b", "c"}


def test_queues_can_be_emptied(app: Caraway) -> None:
    app.send_task("x")
    app.send_task("y")
    assert app.control.purge() == 2
    assert app.control.discard_all() == 0


@pytest.mark.parametrize(
    ("call", "method", "arguments"),
    [
        (lambda c: c.terminate("1"), "revoke", {"terminate": True}),
        (lambda c: c.revoke_by_stamped_headers({"a": 1}), "revoke_by_stamped_headers",
         {"headers": {"a": 1}}),
        (lambda c: c.rate_limit("t", "1/s"), "rate_limit", {"task_name": "t", "rate_limit": "1/s"}),
        (lambda c: c.time_limit("t", soft=1, hard=2), "time_limit", {"soft": 1, "hard": 2}),
        (lambda c: c.enable_events(), "enable_events", {}),
        (lambda c: c.disable_events(), "disable_events", {}),
        (lambda c: c.heartbeat(), "heartbeat", {}),
        (lambda c: c.election("i", "t", "a"), "election", {"id": "i", "topic": "t", "action": "a"}),
        (lambda c: c.pool_grow(3), "pool_grow", {"n": 3}),
        (lambda c: c.pool_shrink(), "pool_shrink", {"n": 1}),
        (lambda c: c.pool_restart(), "pool_restart", {"reload": False}),
        (lambda c: c.autoscale(9, 2), "autoscale", {"max": 9, "min": 2}),
        (lambda c: c.add_consumer("q", routing_key="k"), "add_consumer",
         {"queue": "q", "routing_key": "k"}),
        (lambda c: c.cancel_consumer("q"), "cancel_consumer", {"queue": "q"}),
        (lambda c: c.shutdown(["a@x"]), "shutdown", {}),
        (lambda c: c.broadcast("own", {"a": 1}, b=2), "own", {"a": 1, "b": 2}),
    ],
)  # fmt: skip
def test_every_command_has_its_method(
    app: Caraway, call: Any, method: str, arguments: dict[str, Any]
) -> None:
    heard = app.transport.broadcast().subscribe([Topic("celery.pidbox")])
    call(app.control)
    (notice,) = heard.receive(0.0)
    body = msgspec.json.decode(notice.message.body)
    assert body["method"] == method
    assert arguments.items() <= body["arguments"].items()
    heard.close()


@pytest.mark.parametrize(
    "question",
    ["ping", "stats", "report", "clock", "conf", "active_queues", "registered", "active",
     "scheduled", "reserved", "revoked", "memsample", "memdump", "objgraph"],
)  # fmt: skip
def test_every_question_has_its_method(
    app: Caraway, nodes: Callable[..., Node], question: str
) -> None:
    node = nodes("a@x", answer=[1])
    inspect = app.control.inspect(timeout=LONG)
    assert getattr(inspect, question)() == {"a@x": [1]}
    assert msgspec.json.decode(node.requests[0].body)["method"] == question


def test_questions_with_arguments(app: Caraway, nodes: Callable[..., Node]) -> None:
    node = nodes("a@x")
    inspect = app.control.inspect(timeout=LONG)
    inspect.query_task("a", "b")
    inspect.query_task(["a", "b"])
    inspect.registered("rate_limit")
    inspect.hello("b@x", {"gone": 1.0})
    bodies = [msgspec.json.decode(each.body)["arguments"] for each in node.requests]
    assert bodies == [
        {"ids": ["a", "b"]}, {"ids": ["a", "b"]}, {"taskinfoitems": ["rate_limit"]},
        {"from_node": "b@x", "revoked": {"gone": 1.0}},
    ]  # fmt: skip


def test_names_match_by_glob_or_expression() -> None:
    assert matches("w@host", "w@*", "glob")
    assert not matches("W@host", "w@*", "glob")
    assert matches("w@host", r"w@\w+$", "pcre")
    with pytest.raises(ValueError, match="glob and pcre"):
        matches("w", "w", "soundex")
    with pytest.raises(ValueError, match="regular expression"):
        matches("w", "(", "pcre")


def test_a_pattern_that_is_none_is_refused_before_it_is_sent(app: Caraway) -> None:
    with pytest.raises(ValueError, match="regular expression"):
        app.control.ping(pattern="(", matcher="pcre")


ALL = Round("x", {})
OURS = {"a", "b"}


@pytest.mark.parametrize(
    ("wanted", "nodes", "count", "reached", "ours", "complete"),
    [
        # the broker knows the owners only
        (ALL, {"a"}, 1, None, OURS, False),
        (ALL, {"a", "b"}, 2, None, OURS, True),
        (ALL, set(), 0, None, set(), False),
        # the broker knows how many heard, of whom some may be Celery's
        (ALL, {"a", "b"}, 2, 3, OURS, False),
        (ALL, {"a", "b", "c"}, 3, 3, OURS, True),
        (ALL, {"a", "b"}, 2, 2, OURS, True),
        (ALL, {"a"}, 1, 1, OURS, True),
        (ALL, set(), 0, 0, None, True),
        # the broker knows nothing
        (ALL, {"a"}, 1, None, None, False),
        # nodes that are named, or match
        (Round("x", {}, ["a"]), {"a"}, 1, None, None, True),
        (Round("x", {}, ["a", "gone"]), {"a"}, 1, 2, OURS, True),
        (Round("x", {}, ["a", "celery"]), {"a"}, 1, 3, OURS, False),
        (Round("x", {}, None, "a*", "glob"), {"a"}, 1, 2, OURS, True),
        (Round("x", {}, None, "a*", "glob"), {"a"}, 1, 3, OURS, False),
        # who doesn't match has said so
        (Round("x", {}, None, "a*", "glob"), {"a"}, 2, 2, None, True),
        (Round("x", {}, None, "a*", "glob"), {"a"}, 1, 2, None, False),
    ],
)
def test_when_a_round_is_complete(
    wanted: Round, nodes: set[str], count: int, reached: Any, ours: Any, complete: bool
) -> None:
    assert _complete(wanted, nodes, count, reached, ours) is complete


def test_a_worker_without_lanes_at_this_moment_is_no_reason_to_wait(
    app: Caraway, nodes: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = type(app.transport.broadcast())
    publish = channel.publish
    monkeypatch.setattr(channel, "publish", lambda self, notices: publish(self, notices) and None)
    nodes("a@x")
    began = time.monotonic()
    assert app.control.ping(timeout=LONG) == [{"a@x": "pong"}]
    assert time.monotonic() - began < LONG / 2


def test_owners_of_the_broker_are_the_workers_that_are_waited_for(
    app: Caraway, nodes: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = type(app.transport.broadcast())
    publish = channel.publish
    monkeypatch.setattr(channel, "publish", lambda self, notices: publish(self, notices) and None)
    consumer = app.transport.consume((), Owner(id=new_owner_id(), worker="a@x"))
    nodes("a@x")
    nodes("b@x", answer=None)
    assert app.control.ping(timeout=LONG) == [{"a@x": "pong"}]
    consumer.close()
