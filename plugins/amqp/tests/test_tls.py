"""RabbitMQ behind TLS: who trusts whom, and a task that starves every thread."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caraway.errors import ImproperlyConfigured, TransportError, TransportUnavailable
from caraway.interfaces import Context
from caraway.message import Message, Notice, Owner, Publication, Queue, Topic, new_owner_id
from caraway.settings import Settings
from caraway.testing.servers import Server, free_port
from caraway.url import Url
from caraway_amqp.frames import HEARTBEAT_FRAME, method
from caraway_amqp.pacemaker import Relay
from caraway_amqp.transport import AmqpTransport

from .conftest import Place, Secure, until

Places = Callable[..., Place]
Open = Callable[..., AmqpTransport]


@pytest.fixture
def connect(rabbitmq: Server, secure: Secure) -> Iterator[Open]:
    opened: list[AmqpTransport] = []

    def make(use_ssl: Any = None, url: str = "", **options: Any) -> AmqpTransport:
        settings = Settings()
        if use_ssl is not None:
            settings.update(broker_use_ssl=use_ssl)
        url = url or f"amqps://127.0.0.1:{secure.port}"
        made = AmqpTransport(Url.parse(url), options, Context(settings=settings))
        opened.append(made)
        return made

    yield make
    for each in opened:
        each.close()


def works(transport: AmqpTransport, queue: str = "tls") -> None:
    """A message there and back, by publisher and consumer."""
    consumer = transport.consume([Queue(name=queue)], Owner(id=new_owner_id()))
    # Longer than a record of TLS, and than what the relay takes at once.
    body = bytes(range(256)) * 4000
    transport.publish([Publication(Message(body), queue)])
    (found,) = consumer.fetch(1, 10.0)
    assert found.message.body == body
    consumer.close()
    transport.delete(queue)


def test_a_broker_whose_authority_is_known_is_trusted(connect: Open, secure: Secure) -> None:
    known = str(secure.authority.certificate)
    works(connect({"ca_certs": known}))
    works(connect(ca_certs=known))
    works(connect(url=f"amqps://localhost:{secure.port}?ca_certs={known}"))
    # The setting makes TLS of the plain scheme, too.
    works(connect({"ca_certs": known}, url=f"amqp://127.0.0.1:{secure.port}"))


@pytest.mark.parametrize("paced", [False, True])
def test_a_broker_of_another_authority_is_an_error_that_says_what_to_name(
    connect: Open, secure: Secure, paced: bool
) -> None:
    for use_ssl in (True, {"ca_certs": str(secure.stranger.certificate)}):
        transport = connect(use_ssl)
        with pytest.raises(TransportError, match="isn't trusted") as caught:
            transport.connect(5.0, "a test", paced=paced)
        assert not isinstance(caught.value, TransportUnavailable)
        assert "ca_certs" in str(caught.value.hint)


def test_nobody_is_checked_where_that_is_wished(connect: Open) -> None:
    for wish in (ssl.CERT_NONE, 0, "CERT_NONE", "none"):
        works(connect({"cert_reqs": wish}))


@pytest.mark.parametrize("paced", [False, True])
def test_the_broker_s_name_is_checked_and_can_be_given(
    connect: Open, secure: Secure, paced: bool
) -> None:
    known = {"ca_certs": str(secure.authority.certificate)}
    works(connect({**known, "server_hostname": "localhost", "cert_reqs": ssl.CERT_REQUIRED}))
    other = connect({**known, "server_hostname": "rabbit.example"})
    with pytest.raises(TransportError, match=r"rabbit\.example") as caught:
        other.connect(5.0, "a test", paced=paced)
    assert "server_hostname" in str(caught.value.hint)


def test_our_certificate_is_shown_to_the_broker(
    connect: Open, secure: Secure, rabbitmq: Server
) -> None:
    transport = connect(
        {
            "ca_certs": str(secure.authority.certificate),
            "certfile": str(secure.client.certificate),
            "keyfile": str(secure.client.key),
        }
    )
    transport.ping()
    consumer = transport.consume([Queue(name="tls")], Owner(id=new_owner_id(), worker="w"))
    found = rabbitmq.control("list_connections", "user", "ssl", "peer_cert_subject").splitlines()
    assert found.count("guest\ttrue\tCN=client") == 2
    consumer.close()


@pytest.mark.parametrize("paced", [False, True])
def test_a_certificate_of_ours_that_the_broker_does_not_know_is_refused(
    connect: Open, secure: Secure, paced: bool
) -> None:
    transport = connect(
        {
            "ca_certs": str(secure.authority.certificate),
            "certfile": str(secure.impostor.certificate),
            "keyfile": str(secure.impostor.key),
        }
    )
    with pytest.raises(TransportError, match="refused us") as caught:
        transport.connect(5.0, "a test", paced=paced)
    assert "certfile" in str(caught.value.hint)


@pytest.fixture(scope="module")
def strict(rabbitmq: Server, secure: Secure) -> int:
    """A port of the broker's that insists on a client's certificate."""
    port = free_port()
    where = f'"127.0.0.1", {port}'
    options = (
        f'[{{cacertfile, "{secure.authority.certificate}"}}, '
        f'{{certfile, "{secure.broker.certificate}"}}, {{keyfile, "{secure.broker.key}"}}, '
        "{verify, verify_peer}, {fail_if_no_peer_cert, true}]"
    )
    rabbitmq.control(
        "eval", f"rabbit_networking:start_ssl_listener({{{where}, auto}}, {options}, 1)."
    )
    return port


@pytest.mark.parametrize("paced", [False, True])
def test_a_broker_that_insists_on_a_certificate_says_so(
    connect: Open, secure: Secure, strict: int, paced: bool
) -> None:
    url = f"amqps://127.0.0.1:{strict}?ca_certs={secure.authority.certificate}"
    with pytest.raises(TransportError) as caught:
        connect(url=url).connect(5.0, "a test", paced=paced)
    assert "certfile" in str(caught.value.hint), caught.value
    files = f"&certfile={secure.client.certificate}&keyfile={secure.client.key}"
    works(connect(url=url + files))


@pytest.fixture
def external(rabbitmq: Server) -> Iterator[None]:
    """The broker takes the name in a certificate for that of its user."""
    rabbitmq.control(
        "eval",
        "[Path] = filelib:wildcard(filename:join([filename:dirname(code:lib_dir(rabbit)), "
        '"rabbitmq_auth_mechanism_ssl-*", "ebin"])), code:add_pathz(Path), '
        "{ok, _} = application:ensure_all_started(rabbitmq_auth_mechanism_ssl), "
        # As the boot of a node does whose configuration names the plugin.
        'rabbit_registry:register(auth_mechanism, <<"EXTERNAL">>, rabbit_auth_mechanism_ssl), '
        "application:set_env(rabbit, ssl_cert_login_from, common_name), "
        "application:set_env(rabbit, auth_mechanisms, ['PLAIN', 'AMQPLAIN', 'EXTERNAL']).",
    )
    rabbitmq.control("add_user", "client", "not used")
    rabbitmq.control("set_permissions", "client", ".*", ".*", ".*")
    yield
    rabbitmq.control("delete_user", "client")
    rabbitmq.control("eval", "application:set_env(rabbit, auth_mechanisms, ['PLAIN', 'AMQPLAIN']).")


@pytest.mark.parametrize("paced", [False, True])
@pytest.mark.usefixtures("external")
def test_a_certificate_may_take_the_place_of_user_and_password(
    connect: Open, secure: Secure, rabbitmq: Server, paced: bool
) -> None:
    shown = {
        "ca_certs": str(secure.authority.certificate),
        "certfile": str(secure.client.certificate),
        "keyfile": str(secure.client.key),
    }
    transport = connect(shown, login_method="EXTERNAL")
    works(transport)
    link = transport.connect(5.0, "a test", paced=paced)
    users = rabbitmq.control("list_connections", "user", "auth_mechanism").splitlines()
    assert set(users[1:]) == {"client\tEXTERNAL"}
    link.close()
    nobody = connect({"ca_certs": shown["ca_certs"]}, login_method="EXTERNAL")
    with pytest.raises(TransportError, match="login") as caught:
        nobody.connect(5.0, "a test", paced=paced)
    assert not isinstance(caught.value, TransportUnavailable)


def test_files_and_options_that_can_not_be_are_named(
    connect: Open, secure: Secure, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    for name in ("ca_certs", "certfile"):
        for path in (bad, tmp_path / "none.pem"):
            for paced in (False, True):
                with pytest.raises(ImproperlyConfigured, match=str(path)):
                    connect({name: str(path)}).connect(5.0, "a test", paced=paced)
    with pytest.raises(ImproperlyConfigured, match="no certfile"):
        connect({"keyfile": str(secure.client.key)})
    with pytest.raises(ImproperlyConfigured, match="'ca_cert'") as caught:
        connect({"ca_cert": "x"})
    assert "ca_certs" in str(caught.value.hint)
    with pytest.raises(ImproperlyConfigured, match="cert_reqs"):
        connect({"cert_reqs": "perhaps"})


def test_a_port_without_tls_is_an_error_that_says_so(connect: Open, rabbitmq: Server) -> None:
    for paced in (False, True):
        with pytest.raises(TransportError):
            connect(url=f"amqps://127.0.0.1:{rabbitmq.port}").connect(5.0, "a test", paced=paced)


def test_a_broker_that_is_away_is_unavailable_and_no_error_of_tls(connect: Open) -> None:
    for paced in (False, True):
        with pytest.raises(TransportUnavailable, match="can't be reached"):
            connect(url=f"amqps://127.0.0.1:{free_port()}").connect(5.0, "a test", paced=paced)


def test_notices_reach_who_subscribed(connect: Open, secure: Secure) -> None:
    transport = connect({"ca_certs": str(secure.authority.certificate)})
    topic = Topic("tls.ev", "a.b", "topic")
    subscription = transport.broadcast().subscribe([Topic("tls.ev", "#", "topic")])
    transport.broadcast().publish([Notice(topic, Message(b"hello"))])
    found: list[Any] = []
    until(lambda: found.extend(subscription.receive(0.5)) or found, "it comes")
    assert found[0].message.body == b"hello"
    subscription.close()


def test_a_task_that_holds_the_interpreter_s_lock_keeps_its_message_over_tls(
    place: Places, secure: Secure
) -> None:
    here = place(
        broker_url=f"amqps://127.0.0.1:{secure.port}",
        broker_use_ssl={"ca_certs": str(secure.authority.certificate)},
        broker_heartbeat=2.0,
        result_backend="rpc://",
    )
    with here.worker():
        result: Any = here.send("hog", "a", 7.0)
        until(lambda: "end a" in here.said(), "it ends")
        assert result.get(timeout=10) == "a"
        failed: Any = here.send("fail", "no")
        with pytest.raises(ValueError, match="no"):
            failed.get(timeout=20)
        assert here.app.control.ping(timeout=3.0)
    assert here.said() == ["begin a", "end a"]


def test_what_speaks_tls_for_a_consumer_ends_with_it(connect: Open, secure: Secure) -> None:
    transport = connect({"ca_certs": str(secure.authority.certificate)})
    relay = transport.connect(5.0, "a test", paced=True)._relay
    assert relay is not None
    process: subprocess.Popen[bytes] = relay._process
    assert process.poll() is None
    relay.end()
    until(lambda: process.poll() is not None, "it ends")


HOLDER = """
import sys, time
from caraway.interfaces import Context
from caraway.message import Owner, Queue
from caraway.url import Url
from caraway_amqp.frames import HEARTBEAT_FRAME, method
from caraway_amqp.pacemaker import Relay
from caraway_amqp.transport import AmqpTransport

