"""Workers of both kinds on one queue, killed at random: nothing is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from .conftest import Place, Running, wait_for

COUNT = 2000
KILLS = 6
KINDS = ("celery", "caraway", "celery", "caraway")


class Fleet:
    def __init__(self, place: Place) -> None:
        self.place = place
        self.path = place.folder / "done"
        self.path.touch()
        self.workers: list[tuple[str, Running]] = []
        self.started = 0

    def start(self, kind: str) -> None:
        self.started += 1
        name = f"{kind}{self.started}"
        worker = self.place.start(kind, name, "-c", "2", "-Q", "fleet", queue="fleet")
        self.workers.append((kind, worker))

    def done(self) -> set[int]:
        return {int(line) for line in self.path.read_text().splitlines() if line}

    def kill_one(self, kind: str) -> None:
        candidates = [each for each in self.workers if each[0] == kind]
        victim = random.choice(candidates)
        self.workers.remove(victim)
        worker = victim[1]
        if kind == "celery" and self.place.kind == "redis":
            self._between_books(worker)
        worker.kill()

    def _between_books(self, worker: Running) -> None:
        """Stop a worker of Celery's where all it took stands in its books.

        Between taking a message off the list and writing it down, kombu has it nowhere but
        in its memory: what is killed there is lost, whoever shares the queue.
        """
        with Redis.from_url(self.place.broker) as client:
            deadline = time.monotonic() + 10
            while True:
                os.kill(worker.pid, signal.SIGSTOP)
                if self.known(client) | self.done() >= set(range(COUNT)):
                    return
                os.kill(worker.pid, signal.SIGCONT)
                assert time.monotonic() < deadline
                time.sleep(0.01)

    def known(self, client: Any) -> set[int]:
        """The tasks that Redis has anywhere, in the order in which they move."""
        found: set[int] = set()
        for _ in range(2):
            payloads = list(client.lrange("fleet", 0, -1))
            for key in client.scan_iter("caraway:inbox:*", count=1000):
                payloads += client.lrange(key, 0, -1)
            payloads += [json.dumps(json.loads(v)[0]).encode() for v in client.hvals("unacked")]
            for key in client.scan_iter("caraway:held:*", count=1000):
                payloads += [each.split(b"\n", 2)[2] for each in client.hvals(key)]
            found |= {number_of(each) for each in payloads}
        return found


def number_of(payload: bytes) -> int:
    import base64

    envelope = json.loads(payload)
    args, _, _ = json.loads(base64.b64decode(envelope["body"]))
    return int(args[1])


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_nothing_is_lost(
    kind: str, request: pytest.FixtureRequest, celery: Path, redis_url: str, tmp_path: Path
) -> None:
    url = request.getfixturevalue(f"{kind}_url")
    if kind == "redis":
        url = url.removesuffix("/0") + "/7"
    place = Place(
        kind, url, redis_url, celery, tmp_path,
        options={"visibility_timeout": 3} if kind == "redis" else {},
        settings={"broker_lease": 3.0},
    )  # fmt: skip
    fleet = Fleet(place)
    with place.client("celery", "fleet") as theirs, place.client("caraway", "fleet") as ours:
        theirs("send_work", path=str(fleet.path), numbers=list(range(COUNT // 2)))
        ours("send_work", path=str(fleet.path), numbers=list(range(COUNT // 2, COUNT)))
        for each in KINDS:
            fleet.start(each)
        try:
            for _, worker in fleet.workers:
                worker.ready()
            for at in range(KILLS):
                before = len(fleet.done())
                wait_for(lambda: len(fleet.done()) > before + 40, 20, fleet.done)  # noqa: B023
                fleet.kill_one(KINDS[at % 2])
                fleet.start(KINDS[at % 2])
            wait_for(
                lambda: len(fleet.done()) == COUNT, 60,
                lambda: sorted(set(range(COUNT)) - fleet.done()),
            )  # fmt: skip
        finally:
            for _, worker in fleet.workers:
                worker.kill()
