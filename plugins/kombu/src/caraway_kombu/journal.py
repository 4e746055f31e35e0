"""What was taken from a broker that forgets what it has given away.

Most of kombu's transports take a message out of the broker before they hand it over.  The
bridge writes such a message to a file of the worker's machine first, and removes the file
when the message is settled.  The files of a dead process are read by whoever looks next, its
supervisor or another worker, who puts the messages back.

The files aren't synced: they are for the death of processes.  When the machine goes down,
what its workers held may be lost, and so is what was on its way when a process was killed.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from caraway.errors import ImproperlyConfigured
from caraway.message import Message
from caraway_kombu.home import Home
from caraway_kombu.marks import Found

if TYPE_CHECKING:
    from caraway_kombu.address import Address

# Not typed.
dumps: Any = import_module("kombu.utils.json").dumps
loads: Any = import_module("kombu.utils.json").loads
_log = logging.getLogger("caraway.kombu")
Put = Callable[[str, Found], None]
"""Puts a message back to a queue."""


class Entry(msgspec.Struct, array_like=True, gc=False):
    """One message, as it is written.  Headers and properties are JSON as kombu writes it, for
    what it could read can be written so."""

    queue: str
    body: bytes
    headers: str
    content_type: str
    content_encoding: str
    properties: str
    attempts: int
    due: float
    expires: float
    priority: int


def place(address: Address, option: Any, directory: str) -> Path | None:
    """The folder of a broker's journal; None if none is wanted.

    Args:
        address: of the broker; each has a folder of its own.
        option: the user's: a folder, or False.
        directory: the project's.
    """
    if option is False or str(option).lower() in ("false", "no", "off", "0"):
        return None
    above = Path(directory) / (str(option) if option else ".caraway/kombu")
    return above / hashlib.sha256(address.shown.encode()).hexdigest()[:16]


class Journal:
    """What one consumer has in hand, as files.  For one thread at a time.

    Args:
        folder: of all processes of this machine that use this broker.

    Raises:
        ImproperlyConfigured: it can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            # It holds what the broker would show to those with a password only.
            folder.mkdir(mode=0o700, exist_ok=True)
            self.home = Home(folder)
        except OSError as exc:
            raise ImproperlyConfigured(
                f"the journal of what this worker holds can't be written: {exc}",
                hint="Name a folder that outlives the worker: broker_transport_options ="
                ' {"journal": "/var/lib/shop"}. "journal": False does without, and'
                " what a killed worker held is lost.",
            ) from exc
        self._names = count()
        self._out: dict[Any, tuple[Path, str, Found]] = {}

    def write(self, queue: str, found: Found) -> None:
        """Keep a message until it is dropped.

        Raises:
            OSError: it can't be written.
        """
        message = found.message
        entry = Entry(
            queue, message.body, dumps(message.headers), message.content_type,
            message.content_encoding, dumps(message.properties),
            found.attempts, found.due, found.expires, found.priority,
        )  # fmt: skip
        path = self.home.folder / f"{next(self._names):012d}"
        path.write_bytes(msgspec.msgpack.encode(entry))
        self._out[found.tag] = (path, queue, found)

    def drop(self, tag: Any) -> None:
        """It is settled, or is in the broker again."""
        kept = self._out.pop(tag, None)
        if kept is not None:
            kept[0].unlink(missing_ok=True)

    def strays(self, held: Collection[Any]) -> list[tuple[str, Found]]:
        """Those that were taken and that nobody has, after an error: with their queues.

        Args:
            held: tags that somebody has.
        """
        return [(queue, found) for tag, (_, queue, found) in self._out.items() if tag not in held]

    def close(self) -> None:
        """End it; what is still in it will be put back by others."""
        self.home.close()


def sweep(folder: Path, put: Put, own: Journal | None = None) -> int:
    """Put back what dead processes held, counted as delivered; return how many.

    Args:
        folder: as of a journal.
        put: what it raises ends the sweep; the rest stays for the next one.
        own: this process's journal.
    """
    number = 0
    for path in Home.abandoned(folder, own.home if own is not None else None):
        try:
            entry = msgspec.msgpack.decode(path.read_bytes(), type=Entry)
            headers, properties = loads(entry.headers), loads(entry.properties)
        except (OSError, ValueError) as exc:
            # A process was killed while it wrote: what there is, a person may still read.
            kept = folder / f"{path.parent.name}-{path.name}.broken"
            path.replace(kept)
            _log.error("a message that was being written at a kill isn't whole: %s: %s", kept, exc)
            continue
        found = Found(
            Message(
                entry.body, headers, entry.content_type, entry.content_encoding, properties
            ),
            None,
            entry.attempts + 1,
            due=entry.due,
            expires=entry.expires,
            priority=entry.priority,
        )  # fmt: skip
        # In this order: killed in between, it is there twice, and not never.
        put(entry.queue, found)
        path.unlink(missing_ok=True)
        number += 1
    if number:
        _log.warning("%d messages that a dead process held were put back", number)
    return number
