"""Which queues an exchange leads to, in kombu's own tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from re import escape
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.routing import topic_matches

if TYPE_CHECKING:
    from caraway.message import Queue
    from caraway_redis.connection import Link
    from caraway_redis.keys import Keys

_REMEMBERED = 2.0
"""Seconds after which a table is read again: others may have changed it."""
_LITERAL = {ord(char): f"\\{char}" for char in "\\*?[]^"}
"""What Redis' patterns would take for one of their signs."""


class Bindings:
    """The tables of one database.  Thread-safe."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self._tables: dict[str, tuple[float, list[tuple[str, str, str]]]] = {}

    def wanted(self, queue: Queue) -> tuple[tuple[str, str], tuple[str, str]]:
        """The tables that say where a queue is bound for good, and its member of them."""
        keys = self._keys
        # As kombu: a queue without an exchange is bound to one of its own name.
        exchange = queue.exchange or queue.name
        routing_key = queue.routing_key or queue.name
        pattern = _pattern(routing_key) if queue.exchange_type == "topic" else ""
        member = keys.member(queue.name, routing_key, pattern)
        return (keys.binding + exchange, member), (keys.permanent + exchange, member)

    def bound(self, exchange: str, routing_key: str) -> Sequence[str]:
        """The queues that an exchange and a routing key lead to.

        Raises:
            OperationalError: the table can't be read.
        """
        read = self._tables.get(exchange)
        if read is None or monotonic() - read[0] > _REMEMBERED:
            found = []
            for member in self._link.call("SMEMBERS", self._keys.binding + exchange):
                parts = member.decode(errors="replace").split(self._keys.sep)
                if len(parts) == 3:
                    found.append((parts[0], parts[1], parts[2]))
            read = self._tables[exchange] = (monotonic(), found)
        return sorted(
            queue
            for key, pattern, queue in read[1]
            if (topic_matches(key, routing_key) if pattern else key == routing_key)
        )

    def leading_to(self, queue: str) -> Iterator[tuple[bytes, bytes]]:
        """Tables and their members that lead to a queue.  There is no index of them: all
        names of keys are gone through.

        Raises:
            OperationalError: they can't be read.
        """
        end = f"{self._keys.sep}{queue}".encode()
        pattern = self._keys.prefix.translate(_LITERAL) + "_kombu.binding*"
        cursor: Any = b"0"
        while True:
            cursor, tables = self._link.call(
                "SCAN", cursor, "MATCH", pattern, "COUNT", 1000, "TYPE", "set"
            )
            for table in tables:
                for member in self._link.call("SMEMBERS", table):
                    if member.endswith(end):
                        yield table, member
            if cursor == b"0":
                return

    def forget(self) -> None:
        """Read tables anew."""
        self._tables.clear()


def _pattern(routing_key: str) -> str:
    """A topic's pattern as kombu stores it: a regular expression."""
    wild = {"*": r".*?[^\.]", "#": ".*?"}
    words = [wild.get(word, escape(word)) for word in routing_key.split(".")]
    return "^" + r"\.".join(words) + "$"
