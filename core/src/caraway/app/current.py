"""Which app is the current one, and what stands for it before it exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast
from weakref import WeakSet

from caraway.request import current_request

if TYPE_CHECKING:
    from caraway.app.app import Caraway
    from caraway.app.decorator import TaskDecorator
    from caraway.task import Task

P = ParamSpec("P")
R = TypeVar("R")

_current: Caraway | None = None
_default: Caraway | None = None
apps: WeakSet[Caraway] = WeakSet()
"""All apps of this process, for what must be done after a fork."""
shared: list[Callable[[Caraway], Any]] = []
"""What registers each `shared_task` in an app."""


def get_current_app() -> Caraway:
    """The app made last (or set with `Caraway.set_current`), else a default one."""
    global _default  # noqa: PLW0603 - one per process is the point
    if _current is not None:
        return _current
    if _default is None:
        from caraway.app.app import Caraway

        _default = Caraway("default", set_as_current=False)
    return _default


def set_current_app(app: Caraway | None) -> None:
    """Make an app the current one; None: none is."""
    global _current  # noqa: PLW0603 - as above
    _current = app


def set_default_app(app: Caraway | None) -> None:
    """The app that is current while no other is."""
    global _default  # noqa: PLW0603 - as above
    _default = app


def get_current_task() -> Task[Any, Any] | None:
    """The task that runs in this thread or coroutine."""
    request = current_request.get()
    return request.task_object if request is not None else None


def task_by_name(name: str) -> Task[Any, Any]:
    """A task of the current app; how tasks are unpickled."""
    return get_current_app().tasks[name]


class Proxy:
    """Stands for what ``find`` returns at the moment of use."""

    __slots__ = ("_find",)

    def __init__(self, find: Callable[[], Any]) -> None:
        object.__setattr__(self, "_find", find)

    def _get_current_object(self) -> Any:
        return object.__getattribute__(self, "_find")()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get_current_object(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._get_current_object(), name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._get_current_object()(*args, **kwargs)

    def __bool__(self) -> bool:
        return bool(self._get_current_object())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Proxy):
            other = other._get_current_object()
        return bool(self._get_current_object() == other)

    def __hash__(self) -> int:
        return hash(self._get_current_object())

    def __repr__(self) -> str:
        return repr(self._get_current_object())

    def __reduce__(self) -> Any:
        return self._get_current_object().__reduce__()


current_app: Caraway = cast("Caraway", Proxy(get_current_app))
"""The current app, looked up at each use."""
current_task: Task[Any, Any] = cast("Task[Any, Any]", Proxy(get_current_task))
"""The running task, looked up at each use; false outside of one."""


def _shared_task(*args: Any, **options: Any) -> Any:
    """A task of every app: for libraries, which know no app.

    As ``@app.task``; what it returns stands for the current app's task.
    """

    def decorate(fun: Any) -> Any:
        name = options.get("name")

        def register(app: Caraway) -> Any:
            return app._task_from_function(fun, **options)

        shared.append(register)
        for app in tuple(apps):
            if app.finalized:
                register(app)

        def find() -> Any:
            app = get_current_app()
            return app.tasks[name or app.gen_task_name(fun.__name__, fun.__module__)]

        return Proxy(find)

    if len(args) == 1 and callable(args[0]):
        return decorate(args[0])
    if args:
        raise TypeError("shared_task() takes options by keyword only")
    return decorate


shared_task: TaskDecorator = cast("TaskDecorator", _shared_task)
