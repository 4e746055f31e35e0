"""One connection of kombu's with one channel.  Used by one thread at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from queue import Empty
from typing import TYPE_CHECKING, Any

from caraway.errors import CarawayError, TransportUnavailable
from caraway.message import Queue
from caraway_kombu.channels import ask, collect
from caraway_kombu.faults import error_types, mismatch, not_found, translate
from caraway_kombu.marks import Found, find
from caraway_kombu.tolerance import tolerant

if TYPE_CHECKING:
    from caraway.message import Message
    from caraway_kombu.address import Address
    from caraway_kombu.journal import Journal


class Link:
    """A connection, opened at its first use and again after an error.

    Args:
        address: of the broker.
        read: from one of kombu's messages to what is found in it.
        journal: of what is taken; None keeps none.
    """

    def __init__(
        self,
        address: Address,
        read: Callable[[Any], Found] = find,
        journal: Journal | None = None,
    ) -> None:
        self.address = address
        self.journal = journal
        self._read = read
        self.generation = 0
        """Counts connections: delivery tags are good for one."""
        self.errors: tuple[type[BaseException], ...] = ()
        self._client: Any = None
        self._transport: Any = None
        self._raw: Any = None
        self._channel: Any = None
        self._declared: set[tuple[str, str, str]] = set()
        self._otherwise: set[tuple[str, str, str]] = set()
        self._subscribed: set[str] = set()
        self._arrived: deque[Any] = deque()

    @property
    def opened(self) -> bool:
        """It is connected, as far as is known."""
        return self._channel is not None

    def channel(self) -> Any:
        """The open channel.

        Raises:
            OperationalError: it can't be opened.
        """
        if self._channel is None:
            try:
                self._open()
            except BaseException as exc:
                self.close()
                if isinstance(exc, Exception):
                    raise self.fault(exc) from exc
                raise
        return self._channel

    def _open(self) -> None:
        # Not kombu's own ways to connect: those try again, for ever if not told otherwise.
        self._client = self.address.connection()
        self._transport = self._client.transport
        self.errors = error_types(self._transport)
        self._raw = self._transport.establish_connection()
        # What asks the connection finds it there.
        self._client._connection = self._raw
        channel = self._transport.create_channel(self._raw)
        if hasattr(channel, "do_restore"):
            # What we hold is ours to give back, counted; kombu would do it behind our back.
            channel.do_restore = False
            channel.Message = tolerant(channel.Message)
        self._channel = channel
        self.generation += 1

    def fault(self, exc: BaseException) -> Exception:
        """The error to raise for this one."""
        return translate(exc, self.address.shown, self.errors)

    def run(self, function: Callable[[Any], Any]) -> Any:
        """Call with the channel; after an error the next use connects again."""
        channel = self.channel()
        try:
            return function(channel)
        except CarawayError:
            raise
        except Exception as exc:
            self.close()
            raise self.fault(exc) from exc

    def close(self) -> None:
        """End the connection.  Idempotent; errors are of no interest."""
        transport, raw, client = self._transport, self._raw, self._client
        self._channel = self._raw = self._transport = self._client = None
        self._declared.clear()
        self._subscribed.clear()
        self._arrived.clear()
        if raw is not None:
            try:
                transport.close_connection(raw)
            except Exception:  # noqa: BLE001 - it may be broken already
                collect(transport, raw)
        if client is not None:
            client._connection = None
            client._transport = None
            client._closed = True

    # -- queues ------------------------------------------------------------------------

    def declare(self, queue: Queue) -> None:
        """Create a queue as Celery does, with its exchange and binding; once a connection."""
        exchange = queue.exchange
        key = queue.routing_key or queue.name
        entry = (queue.name, exchange, key)
        if entry in self._declared or entry in self._otherwise:
            return
        arguments = dict(queue.arguments)
        if queue.max_priority is not None:
            arguments["x-max-priority"] = queue.max_priority

        def create(channel: Any) -> None:
            channel.queue_declare(
                queue=queue.name, durable=queue.durable, exclusive=False, auto_delete=False,
                arguments=arguments,
            )  # fmt: skip
            if exchange:
                channel.exchange_declare(
                    exchange=exchange, type=queue.exchange_type, durable=queue.durable,
                    auto_delete=False,
                )  # fmt: skip
                channel.queue_bind(queue=queue.name, exchange=exchange, routing_key=key)

        try:
            self.run(create)
        except CarawayError as exc:
            if not mismatch(exc.__cause__):
                raise
            # It is there with other arguments, and is used as it is.
            self._otherwise.add(entry)
            return
        self._declared.add(entry)

    def forget(self, queue: str) -> None:
        """It was deleted, with its rungs: declare it again before it is used."""
        rungs = f"{queue}.delay."
        self._declared = {
            entry
            for entry in self._declared
            if entry[0] != queue and not entry[0].startswith(rungs)
        }

    def size(self, queue: str) -> int:
        """How many messages are ready; 0 if there is no such queue."""
        channel = self.channel()
        try:
            return int(channel.queue_declare(queue=queue, passive=True).message_count)
        except Exception as exc:
            if not_found(exc):
                self._reopen(channel)
                return 0
            self.close()
            raise self.fault(exc) from exc

    def purge(self, queue: str) -> int:
        """Drop what is ready; return how many."""
        channel = self.channel()
        try:
            return int(channel.queue_purge(queue) or 0)
        except Exception as exc:
            if not_found(exc):
                self._reopen(channel)
                return 0
            self.close()
            raise self.fault(exc) from exc

    def delete(self, queue: str) -> int:
        """Remove a queue; return how many messages were ready."""
        count = self.purge(queue)
        self.forget(queue)
        self.run(lambda channel: channel.queue_delete(queue))
        return count

    def _reopen(self, channel: Any) -> None:
        """AMQP closes a channel over a queue that isn't there; the connection may live on,
        but what was declared is known by name only: begin anew."""
        if not getattr(channel, "is_open", True) or getattr(channel, "closed", False):
            self.close()

    # -- messages ----------------------------------------------------------------------

    def put(
        self,
        message: Message,
        marks: Mapping[str, Any],
        routing_key: str,
        exchange: str = "",
        priority: int = 0,
    ) -> None:
        """Write one message.

        Raises:
            Exception: whatever kombu raises; the caller tells a bad message from a bad
                connection.
        """
        channel = self.channel()
        headers = {**message.headers, **marks} if marks else dict(message.headers)
        properties = {k: v for k, v in message.properties.items() if k != "priority"}
        body: Any = message.body
        if getattr(channel, "body_encoding", "base64") != "base64":
            # Stored as text then, which not every body is.
            body = body.decode()
        channel.basic_publish(
            channel.prepare_message(
                body,
                priority=priority,
                content_type=message.content_type,
                content_encoding=message.content_encoding,
                headers=headers,
                properties=properties,
            ),
            exchange=exchange,
            routing_key=routing_key,
        )

    def take(self, queue: str, limit: int) -> list[Found]:
        """Take up to so many messages; none if none is ready.  Doesn't wait."""
        channel = self.channel()
        own = getattr(channel, "caraway_take", None)
        found: list[Found] = []
        try:
            if own is not None:
                return [self._found(queue, raw) for raw in own(queue, limit)]
            if hasattr(channel, "_get_many"):
                self._take_many(channel, queue, limit, found)
                return found
            while len(found) < limit:
                raw = channel.basic_get(queue, no_ack=False)
                if raw is None:
                    break
                found.append(self._found(queue, channel.message_to_python(raw)))
            return found
        except Empty:
            return found
        except Exception as exc:
            self.close()
            if found and self.address.facts.keeps in ("journal", "nothing"):
                # The broker has forgotten these; the error comes again if it is one.
                return found
            raise self.fault(exc) from exc

    def _found(self, queue: str, raw: Any) -> Found:
        found = self._read(raw)
        if self.journal is not None:
            try:
                self.journal.write(queue, found)
            except OSError as exc:
                self.put(found.message, found.marks(), queue, priority=found.priority)
                raise translate(exc, str(self.journal.folder), ()) from exc
        return found

    def _take_many(self, channel: Any, queue: str, limit: int, found: list[Found]) -> None:
        """For transports that get several in one request, which kombu does only for
        consumers."""
        if queue not in self._subscribed:
            # A queue each: a consumer of two would bring what was not asked for.
            channel.basic_consume(
                queue=queue, no_ack=False, callback=self._arrived.append,
                consumer_tag=f"caraway-{queue}",
            )  # fmt: skip
            self._subscribed.add(queue)
        qos = channel.qos
        while len(found) < limit:
            held = len(qos._delivered) - len(qos._dirty)
            channel.basic_qos(prefetch_count=held + limit - len(found))
            empty = False
            try:
                channel._get_many([queue], timeout=0)
            except (Empty, TimeoutError):
                empty = True  # some may have come before it was
            empty = empty or not self._arrived
            while self._arrived:
                found.append(self._found(queue, self._arrived.popleft()))
            if empty:
                break

    def ack(self, tags: Iterable[Any]) -> None:
        """Acknowledge; what is unknown by now is left out."""
        channel = self.channel()
        try:
            for tag in tags:
                try:
                    channel.basic_ack(tag)
                except KeyError:
                    # Of a connection before, by a transport that keeps them in memory.
                    pass
                if self.journal is not None:
                    self.journal.drop(tag)
        except Exception as exc:
            self.close()
            raise self.fault(exc) from exc

    def give_back(self, queue: str, found: Found, marks: Mapping[str, Any]) -> None:
        """Put a message that was taken back to its queue, with these headers of ours: to its
        old place where the transport can, else to the end."""
        own = getattr(self.channel(), "caraway_give_back", None)
        try:
            if own is not None:
                own(found.tag, marks)
                return
            # Written first: killed in between, it is there twice, and not never.
            self.put(found.message, marks, queue, priority=found.priority)
            if self.journal is not None:
                self.journal.drop(found.tag)
            self.channel().basic_ack(found.tag)
        except KeyError:
            return  # acknowledged with the connection before
        except Exception as exc:
            self.close()
            raise self.fault(exc) from exc

    def restore(self) -> None:
        """Have kombu give back what others took and let lie for longer than the visibility
        timeout, where it is kombu that does so."""
        channel = self.channel()
        restore = getattr(getattr(channel, "qos", None), "restore_visible", None)
        if restore is None:
            return
        limit = getattr(channel, "unacked_restore_limit", None)
        try:
            # At each call, not at each tenth: how often is ours to decide.
            restore(num=limit, interval=1)
        except Exception as exc:
            self.close()
            raise self.fault(exc) from exc

    def queues(self) -> Sequence[str]:
        """Names of queues that the broker can list; most can't."""
        listing = getattr(self.channel(), "caraway_queues", None)
        return listing() if listing is not None else ()

    # -- subscriptions -----------------------------------------------------------------

    def drain(self, timeout: float) -> None:
        """Have callbacks of `basic_consume` called for what arrives within the time.

        Raises:
            TransportUnavailable: the connection is gone.
        """
        self.channel()
        try:
            self._transport.drain_events(self._raw, timeout=timeout)
        except (Empty, TimeoutError):
            return
        except Exception as exc:
            self.close()
            raise self.fault(exc) from exc

    def check(self) -> None:
        """A round trip, where the transport has one."""
        channel = self.channel()
        if getattr(channel, "closed", False):
            self.close()
            raise TransportUnavailable(f"{self.address.shown} closed the connection")
        self.run(ask)


def returning(link: Link) -> Callable[[str, Found], None]:
    """Puts what a dead process held back to its queue."""

    def put(queue: str, found: Found) -> None:
        try:
            link.declare(Queue(name=queue))
            link.put(found.message, found.marks(), queue, priority=found.priority)
        except CarawayError:
            raise
        except Exception as exc:
            link.close()
            raise link.fault(exc) from exc

    return put
