"""Which file a URL names, and whether a database can live there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from caraway.errors import ImproperlyConfigured, StoreReadOnly, TransportError

if TYPE_CHECKING:
    from caraway.url import Url

DEFAULT_FILE = ".caraway/caraway.db"

# File systems on which the shared memory of a write-ahead log isn't shared by all hosts,
# or whose locks aren't to be trusted (SQLite, "Use of WAL without shared memory").
NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "davfs", "fuse.ceph", "fuse.glusterfs",
        "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs",
        "nfs", "nfs4", "smb3", "smbfs",
    }
)  # fmt: skip


def find_path(url: Url, directory: str) -> str:
    """The absolute path of the file that a URL names.

    Args:
        url: ``sqlite://``, ``sqlite:///relative``, ``sqlite:////absolute``.
        directory: where relative paths start.

    Raises:
        ImproperlyConfigured: the URL has a host, or names a database in memory.
    """
    if url.host or url.port:
        name = url.host + url.path
        raise ImproperlyConfigured(
            f"a sqlite URL names a file, not a host: {url}",
            hint=f"Write sqlite:///{name} (relative to the project) or sqlite:////{name}.",
        )
    path = url.path[1:]
    if path == ":memory:":
        raise ImproperlyConfigured(
            f"a queue in memory is not sqlite's: {url}", hint="Use memory:// instead."
        )
    if path.endswith(("/", os.sep)):
        raise ImproperlyConfigured(
            f"this sqlite URL names a directory: {url}", hint="Name the file: sqlite:///jobs.db"
        )
    return os.path.abspath(os.path.join(directory, path or DEFAULT_FILE))


def prepare_directory(path: str) -> None:
    """Make the default directory if it isn't there; check that of any other file.

    Raises:
        TransportError: the directory is missing or can't be made.
        StoreReadOnly: it is there and can't be written.
    """
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        if os.path.basename(folder) != os.path.dirname(DEFAULT_FILE):
            raise TransportError(
                f"there is no directory {folder} to keep {os.path.basename(path)} in",
                hint=f"Create it (mkdir -p {folder}), or set broker_url to another file.",
            )
        try:
            # Task arguments may be private: nobody else's to read.
            os.makedirs(folder, mode=0o700, exist_ok=True)
            with open(os.path.join(folder, ".gitignore"), "w", encoding="utf-8") as file:
                file.write("*\n")
        except OSError as exc:
            raise TransportError(
                f"the directory {folder} can't be made: {exc.strerror or exc}",
                hint="Let the user that runs this write there, or set broker_url to a file "
                "in a directory that it may write, e.g. sqlite:////var/lib/shop/caraway.db.",
            ) from exc
    if os.path.isdir(path):
        raise TransportError(
            f"{path} is a directory", hint="Name a file in it: sqlite:///<directory>/caraway.db"
        )
    # The log and its index are made beside the file, so the directory counts as well.
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreReadOnly(
            f"{path} can't be used: its directory can't be written by user id {user_id()}",
            hint="Give that user the right to write the directory: SQLite keeps its "
            "write-ahead log beside the file.",
        )


def user_id() -> str:
    """Who this process runs as, for messages."""
    return str(os.geteuid()) if hasattr(os, "geteuid") else "of this process"


def file_system(path: str, mounts: str = "/proc/mounts") -> str:
    """The type of the file system under a path, empty where that can't be told."""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        beneath = point == "/" or real == point or real.startswith(point + "/")
        if beneath and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def check_file_system(path: str, mounts: str = "/proc/mounts") -> None:
    """Refuse a network file system: several hosts on one file would lose messages.

    Raises:
        TransportError: the file would be on one.
    """
    kind = file_system(os.path.dirname(path), mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise TransportError(
            f"{path} is on a network file system ({kind}), where SQLite's locks and shared "
            "memory don't hold: work could be lost",
            hint="Put the file on a local disk, or use a broker with a server (redis://, "
            "amqp://). If only one machine ever opens it, add ?network=allow to the URL.",
        )
