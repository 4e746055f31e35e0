"""``caraway inspect``: ask the workers that are alive."""

from __future__ import annotations

import click

from caraway.cli import remote
from caraway.cli.program import Program, pass_program


@click.command(
    "inspect",
    context_settings=remote.SETTINGS,
    help="""Ask the workers that are alive; they answer even while they are busy.

    \b
    Commands (all of them, with their arguments: --list):
      ping           answer
      active         tasks that run now
      reserved       tasks that were fetched and have not begun
      query_task     what is known of tasks: query_task ID...
      registered     tasks that are known
      active_queues  queues that are consumed
      stats          counters, processes, resources
      conf, report   settings and versions

    \b
    Examples:
      caraway inspect ping
      caraway inspect active --json
      caraway inspect registered rate_limit -d caraway@host1
      caraway inspect --list

    Exit code 1 if nobody answers.
    """,
)
@remote.options
@pass_program
def command(
    program: Program,
    /,
    *,
    name: str | None,
    words: tuple[str, ...],
    listed: bool,
    destination: str | None,
    timeout: float,
    as_json: bool,
) -> int:
    """See the help given above."""
    from caraway.cli import exits, output

    if listed:
        remote.listing(program, "inspect")
        return exits.OK
    answers = remote.run(program, "inspect", name, words, destination, timeout)
    if as_json:
        output.emit_json(answers)
    elif not answers:
        click.echo("no worker answered", err=True)
    else:
        for node, answer in sorted(answers.items()):
            click.echo(f"{node}:")
            for line in remote.lines(answer):
                click.echo(f"  {line}")
    return exits.OK if answers else exits.NEGATIVE
