"""A RabbitMQ of this session's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from caraway.testing.certificates import Authority
from caraway.testing.servers import Server, free_port, server


class Secure(NamedTuple):
    """The broker's port for TLS, and the authority that has signed its certificate."""

    port: int
    authority: Authority


@pytest.fixture(scope="session")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Secure:
    return Secure(free_port(), Authority(tmp_path_factory.mktemp("tls")))


@pytest.fixture(scope="session")
def rabbitmq(secure: Secure) -> Iterator[Server]:
    signed = secure.authority.sign("broker", "127.0.0.1")
    config = [
        f"listeners.ssl.1 = 127.0.0.1:{secure.port}",
        f"ssl_options.cacertfile = {secure.authority.certificate}",
        f"ssl_options.certfile = {signed.certificate}",
        f"ssl_options.keyfile = {signed.key}",
    ]
    with server("rabbitmq", config=config) as running:
        yield running
