"""Signals: functions that are called when something happens.  Names as in Celery.

Hot paths ask ``signal.receivers`` first; an empty list costs a truth test.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

Receiver = Callable[..., Any]
_NO_KEY: Any = object()


class Signal:
    """One kind of event.

    Args:
        name: for logs.
        doc: keyword arguments that receivers get besides ``signal`` and ``sender``.

    Attributes:
        receivers: those connected; empty means nobody listens.  Replaced, never
            changed, so that it can be walked while others connect.
    """

    __slots__ = ("__weakref__", "doc", "name", "receivers")

    def __init__(self, name: str, doc: str = "") -> None:
        self.name = name
        self.doc = doc
        self.receivers: tuple[tuple[Any, Any, Any], ...] = ()

    def connect(
        self,
        receiver: Receiver | None = None,
        sender: Any = None,
        *,
        weak: bool = True,
        dispatch_uid: Any = None,
        retry: bool = False,  # noqa: ARG002 - Celery's; receivers run once
    ) -> Any:
        """Call ``receiver(signal=, sender=, **fields)`` from now on.

        Also a decorator, bare or with arguments.

        Args:
            receiver: what to call.
            sender: only for this sender; a task may be given by its name.
            weak: keep only a weak reference: the receiver lives as long as its owner.
            dispatch_uid: connecting again with the same one changes nothing.

        Returns:
            The receiver, or without one a decorator.
        """
        if receiver is None:
            return lambda fun: self.connect(fun, sender, weak=weak, dispatch_uid=dispatch_uid)
        key = (dispatch_uid if dispatch_uid is not None else _identity(receiver), _key(sender))
        if any(known == key for known, _, _ in self.receivers):
            return receiver
        held: Any = receiver
        if weak:
            kind = weakref.WeakMethod if hasattr(receiver, "__self__") else weakref.ref
            try:
                held = kind(receiver, lambda _: self._drop(key))
            except TypeError:
                held = receiver  # builtins can't be held weakly, and don't go away
        self.receivers = (*self.receivers, (key, sender, held))
        return receiver

    def disconnect(
        self,
        receiver: Receiver | None = None,
        sender: Any = None,
        *,
        weak: bool | None = None,  # noqa: ARG002 - Celery's
        dispatch_uid: Any = None,
    ) -> bool:
        """Stop calling a receiver; False if it wasn't connected so."""
        uid = dispatch_uid if dispatch_uid is not None else _identity(receiver)
        return self._drop((uid, _key(sender)))

    def has_listeners(self, sender: Any = None) -> bool:
        """True if a send from ``sender`` would call somebody."""
        return any(wanted is None or _matches(wanted, sender) for _, wanted, _ in self.receivers)

    def send(self, sender: Any, **fields: Any) -> list[tuple[Receiver, Any]]:
        """Call all receivers; return what each returned.

        A receiver's exception is logged and stands in for its return value: a listener
        can't harm what it listens to.
        """
        answers: list[tuple[Receiver, Any]] = []
        for _, wanted, held in self.receivers:
            if wanted is not None and not _matches(wanted, sender):
                continue
            receiver = held() if isinstance(held, weakref.ref) else held
            if receiver is None:
                continue
            try:
                answer = receiver(signal=self, sender=sender, **fields)
            except Exception as exc:
                import logging

                logging.getLogger("caraway").exception(
                    "receiver %r of signal %s failed", receiver, self.name
                )
                answer = exc
            answers.append((receiver, answer))
        return answers

    send_robust = send

    def _drop(self, key: Any) -> bool:
        before = self.receivers
        self.receivers = tuple(each for each in before if each[0] != key)
        return len(self.receivers) < len(before)

    def __repr__(self) -> str:
        return f"<Signal {self.name} ({len(self.receivers)} receivers)>"


def _identity(target: Any) -> Any:
    if hasattr(target, "__self__") and hasattr(target, "__func__"):
        return (id(target.__self__), id(target.__func__))
    return id(target)


def _key(sender: Any) -> Any:
    return sender if sender is None or isinstance(sender, str) else id(sender)


def _matches(wanted: Any, sender: Any) -> bool:
    if wanted is sender:
        return True
    if isinstance(wanted, str):
        return wanted in (sender, getattr(sender, "name", _NO_KEY))
    return isinstance(sender, str) and getattr(wanted, "name", _NO_KEY) == sender


# -- publishing ------------------------------------------------------------------------
before_task_publish = Signal(
    "before_task_publish", "body exchange routing_key headers properties declare retry_policy"
)
after_task_publish = Signal("after_task_publish", "body headers exchange routing_key")
task_sent = Signal("task_sent", "deprecated: after_task_publish")

# -- tasks -----------------------------------------------------------------------------
task_received = Signal("task_received", "request")
task_prerun = Signal("task_prerun", "task_id task args kwargs")
task_postrun = Signal("task_postrun", "task_id task args kwargs retval state")
task_success = Signal("task_success", "result runtime")
task_retry = Signal("task_retry", "request reason einfo")
task_failure = Signal("task_failure", "task_id exception args kwargs traceback einfo")
task_internal_error = Signal(
    "task_internal_error", "task_id args kwargs request exception traceback einfo"
)
task_revoked = Signal("task_revoked", "request terminated signum expired")
task_rejected = Signal("task_rejected", "message exc")
task_unknown = Signal("task_unknown", "message exc name id")

# -- app and worker --------------------------------------------------------------------
import_modules = Signal("import_modules")
celeryd_init = Signal("celeryd_init", "instance conf options")
celeryd_after_setup = Signal("celeryd_after_setup", "instance conf")
worker_init = Signal("worker_init")
worker_before_create_process = Signal("worker_before_create_process")
worker_process_init = Signal("worker_process_init")
worker_process_shutdown = Signal("worker_process_shutdown", "pid exitcode")
worker_ready = Signal("worker_ready")
worker_shutting_down = Signal("worker_shutting_down", "sig how exitcode")
worker_shutdown = Signal("worker_shutdown")
heartbeat_sent = Signal("heartbeat_sent")

# -- logging ---------------------------------------------------------------------------
setup_logging = Signal("setup_logging", "loglevel logfile format colorize")
after_setup_logger = Signal("after_setup_logger", "logger loglevel logfile format colorize")
after_setup_task_logger = Signal(
    "after_setup_task_logger", "logger loglevel logfile format colorize"
)

# -- beat, eventlet, programs ----------------------------------------------------------
beat_init = Signal("beat_init")
beat_embedded_init = Signal("beat_embedded_init")
eventlet_pool_started = Signal("eventlet_pool_started")
eventlet_pool_preshutdown = Signal("eventlet_pool_preshutdown")
eventlet_pool_postshutdown = Signal("eventlet_pool_postshutdown")
eventlet_pool_apply = Signal("eventlet_pool_apply", "target args kwargs")
user_preload_options = Signal("user_preload_options", "app options")
