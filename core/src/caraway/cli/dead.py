"""``caraway dead``: messages that were taken out of their queue."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from caraway.cli.program import Program, pass_program

if TYPE_CHECKING:
    from caraway.interfaces import Transport
    from caraway.message import DeadLetter

PAGE = 500


@click.group(
    "dead",
    invoke_without_command=True,
    help="""List, show, replay and drop dead letters.

    A message ends here when it was rejected, when it was delivered more often than
    task_max_deliveries allows, or (parked) when no worker could read it or knew its task.
    It stays until somebody decides.

    \b
    Examples:
      caraway dead                            list them
      caraway dead show 17                    one, with reason and arguments
      caraway dead replay 17 18               back to their queue
      caraway dead replay --all --parked      after the deploy that knows the task
      caraway dead drop --all --queue mail
    """,
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, when it lists.")
@click.pass_context
def command(context: click.Context, /, *, as_json: bool) -> None:
    """The group; alone it lists."""
    if context.invoked_subcommand is None:
        context.invoke(list_dead, queue="", kind="", limit=100, as_json=as_json)


def _transport(program: Program) -> Transport:
    from caraway.cli import broker
    from caraway.interfaces import Capability

    return broker.transport_with(program, Capability.DEAD_LETTERS, "keep dead letters")


def _letters(transport: Transport, queue: str, kind: str) -> Iterator[DeadLetter]:
    """All of them, a page at a time."""
    after = ""
    while page := transport.dead(queue, limit=PAGE, after=after):
        for letter in page:
            if not kind or letter.kind == kind:
                yield letter
        after = page[-1].id


def _kind(_context: click.Context, _param: click.Parameter, value: Any) -> str:
    return "parked" if value else ""


@command.command("list")
@click.option("--queue", default="", metavar="NAME", help="Only those of this queue.")
@click.option("--parked", "kind", is_flag=True, callback=_kind, help="Only what was parked.")
@click.option("-n", "--limit", default=100, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def list_dead(program: Program, *, queue: str, kind: str, limit: int, as_json: bool) -> None:
    """List dead letters, oldest first.

    \b
    Examples:
      caraway dead list --queue mail
      caraway dead list --json
    """
    import itertools

    from caraway.cli import broker, output

    letters = list(itertools.islice(_letters(_transport(program), queue, kind), limit + 1))
    more, letters = len(letters) > limit, letters[:limit]
    if as_json:
        output.emit_json([_record(letter) for letter in letters])
        return
    now = time.time()
    rows = [
        [
            letter.id,
            letter.kind,
            letter.queue,
            broker.task_name_of(letter.message),
            letter.attempt,
            output.span(now - letter.at),
            letter.reason,
        ]
        for letter in letters
    ]
    output.table(
        ["id", "kind", "queue", "task", "#attempts", "#age", "reason"],
        rows,
        color=program.color,
        empty="no dead letters",
    )
    if more:
        click.echo(f"and more; --limit shows more than {limit}", err=True)


@command.command("show")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def show(program: Program, ids: tuple[str, ...], *, as_json: bool) -> int:
    """Show dead letters whole: reason, headers, arguments.

    \b
    Example:
      caraway dead show 17
    """
    from caraway.cli import broker, exits, output

    letters = _transport(program).dead_get(ids)
    if as_json:
        output.emit_json([_record(letter) for letter in letters])
    else:
        for letter in letters:
            message = letter.message
            click.echo(f"dead letter {letter.id} ({letter.kind})")
            click.echo(f"  task      {broker.task_name_of(message)} {broker.task_id_of(message)}")
            click.echo(f"  queue     {letter.queue}")
            click.echo(f"  since     {output.when(letter.at, time.time())}")
            click.echo(f"  attempts  {letter.attempt}")
            click.echo(f"  reason    {letter.reason}")
            click.echo(f"  body      {broker.body_preview(message, 2000)}")
            for name, value in sorted(message.headers.items()):
                if value is not None:
                    click.echo(f"  header    {name} = {value!r}")
    return _missing(ids, [letter.id for letter in letters]) or exits.OK


@command.command("replay")
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "everything", is_flag=True, help="All (of --queue, --parked).")
@click.option("--queue", default="", metavar="NAME", help="With --all: only of this queue.")
@click.option("--parked", "kind", is_flag=True, callback=_kind, help="With --all: only parked.")
@pass_program
def replay(
    program: Program, ids: tuple[str, ...], *, everything: bool, queue: str, kind: str
) -> int:
    """Put dead letters back into their queue; attempts count from zero.

    \b
    Examples:
      caraway dead replay 17
      caraway dead replay --all --queue mail
    """
    transport = _transport(program)
    chosen = _choose(transport, ids, queue, kind, everything=everything)
    count = sum(transport.dead_replay(chosen[i : i + PAGE]) for i in range(0, len(chosen), PAGE))
    click.echo(f"{count} of {len(chosen)} put back")
    return 0 if count == len(chosen) else 1


@command.command("drop")
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "everything", is_flag=True, help="All (of --queue, --parked).")
@click.option("--queue", default="", metavar="NAME", help="With --all: only of this queue.")
@click.option("--parked", "kind", is_flag=True, callback=_kind, help="With --all: only parked.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@pass_program
def drop(
    program: Program,
    ids: tuple[str, ...],
    *,
    everything: bool,
    queue: str,
    kind: str,
    yes: bool,
) -> int:
    """Delete dead letters, for good.

    \b
    Examples:
      caraway dead drop 17 18
      caraway dead drop --all --queue mail --yes
    """
    from caraway.cli import broker

    transport = _transport(program)
    chosen = _choose(transport, ids, queue, kind, everything=everything)
    if chosen:
        broker.confirm(f"Delete {len(chosen)} dead letters for good?", yes=yes)
    count = sum(transport.dead_drop(chosen[i : i + PAGE]) for i in range(0, len(chosen), PAGE))
    click.echo(f"{count} of {len(chosen)} deleted")
    return 0 if count == len(chosen) else 1


def _choose(
    transport: Transport, ids: tuple[str, ...], queue: str, kind: str, *, everything: bool
) -> list[str]:
    if bool(ids) == everything or ((queue or kind) and not everything):
        raise click.UsageError("name ids, or say --all (with --queue or --parked)")
    return list(ids) if ids else [letter.id for letter in _letters(transport, queue, kind)]


def _missing(ids: tuple[str, ...], found: list[str]) -> int:
    missing = [one for one in ids if one not in found]
    if missing:
        click.echo(f"no dead letter {', '.join(missing)}", err=True)
    return 1 if missing else 0


def _record(letter: DeadLetter) -> dict[str, object]:
    from caraway.cli import broker

    return {
        "dead_letter": letter.id,
        "kind": letter.kind,
        "queue": letter.queue,
        "reason": letter.reason,
        "attempt": letter.attempt,
        "at": letter.at,
        **broker.message_record(letter.message),
    }
