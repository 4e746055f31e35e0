"""Remote control: commands to workers, and their answers (`app.control`).

The messages are Celery's: docs/reference/wire-format.md, "Remote control".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caraway.control.commands import (
    COMMANDS,
    CommandInfo,
    ControlState,
    control_command,
    inspect_command,
)
from caraway.control.ending import signal_number
from caraway.control.inspect import Inspect
from caraway.control.rounds import Answers, Round, ask, send

if TYPE_CHECKING:
    from caraway.app import Caraway

__all__ = [
    "COMMANDS",
    "CommandInfo",
    "Control",
    "ControlState",
    "Inspect",
    "control_command",
    "inspect_command",
]

TERM_SIGNAME = "SIGTERM"


class Control:
    """Sends commands to the workers of one app's broker.

    All methods but `broadcast` take its keyword arguments ``destination``, ``reply``,
    ``timeout``, ``limit``, ``callback``, ``pattern`` and ``matcher``, and return what it
    returns.
    """

    def __init__(self, app: Caraway) -> None:
        self._app = app

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Iterable[str] | str | None = None,
        connection: Any = None,  # noqa: ARG002 - Celery's; an app has its own
        reply: bool = False,  # noqa: FBT001, FBT002 - Celery's signature
        timeout: float | None = 1.0,
        limit: int | None = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        channel: Any = None,  # noqa: ARG002 - as connection
        pattern: str | None = None,
        matcher: str | None = None,
        **extra: Any,
    ) -> Answers:
        """Send a command.

        Args:
            command: its name.
            arguments: its keyword arguments.
            destination: node names; None is every worker.
            connection: has no meaning here.
            reply: wait for answers.
            timeout: seconds to wait for them at most; None is 1.  The wait ends as soon
                as every worker that the broker knows has answered.
            limit: end after so many answers.
            callback: called with each answer as it comes.
            channel: has no meaning here.
            pattern: only nodes whose names match it.
            matcher: ``glob`` (default) or ``pcre``: what kind of pattern it is.
            **extra: more arguments of the command.

        Returns:
            ``[{node: answer}, ...]``, empty without ``reply``.

        Raises:
            TransportError: the transport has no broadcast, or can't send now.
            ValueError: the matcher is unknown.
        """
        nodes = [destination] if isinstance(destination, str) else destination
        wanted = Round(
            command,
            {**(arguments or {}), **extra},
            None if nodes is None else list(nodes),
            pattern,
            matcher or ("glob" if pattern else None),
        )
        if not reply:
            send(self._app, wanted)
            return []
        return ask(self._app, wanted, 1.0 if timeout is None else timeout, limit, callback)

    def inspect(
        self,
        destination: Iterable[str] | str | None = None,
        timeout: float | None = 1.0,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        connection: Any = None,
        app: Caraway | None = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> Inspect:
        """What asks the workers: ``app.control.inspect().active()``.

        Args:
            destination: as for `broadcast`.
            timeout: as for `broadcast`.
            callback: as for `broadcast`.
            connection: has no meaning here.
            app: another app.
            limit: as for `broadcast`.
            pattern: as for `broadcast`.
            matcher: as for `broadcast`.
        """
        control = self if app is None else app.control
        return Inspect(control, destination, timeout, callback, connection, limit, pattern, matcher)

    # -- tasks -------------------------------------------------------------------------

    def revoke(
        self,
        task_id: str | Sequence[str],
        destination: Iterable[str] | str | None = None,
        terminate: bool = False,  # noqa: FBT001, FBT002 - Celery's signature
        signal: str | int = TERM_SIGNAME,
        **options: Any,
    ) -> Answers:
        """Have tasks never run; with ``terminate``, end them if they run.

        The revocation is kept by the broker, where it can: a worker that starts later
        honours it too.

        Args:
            task_id: one or more.
            destination: as for `broadcast`; the broker keeps it for all all the same.
            terminate: end them if they run.
            signal: how, by name or number: ``SIGTERM`` raises
                `caraway.errors.Terminated` in the task, ``SIGUSR1`` has its soft time
                limit pass, ``SIGKILL`` and most others kill its process.
            **options: of `broadcast`.

        Raises:
            ImproperlyConfigured: there is no such signal, or none that ends a task.
        """
        from caraway.interfaces import Capability

        if terminate:
            signal_number(signal)
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        transport = self._app.transport
        if Capability.REVOKE in transport.capabilities:
            transport.revoke(ids, ttl=float(self._app.conf.result_expires or 86400.0))
        if Capability.BROADCAST not in transport.capabilities:
            return []
        arguments = {"task_id": ids, "terminate": terminate, "signal": signal}
        return self.broadcast("revoke", arguments, destination, **options)

    def terminate(
        self,
        task_id: str | Sequence[str],
        destination: Iterable[str] | str | None = None,
        signal: str | int = TERM_SIGNAME,
        **options: Any,
    ) -> Answers:
        """`revoke` with ``terminate=True``."""
        return self.revoke(task_id, destination, terminate=True, signal=signal, **options)

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any],
        destination: Iterable[str] | str | None = None,
        terminate: bool = False,  # noqa: FBT001, FBT002 - Celery's signature
        signal: str | int = TERM_SIGNAME,
        **options: Any,
    ) -> Answers:
        """Revoke the tasks that carry one of these stamps, until the workers stop.

        Args:
            headers: name of a stamp -> value or list of values.
            destination: as for `broadcast`.
            terminate: as for `revoke`.
            signal: as for `revoke`.
            **options: of `broadcast`.

        Raises:
            ImproperlyConfigured: as `revoke`.
        """
        if terminate:
            signal_number(signal)
        arguments = {"headers": dict(headers), "terminate": terminate, "signal": signal}
        return self.broadcast("revoke_by_stamped_headers", arguments, destination, **options)

    def rate_limit(
        self,
        task_name: str,
        rate_limit: str | float,
        destination: Iterable[str] | str | None = None,
        **options: Any,
    ) -> Answers:
        """Change a task's rate limit in running workers: ``"10/m"``; 0 lifts it."""
        arguments = {"task_name": task_name, "rate_limit": rate_limit}
        return self.broadcast("rate_limit", arguments, destination, **options)

    def time_limit(
        self,
        task_name: str,
        soft: float | None = None,
        hard: float | None = None,
        destination: Iterable[str] | str | None = None,
        **options: Any,
    ) -> Answers:
        """Change a task's time limits (seconds) in running workers."""
        arguments = {"task_name": task_name, "soft": soft, "hard": hard}
        return self.broadcast("time_limit", arguments, destination, **options)

    def purge(self, connection: Any = None) -> int:  # noqa: ARG002 - Celery's signature
        """Drop all messages that wait in the queues of `task_queues`; return how many."""
        transport = self._app.transport
        return sum(transport.purge(queue.name) for queue in self._app.queues())

    discard_all = purge

    # -- workers -----------------------------------------------------------------------

    def ping(
        self,
        destination: Iterable[str] | str | None = None,
        timeout: float | None = 1.0,
        **options: Any,
    ) -> Answers:
        """``[{node: {"ok": "pong"}}, ...]``."""
        return self.broadcast("ping", None, destination, reply=True, timeout=timeout, **options)

    def enable_events(
        self, destination: Iterable[str] | str | None = None, **options: Any
    ) -> Answers:
        """Have workers publish events of tasks."""
        return self.broadcast("enable_events", None, destination, **options)

    def disable_events(
        self, destination: Iterable[str] | str | None = None, **options: Any
    ) -> Answers:
        """Have workers publish no events of tasks."""
        return self.broadcast("disable_events", None, destination, **options)

    def heartbeat(self, destination: Iterable[str] | str | None = None, **options: Any) -> Answers:
        """Have workers send a heartbeat event now."""
        return self.broadcast("heartbeat", None, destination, **options)

    def election(
        self,
        id: str,  # noqa: A002 - Celery's name
        topic: str,
        action: Any = None,
        connection: Any = None,  # noqa: ARG002 - Celery's signature
    ) -> None:
        """Ask for an election among Celery's workers; Caraway's take no part."""
        self.broadcast("election", {"id": id, "topic": topic, "action": action})

    def pool_grow(
        self, n: int = 1, destination: Iterable[str] | str | None = None, **options: Any
    ) -> Answers:
        """Add lanes."""
        return self.broadcast("pool_grow", {"n": n}, destination, **options)

    def pool_shrink(
        self, n: int = 1, destination: Iterable[str] | str | None = None, **options: Any
    ) -> Answers:
        """Take lanes away, each after what it runs."""
        return self.broadcast("pool_shrink", {"n": n}, destination, **options)

    def pool_restart(
        self,
        modules: Sequence[str] | None = None,
        reload: bool = False,  # noqa: FBT001, FBT002 - Celery's signature
        reloader: Any = None,  # noqa: ARG002 - as above
        destination: Iterable[str] | str | None = None,
        **options: Any,
    ) -> Answers:
        """Replace every lane, each after what it runs.  Code isn't imported anew."""
        arguments = {"modules": modules, "reload": reload}
        return self.broadcast("pool_restart", arguments, destination, **options)

    def autoscale(
        self,
        max: int,  # noqa: A002 - Celery's names
        min: int,  # noqa: A002
        destination: Iterable[str] | str | None = None,
        **options: Any,
    ) -> Answers:
        """Change the bounds of autoscaling, in workers that were started with it."""
        return self.broadcast("autoscale", {"max": max, "min": min}, destination, **options)

    def add_consumer(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str = "direct",
        routing_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        destination: Iterable[str] | str | None = None,
        **kwargs: Any,
    ) -> Answers:
        """Have workers consume one more queue, until they stop."""
        arguments = {
            "queue": queue,
            "exchange": exchange,
            "exchange_type": exchange_type,
            "routing_key": routing_key,
            **(options or {}),
        }
        return self.broadcast("add_consumer", arguments, destination, **kwargs)

    def cancel_consumer(
        self, queue: str, destination: Iterable[str] | str | None = None, **kwargs: Any
    ) -> Answers:
        """Have workers no longer consume a queue."""
        return self.broadcast("cancel_consumer", {"queue": queue}, destination, **kwargs)

    def shutdown(self, destination: Iterable[str] | str | None = None, **options: Any) -> Answers:
        """Stop workers warmly."""
        return self.broadcast("shutdown", {}, destination, **options)
