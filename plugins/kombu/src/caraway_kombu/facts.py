"""What kombu's transports do and don't: one table, from which capabilities, summaries, hints
and waiting times follow.

kombu gives all its transports AMQP's interface.  What is behind it differs in what matters
most here: what becomes of a message that a killed worker had in its hands.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from caraway.plugins import Capability

Keeps = Literal["connection", "timeout", "sweep", "journal", "nothing"]
"""Who gives back what a killed worker held.

``connection``: the broker, when the connection ends.  ``timeout``: the broker, when the
message's visibility timeout is over.  ``sweep``: whichever worker looks next.  ``journal``:
kombu takes a message out of the broker first, and the bridge gives it back from a file, see
`caraway_kombu.journal`.  ``nothing``: nobody.
"""

_TELLS: dict[Keeps, str] = {
    "connection": "comes back when its connection ends",
    "timeout": "comes back after the visibility timeout, a task that runs longer twice",
    "sweep": "comes back at once",
    "journal": "comes back from the journal of its machine, and is lost with that",
    "nothing": "is lost",
}

LADDER = (2, 8, 32, 128, 512, 2048, 8192)
"""Seconds that a delayed message stays on each rung of the delay queues."""


class Facts(Struct, frozen=True, kw_only=True):
    """One kombu transport.

    Attributes:
        scheme: its name in kombu, which is also the URL's.
        title: for people.
        transport: ``package.module:Class`` to use instead of kombu's own for the scheme.
        keeps: who gives back what a killed worker held.
        install: what `pip install` needs for it; empty if kombu is enough.
        module: what the driver is imported as; empty if there is none.
        persistent: messages survive the death of every process that uses them.
        shared: several processes can use it.
        fanout: broadcasts reach every subscriber, across processes: remote control, events.
        real: the broker itself has AMQP's exchanges and queues; kombu emulates nothing.
        delay: delayed messages are kept, in queues beside the queue.
        events: type of the exchange of events, as Celery declares it.
        poll: longest pause between two looks into an empty queue, in seconds.
        ladder: seconds of the rungs of its delay queues; see `caraway_kombu.delays`.
        options: transport options that hold unless the user sets them.
        note: what else is weak, one sentence.
    """

    scheme: str
    title: str
    transport: str = ""
    keeps: Keeps = "journal"
    install: str = ""
    module: str = ""
    persistent: bool = True
    shared: bool = True
    fanout: bool = False
    real: bool = False
    delay: bool = True
    events: Literal["topic", "fanout"] = "topic"
    poll: float = 0.25
    ladder: tuple[int, ...] = LADDER
    options: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """For the entry and the class."""
        found = {Capability.EXPIRY}
        if self.delay:
            found.add(Capability.DELAY)
        if self.persistent:
            found.add(Capability.PERSISTENT)
        if self.shared:
            found.add(Capability.SHARED)
        if self.fanout:
            found.add(Capability.BROADCAST)
        return frozenset(found)

    @property
    def caution(self) -> str:
        """For whoever starts a worker: what a killed worker held, if that isn't kept well."""
        if self.keeps in ("connection", "sweep"):
            return ""
        return f"{self.scheme} by kombu: what a killed worker held {_TELLS[self.keeps]}"

    @property
    def summary(self) -> str:
        """For ``caraway plugins show``: name, and what is weak."""
        text = f"{self.title}, by kombu; what a killed worker held {_TELLS[self.keeps]}"
        return f"{text}; {self.note}" if self.note else text


_NETWORK = {"socket_timeout": 30.0, "socket_connect_timeout": 5.0}

