"""What a task class may override to hear of its runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caraway.app import Caraway


class Handlers:
    """Called around runs, in the process that runs; nothing by default.

    One that isn't overridden costs nothing.  One that fails is logged, and changes
    nothing of what became of the task; `before_start` alone can make it fail.
    """

    def on_bound(self, app: Caraway) -> None:
        """Called when the task was bound to an app."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called before each run."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called when a run ended well."""

    def on_retry(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Called when a run is to be retried."""

    def on_failure(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Called when a run failed."""

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Called after each run."""
