"""Ids: random, many at a time, never twice."""

from __future__ import annotations

import os
import threading
import uuid

import pytest

from caraway.protocol import ids


def test_an_id_is_a_uuid_as_the_standard_library_writes_it() -> None:
    for _ in range(600):
        text = ids.new_id()
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)


def test_threads_never_get_the_same() -> None:
    found: list[str] = []

    def take() -> None:
        found.extend(ids.new_id() for _ in range(2000))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == len(set(found)) == 16_000


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_shares_none_with_its_parent() -> None:
    ids.new_id()  # the buffer is full now
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, ids.new_id().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    theirs = os.read(read, 100).decode()
    os.close(read)

    assert len(theirs) == 36
    assert theirs not in {ids.new_id() for _ in range(1000)}
