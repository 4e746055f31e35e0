"""The program of a process that a test kills: ``python -m ...victim name=value ...``.

It prints one line per step that the store has acknowledged, and ends when its standard
input does, so that it never outlives the test.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from caraway.interfaces.context import Context
from caraway.message import (
    ChordPart,
    Completion,
    Delivery,
    Message,
    Owner,
    Publication,
    Queue,
    Settlement,
    StoredResult,
    new_owner_id,
)
from caraway.testing.conformance.backend_case import end_of, meta
from caraway.testing.conformance.suite import load
from caraway.url import Url


def say(line: str) -> None:
    """One line, in the file before this returns."""
    os.write(1, f"{line}\n".encode())


def end_with_parent() -> None:
    """End this process when its standard input ends."""

    def watch() -> None:
        # Not through a file object: its lock would be held at the interpreter's end.
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def publish(transport: Any, options: dict[str, str]) -> None:
    """Publish one by one; say each when it is acknowledged."""
    run = new_owner_id()[:8]
    for index in range(int(options["count"])):
        body = f"{run}-{index}"
        message = Message(body.encode(), {"task": "check.task", "id": body})
        transport.publish([Publication(message, options["queue"])])
        say(body)


def owner(transport: Any, options: dict[str, str]) -> Any:
    """A consumer of the queue; says its owner's id."""
    who = Owner(id=new_owner_id(), lease=float(options["lease"]))
    return who, transport.consume([Queue(name=options["queue"])], who)


def hold(transport: Any, options: dict[str, str]) -> None:
    """Take some messages and hold them."""
    who, consumer = owner(transport, options)
    count = int(options["count"])
    while count:
        count -= len(consumer.fetch(count, 1.0))
    say(who.id)
    time.sleep(3600)


def consume(transport: Any, options: dict[str, str]) -> None:
    """Take messages and acknowledge them; say each when that is done."""
    who, consumer = owner(transport, options)
    say(who.id)
    while True:
        taken = consumer.fetch(5, 30.0)
        consumer.settle([Settlement(delivery.tag) for delivery in taken])
        for delivery in taken:
            say(delivery.message.body.decode())


def commit(transport: Any, options: dict[str, str]) -> None:
    """Take batches and commit them, each with result and follow-up, by exchanges."""
    who, consumer = owner(transport, options)
    say(who.id)
    batch = int(options["batch"])
    taken: Sequence[Delivery] = ()
    for number in itertools.count():
        taken = taken or consumer.fetch(batch, 1.0)
        _, taken = consumer.exchange(
            [
                Completion(
                    Settlement(delivery.tag),
                    StoredResult(delivery.message.headers["id"], "SUCCESS", meta("SUCCESS")),
                    (
                        Publication(
                            Message(b"after " + delivery.message.body, {"task": "check.task"}),
                            options["follow"],
                        ),
                    ),
                )
                for delivery in taken
            ],
            batch,
        )()
        say(str(number))


def store(backend: Any, options: dict[str, str]) -> None:
    """Store results one by one; say each when it is stored."""
    for number in itertools.count():
        task_id = f"{options['prefix']}-{number}"
        backend.store([StoredResult(task_id, "SUCCESS", meta("SUCCESS", task_id))])
        say(task_id)


def wait_to_go() -> None:
    """Wait for the word of whoever started this."""
    say("ready")
    sys.stdin.buffer.readline()
    end_with_parent()


def join(backend: Any, options: dict[str, str]) -> None:
    """Join many groups as one member; say which were completed by it."""
    wait_to_go()
    for number in range(int(options["groups"])):
        group = f"{options['prefix']}-{number}"
        if backend.join(group, options["member"], int(options["size"]), 600.0):
            say(group)
    say("done")
    time.sleep(3600)


def chord(backend: Any, options: dict[str, str]) -> None:
    """End as one member of many chords; say of each how many payloads were answered."""
    wait_to_go()
    index, size = int(options["index"]), int(options["size"])
    for number in range(int(options["chords"])):
        group = f"{options['prefix']}-{number}"
        task_id = f"{group}-m{index}"
        payload = end_of(task_id, "SUCCESS", index)
        part = ChordPart(group, task_id, index, "SUCCESS", payload, size, 600.0)
        (answer,) = backend.chord_parts([part])
        say(f"{group} {len(answer or ())}")
    say("done")
    time.sleep(3600)


def main() -> None:
    """Do the script that the arguments name."""
    options = dict(argument.split("=", 1) for argument in sys.argv[1:])

    if options["script"] not in ("join", "chord"):
        end_with_parent()
    context = Context()
    subject = load(options["factory"])(Url.parse(options["url"]), {}, context)
    if options.get("backend"):
        # Opened as a worker would: it may be what creates the results' tables.
        load(options["backend"])(Url.parse(options["backend_url"]), {}, context)
    scripts = (publish, hold, consume, commit, store, join, chord)
    {script.__name__: script for script in scripts}[options["script"]](subject, options)


if __name__ == "__main__":
    main()
