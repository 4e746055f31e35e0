"""The marker that makes a function a hook implementation.

Our own rather than pluggy's, so that a plugin module (the built-in one too) loads
without importing pluggy; the manager tells pluggy how to read it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from msgspec import Struct

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__caraway_hookimpl__"


class HookOptions(Struct, frozen=True, kw_only=True):
    """How one hook implementation wants to be treated; see `hookimpl`."""

    optionalhook: bool = False
    tryfirst: bool = False
    trylast: bool = False


@overload
def hookimpl(function: F, /) -> F: ...
@overload
def hookimpl(
    *, optionalhook: bool = False, tryfirst: bool = False, trylast: bool = False
) -> Callable[[F], F]: ...
def hookimpl(
    function: F | None = None,
    /,
    *,
    optionalhook: bool = False,
    tryfirst: bool = False,
    trylast: bool = False,
) -> F | Callable[[F], F]:
    """Mark a function as the implementation of the hook of its name.

    Its parameters are any of the hook's, by name, without defaults.

    Args:
        optionalhook: no complaint if this version of Caraway has no such hook.
        tryfirst: run before other plugins' (life-cycle hooks only).
        trylast: run after other plugins' (life-cycle hooks only).
    """
    options = HookOptions(optionalhook=optionalhook, tryfirst=tryfirst, trylast=trylast)

    def mark(target: F) -> F:
        setattr(target, _ATTRIBUTE, options)
        return target

    return mark if function is None else mark(function)


def hook_options(candidate: object) -> HookOptions | None:
    """The options `hookimpl` left on a function, None for any other object."""
    try:
        found = getattr(candidate, _ATTRIBUTE, None)
    except Exception:  # noqa: BLE001 - any attribute of a plugin is looked at
        return None
    return found if isinstance(found, HookOptions) else None
