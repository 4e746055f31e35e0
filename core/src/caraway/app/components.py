"""What an app is made of, each built when it is first asked for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from caraway.app import current
from caraway.app.configuration import Configuration
from caraway.app.talk import Talk
from caraway.interfaces.context import Capability, Context
from caraway.message import Publication, Queue, StoredResult
from caraway.protocol.ids import new_id
from caraway.request import current_request

if TYPE_CHECKING:
    from caraway.interfaces.backend import Backend
    from caraway.interfaces.serializer import Serializer
    from caraway.interfaces.transport import Transport
    from caraway.plugins.registry import Registry
    from caraway.producer import Producer
    from caraway.producer.io_thread import PublishThread
    from caraway.result.waiter import ResultWaiter
    from caraway.routing import Router

    Publish = Callable[[Sequence[Publication]], None]
    from caraway.app.registry import TaskRegistry

_UNKNOWN: Any = object()


class Components(Talk, Configuration):
    """The parts of an app; see `caraway.app.Caraway`."""

    on_after_fork: Any
    _plugins: tuple[object, ...]
    _tasks: TaskRegistry

    def __init__(self) -> None:
        super().__init__()
        self._registry: Registry | None = None
        self._context: Context | None = None
        self._transport: Transport | None = None
        self._backend: Backend | None = None
        self._producer: Producer | None = None
        self._router: Router | None = None
        self._queues: dict[str, Queue] | None = None
        self._middleware: tuple[Any, ...] | None = None
        self._publish_chain: Publish | Any | None = _UNKNOWN
        self._publish_thread: PublishThread | None = None
        self._result_waiter: ResultWaiter | None = None
        self._result_serializer: Serializer | None = None
        self._origin = ""
        self._oid = ""
        self._reply_to = ""

    # -- components --------------------------------------------------------------------

    def forget_plans(self) -> None:
        """Settings changed: what was derived from them is made anew."""
        self._router = self._queues = self._middleware = None
        self._publish_chain = _UNKNOWN
        self._result_serializer = None
        self._reply_to = ""
        for task in self._tasks.values():
            task.forget_plans()

    @property
    def registry(self) -> Registry:
        """Finds components by scheme or name."""
        registry = self._registry
        if registry is None:
            from caraway.plugins.registry import Registry

            conf = self.conf
            with self._lock:
                registry = self._registry
                if registry is None:
                    registry = self._registry = Registry.discover(
                        plugins=self._plugins,
                        block=conf.plugins_block,
                        prefer=conf.plugins_prefer,
                    )
        return registry

    @property
    def context(self) -> Context:
        """What components may use of their surroundings; tests replace its clocks."""
        context = self._context
        if context is None:
            conf = self.conf
            context = self._context = Context(
                settings=conf,
                node=self.node,
                oid=self.oid,
                directory=conf.project.directory,
            )
        return context

    @context.setter
    def context(self, context: Context) -> None:
        if self._transport is not None or self._backend is not None:
            raise RuntimeError("set the context before the transport and the backend are built")
        self._context = context

    @property
    def transport(self) -> Transport:
        """The broker."""
        transport = self._transport
        if transport is None:
            registry, context, url = self.registry, self.context, self.conf.broker_url
            with self._lock:
                transport = self._transport
                if transport is None:
                    transport = self._transport = registry.transport(url, context)
        return transport

    @property
    def backend_enabled(self) -> bool:
        """True if results are kept anywhere."""
        url = self.conf.result_backend
        return bool(url) and not str(url).startswith("disabled")

    @property
    def backend(self) -> Backend:
        """Where results are kept; one that refuses if they aren't."""
        backend = self._backend
        if backend is None:
            registry, context, url = self.registry, self.context, self.conf.result_backend
            enabled = self.backend_enabled
            with self._lock:
                backend = self._backend
                if backend is None:
                    if enabled and url is not None:
                        backend = registry.backend(url, context)
                    else:
                        from caraway.result.disabled import DisabledBackend

                        backend = DisabledBackend()
                    self._backend = backend
        return backend

    @property
    def producer(self) -> Producer:
        """Publishes; joins calls that are made at the same moment."""
        producer = self._producer
        if producer is None:
            from caraway.producer import Producer

            conf = self.conf
            with self._lock:
                producer = self._producer
                if producer is None:
                    producer = self._producer = Producer(
                        lambda: self.transport,
                        timeout=conf.broker_publish_timeout,
                        policy=conf.task_publish_retry_policy if conf.task_publish_retry else None,
                    )
        return producer

    @property
    def publish_thread(self) -> PublishThread:
        """Publishes for coroutines."""
        thread = self._publish_thread
        if thread is None:
            from caraway.producer.io_thread import PublishThread

            publish = self.publish_middleware or self.producer.publish
            with self._lock:
                thread = self._publish_thread
                if thread is None:
                    thread = self._publish_thread = PublishThread(
                        publish, timeout=float(self.conf.broker_publish_timeout)
                    )
        return thread

    @property
    def result_waiter(self) -> ResultWaiter:
        """Waits for results on behalf of coroutines."""
        waiter = self._result_waiter
        if waiter is None:
            from caraway.result.waiter import ResultWaiter

            with self._lock:
                waiter = self._result_waiter
                if waiter is None:
                    waiter = self._result_waiter = ResultWaiter(lambda: self.backend)
        return waiter

    @property
    def result_serializer(self) -> Serializer:
        """Of ``result_serializer``."""
        serializer = self._result_serializer
        if serializer is None:
            serializer = self.registry.serializer(self.conf.result_serializer)
            self._result_serializer = serializer
        return serializer

    @property
    def middleware(self) -> tuple[Any, ...]:
        """Middleware around runs and publishes, outermost first."""
        middleware = self._middleware
        if middleware is None:
            middleware = self._middleware = tuple(
                self._make_middleware(each) for each in self.conf.middleware
            )
        return middleware

    def _make_middleware(self, each: Any) -> Any:
        found = self.registry.middleware(each) if isinstance(each, str) else each
        return found() if isinstance(found, type) else found

    @property
    def publish_middleware(self) -> Publish | None:
        """The chain around publishing; None if no middleware has anything to do there."""
        if self._publish_chain is _UNKNOWN:
            plain = not self.middleware and not self.conf.task_send_sent_event
            self._publish_chain = None if plain else self.publish_through(self.producer.publish)
        found: Publish | None = self._publish_chain
        return found

    def publish_through(self, publish: Publish) -> Publish:
        """The middleware's chain around another way to publish."""
        from caraway.middleware import compile_publish

        if self.conf.task_send_sent_event:
            publish = self.events.announcing(publish)
        return compile_publish(self.middleware, publish)

    # -- routing -----------------------------------------------------------------------

    def queues(self, names: Sequence[str] | str | None = None) -> list[Queue]:
        """Queues to consume.

        Args:
            names: of queues, declared or not; None: all of ``task_queues``, or the
                default queue.

        Raises:
            QueueNotFound: a name isn't declared, and creating is switched off.
        """
        from caraway.app.places import choose_queues

        return choose_queues(self.router, names)

    def _declared_queues(self) -> dict[str, Queue]:
        queues = self._queues
        if queues is None:
            from caraway.app.places import declared_queues

            queues = self._queues = declared_queues(self.conf)
        return queues

    @property
    def router(self) -> Router:
        """Finds the queue of a task."""
        router = self._router
        if router is None:
            from caraway.app.places import make_router

            router = self._router = make_router(self.conf, self._declared_queues())
        return router

    # -- names -------------------------------------------------------------------------

    @property
    def node(self) -> str:
        """Name of this process: ``gen<pid>@<host>``, as in message headers."""
        return self.origin

    @property
    def origin(self) -> str:
        """The header ``origin``."""
        if not self._origin:
            import platform

            self._origin = f"gen{os.getpid()}@{platform.node()}"
        return self._origin

    @property
    def oid(self) -> str:
        """Id of this app in this process: the reply queue's name in messages."""
        self._oid = self._oid or new_id()
        return self._oid

    thread_oid = oid

    @property
    def replies(self) -> bool:
        """True if results go to the caller's own queue (`Capability.REPLIES`)."""
        url = self.conf.result_backend
        return self.backend_enabled and Capability.REPLIES in self.registry.capabilities(
            "backend", url or ""
        )

    @property
    def reply_to(self) -> str:
        """The property ``reply_to`` of messages; where results come that way, its queue is
        ready for them."""
        if not self._reply_to:
            self._reply_to = self.backend.expect() if self.replies else self.oid
        return self._reply_to

    # -- states ------------------------------------------------------------------------

    def store_state(self, task_id: str | None, state: str, meta: Any) -> None:
        """Store a state of a task; see `Task.update_state`.

        Raises:
            ValueError: there is no task id (outside of a run).
        """
        from caraway.protocol.result import encode_exception, encode_meta

        if not task_id:
            raise ValueError("update_state() needs a task_id outside of a running task")
        if isinstance(meta, BaseException):
            meta = encode_exception(meta)
        self.store_payload(
            task_id, state, encode_meta(self.result_serializer, task_id, state, meta)
        )

    def store_payload(self, task_id: str, state: str, payload: bytes) -> None:
        """Store a state that is encoded already."""
        ttl = float(self.conf.result_expires or 0.0)
        request = current_request.get()
        # Of another task nobody knows here who waits for it.
        own = request is not None and request.id == task_id
        reply_to = (request.reply_to or "") if request is not None and own else ""
        self.backend.store([StoredResult(task_id, state, payload, ttl, reply_to)])

    # -- life --------------------------------------------------------------------------

    def close(self) -> None:
        """Publish what waits, and free connections.  The app can be used again."""
        with self._lock:
            thread, self._publish_thread = self._publish_thread, None
            transport, self._transport = self._transport, None
            backend, self._backend = self._backend, None
            waiter, self._result_waiter = self._result_waiter, None
        if waiter is not None:
            waiter.close()
        if thread is not None:
            # what it still has goes through a connection of its own
            with self._lock:
                if self._transport is None:
                    self._transport, transport = transport, None
            thread.close()
            with self._lock:
                transport, self._transport = self._transport, None
        if self._producer is not None:
            self._producer.disconnect()
        if transport is not None:
            transport.close()
        if backend is not None:
            backend.close()
            if Capability.REPLIES in backend.capabilities:
                self.forget_plans()  # their reply queue is gone

    def forget_connections(self) -> None:
        """Drop, without closing, what a forked child inherited: it is the parent's."""
        self._lock = threading.RLock()
        self._transport = self._backend = None
        self._publish_thread = self._result_waiter = None
        self.forget_talk()
        self._context = None
        self._origin = self._oid = self._reply_to = ""
        if self._producer is not None:
            self._producer.reset()
        for task in self._tasks.values():
            task.forget_plans()
        self.on_after_fork.send(sender=self)


def _forget_all() -> None:
    for app in list(current.apps):
        app.forget_connections()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
