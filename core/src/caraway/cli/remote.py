"""What ``caraway inspect`` and ``caraway control`` share: the table of commands, the words of
the command line, the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from caraway.cli.program import Program
    from caraway.control.commands import CommandInfo

Kind = Literal["inspect", "control"]

SHORT = {"grow": "pool_grow", "shrink": "pool_shrink"}
"""Short names."""


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of both commands."""
    for option in reversed(
        (
            click.argument("name", metavar="COMMAND", required=False),
            click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]..."),
            click.option("--list", "listed", is_flag=True, help="List the commands."),
            click.option(
                "-d", "--destination", metavar="NODES",
                help="Only these workers, with commas between; * and ? match.",
            ),
            click.option(
                "-t", "--timeout", default=1.0, show_default=True,
                help="Seconds to wait at most; it ends when all have answered.",
            ),
            click.option("-j", "--json", "as_json", is_flag=True, help="As JSON."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


SETTINGS: dict[str, Any] = {"ignore_unknown_options": True}
"""Of click's context: options of the commands themselves are read by `arguments`."""


def table(program: Program, kind: Kind) -> dict[str, CommandInfo]:
    """The commands of a kind by name: the built-in ones, and those of the app if one is
    named."""
    from caraway.control.commands import COMMANDS
    from caraway.worker import control  # noqa: F401 - fills the table

    if program.named_app():
        program.app().import_modules()
    return {info.name: info for info in COMMANDS.values() if info.kind == kind}


def listing(program: Program, kind: Kind) -> None:
    """Print the commands."""
    from caraway.cli import output

    rows = [
        [f"{info.name} {info.signature}".rstrip(), info.alias, info.help]
        for info in sorted(table(program, kind).values(), key=lambda info: info.name)
        if not info.hidden
    ]
    output.table(["command", "also", "what it does"], rows, color=program.color)


def run(
    program: Program,
    kind: Kind,
    name: str | None,
    words: Sequence[str],
    destination: str | None,
    timeout: float,
) -> dict[str, Any]:
    """Send a command; return the answers by node.

    Raises:
        click.UsageError: there is no such command, or its words are wrong.
    """
    from caraway.cli import broker
    from caraway.interfaces import Capability

    if name is None:
        raise click.UsageError(f"name a command; `caraway {kind} --list` lists them")
    name = name.replace("-", "_")
    name = SHORT.get(name, name)
    info = _find(table(program, kind), name, kind)
    given = arguments(info, words) if info is not None else _pairs(words)
    broker.transport_with(program, Capability.BROADCAST, "reach its workers")
    nodes, pattern = _meant(destination)
    answers = program.client().control.broadcast(
        name, given, nodes, reply=True, timeout=timeout, pattern=pattern
    )
    return {node: value for answer in answers for node, value in answer.items()}


def _find(known: dict[str, CommandInfo], name: str, kind: Kind) -> CommandInfo | None:
    import difflib

    from caraway.control.commands import COMMANDS

    info = COMMANDS.get(name)
    if info is not None:
        if info.kind != kind:
            raise click.UsageError(f"{name} is a command of `caraway {info.kind}`")
        return info
    near = difflib.get_close_matches(name, known, 1)
    if near:
        raise click.UsageError(f"there is no command {name!r}. Did you mean {near[0]!r}?")
    # The workers may know it, if not this program: a command of an app not named here.
    return None


def arguments(info: CommandInfo, words: Sequence[str]) -> dict[str, Any]:
    """The keyword arguments that words of the command line stand for.

    Words fill the arguments in order; ``--hard 60``, ``--hard=60`` and ``hard=60`` name
    one.

    Raises:
        click.UsageError: too many, or one isn't what it should be.
    """
    kinds = dict(info.args)
    found: dict[str, Any] = {}
    plain: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        name, sign, value = word.removeprefix("--").replace("-", "_", 1).partition("=")
        if word.startswith("--") and name in kinds:
            if not sign and not waiting:
                raise click.UsageError(f"--{name} needs a value")
            found[name] = _value(info, name, word.partition("=")[2] if sign else waiting.pop(0))
        elif sign and name in kinds:
            found[name] = _value(info, name, value)
        elif word.startswith("--"):
            raise click.UsageError(f"{info.name} has no option {word}")
        else:
            plain.append(word)
    for name, _ in info.args:
        if plain and name not in found:
            found[name] = _value(info, name, plain.pop(0))
    if plain and info.variadic:
        found[info.variadic] = plain
    elif plain:
        raise click.UsageError(
            f"too many words for {info.name}: {' '.join(plain)}. "
            f"It takes: {info.signature or 'none'}"
        )
    return found


def _value(info: CommandInfo, name: str, text: str) -> Any:
    try:
        return dict(info.args)[name](text)
    except (ValueError, TypeError) as exc:
        raise click.UsageError(f"{info.name}: {name}: {exc}") from None


def _pairs(words: Sequence[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, sign, value = word.removeprefix("--").partition("=")
        if not sign:
            raise click.UsageError(
                f"write arguments of a command that isn't known here as NAME=VALUE, not {word!r}"
            )
        found[name] = value
    return found


def _meant(destination: str | None) -> tuple[list[str] | None, str | None]:
    if destination is None:
        return None, None
    nodes = [node.strip() for node in destination.split(",") if node.strip()]
    if len(nodes) == 1 and any(sign in nodes[0] for sign in "*?["):
        return None, nodes[0]
    return nodes, None


def lines(answer: object) -> list[str]:
    """An answer for people, one line an item."""
    if isinstance(answer, dict):
        if set(answer) == {"ok"} or set(answer) == {"error"}:
            ((word, text),) = answer.items()
            return f"{word}: {text}".splitlines()
        return [f"{key}: {_short(value)}" for key, value in answer.items()] or ["nothing"]
    if isinstance(answer, list):
        return [_short(item) for item in answer] or ["nothing"]
    return str(answer).splitlines() or ["nothing"]


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return str(value)
