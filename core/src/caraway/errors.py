"""Every error of Caraway: names as in Celery where the meaning is the same.

An error says what happened; its ``hint`` says what to do about it.  Errors that cross
the wire (raised by tasks, stored as results) keep plain ``args`` so that any client can
rebuild them.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any


class CarawayError(Exception):
    """Base of all errors raised by Caraway.

    Args:
        *args: as for `Exception`; the first is the message.
        hint: one sentence that repairs, shown under the message; empty for none.
    """

    hint: str = ""

    def __init__(self, *args: object, hint: str = "") -> None:
        super().__init__(*args)
        if hint:
            self.hint = hint

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\n  hint: {self.hint}" if self.hint else text


# -- configuration and plugins ---------------------------------------------------------


class ImproperlyConfigured(CarawayError):
    """A setting, URL or option is unknown, malformed or contradicts another."""


class ComponentError(ImproperlyConfigured):
    """A component was asked for and can't be had; see the three subclasses."""


class ComponentNotInstalled(ComponentError):
    """Known to Caraway, but its bundle isn't installed; the hint is the pip command."""


class ComponentUnusable(ComponentError):
    """Installed, but blocked, failed to load, incompatible, or in conflict."""


class UnknownComponent(ComponentError):
    """No bundle, installed or known, provides this scheme or name."""


class SecurityError(CarawayError):
    """Content type not accepted, or a signature that doesn't hold."""


# -- broker and store ------------------------------------------------------------------


class OperationalError(CarawayError):
    """The broker or the result backend could not do what was asked."""


class TransportError(OperationalError):
    """An operation on the broker failed."""


class TransportUnavailable(TransportError):
    """The broker can't be reached now; trying again later may succeed."""


class PublishError(TransportError):
    """Some publications of a batch did not reach the broker.

    Attributes:
        failed: positions in the batch of those that are not in the broker.  All
            others are.  Publishing a failed one again is safe.

    Its cause is a `TransportUnavailable` where the broker went away in between.
    """

    def __init__(self, *args: object, failed: Sequence[int] = (), hint: str = "") -> None:
        super().__init__(*args, hint=hint)
        self.failed = tuple(failed)


class OwnerLost(TransportError):
    """The owner's lease lapsed or was reclaimed: open a consumer with a new owner.

    Raised by `Consumer.fetch`; settlements of a lost owner are fenced off instead.
    """


class StoreFull(TransportError):
    """Disk or memory of the store is full; nothing of the operation was kept."""


class StoreReadOnly(TransportError):
    """The store can be read but not written."""


class StoreCorrupt(TransportError):
    """The store's content is damaged, or is not a Caraway store at all."""


class SchemaMismatch(TransportError):
    """The store was written by a version of Caraway this one can't read."""


class QueueNotFound(CarawayError, KeyError):
    """A queue was named that no setting declares, and creating it is switched off."""

    __str__ = CarawayError.__str__


class BackendError(OperationalError):
    """An operation on the result backend failed."""


class BackendUnavailable(BackendError, TransportUnavailable):
    """The result backend can't be reached, or can't serve now; trying again may help."""


class BackendGetMetaError(BackendError):
    """A result could not be read."""


class BackendStoreError(BackendError):
    """A result could not be stored."""


# -- messages --------------------------------------------------------------------------


class EncodeError(CarawayError):
    """Arguments or a result can't be written by the serializer."""


class DecodeError(CarawayError):
    """Bytes are not what their content type says."""


class InvalidTaskError(CarawayError):
    """A message is not a task message of protocol 1 or 2."""


# -- tasks -----------------------------------------------------------------------------


class TaskError(CarawayError):
    """Base of errors about tasks."""


class NotRegistered(TaskError, KeyError):
    """No task of this name is registered in the app."""

    __str__ = CarawayError.__str__


class AlreadyRegistered(TaskError):
    """Two different tasks claim one name."""


class TimeoutError(TaskError, builtins.TimeoutError):  # noqa: A001 - Celery's name
    """A result did not arrive in time."""


class MaxRetriesExceededError(TaskError):
    """A task asked for one retry more than it may have."""

    def __init__(self, *args: object, task_args: Any = (), task_kwargs: Any = None) -> None:
        super().__init__(*args)
        self.task_args = task_args
        self.task_kwargs = dict(task_kwargs or {})


class TaskRevokedError(TaskError):
    """The task was revoked before it ran, or terminated while it ran.

    Attributes:
        signum: number of the signal that terminated it; None if none did, and in results,
            which don't tell.
    """

    signum: int | None = None


class ChordError(TaskError):
    """A member of a chord's header failed, so its body can't run."""


class IncompleteStream(TaskError):
    """A stream of results ended before its end marker."""


class TaskPredicate(CarawayError):
    """Base of what a task raises to steer its own fate."""


class Ignore(TaskPredicate):
    """End without storing a state; the message is acknowledged."""


class Reject(TaskPredicate):
    """Give the message back, or send it to the dead letters.

    Args:
        reason: kept with the dead letter.
        requeue: True puts the message back on its queue at once.
    """

    def __init__(self, reason: object = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue

    def __repr__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class Retry(TaskPredicate):
    """The task is to run again later.  Raised by `Task.retry`.

    Attributes:
        exc: the exception that made the task retry, or None.
        when: seconds from now (float), or an aware datetime; None means now.
        sig: options that override the message's, as a dict (``args``, ``kwargs`` and
            those of `Task.apply_async`).
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        when: Any = None,
        is_eager: bool = False,
        sig: Any = None,
    ) -> None:
        super().__init__(message, exc, when)
        self.message = message
        self.exc = exc
        self.when = when
        self.is_eager = is_eager
        self.sig = sig

    def humanize(self) -> str:
        """When the retry is due, for a log line."""
        if isinstance(self.when, (int, float)):
            return f"in {self.when}s"
        return f"at {self.when}"


class SoftTimeLimitExceeded(Exception):
    """Raised inside a task whose soft time limit passed."""


class TimeLimitExceeded(Exception):
    """The hard time limit passed: the run was ended from outside."""


class WorkerLostError(Exception):
    """The process that ran the task died."""


class Terminated(Exception):
    """Raised inside a task that somebody terminates, so that it can clean up.

    Attributes:
        signum: number of the signal that was asked for; None if the worker had to stop.
    """

    signum: int | None = None


# -- worker ----------------------------------------------------------------------------


class WorkerShutdown(SystemExit):
    """Stop the worker warmly."""


class WorkerTerminate(SystemExit):
    """Stop the worker at once."""
