"""Remote control: commands to workers, and their answers (`app.control`).

The messages are Celery's: docs/reference/wire-format.md, "Remote control".
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from caraway.message import Message, Notice, Topic

if TYPE_CHECKING:
    from caraway.app import Caraway

REQUESTS = Topic("celery.pidbox")
"""Where requests go."""
REPLIES = "reply.celery.pidbox"
"""Exchange of replies; the routing key is the asker's id."""


class Control:
    """Sends commands to the workers of one app's broker."""

    def __init__(self, app: Caraway) -> None:
        self._app = app

    def broadcast(
        self,
        command: str,
        arguments: dict[str, Any] | None = None,
        destination: Iterable[str] | None = None,
        *,
        reply: bool = False,
        timeout: float = 1.0,
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """Send a command.

        Args:
            command: its name.
            arguments: its keyword arguments.
            destination: node names; None is every worker.
            reply: wait for answers.
            timeout: seconds to wait for them at most.  The wait ends early when every
                live worker that the broker knows has answered.
            limit: end after so many answers.

        Returns:
            ``[{node: answer}, ...]``, empty without ``reply``.

        Raises:
            TransportError: the transport has no broadcast, or can't send now.
        """
        from caraway.protocol.ids import new_id

        transport = self._app.transport
        channel = transport.broadcast()
        message: dict[str, Any] = {
            "method": command,
            "arguments": arguments or {},
            "destination": None if destination is None else list(destination),
            "pattern": None,
            "matcher": None,
        }
        if not reply:
            channel.publish([Notice(REQUESTS, Message(msgspec.json.encode(message)))])
            return []
        ticket = new_id()
        message["ticket"] = ticket
        message["reply_to"] = {"exchange": REPLIES, "routing_key": ticket}
        expected = self._expected(message["destination"])
        subscription = channel.subscribe([Topic(REPLIES, ticket, "direct")])
        answers: list[dict[str, Any]] = []
        try:
            channel.publish([Notice(REQUESTS, Message(msgspec.json.encode(message)))])
            end = time.monotonic() + timeout
            while (left := end - time.monotonic()) > 0:
                received = subscription.receive(left)
                answers += [msgspec.json.decode(notice.message.body) for notice in received]
                nodes = {node for answer in answers for node in answer}
                if (limit and len(answers) >= limit) or (expected and expected <= nodes):
                    break
        finally:
            subscription.close()
        return answers

    def _expected(self, destination: Sequence[str] | None) -> set[str]:
        """Nodes that should answer: those with a live owner at the broker."""
        from caraway.interfaces import Capability

        transport = self._app.transport
        if Capability.INSPECT not in transport.capabilities:
            return set()
        alive = {s.owner.worker for s in transport.owners() if s.owner.worker}
        return alive if destination is None else alive & set(destination)

    # -- commands ----------------------------------------------------------------------

    def ping(
        self, destination: Iterable[str] | None = None, timeout: float = 1.0
    ) -> list[dict[str, Any]]:
        """``[{node: {"ok": "pong"}}, ...]``."""
        return self.broadcast("ping", destination=destination, reply=True, timeout=timeout)

    def revoke(
        self,
        task_id: str | Sequence[str],
        *,
        terminate: bool = False,
        signal: str = "SIGTERM",
        destination: Iterable[str] | None = None,
        reply: bool = False,
        timeout: float = 1.0,
    ) -> list[dict[str, Any]]:
        """Have tasks never run; with ``terminate``, end them if they run.

        The revocation is kept by the broker, where it can: a worker that starts later
        honours it too.  ``signal`` is Celery's and has no effect here.
        """
        from caraway.interfaces import Capability

        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        transport = self._app.transport
        if Capability.REVOKE in transport.capabilities:
            transport.revoke(ids, ttl=float(self._app.conf.result_expires or 86400.0))
        if Capability.BROADCAST not in transport.capabilities:
            return []
        return self.broadcast(
            "revoke",
            {"task_id": ids, "terminate": terminate, "signal": signal},
            destination,
            reply=reply,
            timeout=timeout,
        )

    def terminate(self, task_id: str | Sequence[str], **options: Any) -> list[dict[str, Any]]:
        """`revoke` with ``terminate=True``."""
        return self.revoke(task_id, terminate=True, **options)

    def rate_limit(
        self, task_name: str, rate_limit: str | float, **options: Any
    ) -> list[dict[str, Any]]:
        """Change a task's rate limit in running workers."""
        arguments = {"task_name": task_name, "rate_limit": rate_limit}
        return self.broadcast("rate_limit", arguments, **options)

    def time_limit(
        self, task_name: str, soft: float | None = None, hard: float | None = None, **options: Any
    ) -> list[dict[str, Any]]:
        """Change a task's time limits (seconds) in running workers."""
        arguments = {"task_name": task_name, "soft": soft, "hard": hard}
        return self.broadcast("time_limit", arguments, **options)

    def pool_grow(self, n: int = 1, **options: Any) -> list[dict[str, Any]]:
        """Add lanes."""
        return self.broadcast("pool_grow", {"n": n}, **options)

    def pool_shrink(self, n: int = 1, **options: Any) -> list[dict[str, Any]]:
        """Take lanes away, each after what it runs."""
        return self.broadcast("pool_shrink", {"n": n}, **options)

    def shutdown(self, destination: Iterable[str] | None = None, **options: Any) -> None:
        """Stop workers warmly."""
        self.broadcast("shutdown", destination=destination, **options)

    def inspect(self, command: str, **options: Any) -> dict[str, Any]:
        """Ask (``stats``, ``active``, ``registered``, ``conf`` ...): node -> answer."""
        answers = self.broadcast(command, reply=True, **options)
        return {node: value for answer in answers for node, value in answer.items()}
