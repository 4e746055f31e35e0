"""``caraway revoke``: keep tasks from running."""

from __future__ import annotations

import sys

import click

from caraway.cli.program import Program, pass_program


@click.command("revoke")
@click.argument("task_ids", nargs=-1, required=True, metavar="TASK_ID...")
@click.option("--terminate", is_flag=True, help="End it, too, if it runs.")
@click.option(
    "-s",
    "--signal",
    default="SIGTERM",
    metavar="NAME",
    help="How: SIGTERM raises Terminated in the task, SIGUSR1 has its soft time limit pass, "
    "SIGKILL kills its process.  [SIGTERM]",
)
@pass_program
def command(program: Program, task_ids: tuple[str, ...], *, terminate: bool, signal: str) -> None:
    """Keep tasks from running.

    The broker remembers it, so workers that start later honour it, too. A task that runs
    goes on unless --terminate is given. `-` reads ids from standard input, one a line.

    \b
    Examples:
      caraway revoke 5a0c3f0e-...
      caraway revoke 5a0c3f0e-... --terminate
      caraway revoke 5a0c3f0e-... --terminate --signal SIGKILL
      caraway queues peek mail --json | jq -r '.[].id' | caraway revoke -
    """
    from caraway.cli import broker
    from caraway.interfaces import Capability

    ids: list[str] = []
    for task_id in task_ids:
        if task_id == "-":
            ids += sys.stdin.read().split()
        else:
            ids.append(task_id)
    broker.transport_with(program, Capability.REVOKE, "keep revocations")
    program.client().control.revoke(ids, terminate=terminate, signal=signal)
    if not program.quiet:
        click.echo(f"{len(ids)} revoked{', terminated if running' if terminate else ''}")
