"""Commands that workers obey: the table, and how to add one.

A module of an app adds commands of its own::

    from caraway.control import control_command, inspect_command

    @inspect_command(help="How many widgets there are.")
    def widgets(state):
        return len(WIDGETS)

    @control_command(args=[("n", int)], signature="N", help="Make some more.")
    def make_widgets(state, n):
        WIDGETS.extend(range(n))
        return {"ok": "made"}

They run in a thread of the worker's parent process, one at a time: a command that takes
long holds up the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from msgspec import Struct

if TYPE_CHECKING:
    from caraway.app import Caraway

Handler = Callable[..., Any]
"""Called with the `ControlState` and the request's arguments as keywords; what it returns,
data of JSON's kinds, is the answer."""
H = TypeVar("H", bound=Handler)


class ControlState:
    """What a command gets to know.

    Args:
        app: of the worker.
        hostname: the worker's node name.
        worker: the worker's supervisor; its insides may change with any version.
    """

    __slots__ = ("app", "hostname", "worker")

    def __init__(self, app: Caraway, hostname: str, worker: Any) -> None:
        self.app = app
        self.hostname = hostname
        self.worker = worker


class CommandInfo(Struct, frozen=True, eq=False):
    """One command.

    Attributes:
        name: what requests call it.
        kind: ``inspect`` asks, ``control`` changes.
        handler: see `Handler`.
        alias: another name, empty for none.
        args: names and kinds (callables) of the arguments of the command line, in order.
        signature: how the command line's arguments are shown in help.
        variadic: name of the argument that takes all remaining words, empty for none.
        help: one line.
        hidden: not listed for people.
    """

    name: str
    kind: Literal["inspect", "control"]
    handler: Handler
    alias: str = ""
    args: tuple[tuple[str, Callable[[str], Any]], ...] = ()
    signature: str = ""
    variadic: str = ""
    help: str = ""
    hidden: bool = False


COMMANDS: dict[str, CommandInfo] = {}
"""All commands by name and alias."""


def register(
    kind: Literal["inspect", "control"],
    handler: Handler,
    *,
    name: str | None = None,
    alias: str | None = None,
    args: Sequence[tuple[str, Callable[[str], Any]]] = (),
    signature: str | None = None,
    variadic: str | None = None,
    help: str | None = None,  # noqa: A002 - Celery's name
    hidden: bool = False,
) -> CommandInfo:
    """Add a command; one of the same name gives way."""
    text = help or (handler.__doc__ or "").strip().partition("\n")[0]
    info = CommandInfo(
        name=name or str(getattr(handler, "__name__", "")),
        kind=kind,
        handler=handler,
        alias=alias or "",
        args=tuple(args),
        signature=signature or " ".join(each.upper() for each, _ in args),
        variadic=variadic or "",
        help=text,
        hidden=hidden,
    )
    COMMANDS[info.name] = info
    if info.alias:
        COMMANDS[info.alias] = info
    return info


@overload
def inspect_command(handler: H, /) -> H: ...
@overload
def inspect_command(**options: Any) -> Callable[[H], H]: ...
def inspect_command(handler: Any = None, /, **options: Any) -> Any:
    """Decorator that makes a function a command of ``caraway inspect``.

    Args:
        handler: called with a `ControlState` and the request's arguments as keywords.
        **options: ``name`` (default: the function's), ``alias``, ``args`` (pairs of a name
            and what makes a value of a word of the command line), ``variadic`` (name of
            an argument that takes all remaining words), ``signature``, ``help`` (default:
            the docstring's first line), ``hidden``.
    """
    return _decorate("inspect", handler, options)


@overload
def control_command(handler: H, /) -> H: ...
@overload
def control_command(**options: Any) -> Callable[[H], H]: ...
def control_command(handler: Any = None, /, **options: Any) -> Any:
    """Decorator that makes a function a command of ``caraway control``.

    Args:
        handler: as for `inspect_command`.
        **options: as for `inspect_command`.
    """
    return _decorate("control", handler, options)


def _decorate(kind: Literal["inspect", "control"], handler: Any, options: Any) -> Any:
    def add(function: Any) -> Any:
        register(kind, function, **options)
        return function

    return add if handler is None else add(handler)
