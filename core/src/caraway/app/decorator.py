"""The types of ``@app.task``: parameters and results are kept for type checkers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from caraway.task import AsyncTask, Task

P = ParamSpec("P")
R = TypeVar("R")


class Decorate(Protocol):
    """``@app.task(...)`` on a function."""

    @overload
    def __call__(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fun: Callable[P, R], /) -> Task[P, R]: ...


class DecorateBound(Protocol):
    """``@app.task(bind=True)`` on a function whose first parameter is the task."""

    @overload
    def __call__(
        self, fun: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fun: Callable[Concatenate[Any, P], R], /) -> Task[P, R]: ...


class TaskDecorator(Protocol):
    """``@app.task``, bare or with options."""

    @overload
    def __call__(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fun: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def __call__(self, *, bind: Literal[True], **options: Any) -> DecorateBound: ...
    @overload
    def __call__(self, *, bind: Literal[False] = False, **options: Any) -> Decorate: ...
