"""Group commit: calls of the same moment become one, and each learns of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from caraway.errors import PublishError, StoreFull, TransportUnavailable
from caraway.message import Message, Publication
from caraway.producer import Producer
from caraway.producer.io_thread import PublishThread


def publication(name: str) -> Publication:
    return Publication(Message(b"", {"id": name}), "q")


class Broker:
    """A transport's publish, with a gate and faults."""

    publishes_at_once = 1

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.inside = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.faults: list[BaseException | None] = []
        self.judge: Callable[[Sequence[str]], BaseException | None] = lambda _: None

    def publish(self, publications: Sequence[Publication], *, timeout: float = 5.0) -> None:
        names = [each.message.headers["id"] for each in publications]
        self.inside.set()
        assert self.gate.wait(10)
        fault = self.faults.pop(0) if self.faults else self.judge(names)
        if fault is not None:
            raise fault
        self.batches.append(names)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def producer(broker: Broker) -> Producer:
    return Producer(lambda: broker, timeout=5.0, policy=None)  # type: ignore[arg-type,return-value]


class Callers:
    """Threads that publish one message each while the broker is held up."""

    def __init__(self, producer: Producer, broker: Broker) -> None:
        self.producer = producer
        self.broker = broker
        self.errors: dict[str, BaseException | None] = {}
        self.threads: list[threading.Thread] = []

    def call(self, *names: str) -> None:
        def run() -> None:
            try:
                self.producer.publish([publication(name) for name in names])
            except BaseException as exc:
                self.errors[names[0]] = exc
            else:
                self.errors[names[0]] = None

        before = len(self.producer._waiting)
        thread = threading.Thread(target=run)
        self.threads.append(thread)
        thread.start()
        if len(self.threads) == 1:
            assert self.broker.inside.wait(5)
        else:
            while len(self.producer._waiting) == before and thread.is_alive():
                pass

    def end(self) -> dict[str, BaseException | None]:
        self.broker.gate.set()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()
        return self.errors


@pytest.fixture
def callers(producer: Producer, broker: Broker) -> Iterator[Callers]:
    broker.gate.clear()
    callers = Callers(producer, broker)
    yield callers
    callers.end()


def test_a_lone_call_waits_for_nobody(producer: Producer, broker: Broker) -> None:
    producer.publish([publication("a")])
    producer.publish([publication("b")])

    assert broker.batches == [["a"], ["b"]]


def test_calls_that_come_while_one_publishes_become_one_batch(callers: Callers) -> None:
    for name in "abcde":
        callers.call(name)

    assert set(callers.end().values()) == {None}
    assert callers.broker.batches == [["a"], ["b", "c", "d", "e"]]


def test_the_turn_is_free_again_afterwards(callers: Callers) -> None:
    for name in "abc":
        callers.call(name)
    callers.end()

    callers.producer.publish([publication("z")])

    assert callers.broker.batches[-1] == ["z"]
    assert not callers.producer._busy
    assert not callers.producer._waiting


def test_only_those_whose_publications_failed_hear_of_it(callers: Callers) -> None:
    callers.call("a")
    callers.call("b")
    callers.call("c1", "c2", "c3")
    callers.call("d")
    # positions in the joined batch b c1 c2 c3 d: c2 and d failed
    callers.broker.faults = [None, PublishError("too large", failed=[2, 4], hint="smaller")]

    errors = callers.end()

    assert errors["a"] is None
    assert errors["b"] is None
    assert isinstance(errors["c1"], PublishError)
    assert errors["c1"].failed == (1,)
    assert errors["c1"].hint == "smaller"
    assert isinstance(errors["d"], PublishError)
    assert errors["d"].failed == (0,)


def test_a_batch_that_fails_as_a_whole_is_tried_one_by_one(callers: Callers) -> None:
    for name in "abc":
        callers.call(name)
    callers.broker.judge = lambda names: StoreFull("full") if "c" in names else None

    errors = callers.end()

    assert (errors["a"], errors["b"]) == (None, None)
    assert isinstance(errors["c"], StoreFull)
    assert ["b"] in callers.broker.batches


