"""``caraway control``: change the workers that are alive."""

from __future__ import annotations

import click

from caraway.cli import remote
from caraway.cli.program import Program, pass_program


@click.command(
    "control",
    context_settings=remote.SETTINGS,
    help="""Change the workers that are alive. It lasts until they stop.

    \b
    Commands (all of them, with their arguments: --list):
      rate_limit TASK RATE            10/s, 100/m, 5/h; 0 lifts it
      time_limit TASK SOFT [HARD]     seconds; or --soft, --hard
      grow [N], shrink [N]            processes
      autoscale MAX MIN               bounds of a worker with --autoscale
      add_consumer QUEUE              consume one more queue
      cancel_consumer QUEUE           no longer consume it
      enable_events, disable_events   events of tasks, for monitors
      pool_restart                    replace every process
      shutdown                        stop: what runs may end

    \b
    Examples:
      caraway control rate-limit shop.mail 10/m
      caraway control time-limit shop.report --hard 300 --soft 240
      caraway control grow 2 -d caraway@host1
      caraway control add-consumer reports
      caraway control shutdown -d 'caraway@web*'

    Exit code 1 if nobody answers, or one refuses.
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
        remote.listing(program, "control")
        return exits.OK
    answers = remote.run(program, "control", name, words, destination, timeout)
    refused = any(isinstance(said, dict) and "error" in said for said in answers.values())
    if as_json:
        output.emit_json(answers)
    elif not answers:
        click.echo("no worker answered", err=True)
    else:
        for node, said in sorted(answers.items()):
            text = next(iter(said.values()), said) if isinstance(said, dict) else said
            click.echo(f"{node}: {text if text is not None else 'done'}")
    return exits.NEGATIVE if refused or not answers else exits.OK
