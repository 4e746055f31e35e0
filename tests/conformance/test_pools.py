"""The built-in pools keep the contract of pools."""

from __future__ import annotations

from caraway.builtin.plugin import Asyncio, Prefork, Solo, Threads
from caraway.testing.conformance import PoolSuite


class TestPrefork(PoolSuite):
    entry_capabilities = Prefork().caraway_register_pools()[0].capabilities
    factory = "caraway.builtin.pools.prefork:PreforkPool"


class TestSolo(PoolSuite):
    entry_capabilities = Solo().caraway_register_pools()[0].capabilities
    factory = "caraway.builtin.pools.solo:SoloPool"


class TestThreads(PoolSuite):
    entry_capabilities = Threads().caraway_register_pools()[0].capabilities
    factory = "caraway.builtin.pools.threads:ThreadsPool"


class TestAsyncio(PoolSuite):
    entry_capabilities = Asyncio().caraway_register_pools()[0].capabilities
    factory = "caraway.builtin.pools.asyncio:AsyncioPool"
