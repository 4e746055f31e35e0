"""What keeps this process's connections alive while nobody uses them.

Connections that are in use send their own heartbeats; a thread sends those of idle ones,
reads what the broker sends there, and does what else a connection wants done now and then
(`Link.chore`).  A task that holds
the interpreter's lock stops that thread like any other.  So a consumer's connection,
whose end would give its messages to others, gets a `caraway_amqp.pacemaker` besides.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

from caraway.errors import CarawayError

if TYPE_CHECKING:
    from caraway_amqp.link import Link

_LONGEST = 20.0
"""Seconds between two looks, at most."""


class _Heart:
    """The thread, and the links that it looks at."""

    def __init__(self) -> None:
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._changed = threading.Event()

    def watch(self, link: Link) -> None:
        """Keep this link alive until it is closed."""
        with self._lock:
            self._links.add(link)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._beat, name="caraway-amqp-heart", daemon=True
                )
                self._thread.start()
        self._changed.set()

    def forget(self, link: Link) -> None:
        """It is closed."""
        with self._lock:
            self._links.discard(link)

    def links(self) -> list[Link]:
        """All, without the lock: for a child, whose parent may have held it."""
        try:
            return list(self._links)
        except RuntimeError:  # it was forked while one was added
            return []

    def _beat(self) -> None:
        while True:
            with self._lock:
                links = list(self._links)
            pause = _LONGEST
            for link in links:
                if link.every:
                    pause = min(pause, link.every)
                # Whoever has the lock is using the link, and so does all this himself.
                if link.lock.acquire(blocking=False):
                    try:
                        link.idle()
                        if link.chore is not None:
                            link.chore()
                    except CarawayError:
                        # Whoever uses it next is told.
                        pass
                    finally:
                        link.lock.release()
            links.clear()
            self._changed.wait(pause)
            self._changed.clear()


_hearts = {os.getpid(): _Heart()}


def _forked() -> None:
    """A child has neither the thread nor a use for its parent's connections.  Nor may it
    keep them open: the broker would take its parent for alive when that is dead."""
    inherited = [heart.links() for heart in _hearts.values()]
    _hearts.clear()
    _hearts[os.getpid()] = _Heart()
    for links in inherited:
        for link in links:
            link.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def watch(link: Link) -> None:
    """Keep this link alive until it is closed."""
    _hearts[os.getpid()].watch(link)


def forget(link: Link) -> None:
    """It is closed."""
    _hearts[os.getpid()].forget(link)
