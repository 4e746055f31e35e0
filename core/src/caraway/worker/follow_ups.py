"""The messages that follow a run: its retry, its callbacks, the next link of its chain.

Pure: they are returned as publications, and the commit publishes them.  Their ids are
derived from the run they follow, so that a repeat is recognised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from caraway.errors import InvalidTaskError
from caraway.message import Delivery, Publication
from caraway.outcome import Outcome
from caraway.request import Request

if TYPE_CHECKING:
    from caraway.app import Caraway


class FollowUps:
    """Builds follow-up messages for one app."""

    def __init__(self, app: Caraway) -> None:
        self._app = app

    def retry(self, delivery: Delivery, request: Request, outcome: Outcome) -> Publication:
        """The same task again: same id, one retry more, due when the retry says."""
        from caraway.protocol import v2

        app = self._app
        return v2.retry_publication(
            delivery, request, outcome.retry, now=app.context.clock(), registry=app.registry
        )

    def links(self, request: Request, outcome: Outcome, kind: str) -> tuple[Publication, ...]:
        """Callbacks with the value, or errbacks with the task's id; then the next of the
        chain, which goes on only after a success.

        Raises:
            InvalidTaskError: a link is not the signature of a plain task.
            EncodeError: the value can't be an argument.
        """
        found = [
            self._publication(link, request, outcome, f"{kind}:{n}")
            for n, link in enumerate(request.embed.get(kind) or ())
        ]
        chain = request.chain
        if chain and kind == "callbacks":
            found.append(self._publication(chain[-1], request, outcome, "chain", chain[:-1]))
        return tuple(found)

    def _publication(
        self,
        link: Any,
        request: Request,
        outcome: Outcome,
        place: str,
        rest: list[Any] | None = None,
    ) -> Publication:
        import uuid

        from caraway import states
        from caraway.task.publication import build, known_options

        if not isinstance(link, Mapping) or not isinstance(link.get("task"), str):
            raise InvalidTaskError(f"not a signature: {str(link)[:200]}")
        if link.get("subtask_type"):
            raise InvalidTaskError(
                f"a {link['subtask_type']} as a callback is not supported by this version"
            )
        app = self._app
        args = list(link.get("args") or ())
        if not link.get("immutable"):
            first = outcome.value if outcome.state == states.SUCCESS else request.id
            args.insert(0, first)
        options = known_options(link.get("options") or {})
        if not options.get("task_id"):
            options["task_id"] = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{request.id}:{place}"))
        options["root_id"] = request.root_id
        options["parent_id"] = request.id
        if rest:
            options["chain"] = rest
        name = link["task"]
        task = app.tasks.get(name)
        return build(app, name, args, link.get("kwargs"), options, task).publication
