"""Everything that can happen to a fleet, at random and at once; nothing acknowledged is lost.

The other tests break one thing at a time.  Here lanes and whole workers are killed while their
broker restarts, forgets, or can't be reached: what one recovery relies on, another fault takes.

``CARAWAY_FAULTS_SECONDS`` and ``CARAWAY_FAULTS_SEED`` repeat a run; the seed is printed.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from crash_site import chord, is_empty
from faults_kit import LONG, Stream, redis_says
from redis import Redis

from caraway.errors import OperationalError
from caraway.states import READY_STATES

SECONDS = float(os.environ.get("CARAWAY_FAULTS_SECONDS", "300" if LONG else "12"))
SEED = int(os.environ.get("CARAWAY_FAULTS_SEED") or random.randrange(2**32))
WORKERS = 2
BACKLOG = {"redis": 400, "rabbitmq": 150}
"""Tasks for each second that wait from the beginning, enough that lanes carry many at a time to
the end: where they wait for work, few answers with messages can be cut off."""
CHORDS = 3
"""Chords for each second, likewise."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(SECONDS * 2 + 240),
    pytest.mark.flaky(reruns=0),  # what is lost is lost, also if it isn't the next time
]


class Havoc:
    """Does one thing after another to a site's workers, network and server."""

    def __init__(self, site: Any, kind: str) -> None:
        self._site = site
        self._chance = random.Random(SEED)
        self.done: list[str] = []
        self._mild = [
            self.connections_are_reset, self.connections_are_cut, self.close_all_connections,
        ]  # fmt: skip
        faults = [
            (self.kill_a_lane, 8),
            (self.kill_a_worker, 2),
            (self.stop_a_lane_for_a_while, 1),
            (self.connections_are_reset, 3),
            (self.connections_are_cut, 2),
            (self.network_swallows, 1),
            (self.network_stands_still, 1),
            (self.close_all_connections, 2),
            (self.restart_the_server, 2 if kind == "redis" else 1),
        ]
        if kind == "redis":
            faults.append((self.flush_scripts, 3))
            self._mild.append(self.restart_the_server)
        self._faults = [fault for fault, _ in faults]
        self._weights = [weight for _, weight in faults]
        self.mend()

    def go_on(self, seconds: float) -> None:
        """Until so many seconds have passed, and each thing was done once.

        In the last third nobody is killed, and no lease ends: what a lane forgets that it holds
        isn't given to others any more.
        """
        end = time.monotonic() + seconds * 2 / 3
        waiting = self._faults.copy()
        self._chance.shuffle(waiting)
        while waiting or time.monotonic() < end:
            time.sleep(self._chance.uniform(0.02, 0.4))
            fault = waiting.pop() if waiting else self._choose()
            self._do(fault)
        end = time.monotonic() + seconds / 3
        while time.monotonic() < end:
            time.sleep(self._chance.uniform(0.02, 0.4))
            self._do(self._chance.choice(self._mild))

    def _do(self, fault: Callable[[], None]) -> None:
        self.done.append(fault.__name__)
        fault()

    def _choose(self) -> Callable[[], None]:
        return self._chance.choices(self._faults, self._weights)[0]

    # -- processes ---------------------------------------------------------------------

    def _a_lane(self) -> int | None:
        lanes = [lane for worker in self._living() for lane in self._site.lanes(worker)]
        return self._chance.choice(lanes) if lanes else None

    def _living(self) -> list[Any]:
        return [worker for worker in self._site.workers if worker.poll() is None]

    def _signal(self, lane: int | None, signum: signal.Signals) -> None:
        if lane is not None:
            try:
                os.kill(lane, signum)
            except ProcessLookupError:
                return  # it was just ending

    def kill_a_lane(self) -> None:
        self._signal(self._a_lane(), signal.SIGKILL)

    def kill_a_worker(self) -> None:
        worker = self._chance.choice(self._living())
        worker.kill()
        worker.wait()
        self._site.worker(2)

    def stop_a_lane_for_a_while(self) -> None:
        """For longer than its lease, which its supervisor renews, and with it alone."""
        lane = self._a_lane()
        self._signal(lane, signal.SIGSTOP)
        time.sleep(self._chance.uniform(0.1, 3.0))
        self._signal(lane, signal.SIGCONT)

    # -- network -----------------------------------------------------------------------

    def mend(self) -> None:
        """The network works, but is slow: else hardly a fault would hit what is on its way."""
        self._site.proxy.heal()
        self._site.proxy.delay(self._chance.uniform(0.0, 0.02))

    def connections_are_reset(self) -> None:
        self._site.proxy.reset()

    def connections_are_cut(self) -> None:
        self._site.proxy.cut()

    def network_swallows(self) -> None:
        self._site.proxy.swallow()
        time.sleep(self._chance.uniform(0.1, 3.0))
        self.mend()

    def network_stands_still(self) -> None:
        """For longer than a lease, if it comes to that: what is held goes to others."""
        self._site.proxy.pause(self._chance.uniform(0.1, 4.0))

    # -- server ------------------------------------------------------------------------

    def close_all_connections(self) -> None:
        server = self._site.server
        if self._site.kind == "redis":
            redis_says(server.port, "CLIENT", "KILL", "TYPE", "normal")
            redis_says(server.port, "CLIENT", "KILL", "TYPE", "pubsub")
        else:
            server.control("close_all_connections", "a test closes them")

    def flush_scripts(self) -> None:
        assert redis_says(self._site.server.port, "SCRIPT", "FLUSH") == b"+OK\r\n"

    def restart_the_server(self) -> None:
        server = self._site.server
        server.kill()
        time.sleep(self._chance.uniform(0.0, 1.5))
        server.start()


