"""The built-in pools keep the contract of pools."""

from __future__ import annotations

from caraway.testing.conformance import PoolSuite


class TestPrefork(PoolSuite):
    factory = "caraway.builtin.pools.prefork:PreforkPool"


class TestSolo(PoolSuite):
    factory = "caraway.builtin.pools.solo:SoloPool"


class TestThreads(PoolSuite):
    factory = "caraway.builtin.pools.threads:ThreadsPool"


class TestAsyncio(PoolSuite):
    factory = "caraway.builtin.pools.asyncio:AsyncioPool"