FACTS: dict[str, Facts] = {
    facts.scheme: facts
    for facts in (
        Facts(
            scheme="memory", title="this process's memory", keeps="nothing", persistent=False,
            shared=False, fanout=True, poll=0.05, note="only for threads of one process",
        ),
        Facts(
            scheme="filesystem", title="files in a folder", keeps="sweep", fanout=True, poll=0.1,
            transport="caraway_kombu.filesystem:Transport",
        ),
        Facts(
            scheme="redis", title="Redis", keeps="timeout", install="redis", module="redis",
            fanout=True, events="fanout", options=_NETWORK, note="prefer caraway-redis",
        ),
        Facts(
            scheme="sentinel", title="Redis Sentinel", keeps="timeout", install="redis",
            module="redis", fanout=True, events="fanout", options=_NETWORK,
        ),
        Facts(
            scheme="amqp", title="RabbitMQ", keeps="connection", install="amqp", module="amqp",
            fanout=True, real=True, options={"confirm_publish": True}, note="prefer caraway-amqp",
        ),
        Facts(
            scheme="qpid", title="Apache Qpid", keeps="connection",
            install="qpid-python qpid-tools", module="qpid", fanout=True, real=True,
            note="its driver doesn't run on Python 3, so nor does this",
        ),
        Facts(
            scheme="sqla", title="an SQL database", transport="caraway_kombu.sqla:Transport",
            install="sqlalchemy", module="sqlalchemy",
        ),
        Facts(
            scheme="mongodb", title="MongoDB", install="pymongo", module="pymongo", fanout=True,
            poll=0.5,
        ),
        Facts(
            scheme="etcd", title="etcd, by its API of version 2", install="python-etcd",
            transport="caraway_kombu.etcd:Transport", module="etcd",
        ),
        Facts(
            scheme="azurestoragequeues", title="Azure Storage Queues",
            install="azure-storage-queue azure-identity", module="azure.storage.queue", poll=1.0,
        ),
        Facts(
            scheme="azureservicebus", title="Azure Service Bus", keeps="timeout",
            install="azure-servicebus azure-identity", module="azure.servicebus", poll=1.0,
        ),
        Facts(
            scheme="gcpubsub", title="Google Cloud Pub/Sub", keeps="timeout",
            install="google-cloud-pubsub google-cloud-monitoring grpcio",
            module="google.cloud.pubsub_v1", fanout=True, events="fanout", poll=1.0,
        ),
        Facts(
            scheme="confluentkafka", title="Apache Kafka", install="confluent-kafka",
            module="confluent_kafka", poll=0.5, ladder=(64,), options={"wait_time_seconds": 0.5},
            note="an acknowledgement counts for all that came before it, and what a killed"
            " worker held may run twice",
        ),
        Facts(
            scheme="pgmq", title="PostgreSQL with PGMQ", keeps="timeout",
            install="pgmq psycopg[binary,pool]", module="pgmq", fanout=True, poll=0.5,
        ),
        Facts(
            scheme="zookeeper", title="Apache ZooKeeper", install="kazoo", module="kazoo",
            transport="caraway_kombu.zookeeper:Transport",
        ),
        Facts(scheme="consul", title="Consul", install="python-consul2", module="consul", poll=1.0),
        Facts(
            scheme="pyro", title="a Pyro process", transport="caraway_kombu.pyro:Transport",
            install="Pyro4", module="Pyro4", persistent=False,
        ),
        Facts(
            scheme="sqs", title="Amazon SQS", keeps="timeout", install="boto3",
            module="boto3", transport="caraway_kombu.sqs:Transport", poll=1.0, ladder=(8, 512),
            options={"wait_time_seconds": 0},
        ),
        Facts(
            scheme="slmq", title="SoftLayer queues", keeps="timeout",
            install="softlayer_messaging", module="softlayer_messaging", poll=1.0,
        ),
    )
}  # fmt: skip
"""By scheme."""

ALIASES = {
    "amqps": "amqp", "pyamqp": "amqp", "librabbitmq": "amqp", "rediss": "redis",
    "kafka": "confluentkafka", "sqlalchemy": "sqla", "SQS": "sqs", "SLMQ": "slmq",
}  # fmt: skip
"""kombu's other names."""

OWN_SCHEMES = (
    "filesystem", "mongodb", "etcd", "azurestoragequeues", "azureservicebus", "gcpubsub",
    "confluentkafka", "pgmq", "qpid",
)  # fmt: skip
"""Those that this bundle also offers without ``kombu+``, since no other bundle has them."""


def facts_of(name: str) -> Facts | None:
    """Of a kombu transport by one of its names; None if it isn't one of kombu's own."""
    return FACTS.get(ALIASES.get(name, name))
