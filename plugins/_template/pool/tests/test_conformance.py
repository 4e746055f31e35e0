"""The pool keeps the contract of pools."""

from caraway.testing.conformance import PoolSuite


class TestShelfPool(PoolSuite):
    factory = "caraway_shelf.pool:ShelfPool"
    patience = 2.0
