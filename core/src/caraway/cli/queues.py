"""``caraway queues``: depths, and how to empty them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from caraway.cli.program import Program, pass_program

if TYPE_CHECKING:
    from caraway.message import QueueStats


@click.group(
    "queues",
    invoke_without_command=True,
    help="""List and purge queues.

    \b
    Examples:
      caraway queues                          depths, age of the oldest, consumers
      caraway queues list --json
      caraway queues peek mail                the next messages, not taken
      caraway queues purge mail --yes         drop what waits in it
    """,
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, when it lists.")
@click.pass_context
def command(context: click.Context, /, *, as_json: bool) -> None:
    """The group; alone it lists."""
    if context.invoked_subcommand is None:
        context.invoke(list_queues, names=(), as_json=as_json)


@command.command("list")
@click.argument("names", nargs=-1, metavar="[QUEUE]...")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def list_queues(program: Program, names: tuple[str, ...], *, as_json: bool) -> None:
    """List queues: ready, delayed and held messages, age of the oldest, consumers.

    \b
    Examples:
      caraway queues list
      caraway queues list mail reports --json
    """
    from caraway.cli import output

    stats = _stats(program, names)
    if as_json:
        output.emit_json(stats)
        return
    rows = [[s.name, s.ready, s.delayed, s.held, output.span(s.oldest), s.consumers] for s in stats]
    output.table(
        ["queue", "#ready", "#delayed", "#held", "#oldest", "#consumers"],
        rows,
        color=program.color,
        empty="no queues yet: they come with the first task or worker",
    )


@command.command("peek")
@click.argument("name", metavar="QUEUE")
@click.option("-n", "--limit", default=20, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def peek(program: Program, name: str, *, limit: int, as_json: bool) -> None:
    """Show the next ready messages of a queue; they stay there.

    \b
    Example:
      caraway queues peek celery -n 5
    """
    from caraway.cli import broker, output
    from caraway.interfaces import Capability

    transport = broker.transport_with(program, Capability.INSPECT, "look into queues")
    found = transport.peek(name, limit=limit)
    if as_json:
        output.emit_json([broker.message_record(item.message) for item in found])
        return
    rows = [
        [
            broker.task_id_of(item.message),
            broker.task_name_of(item.message),
            item.attempt,
            broker.body_preview(item.message, 60),
        ]
        for item in found
    ]
    empty = f"nothing is ready in {name!r}"
    output.table(["id", "task", "#attempts", "body"], rows, color=program.color, empty=empty)


@command.command("purge")
@click.argument("names", nargs=-1, metavar="QUEUE...")
@click.option("--all", "everything", is_flag=True, help="Every queue.")
@click.option("-y", "--yes", "-f", "--force", is_flag=True, help="Don't ask.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def purge(
    program: Program, names: tuple[str, ...], *, everything: bool, yes: bool, as_json: bool
) -> None:
    """Drop the ready and delayed messages of queues, for good.

    What workers hold goes on. Patterns with * are understood.

    \b
    Examples:
      caraway queues purge mail
      caraway queues purge 'test-*' --yes
    """
    from caraway.cli import broker, output

    if bool(names) == everything:
        raise click.UsageError("name the queues, or say --all")
    transport = program.client().transport
    stats = {s.name: s for s in transport.stats()}
    chosen = list(stats) if everything else broker.matching(stats, names)
    unknown = [name for name in chosen if name not in stats]
    if unknown:
        raise click.UsageError(f"no queue {unknown[0]!r}; there are: {', '.join(stats) or 'none'}")
    count = sum(stats[name].ready + stats[name].delayed for name in chosen)
    if count:
        broker.confirm(f"Drop {count} messages of {', '.join(chosen)} for good?", yes=yes)
    dropped = {name: transport.purge(name) for name in chosen}
    if as_json:
        output.emit_json(dropped)
    else:
        click.echo(f"{sum(dropped.values())} messages dropped from {len(chosen)} queues")


@command.command("delete")
@click.argument("names", nargs=-1, required=True, metavar="QUEUE...")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@pass_program
def delete(program: Program, names: tuple[str, ...], *, yes: bool) -> None:
    """Remove queues and their messages, held ones too, for good.

    \b
    Example:
      caraway queues delete old-reports
    """
    from caraway.cli import broker

    transport = program.client().transport
    broker.confirm(f"Remove {', '.join(names)} and all messages for good?", yes=yes)
    for name in names:
        click.echo(f"{name}: {transport.delete(name)} messages went with it")


def _stats(program: Program, names: tuple[str, ...]) -> list[QueueStats]:
    transport: Any = program.client().transport
    return list(transport.stats(names))
