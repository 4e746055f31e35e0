"""The messages that follow a run: its retry, its callbacks, the next link of its chain.

They are returned as publications, and the commit publishes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caraway.message import ChordStart, Delivery, Publication
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

    def links(
        self, request: Request, outcome: Outcome, kind: str
    ) -> tuple[tuple[Publication, ...], tuple[ChordStart, ...]]:
        """Callbacks or errbacks, and the next of the chain; see `caraway.canvas.follow`."""
        from caraway.canvas import follow

        return follow.publications(self._app, request, outcome, kind)
