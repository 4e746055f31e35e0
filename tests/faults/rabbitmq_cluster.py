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
def cluster(size: int = 3) -> Iterator[Sequence[Server]]:
    """So many nodes, for the length of the block; each may be killed and started again."""
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
        members = [stack.enter_context(server(kind)) for _ in range(size)]
        for member in members[1:]:
            member.control("stop_app")
            member.control("join_cluster", name_of(members[0]))
            member.control("start_app")
        yield members


def name_of(member: Server) -> str:
    """What RabbitMQ calls a node."""
    return f"caraway{member.port}@localhost"


def leader(member: Server, queue: str) -> str:
    """The name of the node that has a quorum queue's leader, as this one sees it."""
    said = member.control("list_queues", "name", "leader", "--no-table-headers")
    (found,) = [line.split()[1] for line in said.splitlines() if line.split()[:1] == [queue]]
    return found
