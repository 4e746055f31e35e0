"""Where a Redis can be: behind TLS, a unix socket, Sentinels.  Clusters: test_cluster.py."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis import Redis

from caraway.errors import (
    ImproperlyConfigured,
    OperationalError,
    StoreReadOnly,
    TransportError,
    TransportUnavailable,
)
from caraway.message import Completion, Settlement, StoredResult
from caraway.testing.servers import ServerKind, free_port, server

AT_ONCE = ("--repl-diskless-sync-delay", "0")
"""Replicas needn't wait for others that may come."""


def works(opened: Any, url: str, settings: Any = None, **options: Any) -> None:
    """One message there and back, with a result, a waiting fetch and a waiting get."""
    transport = opened.transport(url, settings, **options)
    backend = opened.backend(url, **{**options, **_tls_of(settings)})
    consumer = opened.consumer(transport)
    transport.publish([opened.publication(n) for n in range(5)])
    taken = consumer.fetch(5, 5.0)
    assert len(taken) == 5
    assert transport.shares_store(backend)
    assert not consumer.commit([done(each) for each in taken])
    assert backend.wait(["id-0", "id-4"], 5.0)
    later = threading.Timer(0.1, transport.publish, ([opened.publication("x")],))
    later.start()
    (last,) = consumer.fetch(1, 5.0)
    later.join()
    storing = threading.Timer(0.1, consumer.commit, ([done(last)],))
    storing.start()
    assert backend.wait(["id-x"], 5.0)
    storing.join()
    transport.delete("q")
    opened.close()


def _tls_of(settings: Any) -> dict[str, Any]:
    return {"backend_use_ssl": settings["broker_use_ssl"]} if settings else {}


def done(delivery: Any) -> Completion:
    task_id = delivery.message.headers["id"]
    payload = msgspec.json.encode({"status": "SUCCESS", "result": None})
    return Completion(Settlement(delivery.tag), StoredResult(task_id, "SUCCESS", payload, 60.0))


# -- TLS and sockets -------------------------------------------------------------------


class Certificates:
    """Of an authority of the tests' own."""

    def __init__(self, folder: Path) -> None:
        self.authority = folder / "ca.pem"
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-keyout", self.key, "-out", self.certificate, "-days", "2",
                "-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1",
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        shutil.copy(self.certificate, self.authority)  # it signed itself


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secure(certificates: Certificates) -> Iterator[tuple[int, str]]:
    """A port that wants TLS and our certificate, and a socket of the same server."""
    port = free_port()
    folder = tempfile.mkdtemp(prefix="caraway-")  # a socket's path must be short
    config = [
        "--tls-port", str(port), "--tls-cert-file", str(certificates.certificate),
        "--tls-key-file", str(certificates.key), "--tls-ca-cert-file", str(certificates.authority),
        "--tls-auth-clients", "yes", "--unixsocket", f"{folder}/s",
    ]  # fmt: skip
    with server("redis", config=config):
        yield port, f"{folder}/s"
    shutil.rmtree(folder)


def test_tls_with_certificates_of_both_sides(
    opened: Any, secure: tuple[int, str], certificates: Certificates
) -> None:
    url = f"rediss://127.0.0.1:{secure[0]}/2"
    files = {
        "ssl_ca_certs": str(certificates.authority),
        "ssl_certfile": str(certificates.certificate),
        "ssl_keyfile": str(certificates.key),
    }
    works(opened, url, **files)
    query = "&".join(f"{name}={value}" for name, value in files.items())
    works(opened, f"{url}?{query}")
    # The setting makes TLS of the plain scheme, too.
    works(opened, url.replace("rediss", "redis"), {"broker_use_ssl": files})


def test_a_certificate_that_nobody_vouches_for_is_an_error_with_the_remedy(
    opened: Any, secure: tuple[int, str], certificates: Certificates
) -> None:
    url = f"rediss://127.0.0.1:{secure[0]}/2"
    own = {
        "ssl_certfile": str(certificates.certificate), "ssl_keyfile": str(certificates.key),
    }  # fmt: skip
    with pytest.raises(TransportError, match="isn't trusted") as caught:
        opened.transport(url, **own).publish([opened.publication()])
    assert "ssl_ca_certs" in str(caught.value.hint)
    works(opened, url, ssl_cert_reqs="none", **own)


def test_files_of_certificates_that_can_not_be_read_are_an_error_at_once(
    opened: Any, secure: tuple[int, str], tmp_path: Path
) -> None:
    url = f"rediss://127.0.0.1:{secure[0]}/2"
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    for name in ("ssl_ca_certs", "ssl_certfile"):
        for path in (bad, tmp_path / "none.pem"):
            with pytest.raises(ImproperlyConfigured, match="certificates") as caught:
                opened.transport(url, **{name: str(path)}).ping()
            assert name in str(caught.value.hint)


