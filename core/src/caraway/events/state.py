"""What events add up to: all workers and tasks, as far as was heard."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from caraway.events.records import Task, Worker

__all__ = ["State", "Task", "Worker"]


class State:
    """Workers and tasks; feed it with `event`, e.g. as the handler ``*`` of a receiver.

    Every method may be called from any thread.

    Args:
        callback: called with this object and each event, after it was taken in.
        max_workers_in_memory: the one unheard of for longest is forgotten first.
        max_tasks_in_memory: likewise.
        on_node_join: called with a `Worker` that is new.
        on_node_leave: called with one that says it stops.

    Attributes:
        workers: by node name.
        tasks: by id.
        event_count: events taken in.
        task_count: tasks met.
        seen_types: names of tasks met.
    """

    def __init__(
        self,
        callback: Callable[[State, Mapping[str, Any]], Any] | None = None,
        *,
        max_workers_in_memory: int = 5000,
        max_tasks_in_memory: int = 10000,
        on_node_join: Callable[[Worker], Any] | None = None,
        on_node_leave: Callable[[Worker], Any] | None = None,
    ) -> None:
        self.event_callback = callback
        self.max_workers_in_memory = max_workers_in_memory
        self.max_tasks_in_memory = max_tasks_in_memory
        self.on_node_join = on_node_join
        self.on_node_leave = on_node_leave
        self.workers: OrderedDict[str, Worker] = OrderedDict()
        self.tasks: OrderedDict[str, Task] = OrderedDict()
        self.event_count = 0
        self.task_count = 0
        self.seen_types: set[str] = set()
        self._lock = threading.RLock()

    # -- taking in ---------------------------------------------------------------------

    def event(self, event: Mapping[str, Any]) -> tuple[Worker | Task, bool] | None:
        """Take in an event.

        Args:
            event: with ``type`` and the fields of its envelope.

        Returns:
            The worker or task it tells of, and whether it wasn't known; None for events
            of another kind, and those that name nobody.
        """
        with self._lock:
            self.event_count += 1
            found = self._event(event)
        if self.event_callback is not None:
            self.event_callback(self, event)
        return found

    def _event(self, event: Mapping[str, Any]) -> tuple[Worker | Task, bool] | None:
        group, _, kind = str(event.get("type", "")).partition("-")
        hostname = event.get("hostname")
        if group == "worker" and type(hostname) is str:
            worker, created = self.get_or_create_worker(hostname)
            worker.event(kind, event)
            if created and self.on_node_join is not None and kind != "offline":
                self.on_node_join(worker)
            if kind == "offline":
                if self.on_node_leave is not None:
                    self.on_node_leave(worker)
                self.workers.pop(hostname, None)
            return worker, created
        uuid = event.get("uuid")
        if group != "task" or type(uuid) is not str:
            return None
        task, new = self.get_or_create_task(uuid)
        if kind == "sent":
            task.client = hostname
        elif type(hostname) is str:
            worker, joined = self.get_or_create_worker(hostname)
            if joined and self.on_node_join is not None:
                self.on_node_join(worker)
            task.worker = worker
        task.event(kind, event)
        if task.name:
            self.seen_types.add(task.name)
        return task, new

    def get_or_create_worker(self, hostname: str, **fields: Any) -> tuple[Worker, bool]:
        """A worker, and whether it wasn't known."""
        with self._lock:
            return _get_or_make(
                self.workers, hostname, self.max_workers_in_memory,
                lambda: Worker(hostname, **fields),
            )  # fmt: skip

    def get_or_create_task(self, uuid: str) -> tuple[Task, bool]:
        """A task, and whether it wasn't known."""
        with self._lock:
            task, new = _get_or_make(self.tasks, uuid, self.max_tasks_in_memory, lambda: Task(uuid))
            self.task_count += new
            return task, new

    # -- looking -----------------------------------------------------------------------

    def freeze_while(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function while no event is taken in; with ``clear_after=True``, forget
        what has ended."""
        clear_after = kwargs.pop("clear_after", False)
        with self._lock:
            try:
                return fun(*args, **kwargs)
            finally:
                if clear_after:
                    self.clear()

    def alive_workers(self) -> Iterator[Worker]:
        """Workers whose heartbeat is fresh."""
        with self._lock:
            workers = list(self.workers.values())
        return (worker for worker in workers if worker.alive)

    def tasks_by_timestamp(
        self,
        limit: int | None = None,
        reverse: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
    ) -> Iterator[tuple[str, Task]]:
        """(id, task) by when something last happened to it, the newest first."""
        with self._lock:
            tasks = sorted(
                self.tasks.items(),
                key=lambda item: (item[1].timestamp or 0.0, item[1].clock),
                reverse=reverse,
            )
        return islice(tasks, limit)

    tasks_by_time = tasks_by_timestamp

    def tasks_by_type(self, name: str, limit: int | None = None) -> Iterator[tuple[str, Task]]:
        """(id, task) of all of one name, the newest first."""
        return islice((each for each in self.tasks_by_timestamp() if each[1].name == name), limit)

    def tasks_by_worker(
        self, hostname: str, limit: int | None = None
    ) -> Iterator[tuple[str, Task]]:
        """(id, task) of all that one worker received, the newest first."""
        return islice(
            (
                each
                for each in self.tasks_by_timestamp()
                if each[1].worker is not None and each[1].worker.hostname == hostname
            ),
            limit,
        )

    def itertasks(self, limit: int | None = None) -> Iterator[tuple[str, Task]]:
        """(id, task), those first that were met first."""
        with self._lock:
            return islice(list(self.tasks.items()), limit)

    def task_types(self) -> list[str]:
        """Names of tasks met, sorted."""
        return sorted(self.seen_types)

    # -- forgetting --------------------------------------------------------------------

    def clear_tasks(self, ready: bool = True) -> None:  # noqa: FBT001, FBT002 - Celery's signature
        """Forget tasks that have ended; all with ``ready=False``."""
        with self._lock:
            if not ready:
                self.tasks.clear()
                return
            for uuid in [uuid for uuid, task in self.tasks.items() if task.ready]:
                del self.tasks[uuid]

    def clear(self, ready: bool = True) -> None:  # noqa: FBT001, FBT002 - as above
        """Forget workers, and tasks as `clear_tasks`; counts begin anew."""
        with self._lock:
            self.workers.clear()
            self.clear_tasks(ready)
            self.event_count = self.task_count = 0

    def __repr__(self) -> str:
        return f"<State: events={self.event_count} tasks={self.task_count}>"


def _get_or_make(
    known: OrderedDict[str, Any], key: str, most: int, make: Callable[[], Any]
) -> tuple[Any, bool]:
    found = known.get(key)
    if found is not None:
        known.move_to_end(key)
        return found, False
    found = known[key] = make()
    while len(known) > most:
        known.popitem(last=False)
    return found, True
