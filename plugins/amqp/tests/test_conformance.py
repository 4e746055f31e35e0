"""The RabbitMQ components keep every contract, on a real server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from caraway.errors import BackendUnavailable
from caraway.interfaces import Backend, Capability, Context
from caraway.message import StoredResult
from caraway.testing.conformance import BackendSuite, TransportSuite
from caraway.testing.conformance.transport_delivery import DeadLetterTests, PriorityTests
from caraway.testing.conformance.transport_queues import SettleTests
from caraway.testing.servers import Server, free_port
from caraway.url import Url
from caraway_amqp.backend import RpcBackend
from caraway_amqp.transport import AmqpTransport


class OnRabbitMQ:
    """One node for all tests; each uses queues of its own."""

    virtual_clock = False
    unreachable = f"amqp://127.0.0.1:{free_port()}//"
    server: Server

    @pytest.fixture(autouse=True)
    def _server(self, rabbitmq: Server) -> None:
        type(self).server = rabbitmq

    def url(self, tmp_path: Path) -> str:
        return self.server.url


class TestAmqpTransport(OnRabbitMQ, TransportSuite):
    factory = "caraway_amqp.transport:AmqpTransport"

    def cut(self) -> None:
        self.server.control("close_all_connections", "a test cuts them")


class Pair(Backend):
    """A worker's connection, and the one of whoever sent the tasks: of an app's results
    there is one reader, which all connections of a test share here."""

    capabilities = RpcBackend.capabilities

    def __init__(self, writer: RpcBackend, reader: RpcBackend) -> None:
        self.writer = writer
        self.reader = reader
        self.reply_to = reader.expect()

    def store(self, results: Sequence[StoredResult]) -> None:
        self.writer.store([replace(each, reply_to=self.reply_to) for each in results])

    def get(self, task_ids: Sequence[str]) -> Mapping[str, StoredResult]:
        return self.reader.get(task_ids)

    def wait(self, task_ids: Sequence[str], timeout: float) -> Mapping[str, StoredResult]:
        return self.reader.wait(task_ids, timeout)

    def forget(self, task_ids: Sequence[str]) -> int:
        return self.reader.forget(task_ids)

    def ping(self) -> None:
        self.writer.ping()

    def cleanup(self) -> int:
        return self.reader.cleanup()

    def close(self) -> None:
        self.writer.close()


class TestRpcBackend(OnRabbitMQ, BackendSuite):
    factory = "caraway_amqp.backend:RpcBackend"
    unreachable = f"rpc://127.0.0.1:{free_port()}//"

    def make(self, tmp_path: Path) -> Callable[[Context], Backend]:
        url = Url.parse(self.url(tmp_path).replace("amqp://", "rpc://"))
        reader = RpcBackend(url, {}, self.context)
        self._cleanups.append(reader.close)
        return lambda context: Pair(RpcBackend(url, {}, context), reader)

    def test_an_unreachable_store_is_told_in_our_words(self) -> None:
        backend = RpcBackend(Url.parse(self.unreachable), {}, self.context)
        with pytest.raises(BackendUnavailable):
            backend.expect()
        backend.close()


class TestPriorities(OnRabbitMQ, PriorityTests):
    """Queues with ``x-max-priority``."""

    factory = "caraway_amqp.transport:AmqpTransport"

    @property
    def context(self) -> Context:
        return Context(settings={"task_queue_max_priority": 10})

    def test_the_class_declares_what_its_entry_declares(self) -> None:
        """It declares more: where there are priorities, it has them."""
        assert self.declared() == AmqpTransport.capabilities | {Capability.PRIORITY}

    def make(self, tmp_path: Path) -> Callable[[Context], AmqpTransport]:
        url = Url.parse(self.url(tmp_path))
        return lambda context: AmqpTransport(url, {}, context)


class TestQuorumQueues(OnRabbitMQ, SettleTests, DeadLetterTests):
    """The type that keeps messages on several nodes.  It gives back in an order of its own:
    the two tests of that order don't hold, as docs/how-to/rabbitmq.md says."""

    test_a_released_message_keeps_its_age = None
    test_a_closed_consumer_gives_back_what_it_held_uncounted = None

    factory = "caraway_amqp.transport:AmqpTransport"

    @property
    def context(self) -> Context:
        return Context(settings={"task_create_missing_queue_type": "quorum"})