def test_a_certificate_of_another_host_is_refused_unless_told_otherwise(
    opened: Any, secure: tuple[int, str], certificates: Certificates
) -> None:
    url = f"rediss://localhost:{secure[0]}/2"
    files = {
        "ssl_ca_certs": str(certificates.authority),
        "ssl_certfile": str(certificates.certificate),
        "ssl_keyfile": str(certificates.key),
    }
    with pytest.raises(TransportError):
        opened.transport(url, **files).publish([opened.publication()])
    works(opened, url, ssl_check_hostname="false", **files)


def test_without_tls_where_it_is_wanted_the_error_speaks_of_it(
    opened: Any, secure: tuple[int, str]
) -> None:
    with pytest.raises(OperationalError) as caught:
        opened.transport(f"redis://127.0.0.1:{secure[0]}/2").publish([opened.publication()])
    assert "TLS" in str(caught.value.hint)


def test_a_unix_socket(opened: Any, secure: tuple[int, str]) -> None:
    works(opened, f"redis+socket://{secure[1]}?virtual_host=3")
    with pytest.raises(TransportUnavailable, match="can't be reached"):
        opened.transport(f"redis+socket://{secure[1]}-not").ping()


# -- Sentinels -------------------------------------------------------------------------


def sentinel(master: int) -> ServerKind:
    """A Sentinel that watches a master, quick to give it up."""

    def command(program: str, port: int, directory: Path) -> list[str]:
        config = directory / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor mymaster 127.0.0.1 {master} 1\n"
            "sentinel down-after-milliseconds mymaster 300\n"
            "sentinel failover-timeout mymaster 3000\n"
        )
        return [program, str(config), "--sentinel"]

    return ServerKind(
        name="redis-sentinel",
        programs=("redis-server", "valkey-server"),
        install="apt-get install redis-server, or brew install redis",
        command=command,
        url="sentinel://127.0.0.1:{port}/0",
    )


def test_what_sentinels_say_is_followed_through_a_failover(
    opened: Any, until: Callable[..., Any]
) -> None:
    with ExitStack() as servers:
        master = servers.enter_context(server("redis", config=AT_ONCE))
        follow = [*AT_ONCE, "--replicaof", "127.0.0.1", str(master.port)]
        replica = servers.enter_context(server("redis", config=follow))
        with Redis(port=replica.port) as second:
            until(lambda: second.info("replication")["master_link_status"] == "up")
        # It asks for replicas at once, and then every ten seconds.
        watch = servers.enter_context(server(sentinel(master.port)))
        with Redis(port=watch.port) as asked:
            until(lambda: asked.sentinel_slaves("mymaster"), 20.0)
            # One that is away, too: the others are asked.
            url = f"sentinel://127.0.0.1:{free_port()},127.0.0.1:{watch.port}/0"
            transport = opened.transport(url, master_name="mymaster")
            backend = opened.backend(url, master_name="mymaster")
            consumer = opened.consumer(transport)
            sent: set[str] = set()

            def publish(begin: int) -> None:
                some = [opened.publication(n) for n in range(begin, begin + 100)]
                transport.publish(some)
                sent.update(each.message.headers["id"] for each in some)

            publish(0)
            taken = consumer.fetch(30, 5.0)
            assert not consumer.commit([done(each) for each in taken])
            replicated(master.port)
            assert backend.wait([taken[0].message.headers["id"]], 5.0)
            held = consumer.fetch(10, 5.0)
            replicated(master.port)
            master.kill()
            with pytest.raises(TransportUnavailable):
                publish(100)
            began = time.monotonic()
            until(lambda: tried(lambda: publish(100)), 30.0)
            assert time.monotonic() - began < 20.0
            ended = {each.message.headers["id"] for each in taken}
            while ended != sent:
                with suppress(OperationalError):
                    held = [*held, *consumer.fetch(50, 0.5)]
                    assert not consumer.commit([done(each) for each in held])
                    ended |= {each.message.headers["id"] for each in held}
                    held = []
                assert time.monotonic() - began < 40.0
            assert len(backend.get(sorted(sent))) == len(sent)
            assert transport.renew([consumer.owner.id]) == []
            opened.close()


def replicated(port: int) -> None:
    """Wait until a replica has all that was written until now."""
    with Redis(port=port) as connection:
        # WAIT waits for what its own connection has written.
        connection.set("mark", "1", px=60_000)
        assert connection.execute_command("WAIT", 1, 5000) == 1


def tried(act: Callable[[], Any]) -> bool:
    try:
        act()
    except (TransportUnavailable, StoreReadOnly):
        return False
    return True


def test_sentinels_that_do_not_know_the_master_are_named(
    opened: Any,
) -> None:
    with server("redis") as master, server(sentinel(master.port)) as watch:
        transport = opened.transport(f"{watch.url}", master_name="another")
        with pytest.raises(TransportUnavailable, match="another") as caught:
            transport.ping()
        assert "<redis" not in str(caught.value)
        works(opened, watch.url, master_name="mymaster")
        opened.close()
