"""What is in the queues, for people and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from caraway.errors import OperationalError
from caraway.message import Delivery, Located, Owner, OwnerStats, QueueStats
from caraway_redis import dead_letters
from caraway_redis.fetching import delivery
from caraway_redis.wires import pack

if TYPE_CHECKING:
    from caraway_redis.connection import Link
    from caraway_redis.keys import Keys
    from caraway_redis.wires import Script

_PAGE = 500


def warn_of_eviction(link: Link) -> None:
    """Say so in the log if the server throws away keys that have no end, as queues, when
    its memory is full."""
    try:
        told = link.call("INFO", "memory").decode()
    except OperationalError:
        return  # we may not ask
    facts = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
    policy = facts.get("maxmemory_policy", "")
    if policy.startswith("allkeys") and facts.get("maxmemory") != "0":
        import logging

        logging.getLogger("caraway.transport.redis").warning(
            "%s throws away queues when its memory is full: its maxmemory-policy is %s; "
            "set it to noeviction",
            link.place, policy,
        )  # fmt: skip


def round_trip(link: Link) -> float:
    """Seconds from a command to its answer, the better of two; 0.0 if we may not ask."""
    times = []
    try:
        for _ in range(2):
            began = perf_counter()
            link.call("PING")
            times.append(perf_counter() - began)
    except OperationalError:
        return 0.0
    return min(times)


def names(link: Link, keys: Keys) -> list[str]:
    """All queues that are known."""
    found = link.call("SMEMBERS", keys.queues)
    return sorted(name.decode(errors="replace") for name in found)


def stats(
    link: Link, keys: Keys, steps: Sequence[int], queues: Sequence[str], holdings: Script
) -> list[QueueStats]:
    """Depths.  The age of a message isn't known: Celery's messages don't carry it."""
    chosen = sorted(queues) if queues else names(link, keys)
    if not chosen:
        return []
    held = link.run(holdings, (keys.owners,), (keys.held, ""))
    held_of = {name.decode(errors="replace"): int(count) for name, count in _pairs(held)}
    consumers: dict[str, int] = {}
    for each in owners(link, keys):
        for name in each.queues:
            consumers[name] = consumers.get(name, 0) + 1
    packed = []
    for name in chosen:
        packed += [pack("LLEN", keys.list(name, step)) for step in steps]
        packed += [pack("ZCARD", keys.delayed + name), pack("SISMEMBER", keys.queues, name)]
    answers = iter(link.exchange(b"".join(packed), len(packed)))
    out = []
    for name in chosen:
        ready = sum(next(answers) for _ in steps)
        delayed, known = next(answers), next(answers)
        if known or ready or delayed or name in held_of:
            out.append(
                QueueStats(
                    name=name,
                    ready=ready,
                    delayed=delayed,
                    held=held_of.get(name, 0),
                    consumers=consumers.get(name, 0),
                )
            )
    return out


def _pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


def owners(link: Link, keys: Keys) -> list[OwnerStats]:
    """Live owners."""
    packed = pack("TIME") + pack("ZRANGE", keys.owners, 0, -1, "WITHSCORES")
    packed += pack("HGETALL", keys.infos)
    time, alive, told = link.exchange(packed, 3)
    now = int(time[0]) + int(time[1]) / 1e6
    infos = dict(_pairs(told))
    live = [(owner, float(ends)) for owner, ends in _pairs(alive) if float(ends) > now]
    if not live:
        return []
    counts = link.exchange(
        b"".join(pack("HLEN", keys.held + owner.decode()) for owner, _ in live), len(live)
    )
    out = []
    for (owner, ends), held in zip(live, counts, strict=True):
        try:
            who, queues = msgspec.json.decode(
                infos.get(owner, b""), type=tuple[Owner, tuple[str, ...]]
            )
        except msgspec.MsgspecError:
            who, queues = Owner(id=owner.decode()), ()
        out.append(OwnerStats(owner=who, queues=queues, held=held, expires=ends))
    return out


def peek(link: Link, keys: Keys, steps: Sequence[int], queue: str, limit: int) -> list[Located]:
    """The next ready messages."""
    out: list[Located] = []
    for step in steps:
        if len(out) >= limit:
            break
        payloads = link.call("LRANGE", keys.list(queue, step), -(limit - len(out)), -1)
        for payload in reversed(payloads):
            out.append(_located(delivery(0, queue, payload), "ready", ahead=len(out)))
    return out


def _located(found: Delivery, place: Any, **more: Any) -> Located:
    return Located(
        message=found.message,
        queue=found.queue,
        place=place,
        expires=found.expires,
        attempt=more.pop("attempt", found.attempt - 1),
        **more,
    )


def find(link: Link, keys: Keys, steps: Sequence[int], task_id: str) -> list[Located]:
    """Where the messages of a task are; looks through everything."""
    needle = task_id.encode()
    out: list[Located] = []

    def is_it(found: Delivery) -> bool:
        return found.message.headers.get("id") == task_id

    for queue in names(link, keys):
        first = 0
        for step in steps:
            for at, payload in _backwards(link, keys.list(queue, step)):
                if needle in payload:
                    found = delivery(0, queue, payload)
                    if is_it(found):
                        out.append(_located(found, "ready", ahead=first + at))
            first += link.call("LLEN", keys.list(queue, step))
        for member, score in _pairs(link.call("ZRANGE", keys.delayed + queue, 0, -1, "WITHSCORES")):
            if needle in member:
                found = delivery(0, queue, member.partition(b"\n")[2])
                if is_it(found):
                    out.append(_located(found, "delayed", due=float(score)))
    for each in owners(link, keys):
        for entry in link.call("HVALS", keys.held + each.owner.id):
            if needle in entry:
                _, name, payload = entry.split(b"\n", 2)
                found = delivery(0, name.decode(), payload)
                if is_it(found):
                    held = _located(found, "held", owner=each.owner.id, attempt=found.attempt)
                    out.append(held)
    after = ""
    while letters := dead_letters.page(link, keys, "", _PAGE, after):
        after = letters[-1].id
        out += [
            Located(
                message=letter.message,
                queue=letter.queue,
                place=letter.kind,
                attempt=letter.attempt,
                reason=letter.reason,
            )
            for letter in letters
            if letter.message.headers.get("id") == task_id
        ]
    return out


def _backwards(link: Link, name: str) -> Iterator[tuple[int, bytes]]:
    """A list's values from the one that is served next on."""
    at = 0
    while page := link.call("LRANGE", name, -(at + _PAGE), -(at + 1)):
        for payload in reversed(page):
            yield at, payload
            at += 1
        if len(page) < _PAGE:
            return
