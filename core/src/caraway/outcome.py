"""What became of one run, as data, and the one table that says what each kind means."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct

from caraway import states
from caraway.errors import TaskRevokedError, Terminated


class Outcome(Struct, gc=False):
    """What one run of a task came to.  It touches no transport and no store.

    Attributes:
        state: ``SUCCESS``, ``FAILURE``, ``RETRY``, ``REJECTED``, ``IGNORED`` or
            ``REVOKED``.
        value: what the function returned; for the other states the exception.
        payload: the meta record to store (docs/reference/wire-format.md, "Results"), None to
            store nothing.
        traceback: formatted, for failures and retries.
        retry: for ``RETRY``: the `caraway.errors.Retry` that was raised.
        requeue: for ``REJECTED``: True to put the message back at once.
        reason: for the dead letter, where there is one.
        runtime: seconds the function took.
    """

    state: str
    value: Any = None
    payload: bytes | None = None
    traceback: str | None = None
    retry: Any = None
    requeue: bool = False
    reason: str = ""
    runtime: float = 0.0


Action = Literal["ack", "release", "reject"]


class Meaning(Struct, frozen=True):
    """What an outcome's state means for the message.

    Attributes:
        action: settlement of the delivery when the task acknowledges late.
        stored: whether a result may be stored.
        links: which callbacks of the message follow: ``callbacks``, ``errbacks``, none.
        retried: whether the message is published again with one retry more.
    """

    action: Action
    stored: bool
    links: Literal["callbacks", "errbacks", ""]
    retried: bool = False


MEANING: Final[dict[str, Meaning]] = {
    states.SUCCESS: Meaning("ack", stored=True, links="callbacks"),
    states.FAILURE: Meaning("ack", stored=True, links="errbacks"),
    states.RETRY: Meaning("ack", stored=True, links="", retried=True),
    states.REVOKED: Meaning("ack", stored=True, links=""),
    states.IGNORED: Meaning("ack", stored=False, links=""),
    states.REJECTED: Meaning("reject", stored=False, links=""),
}
"""One row per state.  ``REJECTED`` with ``requeue`` releases instead."""


def revoked(
    why: str, signum: int | None = None, cause: BaseException | None = None
) -> TaskRevokedError:
    """The error of a task that was revoked: ``revoked``, ``expired`` or ``terminated``, the
    last by a signal.  A cause lends its traceback: where the task was."""
    error = TaskRevokedError(why)
    error.signum = signum
    return error if cause is None else error.with_traceback(cause.__traceback__)


def terminated_by(signum: int) -> type[Terminated]:
    """The class of `Terminated` for a signal: what is raised in another thread is a class,
    and can't be given anything."""
    made = _terminated_by.get(signum)
    if made is None:
        parts = {
            "__module__": Terminated.__module__,
            "__qualname__": "Terminated",
            "__doc__": Terminated.__doc__,
            "__reduce__": lambda self: (Terminated, self.args),
            "signum": signum,
        }
        made = _terminated_by[signum] = type("Terminated", (Terminated,), parts)
    return made


_terminated_by: dict[int, type[Terminated]] = {}
