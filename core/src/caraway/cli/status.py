"""``caraway status``: the workers that are alive, as the broker sees them and as they say."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
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
        lease: seconds until the first of its leases ends unless renewed; None of a worker
            that the broker doesn't list, as Celery's.
        answers: whether it answered a ping; None if it wasn't asked.
    """

    name: str
    host: str
    lanes: int
    pids: list[int]
    queues: list[str]
    held: int
    lease: float | None
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


def asked(
    workers: Iterable[WorkerStatus], nodes: Iterable[str], destination: Collection[str] | None
) -> list[WorkerStatus]:
    """The workers after a ping: those that the broker lists, and those that answered."""
    answered = set(nodes)
    known = [
        structs.replace(worker, answers=worker.name in answered)
        for worker in workers
        if destination is None or worker.name in destination
    ]
    others = answered - {worker.name for worker in known}
    known += [
        WorkerStatus(node, node.partition("@")[2], 0, [], [], 0, None, answers=True)
        for node in others
    ]
    return sorted(known, key=lambda worker: worker.name)


@click.command("status")
@click.option("--ping", is_flag=True, help="Also ask each worker to answer.")
@click.option("-d", "--destination", metavar="NODES", help="Only these, with commas between.")
@click.option("-t", "--timeout", default=1.0, show_default=True, help="Seconds to wait for that.")
@click.option("-j", "--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def command(
    program: Program, /, *, ping: bool, destination: str | None, timeout: float, as_json: bool
) -> int:
    """List the workers that are alive. Exit code 1 if there is none, or one is mute.

    Celery's workers, and all where the broker keeps no list, are found only by asking:
    --ping, which is the default there.

    \b
    Examples:
      caraway status
      caraway status --ping --json
    """
    from caraway.cli import broker, exits, output
    from caraway.interfaces import Capability

    transport = program.client().transport
    workers: list[WorkerStatus] = []
    if Capability.INSPECT in transport.capabilities:
        workers = gather(transport.owners(), time.time())
    else:
        ping = True
    nodes = None if destination is None else [n.strip() for n in destination.split(",")]
    if ping:
        broker.transport_with(program, Capability.BROADCAST, "reach its workers")
        replies = program.client().control.ping(destination=nodes, timeout=timeout)
        workers = asked(workers, [node for reply in replies for node in reply], nodes)
    elif nodes is not None:
        workers = [worker for worker in workers if worker.name in nodes]
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
