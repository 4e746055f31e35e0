"""Checks a call's arguments against the task's signature, before anything is sent.

The check is a function with the same parameters and an empty body: calling it is the
fastest check there is, and its TypeError is Python's own.  No `inspect`.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import Any

_VARARGS, _VARKEYWORDS = 0x04, 0x08

Check = Callable[..., Any]


def argument_check(fun: Any, *, skip_first: bool = False) -> Check | None:
    """A function that takes what ``fun`` takes and does nothing.

    Args:
        fun: a function; its own parameters count, not those of what it wraps.
        skip_first: leave out the first parameter (``self`` of a bound task).

    Returns:
        None if the parameters can't be told (builtins, callable objects).
    """
    target = getattr(fun, "__func__", fun)
    if target is not fun:
        skip_first = True
    code = getattr(target, "__code__", None)
    if code is None:
        return None
    names = list(code.co_varnames)
    positional = names[: code.co_argcount]
    posonly = code.co_posonlyargcount
    end = code.co_argcount + code.co_kwonlyargcount
    keywords = names[code.co_argcount : end]
    optional = len(target.__defaults__ or ())
    defaulted = set(target.__kwdefaults__ or ())
    parts = []
    first_optional = len(positional) - optional
    for at, name in enumerate(positional):
        if not (skip_first and at == 0):
            parts.append(name if at < first_optional else f"{name}=None")
        if at + 1 == posonly and parts:
            parts.append("/")
    if code.co_flags & _VARARGS:
        parts.append("*" + names[end])
        end += 1
    elif keywords:
        parts.append("*")
    parts += [f"{name}=None" if name in defaulted else name for name in keywords]
    if code.co_flags & _VARKEYWORDS:
        parts.append("**" + names[end])
    name = target.__name__
    if not name.isidentifier() or keyword.iskeyword(name):
        name = "task"  # a lambda's
    scope: dict[str, Any] = {}
    try:
        # parameter names of a compiled function are identifiers: nothing else can get in
        exec(f"def {name}({', '.join(parts)}): pass", scope)  # noqa: S102
    except SyntaxError:
        return None  # generated parameter names ('.0' of a comprehension)
    check: Check = scope[name]
    return check
