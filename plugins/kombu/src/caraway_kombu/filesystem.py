"""kombu's filesystem transport, made safe: the same files, none of them lost.

kombu deletes a message's file before the message is handled, reads files that are being
written, and orders those of one millisecond by chance.  This one writes a file whole or not
at all, moves what it takes into a folder of its own until it is acknowledged, and puts back
what the folders of dead processes hold.  Celery and Caraway may use one folder together;
what Celery's workers take is as unsafe as ever.
"""

from __future__ import annotations

import bisect
import itertools
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

from caraway.errors import ImproperlyConfigured
from caraway_kombu.home import Home

if TYPE_CHECKING:
    from caraway.interfaces import Context
    from caraway.url import Url

# Not typed, all of it.
kombus: Any = import_module("kombu.transport.filesystem")
ChannelError: Any = import_module("kombu.exceptions").ChannelError
dumps: Any = import_module("kombu.utils.json").dumps
loads: Any = import_module("kombu.utils.json").loads

SWEEP = 1.0
"""Seconds between looks for what dead processes left."""
_STALE = 0.05
"""Seconds for which names read from the folder are worth a try."""
_SETTLED = 0.1
"""Seconds after which a folder's time of change tells all changes."""
_count = itertools.count()


class Channel(kombus.Channel):  # type: ignore[misc]
    """kombu's channel, with files that are held until they are acknowledged."""

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self._held: dict[str, str] = {}
        self._home: Home | None = None
        self._names: dict[str, list[str]] = {}
        self._listed = 0.0
        self._changed = -1
        self._swept = 0.0

    # -- writing -----------------------------------------------------------------------

    def _put(self, queue: str, payload: Mapping[str, Any], **_: Any) -> None:
        # As kombu's name, with a count so that the order of one millisecond is kept.
        begin = f"{round(time.monotonic() * 1000)}_{next(_count):010d}-{uuid.uuid4()}"
        self._write(Path(self.data_folder_out), _file(begin, queue), payload)

    def _write(self, folder: Path, name: str, payload: Mapping[str, Any]) -> None:
        hidden = folder / f".new-{uuid.uuid4()}"
        try:
            hidden.write_bytes(dumps(payload).encode())
            hidden.rename(folder / name)
        except OSError as exc:
            hidden.unlink(missing_ok=True)
            raise ChannelError(f"a message can't be written to {folder}: {exc}") from exc

    # -- taking ------------------------------------------------------------------------

    def caraway_take(self, queue: str, limit: int) -> list[Any]:
        """Up to so many messages, the oldest first, held until they are acknowledged."""
        if time.monotonic() - self._swept > SWEEP:
            self.caraway_sweep()
        taken: list[Any] = []
        if self._home is None:
            self._home = Home(Path(self.data_folder_in) / ".held")
        home = self._home.folder
        folder = self.data_folder_in
        for _ in range(2):
            names = self._find(queue)
            at = 0
            while at < len(names) and len(taken) < limit:
                name = names[at]
                at += 1
                try:
                    os.rename(os.path.join(folder, name), home / name)
                except FileNotFoundError:
                    continue  # somebody else was first
                except OSError as exc:
                    raise ChannelError(f"{name} can't be taken: {exc}") from exc
                message = self.Message(_read(home / name, queue), channel=self)
                self._held[message.delivery_tag] = name
                taken.append(message)
            del names[:at]
            if taken or not at:
                break
        return taken

    def _get(self, queue: str, timeout: float | None = None) -> Any:  # noqa: ARG002 - kombu's
        """For kombu's own consumers, which here are those of broadcasts."""
        found = self.caraway_take(queue, 1)
        if not found:
            raise Empty
        raw = found[0]._raw
        self.basic_ack(found[0].delivery_tag)
        return raw

    def basic_get(self, queue: str, **options: Any) -> Any:
        found = self.caraway_take(queue, 1)
        if found and options.get("no_ack"):
            self.basic_ack(found[0].delivery_tag)
        return found[0] if found else None

    def _find(self, queue: str) -> list[str]:
        """Names of the queue's files, the oldest first."""
        now = time.monotonic()
        ending = _file("", queue)
        names = self._names.get(ending)
        if names and now - self._listed < _STALE:
            return names
        changed = os.stat(self.data_folder_in).st_mtime_ns
        quiet = time.time() - changed / 1e9 > _SETTLED
        if changed != self._changed:
            self._names = {}
            for name in os.listdir(self.data_folder_in):
                _, _, end = name.partition(".")
                self._names.setdefault(f".{end}", []).append(name)
            for several in self._names.values():
                several.sort(key=_age)
            self._listed = now
            # In the clock's own tick more may follow that the time won't tell.
            self._changed = changed if quiet else -1
        return self._names.setdefault(ending, [])

    # -- settling ----------------------------------------------------------------------

    def basic_ack(self, delivery_tag: str, **_: Any) -> None:
        name = self._held.pop(delivery_tag, None)
        if name is None or self._home is None:
            return
        path = self._home.folder / name
        if self.store_processed:
            os.replace(path, os.path.join(self.processed_folder, name))
        else:
            path.unlink(missing_ok=True)

    def caraway_give_back(self, tag: str, headers: Mapping[str, Any]) -> bool:
        """Put a held message back to its old place, with these headers of ours instead of
        those that it had; False if it isn't held any more."""
        name = self._held.pop(tag, None)
        if name is None or self._home is None:
            return False
        payload = _read(self._home.folder / name, "")
        if isinstance(payload, dict):
            old = payload.get("headers")
            kept = {k: v for k, v in old.items() if not k.startswith("caraway-")} if isinstance(
                old, dict) else {}  # fmt: skip
            payload["headers"] = {**kept, **headers}
            payload.pop("redelivered", None)
        self._return(self._home.folder / name, payload)
        known = self._names.get("." + name.partition(".")[2])
        if known is not None:
            bisect.insort(known, name, key=_age)
        return True

    def _return(self, path: Path, payload: Any) -> None:
        # Written before it is removed: killed in between it is there twice, never not at all.
        self._write(Path(self.data_folder_in), path.name, payload)
        path.unlink(missing_ok=True)

    def caraway_sweep(self) -> int:
        """Put back what dead processes held, marked as delivered before; return how many."""
        self._swept = time.monotonic()
        count = 0
        for path in Home.abandoned(Path(self.data_folder_in) / ".held", self._home):
            payload = _read(path, "")
            if isinstance(payload, dict):
                payload["redelivered"] = True
            self._return(path, payload)
            count += 1
        return count

    # -- queues ------------------------------------------------------------------------

    def caraway_queues(self) -> Sequence[str]:
        """Names of queues in which there is something, and of those bound to an exchange."""
        self._changed = -1
        self._find("")
        ends = {end[1:-4] for end, names in self._names.items() if names and end.endswith(".msg")}
        for path in self.control_folder.glob("*.exchange"):
            ends.update(row.queue for row in self.get_table(path.stem))
        return [end.replace("%2F", "/") for end in ends]

    def caraway_ping(self) -> None:
        """Fails where writing would."""
        path = Path(self.data_folder_out) / f".new-{uuid.uuid4()}"
        path.touch()
        path.unlink()

    def _size(self, queue: str) -> int:
        ending = _file("", queue)
        return sum(name.partition(".")[2] == ending[1:] for name in os.listdir(self.data_folder_in))

    def _purge(self, queue: str) -> int:
        self._names.pop(_file("", queue), None)
        self._changed = -1
        return int(super()._purge(queue.replace("/", "%2F")))

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        # kombu's own opens a new table's file so that a table just written is lost.
        self.control_folder.mkdir(exist_ok=True, parents=True)
        entry = kombus.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        descriptor = os.open(self._exchange_file(exchange), os.O_RDWR | os.O_CREAT, 0o666)
        with os.fdopen(descriptor, "rb+", buffering=0) as file:
            kombus.lock(file, kombus.LOCK_EX)
            try:
                text = file.read()
                table = (
                    [kombus.exchange_queue_t(*each) for each in loads(text.decode())]
                    if text
                    else []
                )
                if entry not in table:
                    file.seek(0)
                    file.write(dumps([entry, *table]).encode())
                    file.truncate()
            finally:
                kombus.unlock(file)

    def get_table(self, exchange: str) -> list[Any]:
        for _ in range(50):
            try:
                return list(super().get_table(exchange))
            except ValueError:
                time.sleep(0.01)  # it is being written
        return list(super().get_table(exchange))

    def close(self) -> None:
        if not self.closed and self._home is not None:
            home, self._home = self._home, None
            for name in self._held.values():
                self._return(home.folder / name, _read(home.folder / name, ""))
            self._held.clear()
            home.close()
        super().close()


