"""Several RabbitMQ nodes on this machine that are one cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec.structs import replace

from caraway.testing.rabbitmq import Node
from caraway.testing.servers import KINDS, Server, Surroundings, free_port, server

_COOKIE = "CARAWAY"


@contextmanager
def cluster(size: int = 3) -> Iterator[dict[str, Server]]:
    """So many nodes by `Node.name`, for the length of the block; each may be killed and started
    again."""
    mapper = free_port()
    nodes: dict[int, Node] = {}

    def prepare(port: int, directory: Path, config: Sequence[str]) -> Surroundings:
        node = Node(port, free_port(), mapper, directory)
        node.configure(config)
        cookie = directory / ".erlang.cookie"
        cookie.write_text(_COOKIE)
        cookie.chmod(0o400)
        # They find each other by one port mapper.
        companion = None if nodes else node.start_mapper
        nodes[port] = node
        return Surroundings(environment=node.environment, companion=companion, control=node.control)

    kind = replace(KINDS["rabbitmq"], prepare=prepare, timeout=90.0)
    with ExitStack() as stack:
        started = [stack.enter_context(server(kind)) for _ in range(size)]
        members = {nodes[each.port].name: each for each in started}
        for member in started[1:]:
            member.control("stop_app")
            member.control("join_cluster", next(iter(members)))
            member.control("start_app")
        yield members


def leader(member: Server, queue: str) -> str:
    """The `Node.name` that has a quorum queue's leader, as this one sees it."""
    said = member.control("list_queues", "name", "leader", "--no-table-headers")
    (found,) = [line.split()[1] for line in said.splitlines() if line.split()[:1] == [queue]]
    return found
