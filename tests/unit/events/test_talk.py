"""Events from those who send them to those who listen, over the memory broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caraway import Caraway
from caraway.message import Message, Notice, Owner, Topic, new_owner_id
from caraway.worker.lane import completed

ENVELOPE = {"hostname", "utcoffset", "pid", "clock", "timestamp", "type", "local_received"}


@pytest.fixture
def app() -> Iterator[Caraway]:
    url = f"memory://events-{new_owner_id()}"
    app = Caraway("events", broker=url, backend=url, worker_pool="solo", set_as_current=False)

    @app.task(name="add")
    def add(x: Any, y: Any = 1) -> Any:
        return x + y

    @app.task(name="spoils", ignore_result=True)
    def spoils(items: list[int]) -> Any:
        items.append(5)
        return items

    @app.task(name="silent", send_events=False)
    def silent() -> None:
        pass

    @app.task(name="again", bind=True, max_retries=3)
    def again(self: Any) -> None:
        raise self.retry(countdown=100)

    yield app
    app.close()


class Ears:
    """A subscription, open before anything is sent."""

    def __init__(self, app: Caraway) -> None:
        self.receiver = app.events.Receiver()
        topic = Topic("celeryev", "#", "topic")
        self.subscription = app.transport.broadcast().subscribe([topic])
        self.keys: list[str] = []
        self.messages: list[Message] = []

    def heard(self) -> list[dict[str, Any]]:
        events = []
        for notice in self.subscription.receive(0.0):
            self.keys.append(notice.topic.routing_key)
            self.messages.append(notice.message)
            events += self.receiver.events_from(notice.message)
        return events

    def told(self) -> list[tuple[str, Any]]:
        return [(event["type"], event.get("uuid")) for event in self.heard()]


@pytest.fixture
def ears(app: Caraway) -> Iterator[Ears]:
    ears = Ears(app)
    yield ears
    ears.subscription.close()


@pytest.fixture
def lane(app: Caraway) -> Iterator[Any]:
    from caraway.worker.board import Board
    from caraway.worker.lane import Lane
    from caraway.worker.lane_config import LaneConfig

    executor = app.registry.pool("solo", 1, app.conf).executor()
    owner = Owner(id=new_owner_id(), worker="w@test")
    config = LaneConfig(index=0, owner=owner, queues=tuple(app.queues()), events=True)
    lane = Lane(app, executor, config, Board(1, executor.slots).lane(0))
    lane.open()
    yield lane
    lane.consumer.close()


def work(lane: Any) -> None:
    while lane.app.transport.stats(["celery"])[0].ready:
        lane.turn()
    lane.commit()


def test_a_lane_tells_of_a_task_from_its_receipt_to_its_end(
    app: Caraway, lane: Any, ears: Ears
) -> None:
    result = app.tasks["add"].delay(1, y=[2][0])

    work(lane)

    received, started, succeeded = ears.heard()
    assert [e["type"] for e in (received, started, succeeded)] == [
        "task-received", "task-started", "task-succeeded",
    ]  # fmt: skip
    assert received.keys() == ENVELOPE | {
        "uuid",
        "name",
        "args",
        "kwargs",
        "root_id",
        "parent_id",
        "retries",
        "eta",
        "expires",
    }
    assert started.keys() == ENVELOPE | {"uuid"}
    assert succeeded.keys() == ENVELOPE | {"uuid", "result", "runtime"}
    assert {event["uuid"] for event in (received, started, succeeded)} == {result.id}
    assert (received["name"], received["args"], received["kwargs"]) == ("add", "(1,)", "{'y': 2}")
    assert succeeded["result"] == "3"
    assert received["hostname"] == "w@test"
    times = [event["timestamp"] for event in (received, started, succeeded)]
    clocks = [event["clock"] for event in (received, started, succeeded)]
    assert times == sorted(times)
    assert clocks == sorted(set(clocks))


def test_a_batch_is_one_message_as_celery_has_it(app: Caraway, lane: Any, ears: Ears) -> None:
    list(app.tasks["add"].delay_many((n, n) for n in range(20)))

    work(lane)

    assert len(ears.heard()) == 60
    assert set(ears.keys) == {"task.multi"}
    assert len(ears.keys) < 20
    message = ears.messages[0]
    assert (message.headers, message.content_type) == ({"hostname": "w@test"}, "application/json")
    assert message.properties == {"delivery_mode": 1}


def test_every_end_has_its_event(app: Caraway, lane: Any, ears: Ears) -> None:
    failed = app.tasks["add"].delay([], y=1)
    retried = app.tasks["again"].delay()
    app.transport.revoke(["gone"])
    app.tasks["add"].apply_async((1, 2), task_id="gone")
    app.tasks["add"].apply_async((1, 2), task_id="late", expires=-5)
    app.send_task("unknown", task_id="strange")

    work(lane)

    events = {(e["type"], e["uuid"]): e for e in ears.heard()}
    failure = events["task-failed", failed.id]
    assert failure["exception"].startswith("TypeError(")
    assert "Traceback" in failure["traceback"]
    assert "exception" in events["task-retried", retried.id]
    revoked = events["task-revoked", "gone"]
    assert (revoked["terminated"], revoked["signum"], revoked["expired"]) == (False, None, False)
    assert events["task-revoked", "late"]["expired"] is True
    assert events["task-rejected", "strange"]["requeue"] is False


def test_arguments_are_told_as_they_came_and_results_even_if_not_kept(
    app: Caraway, lane: Any, ears: Ears
) -> None:
    app.tasks["spoils"].delay([1])
    app.tasks["add"].apply_async((1, 2), argsrepr="(secret)", kwargsrepr="{hidden}")
    app.tasks["add"].delay("x" * 5000, "y")
    app.tasks["add"].delay("x" * 50_000, "y")

    work(lane)

    events = ears.heard()
    spoils, shown, long, longer = (e for e in events if e["type"] == "task-received")
    assert spoils["args"] == "([1],)"
    assert (shown["args"], shown["kwargs"]) == ("(secret)", "{hidden}")
    assert len(long["args"]) == 1024
    assert len(longer["args"]) < 1024
    results = [e["result"] for e in events if e["type"] == "task-succeeded"]
    assert results[:2] == ["[1, 5]", "3"]
    assert [len(each) for each in results[2:]] == [1024, 1024]


def test_a_task_that_wants_no_events_has_none(app: Caraway, lane: Any, ears: Ears) -> None:
    app.tasks["silent"].delay()
    work(lane)
    assert ears.heard() == []


def test_events_are_switched_on_and_off_while_a_lane_runs(
    app: Caraway, lane: Any, ears: Ears
) -> None:
    from caraway.worker.events import switch

    add = app.tasks["add"]
    watched = lane.intake.plan("again").run
    switch(lane, on=False)
    assert lane.events is None
    assert lane.intake.plan("again").run is not watched
    add.delay(1)
    work(lane)
    assert ears.heard() == []
    switch(lane, on=True)
    add.delay(1)
    work(lane)
    assert [kind for kind, _ in ears.told()] == ["task-received", "task-started", "task-succeeded"]


def test_a_long_run_is_told_of_while_it_goes_on(app: Caraway, lane: Any, ears: Ears) -> None:
    result = app.tasks["add"].delay(1)
    jobs, _ = lane.intake.admit(lane.consumer.fetch(1, 0))
    lane.events.received((), jobs, ())
    (job,) = jobs
    job.started = 1.0  # long ago

    lane.events.running(jobs)
    lane.events.running(jobs)

    assert ears.told() == [("task-received", result.id), ("task-started", result.id)]
    completion = job.run() or completed(job, 0.0)
    lane.events.ended([(job, completion)], ())
    assert ears.told() == [("task-succeeded", result.id)]
    job.seconds = 0.0
    lane.events.cancelled(jobs)
    assert ears.told() == [("task-cancelled", result.id)]


def test_a_broker_that_takes_no_events_harms_no_task(
    app: Caraway, lane: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Any:
        raise OSError("no route")

    monkeypatch.setattr(app.transport, "broadcast", broken)
    results = [app.tasks["add"].delay(n) for n in range(3)]

    work(lane)

    assert [result.get(timeout=1) for result in results] == [1, 2, 3]
    assert caplog.text.count("events are lost") == 1


def test_clients_tell_of_what_they_send_where_asked(app: Caraway, ears: Ears) -> None:
    app.tasks["add"].delay(1)
    assert ears.heard() == []
    app.conf.task_send_sent_event = True
    app.forget_plans()

    one = app.tasks["add"].delay(1, y=2)
    app.tasks["add"].apply_async((1,), countdown=60)
    app.tasks["add"].delay_many([(1,), (2,)])
    app.send_task("other", queue="q")

    events = ears.heard()
    assert [event["type"] for event in events] == ["task-sent"] * 5
    first = events[0]
    assert first.keys() == ENVELOPE | {
        "uuid", "root_id", "parent_id", "name", "args", "kwargs", "retries", "eta", "expires",
        "queue", "exchange", "routing_key",
    }  # fmt: skip
    assert (first["uuid"], first["args"], first["kwargs"]) == (one.id, "(1,)", "{'y': 2}")
    assert (first["queue"], first["hostname"]) == ("celery", app.origin)
    assert events[1]["eta"]
    assert events[4]["queue"] == "q"
    assert ears.keys == ["task.sent", "task.sent", "task.multi", "task.sent"]


def test_events_of_ones_own_are_sent_and_heard(app: Caraway, ears: Ears) -> None:
    app.send_event("task-progress", uuid="1", done=5)
    with app.events.Dispatcher(hostname="me@here") as dispatcher:
        dispatcher.send("custom", n=1)
        dispatcher.disable()
        dispatcher.send("custom", n=2)
        dispatcher.enable()

    progress, custom = ears.heard()
    assert (progress["uuid"], progress["done"], progress["hostname"]) == ("1", 5, app.origin)
    assert (custom["hostname"], custom["n"]) == ("me@here", 1)
    assert ears.keys == ["task.progress", "custom"]


def test_events_go_in_the_chosen_format_to_the_chosen_exchange(app: Caraway) -> None:
    app.conf.event_exchange = "elsewhere"
    receiver = app.events.Receiver()
    topic = Topic("elsewhere", "task.#", "topic")
    subscription = app.transport.broadcast().subscribe([topic])
    app.send_event("task-progress", done=1)
    app.send_event("worker-strange")
    (notice,) = subscription.receive(0.0)
    assert receiver.events_from(notice.message)[0]["done"] == 1


class TestReceiver:
    def capture(
        self, app: Caraway, send: Callable[[], Any], **options: Any
    ) -> tuple[list[str], list[str]]:
        named: list[str] = []
        others: list[str] = []
        receiver = app.events.Receiver(
            handlers={
                "task-a": lambda event: named.append(event["type"]),
                "*": lambda event: others.append(event["type"]),
            }
        )
        stream = receiver.itercapture(wakeup=False, **options)

        def send_to_who_listens() -> None:
            while receiver._subscription is None:
                time.sleep(0.001)
            send()

        sender = threading.Thread(target=send_to_who_listens, daemon=True)
        sender.start()
        for event in stream:
            if event["type"] == "end":
                receiver.stop()
        sender.join()
        return named, others

    def test_handlers_get_what_is_theirs_until_a_stop(self, app: Caraway) -> None:
        def send() -> None:
            for kind in ("task-a", "task-b", "end", "task-c"):
                app.send_event(kind)

        named, others = self.capture(app, send, timeout=10)
        assert named == ["task-a"]
        assert others[:2] == ["task-b", "end"]

    def test_a_limit_ends_it(self, app: Caraway) -> None:
        named, others = self.capture(
            app, lambda: [app.send_event("task-a") for _ in range(5)], limit=3
        )
        assert (named, others) == (["task-a"] * 3, [])

    def test_silence_ends_it_with_an_error(self, app: Caraway) -> None:
        with pytest.raises(TimeoutError):
            app.events.Receiver().capture(timeout=0.01)

    def test_workers_are_asked_to_tell_of_themselves(self, app: Caraway) -> None:
        requests = app.transport.broadcast().subscribe([Topic("celery.pidbox")])
        with pytest.raises(TimeoutError):
            app.events.Receiver().capture(timeout=0.01)
        (notice,) = requests.receive(0.0)
        assert b'"heartbeat"' in notice.message.body

    @pytest.mark.parametrize(
        "body", [b"", b"[", b"5", b"[5]", b'{"type": 5}', b'[{"no": "type"}]', b"\xff"]
    )
    def test_hostile_bytes_are_no_events(self, app: Caraway, body: bytes) -> None:
        assert app.events.Receiver().events_from(Message(body)) == []

    def test_clocks_follow_those_of_workers_and_not_of_clients(self, app: Caraway) -> None:
        receiver = app.events.Receiver()
        app.clock.value = 10
        receiver.events_from(Message(b'{"type": "task-started", "clock": 50}'))
        assert app.clock.value == 51
        (event,) = receiver.events_from(Message(b'{"type": "task-sent", "clock": 900}'))
        assert event["clock"] == 52

    def test_a_receiver_takes_celerys_arguments(self, app: Caraway) -> None:
        receiver = app.events.Receiver(object(), {"*": print}, "worker.#")
        assert receiver.routing_key == "worker.#"
        assert app.events.State(max_tasks_in_memory=5).max_tasks_in_memory == 5


def test_a_notice_has_what_kombu_expects() -> None:
    from caraway.events import wire

    assert wire.key_of("worker-heartbeat") == "worker.heartbeat"
    assert isinstance(wire.utcoffset(), int)
    assert Notice(Topic("celeryev", "task.multi", "topic"), Message(b"")).topic.kind == "topic"


def test_events_may_be_written_by_another_serializer(app: Caraway, ears: Ears) -> None:
    app.conf.event_serializer = "msgpack"
    app.conf.task_send_sent_event = True
    app.forget_plans()
    ears.receiver = app.events.Receiver()

    app.tasks["add"].delay_many([(1,), (2,)])

    assert [kind for kind, _ in ears.told()] == ["task-sent", "task-sent"]
    assert ears.messages[0].content_type == "application/x-msgpack"
