"""How many lanes each pool asks for, and where it can't work."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from caraway.builtin.pools.asyncio import AsyncioPool
from caraway.builtin.pools.prefork import PreforkPool
from caraway.builtin.pools.solo import SoloPool
from caraway.builtin.pools.threads import ThreadsPool
from caraway.errors import ImproperlyConfigured
from caraway.interfaces.context import Capability


@pytest.mark.parametrize(
    ("pool", "lanes", "slots", "inline", "capabilities"),
    [
        (PreforkPool, 4, 8, True, {Capability.PROCESSES}),
        (SoloPool, 1, 8, True, set()),
        (ThreadsPool, 1, 4, False, {Capability.CONCURRENT}),
        (AsyncioPool, 1, 4, False, {Capability.CONCURRENT}),
    ],
)
def test_lanes_and_slots_of_a_concurrency_of_four(pool, lanes, slots, inline, capabilities):
    made = pool(4, {"worker_async_concurrency": 7})
    executor = made.executor()
    assert made.lanes == lanes
    assert executor.slots == slots
    assert executor.inline is inline
    assert made.capabilities == capabilities
    assert made.in_process is (pool is SoloPool)


def test_prefork_without_fork_says_what_to_use(monkeypatch):
    monkeypatch.delattr(os, "fork")
    with pytest.raises(ImproperlyConfigured, match="threads, asyncio or solo"):
        PreforkPool(2, {})


def test_a_sync_worker_imports_no_asyncio():
    code = (
        "import sys\n"
        "from caraway.builtin.pools.prefork import PreforkPool\n"
        "executor = PreforkPool(1, {}).executor(); executor.start()\n"
        "class Job:\n"
        "    is_async = False; slot = 0\n"
        "    def run(self): return 1\n"
        "executor.execute([Job()], lambda job, result: None); executor.stop(1.0)\n"
        "print([m for m in ('asyncio', 'ctypes', 'logging') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