class Transport(kombus.Transport):  # type: ignore[misc]
    """kombu's transport with the safe channel."""

    Channel = Channel

    @staticmethod
    def caraway_options(url: Url, given: dict[str, Any], context: Context) -> dict[str, Any]:
        """kombu's options; a URL's path is the folder of all of them."""
        options = dict(given)
        path = Path(f"{url.host}{url.path}") if url.host or url.path.strip("/") else None
        if path is not None:
            path = Path(context.directory) / path
            for name in ("data_folder_in", "data_folder_out"):
                options.setdefault(name, str(path))
            options.setdefault("control_folder", str(path / "control"))
            options.setdefault("processed_folder", str(path / "processed"))
        missing = [n for n in ("data_folder_in", "data_folder_out") if n not in options]
        if missing:
            raise ImproperlyConfigured(
                f"the filesystem transport has no {' and no '.join(missing)}",
                hint="Write kombu+filesystem:///path/to/folder, or set both in "
                "broker_transport_options.",
            )
        folders = ["data_folder_in", "data_folder_out"]
        if options.get("store_processed"):
            folders.append("processed_folder")
        for name in folders:
            try:
                Path(options.get(name, "processed")).mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise ImproperlyConfigured(
                    f"the folder {options.get(name)} can't be made: {exc}",
                    hint="Name one that this process may write to.",
                ) from exc
        return options


def _file(begin: str, queue: str) -> str:
    return f"{begin}.{queue.replace('/', '%2F')}.msg"


def _age(name: str) -> tuple[int, str]:
    begin, _, rest = name.partition("_")
    return (int(begin) if begin.isdecimal() else 0, rest)


def _read(path: Path, queue: str) -> Any:
    """A message's payload; of what can't be read a text, which no message is."""
    data = b""
    for tries in range(20):
        with open(path, "rb") as file:
            # kombu locks the file while it writes, a moment after it has made it.
            kombus.lock(file, kombus.LOCK_SH)
            try:
                data = file.read()
            finally:
                kombus.unlock(file)
        try:
            return loads(data.decode())
        except ValueError as exc:
            if tries == 19 or time.time() - path.stat().st_mtime > 2.0:
                return f"{queue}: {exc}: {data[:1000]!r}"
        time.sleep(0.01)
    return ""