def test_when_the_broker_is_away_each_raises_an_exception_of_its_own(callers: Callers) -> None:
    for name in "abc":
        callers.call(name)
    callers.broker.judge = lambda _: TransportUnavailable("away", hint="start it")

    errors = callers.end()

    assert all(isinstance(exc, TransportUnavailable) for exc in errors.values())
    assert len({id(exc) for exc in errors.values()}) == 3
    assert {exc.hint for exc in errors.values() if isinstance(exc, TransportUnavailable)} == {
        "start it"
    }


def test_a_leader_that_is_interrupted_leaves_nobody_waiting(callers: Callers) -> None:
    for name in "abc":
        callers.call(name)
    callers.broker.faults = [None, KeyboardInterrupt()]

    errors = callers.end()

    assert isinstance(errors["b"], KeyboardInterrupt)
    assert (errors["a"], errors["c"]) == (None, None)
    assert callers.broker.batches == [["a"], ["c"]]


def test_whoever_waited_too_long_gives_up_and_is_not_published_later(broker: Broker) -> None:
    now = [0.0]
    producer = Producer(
        lambda: broker,  # type: ignore[arg-type,return-value]
        timeout=0.01,
        clock=lambda: now[0],
    )
    broker.gate.clear()
    callers = Callers(producer, broker)
    callers.call("a")

    with pytest.raises(TransportUnavailable, match="longer than"):
        producer.publish([publication("late")])

    callers.end()
    assert broker.batches == [["a"]]


