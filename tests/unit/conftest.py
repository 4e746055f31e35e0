"""An app over queues in memory, new for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caraway import Caraway
from caraway.app import current
from caraway.message import Delivery, Owner, new_owner_id


@pytest.fixture(autouse=True)
def _no_current_app() -> Iterator[None]:
    before = current._current, current._default, list(current.shared)
    current._current = current._default = None
    current.shared.clear()
    yield
    current._current, current._default = before[:2]
    current.shared[:] = before[2]


@pytest.fixture
def make_app() -> Iterator[Callable[..., Caraway]]:
    made: list[Caraway] = []

    def make(main: str | None = "shop", **settings: Any) -> Caraway:
        url = f"memory://{new_owner_id()}"
        app = Caraway(main, **{"broker": url, "backend": url, **settings})
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


@pytest.fixture
def app(make_app: Callable[..., Caraway]) -> Caraway:
    return make_app()


@pytest.fixture
def sent() -> Callable[..., list[Delivery]]:
    """What waits in an app's queues, taken out."""

    def take(app: Caraway, *queues: str) -> list[Delivery]:
        owner = Owner(id=new_owner_id())
        consumer = app.transport.consume(app.queues(queues or None), owner)
        deliveries = list(consumer.fetch(1000, 0))
        from caraway.message import Settlement

        consumer.settle([Settlement(delivery.tag) for delivery in deliveries])
        consumer.close()
        return deliveries

    return take
