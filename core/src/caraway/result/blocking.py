"""Waiting for a task inside of a task can deadlock, so it is refused unless allowed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from caraway.request import current_request

blocking_allowed: ContextVar[bool | None] = ContextVar("caraway_join", default=None)


def assert_will_not_block() -> None:
    """Raise RuntimeError inside a task, where waiting for another task can deadlock."""
    allowed = blocking_allowed.get()
    if allowed is False or (allowed is None and current_request.get() is not None):
        raise RuntimeError(
            "Never call result.get() within a task!\n"
            "  hint: let the second task follow by a link or chain; if you know that it "
            "can't deadlock, pass disable_sync_subtasks=False or use allow_join_result()"
        )


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Inside this block, waiting for results is allowed in a task."""
    token = blocking_allowed.set(True)
    try:
        yield
    finally:
        blocking_allowed.reset(token)


@contextmanager
def denied_join_result() -> Iterator[None]:
    """Inside this block, waiting for results is refused."""
    token = blocking_allowed.set(False)
    try:
        yield
    finally:
        blocking_allowed.reset(token)
