"""The request: what a running task can know of its own message (Celery's Context)."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from msgspec import Struct, field

from caraway.message import Delivery


class Request(Struct, eq=False):
    """The context of one run.  Unknown headers are attributes too, as in Celery.

    Args:
        headers: of the message, protocol 2 names.
        args: positional arguments of the run.
        kwargs: keyword arguments of the run.
        embed: the third part of the body: callbacks, errbacks, chain, chord.
        delivery: what is being run, None for an eager or direct call.
        hostname: node name of the worker.
        is_eager: run by `Task.apply`.
        called_directly: the function was called, no message was involved.
        children: results of the tasks it sent, where that is tracked.
        task_object: the task.
        returned: by a run that succeeded, for who watches it.
    """

    headers: Mapping[str, Any] = field(default_factory=dict)
    args: Any = ()
    kwargs: Any = field(default_factory=dict)
    embed: Mapping[str, Any] = field(default_factory=dict)
    delivery: Delivery | None = None
    hostname: str = ""
    is_eager: bool = False
    called_directly: bool = False
    children: list[Any] | None = None
    task_object: Any = None
    returned: Any = None

    # -- headers -----------------------------------------------------------------------

    @property
    def id(self) -> str | None:
        """Task id."""
        return self.headers.get("id")

    @property
    def task(self) -> str | None:
        """Task name."""
        return self.headers.get("task")

    @property
    def retries(self) -> int:
        """How often this task was retried before this run."""
        return self.headers.get("retries") or 0

    @property
    def eta(self) -> str | None:
        """When the run was due, ISO 8601."""
        return self.headers.get("eta")

    @property
    def expires(self) -> str | None:
        """When the run is no longer wanted, ISO 8601."""
        return self.headers.get("expires")

    @property
    def group(self) -> str | None:
        """Id of the group this task is a member of."""
        return self.headers.get("group")

    @property
    def group_index(self) -> int | None:
        """Position in that group."""
        return self.headers.get("group_index")

    @property
    def root_id(self) -> str | None:
        """Id of the first task of the workflow."""
        return self.headers.get("root_id") or self.id

    @property
    def parent_id(self) -> str | None:
        """Id of the task that called this one."""
        return self.headers.get("parent_id")

    @property
    def origin(self) -> str | None:
        """Who sent it: ``gen<pid>@<host>``."""
        return self.headers.get("origin")

    @property
    def shadow(self) -> str | None:
        """Name to show instead of the task's."""
        return self.headers.get("shadow")

    @property
    def timelimit(self) -> tuple[float | None, float | None]:
        """(hard, soft) limits in seconds that the message carries."""
        limits = self.headers.get("timelimit") or (None, None)
        return (limits[0], limits[1])

    @property
    def time_limit(self) -> float | None:
        """Hard limit in seconds that the message carries."""
        return self.timelimit[0]

    @property
    def soft_time_limit(self) -> float | None:
        """Soft limit in seconds that the message carries."""
        return self.timelimit[1]

    @property
    def ignore_result(self) -> bool:
        """The sender doesn't want the result stored."""
        return bool(self.headers.get("ignore_result"))

    @property
    def replaced_task_nesting(self) -> int:
        """How often this task was replaced."""
        return self.headers.get("replaced_task_nesting") or 0

    @property
    def stamped_headers(self) -> list[str] | None:
        """Names of the stamps."""
        return self.headers.get("stamped_headers")

    @property
    def stamps(self) -> Mapping[str, Any]:
        """The stamps."""
        return self.headers.get("stamps") or {}

    # -- body --------------------------------------------------------------------------

    @property
    def callbacks(self) -> list[Any] | None:
        """Signatures to call when this one succeeds."""
        return self.embed.get("callbacks")

    @property
    def errbacks(self) -> list[Any] | None:
        """Signatures to call when this one fails."""
        return self.embed.get("errbacks")

    @property
    def chain(self) -> list[Any] | None:
        """What is left of the chain, next one last."""
        return self.embed.get("chain")

    @property
    def chord(self) -> Any:
        """Body of the chord this task's group is the header of."""
        return self.embed.get("chord")

    # -- delivery ----------------------------------------------------------------------

    @property
    def properties(self) -> Mapping[str, Any]:
        """Message properties (AMQP's)."""
        return self.delivery.message.properties if self.delivery else {}

    @property
    def reply_to(self) -> str | None:
        """Where an ``rpc`` result is to go."""
        return self.properties.get("reply_to")

    @property
    def correlation_id(self) -> str | None:
        """Usually the task id."""
        return self.properties.get("correlation_id")

    @property
    def delivery_info(self) -> dict[str, Any]:
        """``exchange``, ``routing_key``, ``priority``, ``redelivered``."""
        delivery = self.delivery
        if delivery is None:
            return {"is_eager": True} if self.is_eager else {}
        return {
            "exchange": "",
            "routing_key": delivery.queue,
            "priority": delivery.priority,
            "redelivered": delivery.attempt > 1,
        }

    @property
    def attempt(self) -> int:
        """How often this message was delivered, this time included."""
        return self.delivery.attempt if self.delivery else 1

    def get(self, key: str, default: Any = None) -> Any:
        """An attribute or header by name."""
        try:
            return getattr(self, key)
        except AttributeError:
            return default

    def __getattr__(self, name: str) -> Any:
        # Only reached for what isn't an attribute: user headers, as in Celery.
        try:
            return self.headers[name]
        except KeyError:
            raise AttributeError(f"the request has no attribute or header {name!r}") from None

    def __repr__(self) -> str:
        return f"<Request {self.task}[{self.id}] retries={self.retries}>"


current_request: ContextVar[Request | None] = ContextVar("caraway_request", default=None)
"""The request of the task that runs in this thread or coroutine."""
