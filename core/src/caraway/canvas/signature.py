"""One call as data: a mapping that travels as JSON.

Its keys: docs/reference/wire-format.md, "Signatures".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from caraway.errors import InvalidTaskError

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.result import AsyncResult, EagerResult
    from caraway.task import Task

R = TypeVar("R")


class Signature(dict[str, Any], Generic[R]):
    """A task's name with arguments and options.

    Args:
        task: the task, its name, or a mapping of a signature to copy.
        args: positional arguments.
        kwargs: keyword arguments.
        options: of `Task.apply_async`.
        type: the task object, if ``task`` is a name.
        subtask_type: None, or the kind of canvas.
        immutable: takes no result of the task before it.
        app: default the current one.
        **more: further options.
    """

    TYPES: ClassVar[dict[str, type[Signature[Any]]]] = {}
    """Kinds of canvas by ``subtask_type``."""

    def __init__(
        self,
        task: Task[Any, R] | Mapping[str, Any] | str | None = None,
        args: Any = None,
        kwargs: Any = None,
        options: Mapping[str, Any] | None = None,
        type: Task[Any, R] | None = None,  # noqa: A002 - Celery's name
        subtask_type: str | None = None,
        immutable: bool = False,  # noqa: FBT001, FBT002
        app: Caraway | None = None,
        **more: Any,
    ) -> None:
        self._app = app
        self._type = type
        if isinstance(task, Mapping):
            super().__init__(task)
            return
        if task is not None and not isinstance(task, str):
            self._type = task
            task = task.name
        super().__init__(
            task=task,
            args=tuple(args or ()),
            kwargs=dict(kwargs or {}),
            options={**(options or {}), **more},
            subtask_type=subtask_type,
            immutable=immutable,
        )

    @classmethod
    def register_type(cls, name: str | None = None) -> Callable[[Any], Any]:
        """Decorator of a kind of canvas."""

        def register(subclass: Any) -> Any:
            cls.TYPES[name or subclass.__name__] = subclass
            return subclass

        return register

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], app: Caraway | None = None) -> Signature[Any]:
        """A signature from what travelled.

        Raises:
            InvalidTaskError: it isn't one.
        """
        if not (isinstance(record, dict) and isinstance(record.get("task"), str)):
            raise InvalidTaskError(f"not a signature: {str(record)[:200]}")
        kind = record.get("subtask_type")
        if kind:
            found = cls.TYPES.get(kind)
            if found is None:
                raise NotImplementedError(
                    f"a signature of the kind {kind!r}: the canvas isn't part of this version"
                )
            if found is not cls:
                return found.from_dict(record, app=app)
        fields = {
            "task": record["task"],
            "args": tuple(record.get("args") or ()),
            "kwargs": dict(record.get("kwargs") or {}),
            "options": dict(record.get("options") or {}),
            "subtask_type": kind,
            "immutable": bool(record.get("immutable")),
        }
        if "chord_size" in record:
            fields["chord_size"] = record["chord_size"]
        return cls(fields, app=app)

    # -- fields ------------------------------------------------------------------------

    @property
    def app(self) -> Caraway:
        """Whose task it is."""
        if self._app is None:
            if self._type is not None and self._type.app is not None:
                return self._type.app
            from caraway.app.current import get_current_app

            self._app = get_current_app()
        return self._app

    @property
    def task(self) -> str:
        """Name of the task."""
        return cast("str", self["task"])

    @property
    def name(self) -> str:
        """Name of the task."""
        return cast("str", self["task"])

    @property
    def type(self) -> Task[Any, R]:
        """The task object.

        Raises:
            NotRegistered: this process doesn't know the task.
        """
        return self._type if self._type is not None else self.app.tasks[self["task"]]

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments."""
        return tuple(self["args"])

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments."""
        return cast("dict[str, Any]", self["kwargs"])

    @property
    def options(self) -> dict[str, Any]:
        """Options of `Task.apply_async`."""
        return cast("dict[str, Any]", self["options"])

    @property
    def immutable(self) -> bool:
        """Takes no result of the task before it."""
        return bool(self["immutable"])

    @property
    def id(self) -> str | None:
        """Task id, once frozen."""
        return self.options.get("task_id")

    @property
    def parent_id(self) -> str | None:
        """Id of the task that is its parent, where given."""
        return self.options.get("parent_id")

    @property
    def root_id(self) -> str | None:
        """Id of the workflow's first task, where given."""
        return self.options.get("root_id")

    # -- making others -----------------------------------------------------------------

    def clone(self, args: Any = None, kwargs: Any = None, **options: Any) -> Signature[R]:
        """A copy, with more arguments in front, keywords and options overridden.

        An immutable signature takes options only.
        """
        copy = type(self).from_dict(self, app=self._app)
        copy._type = self._type
        if args or kwargs:
            copy["args"], copy["kwargs"] = self._merged(args, kwargs)
        copy["options"] = {**self.options, **options}
        return cast("Signature[R]", copy)

    partial = clone

    def _merged(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self.immutable:
            return self.args, self.kwargs
        return (*(args or ()), *self.args), {**self.kwargs, **(kwargs or {})}

    def freeze(self, _id: str | None = None, **options: Any) -> AsyncResult[R]:
        """Settle the task id now; return the result it will have."""
        from caraway.protocol.ids import new_id
        from caraway.result import AsyncResult

        mine = self.options
        mine.setdefault("task_id", _id or new_id())
        for name, value in options.items():
            if value is not None:
                mine[name] = value
        if not mine.get("reply_to") and self.app.replies:
            mine["reply_to"] = self.app.reply_to  # whoever sends it, the result is ours
        return AsyncResult(mine["task_id"], app=self.app, task_name=self.name)

    def set(self, immutable: bool | None = None, **options: Any) -> Signature[R]:  # noqa: FBT001
        """Set options; return itself."""
        if immutable is not None:
            self.set_immutable(immutable)
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:  # noqa: FBT001 - Celery's
        """Make it take, or not take, the result of the task before it."""
        self["immutable"] = immutable

    def replace(
        self, args: Any = None, kwargs: Any = None, options: Mapping[str, Any] | None = None
    ) -> Signature[R]:
        """A copy with these in place of its own."""
        copy = self.clone()
        if args is not None:
            copy["args"] = tuple(args)
        if kwargs is not None:
            copy["kwargs"] = dict(kwargs)
        if options is not None:
            copy["options"] = dict(options)
        return copy

    def link(self, callback: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send this one when the task succeeds; return it."""
        return self._append("link", callback)

    def link_error(self, errback: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send this one when the task fails; return it."""
        return self._append("link_error", errback)

    def on_error(self, errback: Mapping[str, Any]) -> Signature[R]:
        """`link_error` that returns the signature itself."""
        self.link_error(errback)
        return self

    def _append(self, option: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        listed = self.options.get(option) or []
        if not isinstance(listed, list):
            listed = [listed]
        if value not in listed:
            listed = [*listed, value]
        self.options[option] = listed
        return value

    # -- sending -----------------------------------------------------------------------

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult[R]:
        """Send, with these arguments in front."""
        return self.apply_async(args, kwargs)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> AsyncResult[R]:
        """Send, with more arguments in front and options overridden."""
        args, kwargs = self._merged(args, kwargs)
        options = {**self.options, **options}
        task = self._task()
        if task is None:
            return cast("AsyncResult[R]", self.app.send_task(self.name, args, kwargs, **options))
        return task.apply_async(args, kwargs, **options)

    async def adelay(self, *args: Any, **kwargs: Any) -> AsyncResult[R]:
        """`delay` for coroutines."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(
        self, args: Any = None, kwargs: Any = None, **options: Any
    ) -> AsyncResult[R]:
        """`apply_async` for coroutines."""
        args, kwargs = self._merged(args, kwargs)
        return cast(
            "AsyncResult[R]",
            await self.app.asend_task(self.name, args, kwargs, **{**self.options, **options}),
        )

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> EagerResult[R]:
        """Run here and now, as `Task.apply` does."""
        args, kwargs = self._merged(args, kwargs)
        return self.type.apply(args, kwargs, **{**self.options, **options})

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        """Call the task's function here and now."""
        args, kwargs = self._merged(args, kwargs)
        return self.type(*args, **kwargs)

    def __invert__(self) -> R:
        """``~sig``: send, and wait for the value."""
        return self.apply_async().get()

    def _task(self) -> Task[Any, R] | None:
        if self._type is not None:
            return self._type
        return self.app.tasks.get(self.name)

    def __copy__(self) -> Signature[R]:
        return self.clone()

    def __deepcopy__(self, memo: dict[int, Any]) -> Signature[R]:
        from copy import deepcopy

        copy = self.clone()
        for key in ("args", "kwargs", "options"):
            copy[key] = deepcopy(self[key], memo)
        return copy

    def __reduce__(self) -> Any:
        return signature, (dict(self),)

    def __repr__(self) -> str:
        given = [repr(arg) for arg in self.args]
        given += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.name}({', '.join(given)})"


def signature(task: Any, *args: Any, **kwargs: Any) -> Signature[Any]:
    """A signature of a task, a name, or a mapping that travelled."""
    if isinstance(task, Mapping):
        if isinstance(task, Signature):
            return task.clone()
        return Signature.from_dict(task, app=kwargs.get("app"))
    return Signature(task, *args, **kwargs)


def maybe_signature(value: Any, app: Caraway | None = None) -> Any:
    """A signature of a mapping, anything else as it is."""
    if isinstance(value, Signature):
        if app is not None and value._app is None:
            value._app = app
        return value
    if isinstance(value, Mapping):
        return Signature.from_dict(value, app=app)
    return value
