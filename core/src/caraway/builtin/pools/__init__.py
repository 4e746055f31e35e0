"""The built-in pools: ``prefork``, ``threads``, ``asyncio``, ``solo``.

Sync jobs run in threads that an `~caraway.builtin.pools.interrupts.Interruptible` watches;
async jobs run on one event loop in a thread of its own, the same in every pool.
"""
