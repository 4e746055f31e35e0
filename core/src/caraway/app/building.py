"""Makes tasks of functions and classes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from caraway.errors import AlreadyRegistered
from caraway.task import Task

if TYPE_CHECKING:
    from caraway.app.app import Caraway


def task_name(app: Caraway, name: str, module: str | None) -> str:
    """``module.name``; for ``__main__`` the app's main name, or the script's."""
    module = module or "__main__"
    if module == "__main__":
        if app.main:
            module = app.main
        else:
            # a worker imports the script by its name, so that is what the task is called
            path = getattr(sys.modules.get("__main__"), "__file__", None)
            if path:
                import os

                module = os.path.splitext(os.path.basename(path))[0]
    return f"{module}.{name}" if module else name


def from_function(app: Caraway, fun: Any, options: dict[str, Any]) -> Task[Any, Any]:
    """A task whose ``run`` is this function.

    Args:
        app: whose it is.
        fun: function or other callable.
        options: of ``@app.task``: ``name``, ``base``, ``bind``, and attributes of `Task`.

    Raises:
        TypeError: not callable.
        AlreadyRegistered: another function has the name.
    """
    if not callable(fun):
        raise TypeError(f"@task decorates functions, not {type(fun).__name__}")
    attributes = dict(options)
    for meaningless in ("lazy", "filter", "shared", "Strategy", "Request"):
        attributes.pop(meaningless, None)
    for unsupported in ("pydantic", "pydantic_strict", "pydantic_context", "pydantic_dump_kwargs"):
        if attributes.pop(unsupported, None):
            raise NotImplementedError(f"the option {unsupported!r} isn't part of this version")
    base = attributes.pop("base", None) or app.Task
    bound = bool(attributes.pop("bind", False))
    shortname = getattr(fun, "__name__", type(fun).__name__)
    module = getattr(fun, "__module__", None)
    name = attributes.pop("name", None) or app.gen_task_name(shortname, module)
    known = app._tasks.get(name)
    if known is not None:
        if _is_same(known, fun):
            return known
        _warn_taken(name, known, fun)
    for option in attributes:
        _check_option(base, option, name)
    cls: type[Task[Any, Any]] = type(
        shortname if shortname.isidentifier() else "task",
        (base,),
        {
            "app": app,
            "name": name,
            "abstract": False,
            "run": fun if bound else staticmethod(fun),
            "__doc__": getattr(fun, "__doc__", None),
            "__module__": module or __name__,
            "__wrapped__": staticmethod(fun),
            **attributes,
        },
    )
    return cls()


def check_task(app: Caraway, task: Any, options: dict[str, Any]) -> Task[Any, Any]:
    """A task object, of an object or class, with name and attributes set."""
    instance: Task[Any, Any] = task() if isinstance(task, type) else task
    if not isinstance(instance, Task):
        raise TypeError(
            f"register_task() takes a Task object or class, not {type(instance).__name__}"
        )
    if not instance.name:
        cls = type(instance)
        instance.name = app.gen_task_name(cls.__qualname__.rpartition(".")[2], cls.__module__)
    for name, value in options.items():
        setattr(instance, name, value)
    known = app._tasks.get(instance.name)
    if known is not None and type(known) is not type(instance):
        raise AlreadyRegistered(
            f"two tasks are called {instance.name!r}: {type(known)!r} and {type(instance)!r}",
            hint="give one of them another name",
        )
    return instance


def _is_same(known: Task[Any, Any], fun: Callable[..., Any]) -> bool:
    """True if it is the function the task was made of, or that function reloaded."""
    run = getattr(known.run, "__func__", known.run)
    return run is fun or (
        getattr(run, "__module__", 0) == getattr(fun, "__module__", 1)
        and getattr(run, "__qualname__", 0) == getattr(fun, "__qualname__", 1)
        and getattr(run, "__code__", 0) is getattr(fun, "__code__", 1)
    )


def _warn_taken(name: str, known: Task[Any, Any], fun: Any) -> None:
    """One name for two functions of different places is a mistake; a redefinition in the
    same place (reload, notebook) replaces."""
    run = getattr(known.run, "__func__", known.run)
    here = (getattr(fun, "__module__", None), getattr(fun, "__qualname__", None))
    there = (getattr(run, "__module__", None), getattr(run, "__qualname__", None))
    if here != there and getattr(run, "__code__", None) is not None:
        raise AlreadyRegistered(
            f"two tasks are called {name!r}: {there[0]}.{there[1]} and {here[0]}.{here[1]}",
            hint="give one of them another name: @app.task(name=...)",
        )


def _check_option(base: type, option: str, name: str) -> None:
    if hasattr(base, option) or option.startswith("_"):
        return
    from difflib import get_close_matches

    near = get_close_matches(option, [each for each in dir(Task) if each[0] != "_"], 1, 0.8)
    if near:
        raise TypeError(f"task {name}: unknown option {option!r}; did you mean {near[0]!r}?")
    # anything else is an attribute of the user's own, as in Celery
