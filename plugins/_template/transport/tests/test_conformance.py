"""The transport keeps the contract of transports."""

from caraway.testing.conformance import TransportSuite


class TestShelfTransport(TransportSuite):
    factory = "caraway_shelf.transport:ShelfTransport"
    # True if the store takes its time from Context.clock, so that tests can move it.
    virtual_clock = False

    def url(self, tmp_path):
        return f"shelf://{tmp_path.name}"