def test_the_broker_is_tried_again_as_the_policy_says(broker: Broker) -> None:
    pauses: list[float] = []
    producer = Producer(
        lambda: broker,  # type: ignore[arg-type,return-value]
        policy={"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.3},
        sleep=pauses.append,
    )
    broker.faults = [TransportUnavailable("away")] * 3

    producer.publish([publication("a")])

    assert broker.batches == [["a"]]
    assert pauses == [0.2, 0.3]

    broker.faults = [TransportUnavailable("away")] * 4
    with pytest.raises(TransportUnavailable):
        producer.publish([publication("b")])


def test_all_tries_together_keep_one_deadline(broker: Broker) -> None:
    now = [0.0]
    timeouts: list[float] = []

    def hang(_: Any, *, timeout: float) -> None:
        timeouts.append(timeout)
        now[0] += min(timeout, 2.0)
        raise TransportUnavailable("away")

    broker.publish = hang  # type: ignore[method-assign,assignment]

    def wait(seconds: float) -> None:
        now[0] += seconds

    producer = Producer(
        lambda: broker,  # type: ignore[arg-type,return-value]
        timeout=5.0,
        policy={"max_retries": None, "interval_start": 0.5, "interval_step": 0},
        clock=lambda: now[0],
        sleep=wait,
    )

    with pytest.raises(TransportUnavailable, match="away"):
        producer.publish([publication("a")])
    assert timeouts == [5.0, 2.5]
    assert now[0] <= 5.0

    now[0] = 0.0
    timeouts.clear()
    with pytest.raises(TransportUnavailable, match="away"):
        producer.publish_apart([publication("b")], policy={"max_retries": None}, timeout=3.0)
    assert now[0] <= 3.0


def test_who_leads_late_has_what_is_left_of_its_time(callers: Callers) -> None:
    timeouts: list[float] = []
    publish = callers.broker.publish

    def note(publications: Any, *, timeout: float) -> None:
        timeouts.append(timeout)
        publish(publications, timeout=timeout)

    callers.broker.publish = note  # type: ignore[method-assign]
    callers.producer = Producer(
        lambda: callers.broker,  # type: ignore[arg-type,return-value]
        timeout=5.0,
        clock=iter([0.0, 1.0, 1.0, *[4.0] * 9]).__next__,
    )
    callers.broker.gate.clear()
    callers.call("a")
    callers.call("b")
    callers.end()

    assert timeouts == [5.0, 2.0]


def test_what_will_not_get_better_is_not_tried_again(broker: Broker) -> None:
    producer = Producer(
        lambda: broker,  # type: ignore[arg-type,return-value]
        policy={"max_retries": 3},
        sleep=lambda _: None,
    )
    broker.faults = [StoreFull("full")]

    with pytest.raises(StoreFull):
        producer.publish([publication("a")])

    assert broker.batches == []


def test_many_threads_lose_nothing_and_order_each_of_their_own(
    producer: Producer, broker: Broker
) -> None:
    def run(name: str) -> None:
        for n in range(200):
            producer.publish([publication(f"{name}-{n:03}")])

    threads = [threading.Thread(target=run, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    sent = [name for batch in broker.batches for name in batch]
    assert len(sent) == len(set(sent)) == 1600
    for name in "abcdefgh":
        mine = [each for each in sent if each.startswith(name)]
        assert mine == sorted(mine)


# -- coroutines ------------------------------------------------------------------------


def test_coroutines_publish_together(broker: Broker) -> None:
    thread = PublishThread(broker.publish)

    async def main() -> None:
        broker.gate.clear()
        calls = [asyncio.create_task(thread.submit([publication("first")]))]
        await asyncio.sleep(0)
        await asyncio.to_thread(broker.inside.wait, 5)
        calls += [asyncio.create_task(thread.submit([publication(str(n))])) for n in range(50)]
        await asyncio.sleep(0)
        broker.gate.set()
        await asyncio.gather(*calls)

    asyncio.run(main())
    thread.close()

    assert broker.batches == [["first"], [str(n) for n in range(50)]]


def test_a_coroutine_hears_of_its_own_failure_only(broker: Broker) -> None:
    thread = PublishThread(broker.publish)
    broker.judge = lambda names: StoreFull("full") if "bad" in names else None

    async def main() -> list[Any]:
        return await asyncio.gather(
            *(thread.submit([publication(name)]) for name in ("a", "bad", "c")),
            return_exceptions=True,
        )

    answers = asyncio.run(main())
    thread.close()

    assert [type(answer) for answer in answers] == [type(None), StoreFull, type(None)]


def test_coroutines_that_wait_behind_a_broker_that_hangs_hear_of_it_with_the_first() -> None:
    calls = [0]
    hanging, over = threading.Event(), threading.Event()

    def publish(publications: Sequence[Publication]) -> None:
        calls[0] += 1
        hanging.set()
        assert over.wait(10)
        raise TransportUnavailable("it hangs")

    thread = PublishThread(publish, timeout=0.0)

    async def main() -> None:
        first = asyncio.create_task(thread.submit([publication("first")]))
        await asyncio.to_thread(hanging.wait, 10)
        others = [asyncio.create_task(thread.submit([publication(str(n))])) for n in range(3)]
        await asyncio.sleep(0)
        over.set()
        ends = await asyncio.gather(first, *others, return_exceptions=True)
        assert [type(end) for end in ends] == [TransportUnavailable] * 4

    asyncio.run(main())
    thread.close()
    assert calls == [1]


def test_closing_publishes_what_waits_and_is_idempotent(broker: Broker) -> None:
    thread = PublishThread(broker.publish)

    async def main() -> None:
        calls = [asyncio.create_task(thread.submit([publication(str(n))])) for n in range(20)]
        await asyncio.sleep(0)
        await asyncio.to_thread(thread.close)
        await asyncio.gather(*calls)
        with pytest.raises(RuntimeError, match="closed"):
            await thread.submit([publication("late")])

    asyncio.run(main())
    thread.close()

    assert sum(len(batch) for batch in broker.batches) == 20


def test_more_than_may_wait_is_refused(broker: Broker) -> None:
    thread = PublishThread(broker.publish, most_waiting=2)

    async def main() -> None:
        broker.gate.clear()
        calls = [asyncio.create_task(thread.submit([publication("0")]))]
        await asyncio.sleep(0)
        await asyncio.to_thread(broker.inside.wait, 5)
        calls += [asyncio.create_task(thread.submit([publication(n)])) for n in "12"]
        await asyncio.sleep(0)
        with pytest.raises(PublishError, match="waiting"):
            await thread.submit([publication("3")])
        broker.gate.set()
        await asyncio.gather(*calls)

    asyncio.run(main())
    thread.close()


def test_a_lone_call_that_is_interrupted_leaves_the_turn_free(
    producer: Producer, broker: Broker
) -> None:
    for fault in (KeyboardInterrupt(), StoreFull("full"), TransportUnavailable("away")):
        broker.faults = [fault]
        with pytest.raises(type(fault)):
            producer.publish([publication("a")])
        producer.publish([publication("b")])

    assert broker.batches == [["b"]] * 3


def test_an_interrupted_call_hands_the_turn_to_those_who_wait(callers: Callers) -> None:
    callers.broker.faults = [KeyboardInterrupt()]
    for name in "abc":
        callers.call(name)

    errors = callers.end()

    assert isinstance(errors["a"], KeyboardInterrupt)
    assert (errors["b"], errors["c"]) == (None, None)


def test_after_a_crowd_the_first_to_come_back_waits_for_the_others(
    producer: Producer, broker: Broker
) -> None:
    producer._crowd = 2
    producer._duration = 40.0  # so it would wait ten seconds for the second
    first = threading.Thread(target=producer.publish, args=([publication("a")],))
    first.start()
    while producer._gathered is None:
        pass
    producer.publish([publication("b")])
    first.join(5)

    assert broker.batches == [["a", "b"]]


def test_after_a_crowd_a_lone_call_waits_a_moment_once(producer: Producer, broker: Broker) -> None:
    producer._crowd = 8
    producer._duration = 0.001

    producer.publish([publication("a")])
    assert producer._crowd == 1
    producer.publish([publication("b")])

    assert broker.batches == [["a"], ["b"]]


class TestDesks:
    """A far broker that can publish several batches at a time."""

    @pytest.fixture
    def broker(self) -> Broker:
        broker = Broker()
        broker.publishes_at_once = 3
        broker.gate.clear()
        return broker

    def call(self, producer: Producer, name: str) -> threading.Thread:
        thread = threading.Thread(target=producer.publish, args=([publication(name)],))
        thread.start()
        return thread

    def test_callers_of_another_desk_do_not_wait_for_a_batch_under_way(
        self, producer: Producer, broker: Broker
    ) -> None:
        producer._duration = 0.002
        threads = []
        for name in ("a", "b", "c"):
            broker.inside.clear()
            threads.append(self.call(producer, name))
            assert broker.inside.wait(5), f"{name} waits in line"
        broker.gate.set()
        for thread in threads:
            thread.join()
        assert sorted(broker.batches) == [["a"], ["b"], ["c"]]

    def test_near_brokers_have_one_desk(self, producer: Producer, broker: Broker) -> None:
        producer._duration = 0.0005
        threads = [self.call(producer, "a")]
        assert broker.inside.wait(5)
        threads += [self.call(producer, name) for name in ("b", "c")]
        while len(producer._waiting) < 2:
            pass
        broker.gate.set()
        for thread in threads:
            thread.join()
        assert broker.batches[0] == ["a"]
        assert sorted(name for batch in broker.batches[1:] for name in batch) == ["b", "c"]
        assert producer._desks == []

    def test_a_thread_stays_at_its_desk(self, producer: Producer, broker: Broker) -> None:
        producer._duration = 0.002
        broker.gate.set()
        desks = {id(producer._desk()) for _ in range(5)}
        assert len(desks) == 1

    def test_a_desk_has_no_desks_of_its_own(self, producer: Producer, broker: Broker) -> None:
        producer._duration = 0.002
        broker.gate.set()
        producer._desk()
        for desk in producer._desks[1:]:
            desk._duration = 0.002
            desk.publish([publication("a")])
            assert desk._desks == []

    def test_a_child_begins_without_desks(self, producer: Producer, broker: Broker) -> None:
        producer._duration = 0.002
        broker.gate.set()
        producer._desk()
        producer.reset()
        assert producer._desks == []
        assert producer._duration == 0.0
        producer.publish([publication("a")])
        assert broker.batches == [["a"]]
