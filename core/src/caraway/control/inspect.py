"""Asking workers what they do: ``app.control.inspect()``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caraway.control import Control

Reply = dict[str, Any] | None
"""``{node: answer}``; None if nobody answered."""


class Inspect:
    """Asks the workers of one app.  Every method returns ``{node: answer}``, or None if
    nobody answered in time.

    Args:
        control: of the app.
        destination: node names; None is every worker.
        timeout: seconds to wait at most; None is 1.  A round ends as soon as every worker
            that the broker knows has answered.
        callback: called with each answer as it comes.
        connection: has no meaning here.
        limit: end after so many answers.
        pattern: only nodes whose names match it.
        matcher: ``glob`` or ``pcre``.
    """

    def __init__(
        self,
        control: Control,
        destination: Iterable[str] | str | None = None,
        timeout: float | None = 1.0,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        connection: Any = None,  # noqa: ARG002 - Celery's
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> None:
        self._control = control
        self.destination = destination
        self.timeout = timeout
        self.callback = callback
        self.limit = limit
        self.pattern = pattern
        self.matcher = matcher

    def ask(self, command: str, **arguments: Any) -> Reply:
        """Ask anything, a command of your own included."""
        answers = self._control.broadcast(
            command,
            arguments,
            self.destination,
            reply=True,
            timeout=self.timeout,
            limit=self.limit,
            callback=self.callback,
            pattern=self.pattern,
            matcher=self.matcher,
        )
        return {node: value for answer in answers for node, value in answer.items()} or None

    # -- the worker --------------------------------------------------------------------

    def ping(self, destination: Iterable[str] | str | None = None) -> Reply:
        """``{"ok": "pong"}`` from each worker."""
        if destination is not None:
            self.destination = destination
        return self.ask("ping")

    def stats(self) -> Reply:
        """Counters, processes, pool, broker, resources used."""
        return self.ask("stats")

    def report(self) -> Reply:
        """Versions and settings, as text, under ``ok``."""
        return self.ask("report")

    def clock(self) -> Reply:
        """The logical clock."""
        return self.ask("clock")

    def conf(self, with_defaults: bool = False) -> Reply:  # noqa: FBT001, FBT002 - Celery's
        """Settings; those that were set, or all."""
        return self.ask("conf", with_defaults=with_defaults)

    def hello(self, from_node: str, revoked: Mapping[str, Any] | None = None) -> Reply:
        """What workers ask one another at their start: clock and revocations."""
        return self.ask("hello", from_node=from_node, revoked=dict(revoked or {}))

    def active_queues(self) -> Reply:
        """The queues that are consumed."""
        return self.ask("active_queues")

    def registered(self, *taskinfoitems: str) -> Reply:
        """Names of tasks, with these attributes of theirs."""
        return self.ask("registered", taskinfoitems=taskinfoitems)

    registered_tasks = registered

    # -- tasks -------------------------------------------------------------------------

    def active(self, safe: bool | None = None) -> Reply:  # noqa: FBT001 - Celery's
        """Tasks that run now; with ``safe``, arguments as text only."""
        return self.ask("active", safe=safe)

    def scheduled(self, safe: Any = None) -> Reply:  # noqa: ARG002 - Celery's
        """Delayed tasks that workers keep: none, they lie in the broker."""
        return self.ask("scheduled")

    def reserved(self, safe: Any = None) -> Reply:  # noqa: ARG002 - Celery's
        """Tasks that were fetched and have not begun."""
        return self.ask("reserved")

    def revoked(self) -> Reply:
        """Ids of tasks that were revoked while the worker ran."""
        return self.ask("revoked")

    def query_task(self, *ids: Any) -> Reply:
        """What a worker knows of tasks: ``{id: [state, what active() says]}``."""
        if len(ids) == 1 and isinstance(ids[0], (list, tuple)):
            ids = tuple(ids[0])
        return self.ask("query_task", ids=ids)

    # -- memory ------------------------------------------------------------------------

    def memsample(self) -> Reply:
        """Have workers note how much memory they use; the amount."""
        return self.ask("memsample")

    def memdump(self, samples: int = 10) -> Reply:
        """What `memsample` noted."""
        return self.ask("memdump", samples=samples)

    def objgraph(self, type: str = "Request", n: int = 200, max_depth: int = 10) -> Reply:  # noqa: A002 - Celery's
        """Draw a graph of objects in the workers; the name of the file."""
        return self.ask("objgraph", num=n, max_depth=max_depth, type=type)
