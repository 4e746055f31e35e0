"""Processes that are killed between two steps, and connections that are cut.

The victims run `caraway.testing.conformance.victim` in a process of their own, with the
same factory and URL, and are ended by SIGKILL (on Windows: TerminateProcess).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from caraway.errors import TransportError
from caraway.interfaces.context import Capability
from caraway.message import Message, Publication
from caraway.testing.conformance.suite import needs, skip
from caraway.testing.conformance.transport_case import TransportCase, ack, bodies


class Victim:
    """A process that works on the store until it is killed.

    Its lines on standard output go to a file, so that nothing it said before its death
    is lost in a pipe.
    """

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )  # fmt: skip

    def said(self) -> list[str]:
        """The whole lines that it printed."""
        return self.log.read_text().split("\n")[:-1]

    def wait_for(self, lines: int, timeout: float) -> None:
        """Wait until it printed so many lines."""
        deadline = time.monotonic() + timeout
        while len(self.said()) < lines:
            if self.process.poll() is not None:
                errors = self.process.stderr.read() if self.process.stderr else b""
                raise AssertionError(f"the victim died by itself:\n{errors.decode()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"the victim printed {self.said()}, not {lines} lines")
            time.sleep(0.005)

    def kill(self) -> None:
        """SIGKILL.  Idempotent."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stderr):
            if pipe is not None:
                pipe.close()


class KillTests(TransportCase):
    """What `Capability.SHARED` and `Capability.PERSISTENT` promise when processes die.

    Attributes:
        rounds: how often the tests kill at a random moment.
    """

    rounds = 3

    def victim(self, script: str, **options: Any) -> Victim:
        """Start a process that does ``script`` with this test's store."""
        if self.probing:
            raise skip("a store that isn't declared persistent isn't tried by killing")
        self.use_real_time()
        factory = self.plain("factory")
        if not isinstance(factory, str):
            raise skip("a victim needs factory as 'package.module:Class'")
        backend = self.plain("backend_factory")
        values = {
            "script": script,
            "factory": factory,
            "backend": backend if isinstance(backend, str) else "",
            "url": self.url(self.tmp_path),
            "backend_url": self.backend_url(self.tmp_path) if backend else "",
            "queue": self.name(),
            "prefix": self.unique,
            **options,
        }
        command = [sys.executable, "-m", "caraway.testing.conformance.victim"]
        command += [f"{name}={value}" for name, value in values.items()]
        victim = Victim(command, self.tmp_path / f"victim-{random.randrange(10**9)}.log")  # noqa: S311 - a file's name
        self._cleanups.append(victim.kill)
        return victim

    @needs(Capability.SHARED, Capability.PERSISTENT)
    def test_what_was_published_outlives_its_publisher(self) -> None:
        for _ in range(self.rounds):
            victim = self.victim("publish", count=100000)
            victim.wait_for(1 + random.randrange(20), self.patience)  # noqa: S311 - a moment
            victim.kill()
            acknowledged = {line.encode() for line in victim.said()}
            found = set(self.drain_all())
            assert acknowledged <= found, f"lost {sorted(acknowledged - found)[:5]}"
            assert len(found - acknowledged) <= 1, "a message that wasn't whole is there"

    def drain_all(self) -> list[bytes]:
        """All that is in the test's queue."""
        consumer = self.consumer(transport=self.open())
        done: list[bytes] = []
        while taken := consumer.fetch(500, 0.1):
            done += bodies(taken)
            consumer.settle(ack(*taken))
        consumer.close()
        return done

    @needs(Capability.SHARED, Capability.PERSISTENT, Capability.LEASE)
    def test_what_a_killed_owner_held_is_reclaimed_at_once(self) -> None:
        self.use_real_time()
        self.publish(*range(10))
        victim = self.victim("hold", count=4, lease=600)
        victim.wait_for(1, self.patience)
        victim.kill()
        owner = victim.said()[0]
        consumer = self.consumer()
        assert bodies(consumer.fetch(10, 0)) == [b"%d" % index for index in range(4, 10)]
        assert self.transport.reclaim(owner) == 4
        taken = self.take(consumer, 4)
        assert bodies(taken) == [b"0", b"1", b"2", b"3"]
        assert {delivery.attempt for delivery in taken} == {1}

    @needs(Capability.SHARED, Capability.PERSISTENT, Capability.LEASE)
    def test_what_a_killed_owner_held_comes_back_with_its_lease_counted(self) -> None:
        self.use_real_time()
        self.publish(1)
        victim = self.victim("hold", count=1, lease=3 * self.tick)
        victim.wait_for(1, self.patience)
        victim.kill()
        (delivery,) = self.take(self.consumer(), 1)
        assert delivery.attempt == 2

    @needs(Capability.SHARED, Capability.PERSISTENT, Capability.LEASE, Capability.ATOMIC_COMMIT)
    def test_a_kill_leaves_each_commit_whole_or_undone(self) -> None:
        self.use_real_time()
        backend = self.open_by("make_backend")
        count = 400
        for _ in range(self.rounds):
            self.publish(*range(count))
            victim = self.victim("commit", batch=5, follow=self.name("follow"), lease=600)
            victim.wait_for(2 + random.randrange(15), self.patience)  # noqa: S311 - a moment
            victim.kill()
            self.transport.reclaim(victim.said()[0])
            left = set(self.drain_all())
            followed = set(self.drain(self.consumer(self.name("follow")), count - len(left)))
            done = {b"%d" % index for index in range(count)} - left
            assert {b"after " + body for body in done} == followed
            ids = {body: self.task_id(body.decode()) for body in done | left}
            stored = backend.get(list(ids.values()))
            assert {body for body, task_id in ids.items() if task_id in stored} == done
            backend.forget(list(ids.values()))
            assert done or victim.said()[1:] == []


class ConnectionTests(TransportCase):
    """Connections that are cut, and brokers that aren't there."""

    unreachable: str = ""
    """A URL of this kind where nothing answers; empty if there can be none."""

    def cut(self) -> None:
        """Break the store's connections, as a restart of its server would; a suite
        whose store has no connections leaves this as it is."""
        raise skip("no cut() given")

    def test_after_a_cut_work_goes_on(self) -> None:
        self.use_real_time()
        consumer = self.consumer(lease=600)
        self.publish("before")
        self.cut()
        deadline = time.monotonic() + self.patience
        while True:
            try:
                self.publish("after")
                break
            except TransportError:
                # A lost answer: publishing again may double, and must not lose.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        done: set[bytes] = set()
        while done != {b"before", b"after"}:
            assert time.monotonic() < deadline, f"only {done} came after the cut"
            try:
                taken = consumer.fetch(10, 0.2)
                done |= set(bodies(taken))
                consumer.settle(ack(*taken)) if taken else None
            except TransportError:
                time.sleep(0.05)

    def test_an_unreachable_broker_is_told_in_our_words(self) -> None:
        if not self.unreachable:
            raise skip("no unreachable URL given")
        from caraway.testing.conformance.suite import load
        from caraway.url import Url

        try:
            transport = load(self.plain("factory"))(Url.parse(self.unreachable), {}, self.context)
            try:
                transport.publish([Publication(Message(b"x"), "x")], timeout=0.5)
            finally:
                transport.close()
        except TransportError:
            return
        raise AssertionError("publishing where nothing answers raised nothing")
