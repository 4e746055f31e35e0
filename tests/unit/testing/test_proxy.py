"""The proxy breaks what it is told to, and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from caraway.testing.proxy import Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_.append(connection)
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    threads = [threading.Thread(target=accept)]
    threads[0].start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for connection in open_:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
    for thread in threads:
        thread.join(5.0)


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5.0)


def said(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    got = b""
    while len(got) < len(text):
        data = connection.recv(65536)
        if not data:
            break
        got += data
    return got


def test_it_passes_on_all_and_in_order(echo: int) -> None:
    payload = bytes(range(256)) * 20_000  # more than it holds itself
    with Proxy(echo) as proxy, connect(proxy) as connection:
        got = b""
        sender = threading.Thread(target=lambda: connection.sendall(payload))
        sender.start()
        while len(got) < len(payload):
            got += connection.recv(1 << 20)
        sender.join()
        assert got == payload


def test_the_end_of_one_side_reaches_the_other(echo: int) -> None:
    with Proxy(echo) as proxy, connect(proxy) as connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        got = b""
        while data := connection.recv(100):
            got += data
        assert got == b"last words"


def test_a_reset_is_seen_and_a_new_connection_works(echo: int) -> None:
    with Proxy(echo) as proxy, connect(proxy) as connection:
        assert said(connection, b"before") == b"before"
        proxy.reset()
        assert proxy.connections == 0
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        with connect(proxy) as again:
            assert said(again, b"after") == b"after"
        assert proxy.accepted == 2


def test_a_cut_is_an_end_of_file(echo: int) -> None:
    with Proxy(echo) as proxy, connect(proxy) as connection:
        assert said(connection, b"before") == b"before"
        proxy.cut()
        assert connection.recv(1) == b""


def test_what_is_swallowed_is_gone_for_good(echo: int) -> None:
    with Proxy(echo) as proxy, connect(proxy) as old:
        assert said(old, b"before") == b"before"
        proxy.swallow()
        with connect(proxy) as new:
            for connection in (old, new):
                connection.sendall(b"lost")
                connection.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
            proxy.heal()
            old.sendall(b"still lost")
            with pytest.raises(TimeoutError):
                old.recv(1)
            with connect(proxy) as later:
                assert said(later, b"well again") == b"well again"


def test_a_pause_holds_all_back_and_loses_nothing(echo: int) -> None:
    with Proxy(echo) as proxy, connect(proxy) as connection:
        assert said(connection, b"before") == b"before"
        proxy.pause()
        connection.sendall(b"patience")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        proxy.heal()
        connection.settimeout(5.0)
        assert connection.recv(100) == b"patience"


def test_a_pause_ends_by_itself(echo: int) -> None:
    with Proxy(echo) as proxy, connect(proxy) as connection:
        assert said(connection, b"before") == b"before"
        began = time.monotonic()
        proxy.pause(0.2)
        assert said(connection, b"after") == b"after"
        assert time.monotonic() - began >= 0.2


def test_a_delay_is_added_to_each_direction(echo: int) -> None:
    with Proxy(echo) as proxy, connect(proxy) as connection:
        assert said(connection, b"before") == b"before"
        proxy.delay(0.02)
        began = time.monotonic()
        for _ in range(5):
            said(connection, b"x")
        assert time.monotonic() - began >= 0.2


def test_who_comes_is_refused_and_who_is_there_stays(echo: int) -> None:
    with Proxy(echo) as proxy, connect(proxy) as connection:
        assert said(connection, b"before") == b"before"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert said(connection, b"still") == b"still"
        port = proxy.port
        proxy.heal()
        assert proxy.port == port
        with connect(proxy) as again:
            assert said(again, b"after") == b"after"


def test_a_server_that_is_gone_resets_its_clients(echo: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # As soon as it connects, or a moment later.
    with Proxy(port) as proxy, pytest.raises(ConnectionResetError), connect(proxy) as connection:
        connection.recv(1)


def test_it_leaves_no_thread_and_no_socket(echo: int) -> None:
    proxy = Proxy(echo)
    connection = connect(proxy)
    assert said(connection, b"before") == b"before"
    proxy.close()
    proxy.close()
    assert proxy.connections == 0
    with pytest.raises(OSError, match=r"reset|refused"):
        connection.recv(1)
    connection.close()
    assert "caraway-proxy" not in [thread.name for thread in threading.enumerate()]
