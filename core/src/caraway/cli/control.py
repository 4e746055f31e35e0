"""``caraway control``: change the workers that are alive."""

from __future__ import annotations

from typing import Any

import click

from caraway.cli.program import Program, pass_program


@click.group(
    "control",
    help="""Change the workers that are alive. It lasts until they stop.

    \b
    Examples:
      caraway control rate-limit shop.mail 10/m
      caraway control time-limit shop.report --hard 300 --soft 240
      caraway control grow 2 -d caraway@host1
      caraway control shutdown
    """,
)
def command() -> None:
    """The group; see its help."""


_destination = click.option(
    "-d", "--destination", metavar="NODES", help="Only these workers, with commas between."
)
_timeout = click.option(
    "-t", "--timeout", default=1.0, show_default=True, help="Seconds to wait for answers."
)


def _send(
    program: Program,
    name: str,
    arguments: dict[str, Any],
    destination: str | None,
    timeout: float,
) -> int:
    """Send a command, print the answers; 1 if nobody answered or one refused."""
    from caraway.cli import broker
    from caraway.interfaces import Capability

    broker.transport_with(program, Capability.BROADCAST, "reach its workers")
    nodes = None if destination is None else [n.strip() for n in destination.split(",")]
    answers = program.client().control.broadcast(
        name, arguments, nodes, reply=True, timeout=timeout
    )
    refused = False
    for answer in answers:
        for node, said in answer.items():
            refused = refused or (isinstance(said, dict) and "error" in said)
            text = next(iter(said.values()), said) if isinstance(said, dict) else said
            click.echo(f"{node}: {text}")
    if not answers:
        click.echo("no worker answered", err=True)
    return 1 if refused or not answers else 0


@command.command("rate-limit")
@click.argument("task")
@click.argument("rate")
@_destination
@_timeout
@pass_program
def rate_limit(
    program: Program, /, *, task: str, rate: str, destination: str | None, timeout: float
) -> int:
    """Change a task's rate limit: 10/s, 100/m, 5/h; 0 lifts it.

    \b
    Example:
      caraway control rate-limit shop.mail 10/m
    """
    arguments = {"task_name": task, "rate_limit": rate}
    return _send(program, "rate_limit", arguments, destination, timeout)


@command.command("time-limit")
@click.argument("task")
@click.option("--hard", type=float, help="Seconds after which a run is killed.")
@click.option("--soft", type=float, help="Seconds after which it is warned.")
@_destination
@_timeout
@pass_program
def time_limit(
    program: Program,
    /,
    *,
    task: str,
    hard: float | None,
    soft: float | None,
    destination: str | None,
    timeout: float,
) -> int:
    """Change a task's time limits; one not given is lifted.

    \b
    Example:
      caraway control time-limit shop.report --hard 300 --soft 240
    """
    arguments = {"task_name": task, "hard": hard, "soft": soft}
    return _send(program, "time_limit", arguments, destination, timeout)


@command.command("grow")
@click.argument("n", type=click.IntRange(1), default=1)
@_destination
@_timeout
@pass_program
def grow(program: Program, /, *, n: int, destination: str | None, timeout: float) -> int:
    """Add processes.

    \b
    Example:
      caraway control grow 2
    """
    return _send(program, "pool_grow", {"n": n}, destination, timeout)


@command.command("shrink")
@click.argument("n", type=click.IntRange(1), default=1)
@_destination
@_timeout
@pass_program
def shrink(program: Program, /, *, n: int, destination: str | None, timeout: float) -> int:
    """Take processes away, each after what it runs.

    \b
    Example:
      caraway control shrink 2
    """
    return _send(program, "pool_shrink", {"n": n}, destination, timeout)


@command.command("shutdown")
@_destination
@_timeout
@pass_program
def shutdown(program: Program, /, *, destination: str | None, timeout: float) -> int:
    """Stop workers warmly: what runs may end.

    \b
    Example:
      caraway control shutdown -d caraway@host1
    """
    return _send(program, "shutdown", {}, destination, timeout)
