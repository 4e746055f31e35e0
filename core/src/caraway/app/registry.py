"""The tasks of an app by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caraway.errors import NotRegistered

if TYPE_CHECKING:
    from caraway.task import Task


class TaskRegistry(dict[str, "Task[Any, Any]"]):
    """Tasks by name; an unknown name raises `NotRegistered` with the nearest one."""

    def __missing__(self, name: str) -> Task[Any, Any]:
        from difflib import get_close_matches

        near = get_close_matches(str(name), list(self), 1)
        raise NotRegistered(
            f"no task named {name!r} is registered",
            hint=f"did you mean {near[0]!r}?"
            if near
            else "import the module that defines it: `include`, `imports` or autodiscover_tasks()",
        )

    def register(self, task: Task[Any, Any]) -> None:
        """Add a task under its name; it takes the place of one that has it."""
        self[task.name] = task

    def unregister(self, name: str | Task[Any, Any]) -> None:
        """Take a task out.

        Raises:
            NotRegistered: it isn't in.
        """
        key = name if isinstance(name, str) else name.name
        if key not in self:
            self.__missing__(key)
        del self[key]

    def regular(self) -> dict[str, Task[Any, Any]]:
        """Tasks that aren't scheduled."""
        return dict(self)
