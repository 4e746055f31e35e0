"""The open files of this process, and how they get past a fork.

SQLite keeps a list of the files that a process has open, and of the locks it holds on them.
A forked child inherits the list, but no lock: its own connection to such a file would take
none either, and the parent, which then seems to be the last to have the file open, would
delete the log under it.  Also, what another thread holds inside of SQLite at that moment
stays held in the child for ever.  So nothing is open while a process forks: transactions
end first, and the parent opens its connections again when it needs them.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from caraway.builtin.sqlite import schema
from caraway.builtin.sqlite.location import find_path
from caraway.builtin.sqlite.options import Options, read_options
from caraway.builtin.sqlite.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from caraway.interfaces.context import Context
    from caraway.url import Url

_stores: dict[tuple[str, Options], Store] = {}
_stores_lock = threading.RLock()
_resting: list[Store] = []
_inherited: list[Store] = []


def open_store(url: Url, options: Mapping[str, Any], context: Context) -> Store:
    """The store of a URL, opened; shared by all its users in this process.

    Give it back with `close_store`.
    """
    schema.check_library()
    read = read_options(url, options)
    path = os.path.realpath(find_path(url, context.directory))
    with _stores_lock:
        store = _stores.get((path, read))
        if store is None:
            store = Store(path, read)
            store.open()
            _stores[path, read] = store
        store.users += 1
        return store


def close_store(store: Store) -> None:
    """Give a store back; its last user closes the file."""
    if store.pid != os.getpid():
        return
    with _stores_lock:
        store.users -= 1
        if store.users > 0:
            return
        _stores.pop((store.path, store.options), None)
        store.shut()


def _rest() -> None:
    """Before a fork."""
    _stores_lock.acquire()
    _resting.extend(store for store in _stores.values() if store.rest())


def _resume() -> None:
    """After a fork, in the parent."""
    while _resting:
        _resting.pop().write_lock.release()
    _stores_lock.release()


def _forget_inherited() -> None:
    """After a fork, in the child: the stores are the parent's.

    One that could not rest is kept, unused, as long as the child lives: closing its files
    would drop the locks that a connection of the child's own has on them.
    """
    _inherited.extend(store for store in _stores.values() if store not in _resting)
    _stores.clear()
    _resume()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_rest, after_in_parent=_resume, after_in_child=_forget_inherited)
