r"""The contract, on servers that CI hasn't: docs/how-to/kombu.md says what was seen.

    apt-get install zookeeper etcd-server postgresql
    pip install kazoo python-etcd "psycopg[binary]" sqlalchemy Pyro4 \
        boto3 "moto[server]"
    pytest plugins/kombu/tests/by_hand.py

As root, PostgreSQL's server is run by the user ``postgres``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from caraway.testing.servers import Server, ServerKind, Surroundings, free_port, server
from caraway_kombu.testing import AtTheEnd, KombuSuite, Refused

POSTGRES = "/usr/lib/postgresql/15/bin"


def _zookeeper(port: int, folder: Path, _: Sequence[str]) -> Surroundings:
    (folder / "zoo.cfg").write_text(
        f"tickTime=2000\ndataDir={folder}\nclientPort={port}\n"
        "clientPortAddress=127.0.0.1\nadmin.enableServer=false\n"
    )
    return Surroundings()


ZOOKEEPER = ServerKind(
    name="zookeeper",
    programs=("java",),
    install="apt-get install zookeeper",
    command=lambda program, _, folder: [
        program, "-cp", "/etc/zookeeper/conf_example:/usr/share/java/*",
        "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(folder / "zoo.cfg"),
    ],
    prepare=_zookeeper,
    timeout=60.0,
)  # fmt: skip


def _etcd(program: str, port: int, folder: Path) -> list[str]:
    peers = f"http://127.0.0.1:{free_port()}"
    options = {
        "enable-v2": "true", "data-dir": f"{folder}/data",
        "listen-client-urls": f"http://127.0.0.1:{port}",
        "advertise-client-urls": f"http://127.0.0.1:{port}",
        "listen-peer-urls": peers, "initial-advertise-peer-urls": peers,
        "initial-cluster": f"default={peers}",
    }  # fmt: skip
    return [program, *(f"--{name}={value}" for name, value in options.items())]


ETCD = ServerKind(
    name="etcd", programs=("etcd",), install="apt-get install etcd-server", command=_etcd
)


def _as_postgres() -> list[str]:
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] * (not os.getuid())


def _postgres(_port: int, folder: Path, _: Sequence[str]) -> Surroundings:
    if not os.getuid():
        folder.parent.chmod(0o755)
        shutil.chown(folder, "postgres")
    subprocess.run(
        [*_as_postgres(), f"{POSTGRES}/initdb", "-A", "trust", "-U", "postgres", "-D",
         f"{folder}/db"], check=True, stdout=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    return Surroundings()


POSTGRESQL = ServerKind(
    name="postgresql",
    programs=(f"{POSTGRES}/postgres",),
    install="apt-get install postgresql",
    command=lambda program, port, folder: [
        *_as_postgres(), program, "-D", f"{folder}/db", "-k", str(folder), "-p", str(port),
        "-c", "listen_addresses=127.0.0.1",
    ],
    prepare=_postgres,
)  # fmt: skip


MOTO = ServerKind(
    name="moto",
    programs=(sys.executable,),
    install='pip install "moto[server]"',
    command=lambda program, port, _: [
        program, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)
    ],
    timeout=60.0,
)  # fmt: skip


PYRO_BROKER = """
import sys
from Pyro4 import naming
from kombu.transport.pyro import KombuBroker

_, daemon, _ = naming.startNS("127.0.0.1", int(sys.argv[1]), enableBroadcast=False)
daemon.nameserver.register("kombu.broker", daemon.register(KombuBroker))
daemon.requestLoop()
"""
PYRO = ServerKind(
    name="pyro",
    programs=(sys.executable,),
    install="pip install Pyro4",
    command=lambda program, port, _: [program, "-c", PYRO_BROKER, str(port)],
    timeout=60.0,
)


@pytest.fixture(scope="module")
def zookeeper() -> Iterator[Server]:
    with server(ZOOKEEPER) as running:
        yield running


@pytest.fixture(scope="module")
def etcd() -> Iterator[Server]:
    with server(ETCD) as running:
        yield running


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Server]:
    with server(POSTGRESQL) as running:
        yield running


class TestOnZookeeper(AtTheEnd, Refused, KombuSuite):
    scheme = "zookeeper"
    tick = 0.6
    patience = 30.0
    server: Server

    @pytest.fixture(autouse=True)
    def _server(self, zookeeper: Server) -> None:
        type(self).server = zookeeper

    def url(self, tmp_path: Path) -> str:
        return f"kombu+zookeeper://127.0.0.1:{self.server.port}/kombu"


class TestOnEtcd(AtTheEnd, KombuSuite):
    scheme = "etcd"
    tick = 0.6
    patience = 30.0
    server: Server

    @pytest.fixture(autouse=True)
    def _server(self, etcd: Server) -> None:
        type(self).server = etcd

    def url(self, tmp_path: Path) -> str:
        return f"kombu+etcd://127.0.0.1:{self.server.port}/"

    def test_a_body_of_16_mebibytes_arrives(self) -> None:
        """One: sixteen take etcd longer than publishing may take."""
        self.publish(b"x" * (1 << 20))
        assert len(self.take(self.consumer(), 1)[0].message.body) == 1 << 20


class TestOnPostgresql(AtTheEnd, KombuSuite):
    scheme = "sqla"
    tick = 0.6
    patience = 30.0
    server: Server

    @pytest.fixture(autouse=True)
    def _server(self, postgresql: Server) -> None:
        type(self).server = postgresql

    def url(self, tmp_path: Path) -> str:
        return f"kombu+sqla+postgresql+psycopg://postgres@127.0.0.1:{self.server.port}/postgres"


class TestOnSqs(AtTheEnd, Refused, KombuSuite):
    scheme = "sqs"
    tick = 0.6
    patience = 30.0
    many = 50
    server: Server

    @pytest.fixture(autouse=True)
    def _server(self, sqs: Server) -> None:
        type(self).server = sqs

    @property
    def options(self) -> dict[str, Any]:  # type: ignore[override]
        return {"endpoint_url": f"http://127.0.0.1:{self.server.port}", "region": "eu-west-1"}

    def url(self, tmp_path: Path) -> str:
        return f"kombu+sqs://key:secret@127.0.0.1:{self.server.port}"


@pytest.fixture(scope="module")
def sqs() -> Iterator[Server]:
    """By moto, which speaks its protocol."""
    with server(MOTO) as running:
        yield running


class TestOnSqlite(AtTheEnd, KombuSuite):
    scheme = "sqla"
    tick = 0.6
    patience = 30.0
    many = 200

    def url(self, tmp_path: Path) -> str:
        return f"kombu+sqla+sqlite:///{tmp_path}/messages.db"


class TestOnPyro(AtTheEnd, KombuSuite):
    scheme = "pyro"
    tick = 0.6
    patience = 30.0
    unreachable = f"kombu+pyro://127.0.0.1:{free_port()}/kombu.broker"
    server: Server

    @pytest.fixture(autouse=True)
    def _server(self, pyro: Server) -> None:
        type(self).server = pyro

    def url(self, tmp_path: Path) -> str:
        return f"kombu+pyro://127.0.0.1:{self.server.port}/kombu.broker"


@pytest.fixture(scope="module")
def pyro() -> Iterator[Server]:
    with server(PYRO) as running:
        yield running
