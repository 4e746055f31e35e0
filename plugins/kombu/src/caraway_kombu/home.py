"""Folders that belong to one living process, and tell when it is dead."""

from __future__ import annotations

import os
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO


class Home:
    """A folder of what one channel or consumer holds; locked while its process lives.

    The lock is the kernel's, which ends it with the process, however that ends.

    Args:
        parent: of all such folders.
    """

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            self.folder = parent / uuid.uuid4().hex
            self._path = self.folder.with_suffix(".lock")
            self._file = open(self._path, "wb")  # noqa: SIM115 - held as long as this lives
            if _try_lock(self._file) and self._path.exists():
                break
            self._file.close()  # somebody thought it abandoned
        self.folder.mkdir()
        _homes.add(self)

    def close(self) -> None:
        """End it; what is still in it is there for others."""
        _remove(self.folder, self._path)
        self._file.close()

    def forget(self) -> None:
        """In the child of a fork: the lock is to end with the parent."""
        self._file.close()

    @staticmethod
    def abandoned(parent: Path, own: Home | None) -> Iterator[Path]:
        """Files in the folders of dead processes, kept from all others meanwhile.

        Args:
            parent: as of the homes.
            own: not to be looked at.
        """
        if not parent.is_dir():
            return
        for path in parent.glob("*.lock"):
            if own is not None and path == own._path:
                continue
            try:
                file = open(path, "rb+")  # noqa: SIM115 - closed below
            except OSError:
                continue
            with file:
                if not _try_lock(file):
                    continue
                folder = path.with_suffix("")
                if folder.is_dir():
                    yield from sorted(folder.iterdir())
                _remove(folder, path)


_homes: weakref.WeakSet[Home] = weakref.WeakSet()


def _forget_all() -> None:
    for home in tuple(_homes):
        home.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _remove(folder: Path, path: Path) -> None:
    try:
        if folder.is_dir():
            folder.rmdir()
    except OSError:
        return  # not empty: it is swept later
    path.unlink(missing_ok=True)


def _try_lock(file: IO[bytes]) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
