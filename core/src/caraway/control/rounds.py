"""One round of remote control: a request to many, and the answers that come back.

A round ends as soon as everybody who heard the request has answered.  Who that is, brokers
know in two ways: some count whom a broadcast reached, and some list the live owners, of
which each worker of ours is one.  Where a broker knows neither, the time decides.

Who is reached and not meant says nothing, as Celery's workers do.  Where a pattern leaves
open who is meant, we ask for a word from those, too (`ABSTAIN`): else their silence would
have to be waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from caraway.errors import CarawayError
from caraway.message import Message, Notice, Topic

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Broadcast

Answers = list[dict[str, Any]]
"""``[{node: answer}, ...]``."""

MATCHERS = ("glob", "pcre")
ABSTAIN = "caraway-abstain"
"""Header of a request: who isn't meant answers nothing, which is an empty object; of an
answer: this is one such."""
_GRACE = 0.4
"""Seconds after the last answer for which more are waited for, where the broker knows of no
worker at all."""


class Round(Struct, frozen=True):
    """A request.

    Attributes:
        command: its name.
        arguments: its keyword arguments.
        destination: node names; None is every worker.
        pattern: of node names, None for none.
        matcher: kind of the pattern: one of `MATCHERS`.
    """

    command: str
    arguments: dict[str, Any]
    destination: list[str] | None = None
    pattern: str | None = None
    matcher: str | None = None


def requests(app: Caraway) -> Topic:
    """Where requests go: the setting ``control_exchange``, and its kind of mailbox."""
    return Topic(f"{app.conf.control_exchange}.pidbox")


def replies(app: Caraway) -> str:
    """Exchange of replies; the routing key is the asker's id."""
    return f"reply.{app.conf.control_exchange}.pidbox"


def matches(node: str, pattern: str, matcher: str) -> bool:
    """True if a node's name matches.

    Raises:
        ValueError: the matcher or the pattern is none.
    """
    if matcher == "glob":
        return fnmatchcase(node, pattern)
    if matcher == "pcre":
        import re

        try:
            return re.match(pattern, node) is not None
        except re.error as exc:
            raise ValueError(f"not a regular expression: {pattern!r}: {exc}") from None
    raise ValueError(f"unknown matcher {matcher!r}: there are {' and '.join(MATCHERS)}")


def send(app: Caraway, wanted: Round) -> None:
    """Send a request that nobody need answer."""
    if wanted.destination == []:
        return
    channel = app.transport.broadcast()
    channel.publish([_notice(app, wanted, {}, 0.0)])


def ask(
    app: Caraway,
    wanted: Round,
    timeout: float,
    limit: int | None,
    callback: Callable[[dict[str, Any]], Any] | None,
) -> Answers:
    """Send a request, and gather the answers; see `caraway.control.Control.broadcast`."""
    if wanted.destination == []:
        return []
    from caraway.protocol.ids import new_id

    ticket = new_id()
    exchange = replies(app)
    more = {"ticket": ticket, "reply_to": {"exchange": exchange, "routing_key": ticket}}
    channel: Broadcast = app.transport.broadcast()
    answers: Answers = []
    nodes: set[str] = set()
    abstained = 0
    subscription = channel.subscribe([Topic(exchange, ticket, "direct")])
    try:
        end = time.monotonic() + timeout
        reached = channel.publish([_notice(app, wanted, more, timeout)])
        ours = _ours(app)
        heard = 0.0
        while True:
            if limit and len(answers) >= limit:
                break
            if _complete(wanted, nodes, len(answers) + abstained, reached, ours):
                break
            left = end - time.monotonic()
            if left <= 0:
                break
            if reached is None and ours == set() and answers:
                # Somebody answers whose lanes are just being replaced.
                if time.monotonic() - heard > _GRACE:
                    break
                left = min(left, _GRACE / 4)
                ours = _ours(app)
            for notice in subscription.receive(left):
                answer = _answer(app, notice.message, ticket)
                if answer is None:
                    continue
                if notice.message.headers.get(ABSTAIN):
                    abstained += 1
                    continue
                answers.append(answer)
                nodes.update(answer)
                heard = time.monotonic()
                if callback is not None:
                    callback(answer)
    finally:
        subscription.close()
    return answers


def _notice(app: Caraway, wanted: Round, more: dict[str, Any], timeout: float) -> Notice:
    if wanted.matcher is not None:
        matches("", wanted.pattern or "", wanted.matcher)
    body = {
        "method": wanted.command,
        "arguments": wanted.arguments,
        "destination": wanted.destination,
        "pattern": wanted.pattern,
        "matcher": wanted.matcher,
        **more,
    }
    headers: dict[str, Any] = {
        "clock": app.clock.forward(),
        # For those who hear of it too late to be waited for.
        "expires": time.time() + timeout if timeout else 0,
    }
    if more and wanted.pattern is not None and wanted.destination is None:
        headers[ABSTAIN] = True
    return Notice(requests(app), Message(msgspec.json.encode(body), headers))


def _answer(app: Caraway, message: Message, ticket: str) -> dict[str, Any] | None:
    headers = message.headers
    if headers.get("ticket", ticket) != ticket:
        return None
    clock = headers.get("clock")
    if type(clock) is int:
        app.clock.adjust(clock)
    try:
        answer = msgspec.json.decode(message.body)
    except msgspec.MsgspecError:
        return None
    return answer if isinstance(answer, dict) else None


def _ours(app: Caraway) -> set[str] | None:
    """Our own workers that live, by node name; None if the broker can't tell."""
    from caraway.interfaces import Capability

    transport = app.transport
    if Capability.INSPECT not in transport.capabilities:
        return None
    try:
        return {stats.owner.worker for stats in transport.owners() if stats.owner.worker}
    except CarawayError:
        return None


def _complete(
    wanted: Round,
    nodes: set[str],
    count: int,
    reached: int | None,
    ours: set[str] | None,
) -> bool:
    """True if no further answer is to be expected; abstentions are counted, too."""
    if wanted.destination is not None and nodes.issuperset(wanted.destination):
        return True
    if reached is not None and count >= reached:
        return True
    if ours is None or (reached is None and not ours):
        return False
    if reached is not None and reached > len(ours):
        # Others listen, too, whose names the broker doesn't know.
        return False
    return nodes.issuperset(_meant(wanted, ours))


def _meant(wanted: Round, ours: set[str]) -> Sequence[str]:
    if wanted.destination is not None:
        return [node for node in ours if node in wanted.destination]
    if wanted.pattern is not None and wanted.matcher is not None:
        return [node for node in ours if matches(node, wanted.pattern, wanted.matcher)]
    return list(ours)
