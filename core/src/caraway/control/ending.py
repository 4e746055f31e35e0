"""What each signal means to a task that is terminated.

Celery sends the signal to the process that runs the task.  Here it says how the task is to
end, in every pool; no process is sent anything but SIGKILL.
"""

from __future__ import annotations

import signal as _signals
from typing import Final, Literal

from caraway.errors import ImproperlyConfigured

Way = Literal["raise", "limit", "kill"]
"""``raise``: `caraway.errors.Terminated` is raised in the task; ``limit``: its soft time limit
passes now; ``kill``: its process is killed."""

_RAISES: Final = frozenset(("SIGTERM", "SIGINT", "SIGHUP"))
_LIMITS: Final = "SIGUSR1"
_ENDS_NOTHING: Final = frozenset(
    ("SIGCHLD", "SIGCLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG",
     "SIGWINCH")
)  # fmt: skip
_EVERYWHERE: Final = {"SIGHUP": 1, "SIGQUIT": 3, "SIGKILL": 9, "SIGUSR1": 10}
"""Numbers of those that this platform may lack, and its workers understand all the same."""
_HINT: Final = (
    "SIGTERM raises Terminated in the task, SIGUSR1 has its soft time limit pass, SIGKILL kills "
    "its process"
)


def signal_number(signal: str | int | None) -> int:
    """The number of a signal that ends a task.

    Args:
        signal: name, with or without ``SIG``, or number; None is SIGTERM.

    Raises:
        ImproperlyConfigured: there is no such signal, or none that ends anything.
    """
    text = "SIGTERM" if signal is None else str(signal).strip().upper()
    number: int | None
    if text.isdecimal():
        number = int(text)
        known = _name_of(number) is not None
    else:
        text = text if text.startswith("SIG") else f"SIG{text}"
        found = getattr(_signals.Signals, text, None)
        number = _EVERYWHERE.get(text) if found is None else int(found)
        known = number is not None
    if not known or number is None:
        raise ImproperlyConfigured(f"there is no signal {signal!r}", hint=_HINT)
    if _name_of(number) in _ENDS_NOTHING:
        raise ImproperlyConfigured(f"{signal_name(number)} doesn't end a task", hint=_HINT)
    return number


def signal_name(number: int) -> str:
    """The name of a signal: ``SIGKILL``."""
    return _name_of(number) or f"signal {number}"


def way_of(number: int) -> Way:
    """What a signal does to a task."""
    name = _name_of(number)
    if name in _RAISES:
        return "raise"
    return "limit" if name == _LIMITS else "kill"


def _name_of(number: int) -> str | None:
    try:
        return _signals.Signals(number).name
    except ValueError:
        return next((name for name, each in _EVERYWHERE.items() if each == number), None)
