"""What a task takes from the app it is bound to: defaults, and annotations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from caraway.errors import ImproperlyConfigured

if TYPE_CHECKING:
    from caraway.task import Task

FROM_CONFIG = (
    ("rate_limit", "task_default_rate_limit"),
    ("track_started", "task_track_started"),
    ("acks_late", "task_acks_late"),
    ("acks_on_failure_or_timeout", "task_acks_on_failure_or_timeout"),
    ("acks_on_failure", "task_acks_on_failure"),
    ("acks_on_timeout", "task_acks_on_timeout"),
    ("reject_on_worker_lost", "task_reject_on_worker_lost"),
    ("retry_on_worker_lost", "task_retry_on_worker_lost"),
    ("ignore_result", "task_ignore_result"),
    ("store_eager_result", "task_store_eager_result"),
    ("store_errors_even_if_ignored", "task_store_errors_even_if_ignored"),
)
"""Attributes that, where None, are taken from a setting when the app is finalized."""


def take_defaults(task: Task[Any, Any], settings: Mapping[str, Any]) -> None:
    """Set what is None from the settings."""
    for attribute, setting in FROM_CONFIG:
        if getattr(task, attribute, None) is None:
            setattr(task, attribute, settings[setting])


def annotate(task: Task[Any, Any], annotations: Any) -> None:
    """Apply annotations: ``{"*": {...}, "shop.add": {"rate_limit": "10/s"}}``, a list of
    such, or objects with ``annotate(task)`` and ``annotate_any()``.

    Raises:
        ImproperlyConfigured: something else.
    """
    if not annotations:
        return
    for each in annotations if isinstance(annotations, (list, tuple)) else [annotations]:
        if isinstance(each, Mapping):
            found = [each.get("*"), each.get(task.name)]
        elif hasattr(each, "annotate"):
            any_of = getattr(each, "annotate_any", None)
            found = [any_of() if any_of else None, each.annotate(task)]
        else:
            raise ImproperlyConfigured(
                f"task_annotations: {each!r} is neither a table nor an annotator",
                hint='for example {"shop.add": {"rate_limit": "10/s"}}',
            )
        for attributes in found:
            for name, value in dict(attributes or {}).items():
                setattr(task, name, value)
