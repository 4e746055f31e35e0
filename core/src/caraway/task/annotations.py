"""The setting ``task_annotations``: attributes set on tasks from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from caraway.errors import ImproperlyConfigured

if TYPE_CHECKING:
    from caraway.task import Task


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
