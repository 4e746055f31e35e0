"""The check of arguments: as strict as Python itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from caraway.task.arguments import argument_check


def none() -> None: ...
def plain(a: int, b: int) -> None: ...
def defaults(a: int, b: int = 1) -> None: ...
def keyword_only(a: int, *, b: int, c: int = 1) -> None: ...
def positional_only(a: int, /, b: int) -> None: ...
def positional_default(a: int, b: int = 2, /, c: int = 3) -> None: ...
def variadic(a: int, *args: int, b: int = 1, **kwargs: int) -> None: ...
def all_variadic(*args: int, **kwargs: int) -> None: ...


FUNCTIONS = [
    none, plain, defaults, keyword_only, positional_only, positional_default, variadic,
    all_variadic, lambda a, b=1: None,
]  # fmt: skip
CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}), ((1,), {}), ((1, 2), {}), ((1, 2, 3), {}), ((), {"a": 1}), ((1,), {"a": 1}),
    ((1,), {"b": 2}), ((1,), {"b": 2, "c": 3}), ((), {"a": 1, "b": 2}), ((1,), {"z": 1}),
    ((1, 2), {"z": 1}), ((1, 2, 3, 4), {}),
]  # fmt: skip


def said(
    called: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    fun: Callable[..., Any],
) -> str | None:
    """What the call's TypeError says, None if there is none; of a lambda only that it is."""
    try:
        called(*args, **kwargs)
    except TypeError as exc:
        return str(exc) if fun.__name__ != "<lambda>" else "TypeError"
    return None


@pytest.mark.parametrize("fun", FUNCTIONS, ids=lambda fun: fun.__name__)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_it_takes_what_the_function_takes(
    fun: Callable[..., Any], call: tuple[tuple[Any, ...], dict[str, Any]]
) -> None:
    args, kwargs = call
    check = argument_check(fun)
    assert check is not None

    assert said(check, args, kwargs, fun) == said(fun, args, kwargs, fun)


def test_a_methods_own_self_is_not_an_argument() -> None:
    class Holder:
        def run(self, a: int) -> None: ...

    for check in (argument_check(Holder().run), argument_check(plain, skip_first=True)):
        assert check is not None
        check(1)
        with pytest.raises(TypeError):
            check(1, 2)


def test_a_wrapped_function_is_checked_by_its_wrapper() -> None:
    @functools.wraps(plain)
    def wrapper(*args: Any, **kwargs: Any) -> None: ...

    check = argument_check(wrapper)
    assert check is not None
    check(1, 2, 3)


@pytest.mark.parametrize("fun", [len, functools.partial(plain, 1)], ids=["builtin", "partial"])
def test_what_cannot_be_told_is_not_checked(fun: Any) -> None:
    assert argument_check(fun) is None
