"""``caraway status``: the workers that are alive, as the broker sees them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from msgspec import Struct, structs

from caraway.cli.program import Program, pass_program

if TYPE_CHECKING:
    from caraway.message import OwnerStats


class WorkerStatus(Struct, frozen=True):
    """One worker: its lanes taken together.

    Attributes:
        pids: of its lanes; the supervisor, which consumes nothing, isn't among them.
        lease: seconds until the first of its leases ends unless renewed.
        answers: whether it answered a ping; None if it wasn't asked.
    """

    name: str
    host: str
    lanes: int
    pids: list[int]
    queues: list[str]
    held: int
    lease: float
    answers: bool | None = None


def gather(owners: Iterable[OwnerStats], now: float) -> list[WorkerStatus]:
    """Workers by name, from the owners the broker knows."""
    groups: dict[str, list[OwnerStats]] = {}
    for stats in owners:
        groups.setdefault(stats.owner.worker or stats.owner.id, []).append(stats)
    return [
        WorkerStatus(
            name=name,
            host=lanes[0].owner.host,
            lanes=sum(bool(lane.queues) for lane in lanes),
            pids=sorted({lane.owner.pid for lane in lanes if lane.queues}),
            queues=sorted({queue for lane in lanes for queue in lane.queues}),
            held=sum(lane.held for lane in lanes),
            lease=min(lane.expires for lane in lanes) - now,
        )
        for name, lanes in sorted(groups.items())
    ]


@click.command("status")
@click.option("--ping", is_flag=True, help="Also ask each worker to answer.")
@click.option("-t", "--timeout", default=1.0, show_default=True, help="Seconds to wait for that.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def command(program: Program, /, *, ping: bool, timeout: float, as_json: bool) -> int:
    """List the workers that are alive. Exit code 1 if there is none, or one is mute.

    \b
    Examples:
      caraway status
      caraway status --ping --json
    """
    from caraway.cli import broker, exits, output
    from caraway.interfaces import Capability

    transport = broker.transport_with(program, Capability.INSPECT, "list its workers")
    workers = gather(transport.owners(), time.time())
    if ping and workers:
        replies = program.client().control.ping(timeout=timeout)
        nodes = {node for reply in replies for node in reply}
        workers = [structs.replace(worker, answers=worker.name in nodes) for worker in workers]
    if as_json:
        output.emit_json(workers)
    else:
        words = {None: "-", True: "yes", False: "no"}
        output.table(
            ["worker", "host", "#lanes", "queues", "#held", "#lease left", "answers"],
            [
                [w.name, w.host, w.lanes, w.queues, w.held, output.span(w.lease), words[w.answers]]
                for w in workers
            ],
            color=program.color,
            empty="no worker is alive; start one: caraway -A shop worker",
        )
    mute = any(worker.answers is False for worker in workers)
    return exits.NEGATIVE if mute or not workers else exits.OK
