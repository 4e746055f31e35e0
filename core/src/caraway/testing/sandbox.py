"""An app switched to memory and to a clock that only the test moves.

::

    from caraway.testing import isolate

    def test_order_sends_a_mail(...):
        with isolate(app) as sandbox:
            place_order()
            sandbox.assert_enqueued(send_mail, args=["ann@example.org"])
            sandbox.run_tasks()
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field
from msgspec.structs import replace

from caraway.builtin.memory import MemoryTransport, discard
from caraway.message import DeadLetter, Message, new_owner_id
from caraway.testing.clock import VirtualClock
from caraway.testing.draining import LIMIT, Ran, drain, throw_first

if TYPE_CHECKING:
    from caraway.app import Caraway

ANYTHING: Any = type("Anything", (), {"__repr__": lambda _: "ANYTHING"})()
"""Matches whatever stands in its place."""


class Enqueued(Struct, frozen=True):
    """A message that waits in a queue.

    Attributes:
        task: name.
        task_id: of the task.
        args: as they were sent (as the serializer gives them back).
        kwargs: likewise.
        queue: where it waits.
        countdown: seconds until it is due; 0.0 for now.
        priority: 0 to 9, 9 first.
        headers: of the message, whole.
    """

    task: str
    task_id: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    queue: str = ""
    countdown: float = 0.0
    priority: int = 0
    headers: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        arguments = [repr(arg) for arg in self.args]
        arguments += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        later = f" in {self.countdown:g} s" if self.countdown else ""
        return f"{self.task}({', '.join(arguments)}) in queue {self.queue!r}{later}"


class Sandbox:
    """What a test does with an isolated app; made by `isolate`.

    Attributes:
        app: the app.
        clock: its clock: only this sandbox moves it.
    """

    def __init__(self, app: Caraway, clock: VirtualClock) -> None:
        self.app = app
        self.clock = clock

    # -- running -----------------------------------------------------------------------

    def run_tasks(
        self,
        queues: Iterable[str] | None = None,
        *,
        throw: bool = False,
        skip_waits: bool = False,
        limit: int = LIMIT,
    ) -> list[Ran]:
        """Run all that is due until nothing is left; see `caraway.testing.drain`.

        Args:
            queues: names; None for all.
            throw: raise the exception of the first task that failed, at the end.
            skip_waits: move the clock to what is due next, until nothing waits at all.
            limit: runs after which an error says that this doesn't end.
        """
        wanted = None if queues is None else list(queues)
        ran = drain(self.app, wanted, limit=limit)
        while skip_waits:
            due = [m.countdown for m in self.enqueued() if wanted is None or m.queue in wanted]
            if not due:
                break
            self.clock.advance(max(0.0, min(due)) + 1e-6)
            ran += drain(self.app, wanted, limit=limit - len(ran))
        if throw:
            throw_first(self.app, ran)
        return ran

    def advance(self, seconds: float) -> None:
        """Let time pass.  Nothing runs by itself: call `run_tasks`."""
        self.clock.advance(seconds)

    # -- looking -----------------------------------------------------------------------

    def enqueued(self, task: Any = None, *, queue: str | None = None) -> list[Enqueued]:
        """The messages that wait, in the order in which they are due.

        Args:
            task: a task or its name; None for all.
            queue: only of this one.
        """
        name = None if task is None else _name(task)
        found = [
            message
            for message in self._waiting()
            if (name is None or message.task == name) and queue in (None, message.queue)
        ]
        return sorted(found, key=lambda message: message.countdown)

    def _waiting(self) -> Iterator[Enqueued]:
        transport = self.app.transport
        assert isinstance(transport, MemoryTransport)
        now = self.clock()
        space = transport.space
        with space.lock:
            entries = [
                entry
                for line in space.lines.values()
                for _, _, entry in sorted([*line.ready, *line.delayed], key=lambda item: item[1])
            ]
        for entry in entries:
            args, kwargs = self._arguments(entry.message)
            headers = entry.message.headers
            yield Enqueued(
                task=str(headers.get("task", "")),
                task_id=str(headers.get("id", "")),
                args=args,
                kwargs=kwargs,
                queue=entry.queue,
                countdown=max(0.0, round(entry.due - now, 6)),
                priority=9 - entry.rank,
                headers=headers,
            )

    def _arguments(self, message: Message) -> tuple[Sequence[Any], Mapping[str, Any]]:
        from caraway.errors import CarawayError
        from caraway.protocol.codec import body_loader

        try:
            args, kwargs, _ = body_loader(self.app.registry, self.app.conf.accept_content)(message)
        except CarawayError:
            return ("<undecodable>", message.body), {}
        return args, kwargs

    def dead(self) -> Sequence[DeadLetter]:
        """Messages that were rejected or parked, oldest first."""
        return self.app.transport.dead(limit=100_000)

    # -- asserting ---------------------------------------------------------------------

    def assert_enqueued(
        self,
        task: Any,
        *,
        args: Any = ANYTHING,
        kwargs: Any = ANYTHING,
        count: int | None = None,
        queue: str | None = None,
        countdown: float | None = None,
    ) -> list[Enqueued]:
        """Calls of this task wait in a queue.

        Args:
            task: a task or its name.
            args: positional arguments they must have.
            kwargs: keyword arguments they must have.
            count: how many there must be; None: one or more.
            queue: where they must wait.
            countdown: seconds until they must be due, to within 0.01.

        Returns:
            Those that match.

        Raises:
            AssertionError: shows what waits instead.
        """
        name = _name(task)
        wanted = Enqueued(
            task=name,
            task_id="",
            args=args if args is ANYTHING else self._as_sent(list(args)),
            kwargs=kwargs if kwargs is ANYTHING else self._as_sent(dict(kwargs)),
        )
        matches = [
            message
            for message in self.enqueued(name, queue=queue)
            if (args is ANYTHING or self._as_sent(list(message.args)) == wanted.args)
            and (kwargs is ANYTHING or self._as_sent(dict(message.kwargs)) == wanted.kwargs)
            and (countdown is None or abs(message.countdown - countdown) <= 0.01)
        ]
        if (count is None and not matches) or (count is not None and len(matches) != count):
            raise AssertionError(
                self._complaint(wanted, len(matches), count, queue=queue, countdown=countdown)
            )
        return matches

    def assert_nothing_enqueued(self, task: Any = None, *, queue: str | None = None) -> None:
        """Nothing waits, of this task or in this queue if named."""
        waiting = self.enqueued(task, queue=queue)
        if waiting:
            raise AssertionError("nothing should wait, but there is:\n" + _listing(waiting))

    def _as_sent(self, value: Any) -> Any:
        """What comes out at the other end: tuples become lists, for one."""
        from caraway.errors import CarawayError

        serializer = self.app.registry.serializer(self.app.conf.task_serializer)
        try:
            return serializer.loads(serializer.dumps(value))
        except CarawayError:
            return value

    def _complaint(
        self,
        wanted: Enqueued,
        found: int,
        count: int | None,
        *,
        queue: str | None,
        countdown: float | None,
    ) -> str:
        args = "any arguments" if wanted.args is ANYTHING else f"args {wanted.args!r}"
        kwargs = "" if wanted.kwargs is ANYTHING else f", kwargs {wanted.kwargs!r}"
        where = "" if queue is None else f" in queue {queue!r}"
        when = "" if countdown is None else f" due in {countdown:g} s"
        times = "a call" if count is None else f"{count} call(s), not {found},"
        waiting = self.enqueued()
        there = f"there is:\n{_listing(waiting)}" if waiting else "the queues are empty"
        return f"expected {times} of {wanted.task} with {args}{kwargs}{where}{when}; {there}"


def _listing(messages: Iterable[Enqueued]) -> str:
    return "\n".join(f"  {message}" for message in messages)


def _name(task: Any) -> str:
    return task if isinstance(task, str) else str(task.name)


@contextmanager
def isolate(
    app: Caraway, *, clock: VirtualClock | None = None, **settings: Any
) -> Iterator[Sandbox]:
    """Switch an app to queues and results in memory, and to a virtual clock.

    What is sent within the block stays in memory; at its end the app is as before.

    Args:
        app: any app; its connections are closed first.
        clock: to move; None makes one.
        **settings: any others to change meanwhile.
    """
    clock = clock or VirtualClock()
    name = f"sandbox-{new_owner_id()}"
    url = f"memory://{name}"
    conf = app.conf
    values, sources = dict(vars(conf)), dict(conf._sources)
    app.close()
    context = app.context
    from caraway.settings import Layer

    changes = {"broker_url": url, "result_backend": url, "task_always_eager": False, **settings}
    # The highest layer: the environment of the test run must not get in between.
    conf.apply(changes, Layer.COMMAND_LINE, "caraway.testing")
    app.context = replace(context, clock=clock, monotonic=clock.monotonic)
    app.forget_plans()
    try:
        yield Sandbox(app, clock)
    finally:
        app.close()
        discard(name)
        vars(conf).clear()
        vars(conf).update(values, _sources=sources)
        app.context = context
        app.forget_plans()
