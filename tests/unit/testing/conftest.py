from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from caraway import Caraway

pytest_plugins = ["caraway.testing.fixtures"]


@pytest.fixture
def caraway_app() -> Iterator[Any]:
    app = Caraway("shop", broker="memory://production", backend="memory://production")

    @app.task(name="shop.add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="shop.double")
    async def double(x: int) -> int:
        return 2 * x

    @app.task(name="shop.fan")
    def fan(count: int) -> None:
        for number in range(count):
            add.delay(number, number)

    @app.task(name="shop.flaky", bind=True, max_retries=3, default_retry_delay=60)
    def flaky(self: Any, fails: int) -> str:
        if self.request.retries < fails:
            raise self.retry()
        return f"done after {self.request.retries} retries"

    @app.task(name="shop.broken")
    def broken() -> None:
        raise ValueError("on purpose")

    @app.task(name="shop.forever")
    def forever() -> None:
        forever.delay()

    yield app
    app.close()
