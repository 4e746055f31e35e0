"""Find the app that ``-A`` names.

``-A shop`` may be a module with an attribute ``app``, ``celery`` or ``caraway``, a module
with just one app in it, or a package with a module ``caraway``, ``celery``, ``app`` or
``tasks`` of that kind.  ``-A shop.main:queue`` names module and attribute, and
``-A shop:create()`` a function that returns the app.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from caraway.errors import ImproperlyConfigured

if TYPE_CHECKING:
    from caraway.app import Caraway

ATTRIBUTES = ("app", "celery", "caraway")
MODULES = ("caraway", "celery", "app", "tasks")


def find_app(name: str) -> Caraway:
    """The app of this name; imports its module.

    Raises:
        ImproperlyConfigured: there is none; says what was looked for.  An exception
            from within the module is its ``__cause__``.
    """
    if name.endswith(".py") or "/" in name or "\\" in name:
        guess = name.replace("\\", "/").removesuffix(".py").strip("./").replace("/", ".")
        raise ImproperlyConfigured(
            f"-A wants the name of a module, not a file: {name!r}", hint=f"try -A {guess}"
        )
    module_name, colon, attribute = name.partition(":")
    if not module_name or (colon and not attribute):
        raise ImproperlyConfigured(
            f"{name!r} is not the name of an app", hint="write module or module:attribute"
        )
    if attribute:
        return _attribute(_import(module_name), attribute)
    try:
        module = _import(module_name)
    except _Missing:
        parent, dot, last = module_name.rpartition(".")
        if not dot:
            raise
        module = _import(parent)
        if not hasattr(module, last):
            raise
        return _attribute(module, last)
    return _search(module)


class _Missing(ImproperlyConfigured):
    """The module itself doesn't exist."""


def _import(name: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not (name == exc.name or name.startswith(exc.name + ".")):
            raise _failed(name, exc) from exc
        raise _Missing(
            f"no module {name!r}",
            hint=f"is the working directory right? Looked in {_places()}; "
            "--workdir names another, PYTHONPATH adds some",
        ) from None
    except SystemExit as exc:
        raise _failed(name, exc) from exc
    except Exception as exc:
        raise _failed(name, exc) from exc


def _failed(name: str, exc: BaseException) -> ImproperlyConfigured:
    detail = f"{type(exc).__name__}: {exc}"
    if isinstance(exc, ModuleNotFoundError):
        hint = f"install what provides {exc.name!r} in this environment ({sys.prefix})"
    else:
        hint = "the traceback shows the line; mend it there"
    return ImproperlyConfigured(f"module {name!r} can't be imported: {detail}", hint=hint)


def _places() -> str:
    import os

    first = [place or os.getcwd() for place in sys.path[:2]]
    return ", ".join(dict.fromkeys(first)) + " and the rest of sys.path"


def _is_app(value: Any) -> bool:
    from caraway.app import Caraway

    return isinstance(value, Caraway)


def _attribute(module: ModuleType, path: str) -> Caraway:
    call = path.endswith("()")
    value: Any = module
    for part in path.removesuffix("()").split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            found = _apps(module)
            raise ImproperlyConfigured(
                f"module {module.__name__!r} has no {path!r}",
                hint=f"it has the app {module.__name__}:{found[0]}"
                if found
                else f"write {path} = Caraway(...) there",
            ) from None
    if call:
        value = value()
    if isinstance(value, ModuleType):
        return _search(value)
    if not _is_app(value):
        raise ImproperlyConfigured(
            f"{module.__name__}:{path} is not a Caraway app but {_what(value)}",
            hint=_repair(value, module.__name__, path),
        )
    return cast("Caraway", value)


def _what(value: Any) -> str:
    kind = type(value)
    return f"a {kind.__module__}.{kind.__qualname__}"


def _repair(value: Any, module: str, path: str) -> str:
    if type(value).__module__.partition(".")[0] == "celery":
        return "write `from caraway import Caraway` and `Caraway(...)` in place of Celery's"
    if callable(value) and not isinstance(value, type):
        return f"if it is a function that returns the app, write -A '{module}:{path}()'"
    return "name the attribute that holds Caraway(...)"


def _apps(module: ModuleType) -> list[str]:
    """Names of the apps in a module, each app once."""
    found: dict[int, str] = {}
    for name, value in list(vars(module).items()):
        if _is_app(value):
            found.setdefault(id(value), name)
    return list(found.values())


def _search(module: ModuleType) -> Caraway:
    for name in ATTRIBUTES:
        value = vars(module).get(name)
        if _is_app(value):
            return cast("Caraway", value)
    found = _apps(module)
    if len(found) == 1:
        return cast("Caraway", vars(module)[found[0]])
    if found:
        raise ImproperlyConfigured(
            f"module {module.__name__!r} has {len(found)} apps: {', '.join(found)}",
            hint=f"say which: -A {module.__name__}:{found[0]}",
        )
    looked = [module.__name__]
    if hasattr(module, "__path__"):
        for name in MODULES:
            full = f"{module.__name__}.{name}"
            looked.append(full)
            try:
                inner = _import(full)
            except _Missing:
                continue
            if any(_is_app(vars(inner).get(name)) for name in ATTRIBUTES) or _apps(inner):
                return _search(inner)
    for name in ATTRIBUTES:
        value = vars(module).get(name)
        if value is not None and not isinstance(value, ModuleType):
            raise ImproperlyConfigured(
                f"{module.__name__}:{name} is not a Caraway app but {_what(value)}",
                hint=_repair(value, module.__name__, name),
            )
    raise ImproperlyConfigured(
        f"no app found in {', '.join(looked)}",
        hint="write `app = Caraway('shop')` there, or name module and attribute: "
        f"-A {module.__name__}:attribute",
    )
