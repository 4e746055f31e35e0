"""Results as messages to the queue of whoever sent the task, as Celery's ``rpc://``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from caraway.errors import (
    BackendError,
    BackendStoreError,
    BackendUnavailable,
    ImproperlyConfigured,
    PublishError,
    TransportError,
    TransportUnavailable,
)
from caraway.interfaces.backend import Backend
from caraway.interfaces.context import Capability
from caraway.message import ChordPart, Message, Publication, StoredResult
from caraway_amqp.link import Link
from caraway_amqp.options import SCHEMES, Address, read_address, read_options
from caraway_amqp.publishing import Publisher
from caraway_amqp.replies import ReplyQueue
from caraway_amqp.topology import Shapes

if TYPE_CHECKING:
    from caraway.interfaces.context import Context
    from caraway.url import Url

_CONTENT = {
    "json": ("application/json", "utf-8"),
    "yaml": ("application/x-yaml", "utf-8"),
    "msgpack": ("application/x-msgpack", "binary"),
    "pickle": ("application/x-python-serialize", "binary"),
    "auth": ("application/data", "utf-8"),
}
"""Content type and encoding by the name of a serializer: what Celery's clients go by."""
_DAY = 86400.0


class RpcBackend(Backend):
    """Results in the reply queue of the app that sent the task: read by that app, in that
    process, and nowhere else.

    Args:
        url: ``rpc://``, which is the broker's RabbitMQ; or ``rpc://user:password@host/vhost``.
        options: as of the transport; with ``rpc://`` over `broker_transport_options`.
        context: its settings `broker_url`, `result_expires`, `result_persistent` and
            `result_serializer` are read, and those that the transport reads.

    Raises:
        ImproperlyConfigured: the broker isn't a RabbitMQ, or an option can't be.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.PUSH, Capability.TTL, Capability.REPLIES}
    )

    def __init__(self, url: Url, options: Mapping[str, Any], context: Context) -> None:
        settings = context.settings
        self._addresses = _addresses(url, options, context)
        self._context = context
        name = settings.get("result_serializer") or "json"
        self._content_type, self._encoding = _CONTENT.get(name, (name, "binary"))
        self._mode = 2 if settings.get("result_persistent") else 1
        self._closed = False
        self._publisher = Publisher(
            lambda left: self.connect(left, f"caraway {context.node} results"),
            Shapes(settings),
            context.clock,
            lambda: context.logger.getChild("backend.rpc"),
        )
        self._replies = ReplyQueue(
            context.oid,
            lambda left: self.connect(left, f"caraway {context.node} replies"),
            context.clock,
            float(settings.get("result_expires") or _DAY),
        )

    def connect(self, timeout: float, name: str) -> Link:
        """Open a connection to the first of the broker's addresses that answers.

        Raises:
            TransportError: none does.
        """
        if self._closed:
            raise TransportError("the result backend is closed", hint="Open a new one.")
        error: TransportError | None = None
        for address in self._addresses:
            most = address.timeout
            try:
                return Link(address, name, min(timeout, most) if timeout > 0 else most)
            except TransportUnavailable as exc:
                error = error or exc
        assert error is not None
        raise error

    # -- the worker's side -------------------------------------------------------------

    def store(self, results: Sequence[StoredResult]) -> None:
        publications = [self._publication(each) for each in results if each.reply_to]
        if not publications:
            self._check()
            return
        with _in_our_words():
            try:
                # Whoever waits may be gone: then there is no queue, and nobody to miss it.
                self._publisher.publish(publications, loose=True)
            except PublishError as exc:
                raise BackendStoreError(*exc.args, hint=exc.hint) from exc

    def _publication(self, result: StoredResult) -> Publication:
        properties: dict[str, Any] = {
            "correlation_id": result.task_id, "delivery_mode": self._mode,
        }  # fmt: skip
        if result.ttl > 0:
            properties["expiration"] = str(max(1, int(result.ttl * 1000)))
        message = Message(result.payload, {}, self._content_type, self._encoding, properties)
        # The broker counts from its coming, whoever reads it from here: see `ReplyQueue`.
        expires = self._context.clock() + result.ttl if result.ttl > 0 else 0.0
        return Publication(message, result.reply_to, expires=expires)

    # -- the caller's side -------------------------------------------------------------

    def expect(self) -> str:
        with _in_our_words():
            return self._replies.expect()

    def get(self, task_ids: Sequence[str]) -> Mapping[str, StoredResult]:
        self._check_ours()
        with _in_our_words():
            return self._replies.get(task_ids)

    def wait(self, task_ids: Sequence[str], timeout: float) -> Mapping[str, StoredResult]:
        self._check_ours()
        with _in_our_words():
            return self._replies.wait(task_ids, timeout)

    def forget(self, task_ids: Sequence[str]) -> int:
        self._check_ours()
        with _in_our_words():
            return self._replies.forget(task_ids)

    def cleanup(self) -> int:
        return self._replies.cleanup()

    def _check(self) -> None:
        if self._closed:
            raise BackendError("the result backend is closed", hint="Open a new one.")

    def _check_ours(self) -> None:
        self._check()
        if not self._replies.expecting:
            raise BackendError(
                "this process has sent no task, and with rpc:// results can only be read "
                "where the task was sent",
                hint="Ask in the process that sent it, or use a result backend that keeps "
                "results for all (redis://, sqlite://).",
            )

    def ping(self) -> None:
        with _in_our_words():
            self._publisher.ping()

    def close(self) -> None:
        self._replies.close()
        self._closed = True
        self._publisher.close()

    # -- what it can't -----------------------------------------------------------------

    def save_group(self, group_id: str, payload: bytes, ttl: float) -> None:  # noqa: ARG002
        _refuse("saved groups")

    def restore_group(self, group_id: str) -> bytes | None:  # noqa: ARG002
        _refuse("saved groups")

    def delete_group(self, group_id: str) -> None:  # noqa: ARG002
        _refuse("saved groups")

    def join(self, group_id: str, member: str, size: int, ttl: float) -> bool:  # noqa: ARG002
        _refuse("joins")

    def chord_parts(self, parts: Sequence[ChordPart]) -> Sequence[Sequence[bytes] | None]:  # noqa: ARG002
        _refuse("chords")

    def chord_sent(self, group_ids: Sequence[str]) -> None:  # noqa: ARG002
        _refuse("chords")


def _refuse(what: str) -> NoReturn:
    raise BackendError(
        f"rpc:// has no {what}: nobody but the caller sees a result",
        hint="Use a result backend that keeps results for all, such as redis://.",
    )


@contextmanager
def _in_our_words() -> Iterator[None]:
    """What the transport's parts raise, as a backend says it."""
    try:
        yield
    except BackendError:
        raise
    except TransportUnavailable as exc:
        raise BackendUnavailable(*exc.args, hint=exc.hint) from exc
    except TransportError as exc:
        raise BackendError(*exc.args, hint=exc.hint) from exc


def _addresses(url: Url, options: Mapping[str, Any], context: Context) -> list[Address]:
    """Where the replies go: the URL's own host, or the broker, all its URLs."""
    if url.host:
        return [read_address(url, read_options(url, options), context)]
    brokers = context.settings.get("broker_url") or ()
    if isinstance(brokers, str):
        from caraway.url import Url as Parsed

        brokers = Parsed.parse_list(brokers)
    found = list(brokers) if isinstance(brokers, list | tuple) else [brokers]
    given = {
        **(context.settings.get("broker_transport_options") or {}),
        **{name: value for name, value in options.items() if value is not None},
        **url.query,
    }
    for broker in found:
        if broker.scheme not in SCHEMES:
            raise ImproperlyConfigured(
                f"rpc:// sends results through the broker, and {broker} is no RabbitMQ",
                hint="Name the RabbitMQ in the URL (rpc://user:password@host/vhost), or use "
                "another result_backend.",
            )
    return [read_address(each, read_options(each, given), context) for each in found]