transport = AmqpTransport(Url.parse(sys.argv[1]), {}, Context())
consumer = transport.consume([Queue(name=sys.argv[2])], Owner(id="holder"))
while not consumer.fetch(1, 1.0):
    pass
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_process_s_messages_come_back_at_once_over_tls(
    connect: Open, secure: Secure
) -> None:
    url = f"amqps://127.0.0.1:{secure.port}?ca_certs={secure.authority.certificate}"
    transport = connect(url=url)
    transport.publish([Publication(Message(b"x"), "tls.killed")])
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, url, "tls.killed"], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        consumer = transport.consume([Queue(name="tls.killed")], Owner(id=new_owner_id()))
        assert not consumer.fetch(1, 0.0)
        killed = time.monotonic()
        holder.kill()
    found: list[Any] = []
    until(lambda: found.extend(consumer.fetch(1, 0.2)) or found, "it comes back", 10.0)
    assert found[0].attempt == 2
    assert time.monotonic() - killed < 5.0
    consumer.close()
    transport.delete("tls.killed")


def test_frames_stay_whole_between_heartbeats_and_all_go_out_at_the_end(secure: Secure) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(secure.broker.certificate, secure.broker.key)
    sent = b"AMQP\0\0\x09\x01" + method(1, (60, 80), bytes(9)) * 50_000
    came = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            taken, _ = listener.accept()
            with context.wrap_socket(taken, server_side=True) as broker:
                while data := broker.recv(1 << 16):
                    came.extend(data)

        serving = threading.Thread(target=serve)
        serving.start()
        options = {
            "cert_reqs": int(ssl.CERT_REQUIRED), "server_hostname": "127.0.0.1",
            "ca_certs": str(secure.authority.certificate),
        }  # fmt: skip
        relay = Relay(socket.create_connection(listener.getsockname()), options, 10.0)
        relay.begin(0.03)
        relay.socket.sendall(sent[:-4])
        # In the middle of a frame there is no room for a heartbeat.
        until(lambda: len(came) >= len(sent) - 4, "the first part is there")
        relay.socket.sendall(sent[-4:])
        until(lambda: len(came) > len(sent), "a heartbeat comes")
        relay.socket.sendall(sent[8:])
        relay.socket.close()
        serving.join(20)
        relay.end()
    assert bytes(came[: len(sent)]) == sent
    assert bytes(came[len(sent) :]).replace(HEARTBEAT_FRAME, b"") == sent[8:]
