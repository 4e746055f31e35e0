"""``caraway inspect``: ask the workers that are alive."""

from __future__ import annotations

import click

from caraway.cli.program import Program, pass_program

QUESTIONS = {
    "ping": "answer",
    "active": "tasks that run now",
    "active_queues": "queues that are consumed",
    "registered": "tasks that are known",
    "stats": "counters and processes",
}
"""What workers answer, for the help; other words are sent as they are."""


@click.command(
    "inspect",
    help="""Ask the workers that are alive.

    \b
    Questions:
"""
    + "\n".join(f"      {name.ljust(14)} {text}" for name, text in QUESTIONS.items())
    + """

    \b
    Examples:
      caraway inspect ping
      caraway inspect active --json
      caraway inspect registered -d caraway@host1

    Exit code 1 if nobody answers.
    """,
)
@click.argument("question")
@click.option(
    "-d", "--destination", metavar="NODES", help="Only these workers, with commas between."
)
@click.option("-t", "--timeout", default=1.0, show_default=True, help="Seconds to wait.")
@click.option("-j", "--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def command(
    program: Program, /, *, question: str, destination: str | None, timeout: float, as_json: bool
) -> int:
    """See the help given above."""
    from caraway.cli import broker, exits, output
    from caraway.interfaces import Capability

    broker.transport_with(program, Capability.BROADCAST, "reach its workers")
    nodes = None if destination is None else [n.strip() for n in destination.split(",")]
    answers = program.client().control.inspect(question, destination=nodes, timeout=timeout)
    if as_json:
        output.emit_json(answers)
    elif not answers:
        click.echo("no worker answered", err=True)
    else:
        for node, answer in sorted(answers.items()):
            click.echo(f"{node}:")
            for line in _lines(answer):
                click.echo(f"  {line}")
    return exits.OK if answers else exits.NEGATIVE


def _lines(answer: object) -> list[str]:
    """An answer, one line an item."""
    if isinstance(answer, dict):
        return [f"{key}: {value}" for key, value in answer.items()]
    if isinstance(answer, list):
        return [
            ", ".join(f"{key} {value}" for key, value in item.items())
            if isinstance(item, dict)
            else str(item)
            for item in answer
        ] or ["nothing"]
    return [str(answer)]
