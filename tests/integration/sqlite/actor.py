"""A process of the tests beside: ``actor.py WHAT DIRECTORY [argument ...]``."""

from __future__ import annotations

import os
import sys
import time

from caraway.builtin.sqlite import SqliteBackend, SqliteTransport
from caraway.errors import CarawayError
from caraway.interfaces.context import Context
from caraway.message import (
    Completion,
    Message,
    Owner,
    Publication,
    Queue,
    Settlement,
    StoredResult,
    new_owner_id,
)
from caraway.url import Url


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def open_transport(directory: str, query: str = "") -> SqliteTransport:
    return SqliteTransport(Url.parse(f"sqlite:///jobs.db{query}"), {}, Context(directory=directory))


def publish(directory: str, prefix: str) -> None:
    """Publish for ever; say what was acknowledged."""
    transport = open_transport(directory)
    number = 0
    while True:
        ids = [f"{prefix}-{number + n}" for n in range(7)]
        transport.publish([Publication(Message(b"[]", {"id": name}), "q") for name in ids])
        say(" ".join(ids))
        number += 7
        time.sleep(0.002)


def consume(directory: str, lease: str) -> None:
    """Fetch and commit, each with a result and a follow-up, for ever."""
    transport = open_transport(directory)
    owner = Owner(id=new_owner_id(), lease=float(lease))
    consumer = transport.consume([Queue(name="q"), Queue(name="next")], owner)
    say("ready")
    while True:
        taken = consumer.fetch(16, 0.2)
        transport.renew([owner.id])
        if not taken:
            say("idle")
        completions = []
        for delivery in taken:
            name = delivery.message.headers["id"]
            after = (Publication(Message(b"[]", {"id": name + "+"}), "next"),)
            completions.append(
                Completion(
                    Settlement(delivery.tag),
                    StoredResult(name, "SUCCESS", b"{}"),
                    after if delivery.queue == "q" else (),
                )
            )
        consumer.commit(completions)


def answer(directory: str) -> None:
    """Fetch one after the other with hardly any polling; say when each came."""
    transport = open_transport(directory, "?poll_interval=60")
    consumer = transport.consume([Queue(name="q")], Owner(id=new_owner_id()))
    say("ready")
    while True:
        for delivery in consumer.fetch(10, 60):
            name = delivery.message.headers["id"]
            say(f"{name} {time.time() - delivery.message.headers['at']:.6f}")
            consumer.commit(
                [Completion(Settlement(delivery.tag), StoredResult(name, "SUCCESS", b"{}"))]
            )


def hold(directory: str) -> None:
    """Take the write lock and keep it."""
    transport = open_transport(directory)
    with transport.file.write():
        say("held")
        time.sleep(600)


def attempt(directory: str, uid: str) -> None:
    """Publish as another user; say what happened."""
    os.setgid(int(uid))
    os.setuid(int(uid))
    try:
        transport = open_transport(directory)
        transport.publish([Publication(Message(b"[]", {"id": "x"}), "q")])
        say("published")
    except CarawayError as exc:
        say(f"{type(exc).__name__}: {exc}".replace("\n", " "))


def fill(directory: str) -> None:
    """Publish and store until there is no room; then make some, and go on."""
    context = Context(directory=directory)
    transport = open_transport(directory)
    backend = SqliteBackend(Url.parse("sqlite:///jobs.db"), {}, context)
    ballast = os.path.join(directory, "ballast")
    with open(ballast, "wb") as file:
        file.write(b"x" * 4_000_000)
    kept = 0
    while True:
        try:
            batch = [Publication(Message(b"x" * 5_000, {"id": f"{n}"}), "q") for n in range(20)]
            transport.publish(batch)
            kept += 20
        except CarawayError as exc:
            say(type(exc).__name__)
            break
    try:
        backend.store([StoredResult("t", "SUCCESS", b"x" * 1_000_000)])
    except CarawayError as exc:
        say(type(exc).__name__)
    os.unlink(ballast)
    transport.publish([Publication(Message(b"[]", {"id": "last"}), "q")])
    consumer = transport.consume([Queue(name="q")], Owner(id=new_owner_id()))
    came = 0
    while taken := consumer.fetch(50, 0):
        came += len(taken)
        consumer.settle([Settlement(delivery.tag) for delivery in taken])
    say(f"{came - kept}")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