def test_nothing_is_lost_whatever_comes_together(
    site: Any, kind: str, wait_until: Callable[..., Any]
) -> None:
    print(f"CARAWAY_FAULTS_SEED={SEED}")
    site.env["CRASH_LEASE"] = "3"
    # A task may well be killed several times in a row here: that it is given up isn't meant.
    site.env["CARAWAY_TASK_MAX_DELIVERIES"] = "100"
    app = site.client(broker_publish_timeout=2.0)
    for _ in range(WORKERS):
        site.worker(2)
    waiting, follow = _send(app, kind)
    stream = Stream(app, pause=0.004)
    havoc = Havoc(site, kind)
    try:
        wait_until(lambda: len(site.starts()) > 20)
        havoc.go_on(SECONDS)
        site.proxy.heal()
        before = site.starts().total()
        wait_until(lambda: site.starts().total() > before + 50, timeout=15)
    except BaseException:
        print(havoc.done)
        raise
    finally:
        results = waiting + stream.end()
    print(f"{len(results)} acknowledged, {stream.refused} not; {len(havoc.done)} faults")
    assert len(results) - len(waiting) > 10 * SECONDS
    try:
        _all_succeed(app, [result.id for result in results])
    except AssertionError:
        print(havoc.done, app.transport.stats(["celery"]))
        raise
    # What nobody waits for: follow-ups.  A chord's claim, whose owner died, ends in a minute.
    wait_until(lambda: follow <= set(site.starts()), timeout=90, every=0.5)
    assert app.transport.dead() == []
    wait_until(lambda: _empty(app), timeout=30, every=0.2)
    site.resumes(app)
    living = [worker for worker in site.workers if worker.poll() is None]
    assert len(living) == WORKERS, "a worker ended by itself"
    for worker in living:
        worker.terminate()
    assert [worker.wait(20) for worker in living] == [0] * WORKERS
    app.close()
    if kind == "redis":
        wait_until(lambda: _left(site.server.port) == [], timeout=30, every=0.2)


def _send(app: Any, kind: str) -> tuple[list[Any], set[str]]:
    """Tasks of every sort; results, and the arguments of those that follow from them."""
    work, retry = app.signature("crash_app.work"), app.signature("crash_app.retries_once")
    backlog, follow = [], set()
    for n in range(int(SECONDS * BACKLOG[kind])):
        task = work.clone(args=(f"b{n}", 0.01))
        if n % 10 == 0:
            task = retry.clone(args=(f"b{n}",))
        elif n % 10 == 1:
            second, third = (
                app.signature("crash_app.work", args=(f"{each}{n}",), immutable=True)
                for each in ("second", "third")
            )
            second.link(third)
            task.link(second)
            follow |= {f"second{n}", f"third{n}"}
        backlog.append(task)
    waiting = list(app.publish(backlog))
    if kind == "redis":  # where the tests have a store of results that counts chords
        chords = range(int(SECONDS * CHORDS))
        app.transport.publish([each for n in chords for each in chord(n)])
        follow |= {f"body{n}" for n in chords}
    return waiting, follow


def _all_succeed(app: Any, ids: list[str]) -> None:
    """Wait for all, as long as there is progress."""
    best, since = -1, time.monotonic()
    while best < len(ids):
        stored = app.backend.get(ids).values()
        count = sum(each.state == "SUCCESS" for each in stored)
        failed = [each for each in stored if each.state in READY_STATES - {"SUCCESS"}]
        assert not failed, failed[:3]
        if count > best:
            best, since = count, time.monotonic()
        assert time.monotonic() - since < 60.0, f"{len(ids) - count} of {len(ids)} don't end"
        time.sleep(0.2)


def _empty(app: Any) -> bool:
    try:
        return is_empty(app)
    except OperationalError:  # it was told of a restart only now
        return False


def _left(port: int) -> list[str]:
    """Keys that would stay for ever, though nobody is there any more."""
    stays = {
        "caraway:queues", "caraway:seq", "caraway:owners", "caraway:orphans",
        "_kombu.binding.celery", "_kombu.binding_permanent.celery",
    }  # fmt: skip
    with Redis(port=port) as client:
        names = {key.decode() for key in client.scan_iter(count=1000) if client.ttl(key) == -1}
    return sorted(names - stays)
