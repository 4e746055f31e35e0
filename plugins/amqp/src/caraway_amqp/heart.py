"""One thread that sends the heartbeats of this process's idle connections.

Connections that are in use send their own.  The thread needs the interpreter only for
moments, which every task gives it that is written in Python; docs/how-to/rabbitmq.md says
what is left of one that isn't.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

from caraway.errors import TransportError

if TYPE_CHECKING:
    from caraway_amqp.link import Link

_links: weakref.WeakSet[Link] = weakref.WeakSet()
_state = threading.Lock()
_thread: tuple[int, threading.Thread] | None = None
_stop = threading.Event()


def _forked() -> None:
    """A child has neither the thread nor a use for its parent's connections."""
    global _state, _thread
    _state, _thread = threading.Lock(), None
    _links.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def watch(link: Link) -> None:
    """Keep this link alive until it is closed."""
    global _thread
    if not link.heartbeat:
        return
    with _state:
        _links.add(link)
        # A child of a fork has the variables, and not the thread.
        if _thread is None or _thread[0] != os.getpid() or not _thread[1].is_alive():
            thread = threading.Thread(target=_beat, name="caraway-amqp-heart", daemon=True)
            _thread = (os.getpid(), thread)
            thread.start()


def forget(link: Link) -> None:
    """It is closed."""
    with _state:
        _links.discard(link)


def _beat() -> None:
    while True:
        with _state:
            links = list(_links)
        pause = min((link.heartbeat for link in links), default=60) / 6
        for link in links:
            # Whoever has the lock is using the link, and so sends by himself.
            if link.lock.acquire(blocking=False):
                try:
                    link.tick()
                except TransportError:
                    pass
                finally:
                    link.lock.release()
        del links
        _stop.wait(min(pause, 20.0))
