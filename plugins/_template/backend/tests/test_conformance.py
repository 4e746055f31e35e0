"""The backend keeps the contract of result backends."""

from caraway.testing.conformance import BackendSuite


class TestShelfBackend(BackendSuite):
    factory = "caraway_shelf.backend:ShelfBackend"

    def url(self, tmp_path):
        return f"shelf://{tmp_path.name}"
