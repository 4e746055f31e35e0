"""The connections of one process to one Redis: pooled, checked, and named for people."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.errors import (
    ImproperlyConfigured,
    OperationalError,
    TransportError,
    TransportUnavailable,
)
from caraway_redis.addresses import Address, connector
from caraway_redis.faults import GONE, said, translate
from caraway_redis.keys import OURS
from caraway_redis.options import read_options
from caraway_redis.wires import Script, Wire, is_unknown_script, pack

if TYPE_CHECKING:
    from caraway.interfaces.context import Context
    from caraway.url import Url

OLDEST = (6, 2)
"""The oldest server with all commands that are used (``LMOVE``, counts of ``RPOP``)."""
_STALE = 1.0
"""Seconds after which an idle connection is looked at before it is used."""
_HEALTH_PATIENCE = 2.0
"""Seconds for the answer of a connection that was idle for long."""


class Link:
    """What one component of one process has of a server.  Thread-safe.

    Args:
        url: of the server.
        options: see `caraway_redis.options.Options`.
        context: of the component; its settings `broker_connection_timeout` and
            `broker_pool_limit` are read.
        ssl: the setting for TLS.
        fault: makes of an error what the component raises.

    Raises:
        ImproperlyConfigured: a URL or option that can't be.
    """

    def __init__(
        self,
        url: Url,
        options: Mapping[str, Any],
        context: Context,
        *,
        ssl: Any = None,
        fault: Callable[[OperationalError], OperationalError] | None = None,
    ) -> None:
        extra = dict(ssl) if isinstance(ssl, Mapping) else {}
        chosen = self.options = read_options(url, options, extra)
        self.address = Address.read(url, chosen, tls=bool(ssl))
        timeout = chosen.socket_connect_timeout or float(
            context.settings.get("broker_connection_timeout") or 4.0
        )
        self._connect = connector(self.address, chosen, timeout)
        self._timeout = chosen.socket_timeout
        self._connect_timeout = timeout
        self._most = chosen.max_connections or int(context.settings.get("broker_pool_limit") or 0)
        self._fault = fault
        self._idle: list[Wire] = []
        self._open = 0
        self._room = threading.Condition()
        self._waiting = 0
        self._pid = os.getpid()
        self._checked = False
        self.closed = False
        self.guard: tuple[str, ...] = ()
        """What every script names as its last keys."""
        if chosen.slot:
            # A key that never exists.  While its slot moves to another node, a cluster
            # refuses whoever names one that isn't there, before anything is done; without,
            # a script would end in the middle, at the first key that has gone ahead.
            self.guard = (f"{chosen.global_keyprefix}{chosen.tag}{OURS}none",)

    @property
    def place(self) -> str:
        """The server, for people."""
        return self.address.shown

    @property
    def db(self) -> int:
        """Number of the database."""
        return self.address.db

    # -- connections -------------------------------------------------------------------

    def wire(self, protocol: int = 2) -> Wire:
        """A connection of the caller's own, not pooled; not connected yet."""
        return Wire(self._connect(protocol), self.place, self._connect_timeout)

    def _take(self, timeout: float) -> Wire:
        if self._pid != os.getpid():
            # What was inherited through a fork belongs to the parent.
            self._idle, self._open, self._pid = [], 0, os.getpid()
            self._room, self._waiting = threading.Condition(), 0
        end = 0.0
        while True:
            if self.closed:
                raise TransportError(f"this connection to {self.place} is closed")
            try:
                wire = self._idle.pop()
            except IndexError:
                pass
            else:
                idle = monotonic() - wire.used
                if idle < _STALE or self._lives(wire, idle):
                    return wire
                self._drop(wire)
                continue
            with self._room:
                if not self._most or self._open < self._most:
                    self._open += 1
                    break
                end = end or monotonic() + timeout
                # Counted before the look at what is idle: who gives one back puts it there
                # before the look at who waits, so that one of the two sees the other.
                self._waiting += 1
                try:
                    came = bool(self._idle) or self._room.wait(max(0.0, end - monotonic()))
                finally:
                    self._waiting -= 1
                if not came:
                    raise TransportUnavailable(
                        f"all {self._most} connections to {self.place} are in use",
                        hint="Raise max_connections, or the setting broker_pool_limit.",
                    )
        wire = self.wire()
        try:
            wire.connect(timeout)
            if not self._checked:
                self._check(wire, timeout)
        except BaseException:
            self._drop(wire)
            raise
        return wire

    def _lives(self, wire: Wire, idle: float) -> bool:
        """True if the other side of an idle connection is still there."""
        if wire.is_stale():
            return False
        every = self.options.health_check_interval
        if not every or idle < every:
            return True
        # A firewall that forgot the connection says nothing: only asking tells.
        try:
            wire.send(pack("PING"), _HEALTH_PATIENCE)
            return not isinstance(wire.read(_HEALTH_PATIENCE), Exception)
        except OperationalError:
            return False

    def check(self) -> None:
        """See that the server can do what is needed, once.

        Raises:
            OperationalError, ImproperlyConfigured: it can't.
        """
        if not self._checked:
            self.call("PING")

    def _give(self, wire: Wire) -> None:
        wire.used = monotonic()
        if self.closed:
            self._drop(wire)
            return
        self._idle.append(wire)
        if self._waiting:
            with self._room:
                self._room.notify()

    def _drop(self, wire: Wire) -> None:
        wire.close()
        with self._room:
            self._open -= 1
            self._room.notify()

    def _check(self, wire: Wire, timeout: float) -> None:
        """See once that the server can do what is needed."""
        wire.send(pack("HELLO"), timeout)
        answer = wire.read(timeout)
        if isinstance(answer, Exception):
            if str(answer).startswith(("ERR unknown command", "ERR wrong number")):
                raise _too_old(self.place, "before 6")
            if "NOPERM" not in str(answer):
                raise translate(answer, self.place) from answer
            self._checked = True
            return
        told = dict(zip(answer[::2], answer[1::2], strict=False))
        version = told.get(b"version", b"").decode()
        if _numbers(version) < OLDEST:
            raise _too_old(self.place, version)
        if told.get(b"mode") == b"cluster" and not self.options.slot:
            raise ImproperlyConfigured(
                f"{self.place} is a cluster, where Celery's key names can't work: the keys of "
                "one operation would lie on several nodes",
                hint="Add hash_tag=caraway to the URL's options (then only Caraway can share "
                "these queues), or use one server, with Sentinels for failover.",
            )
        self._checked = True

    # -- commands ----------------------------------------------------------------------

    def call(self, *command: Any, timeout: float = 0.0) -> Any:
        """One command.

        Raises:
            OperationalError: it failed.
        """
        return self.exchange(pack(*command), 1, timeout)[0]

    def exchange(
        self, packed: bytes | Sequence[bytes], answers: int, timeout: float = 0.0
    ) -> list[Any]:
        """Send packed commands in one go; return their answers.

        Args:
            packed: see `pack`.
            answers: how many commands they are.
            timeout: seconds; 0 is the option `socket_timeout`.

        Raises:
            OperationalError: the first error among the answers, or no answer came.
        """
        got = self.answers(packed, answers, timeout)
        for answer in got:
            if isinstance(answer, Exception):
                raise self.fault(answer) from answer
        return got

    def answers(
        self, packed: bytes | Sequence[bytes], answers: int, timeout: float = 0.0
    ) -> list[Any]:
        """As `exchange`, but errors among the answers are returned.

        Raises:
            OperationalError: no answer came.
        """
        limit = timeout or self._timeout
        try:
            end = monotonic() + limit
            wire = self._take(limit)
            try:
                left = end - monotonic()
                if left < limit * 0.9:  # connecting took its time, or waiting for a free one
                    limit = max(0.001, left)
                wire.send(packed, limit)
                got = [wire.read(limit) for _ in range(answers)]
            except BaseException as exc:
                self._drop(wire)
                if isinstance(exc, OperationalError):
                    # Whatever ended this one: the idle ones are no better, and each would
                    # be waited for as long.
                    self.disconnect()
                raise
            self._give(wire)
        except OperationalError as exc:
            if self._fault is None:
                raise
            raise self._fault(exc) from exc.__cause__
        return got

    def fault(self, answer: Exception) -> OperationalError:
        """The error to raise for one that the server answered with."""
        if said(answer).startswith(GONE):
            # After a failover connections may lead to what is a replica now.
            self.disconnect()
        error = translate(answer, self.place)
        error.__cause__ = answer
        return error if self._fault is None else self._fault(error)

    def run(
        self, script: Script, keys: Sequence[Any], args: Sequence[Any], timeout: float = 0.0
    ) -> Any:
        """Run a script, by its hash where the server knows it.

        Raises:
            OperationalError: it failed.
        """
        return self.run_each(script, [(keys, args)], timeout)[0]

    def run_each(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[Any], Sequence[Any]]],
        timeout: float = 0.0,
    ) -> list[Any]:
        """Run a script with several keys and arguments, in one round trip.

        Raises:
            OperationalError: one of the runs failed, others may not have.
        """
        guard = self.guard
        packed = [
            pack("EVALSHA", script.sha, len(keys) + len(guard), *keys, *guard, *args)
            for keys, args in calls
        ]
        got = self.answers(packed, len(packed), timeout)
        for at, (keys, args) in enumerate(calls):
            if is_unknown_script(got[at]):
                command = (
                    "EVAL", script.source, len(keys) + len(guard), *keys, *guard, *args,
                )  # fmt: skip
                got[at] = self.call(*command, timeout=timeout)
            elif isinstance(got[at], Exception):
                raise self.fault(got[at]) from got[at]
        return got

    def disconnect(self) -> None:
        """Close idle connections; the next command makes new ones."""
        while self._idle:
            try:
                self._drop(self._idle.pop())
            except IndexError:
                return

    def close(self) -> None:
        """Close for good.  Idempotent."""
        self.closed = True
        if self._pid == os.getpid():
            self.disconnect()


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) if part.isdigit() else 0 for part in parts)


def _too_old(place: str, version: str) -> TransportError:
    return TransportError(
        f"{place} is Redis {version}; 6.2 is the oldest that can be used",
        hint="Update the server; any Valkey will do, too.",
    )
