"""RabbitMQ nodes for tests: each with its own name, ports, port mapper and data.

Nothing is shared with a RabbitMQ that runs on the machine anyway: the Erlang port mapper
(``epmd``) is a child of ours on a port of its own, and so are cookie, database and log.

The programs beside the one that ``CARAWAY_TEST_RABBITMQ`` names are taken before all others.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

INSTALL = "apt-get install rabbitmq-server, or brew install rabbitmq"
_FOLDERS = (
    "/usr/lib/rabbitmq/bin",  # Debian's own, without its wrapper that asks for root
    "/usr/local/sbin",
    "/opt/homebrew/sbin",
    "/usr/local/opt/rabbitmq/sbin",
)


def find(program: str) -> str | None:
    """The path of one of RabbitMQ's programs, None if it isn't installed."""
    chosen = shutil.which(os.environ.get("CARAWAY_TEST_RABBITMQ", ""))
    folders = (os.path.dirname(chosen), *_FOLDERS) if chosen else _FOLDERS
    path = os.pathsep.join((*folders, os.environ.get("PATH", "")))
    return shutil.which(program, path=path)


class Node(Struct, frozen=True):
    """Where one node lives.

    Attributes:
        port: of AMQP, on 127.0.0.1.
        dist: of Erlang's own protocol.
        epmd: of its port mapper.
        directory: of all its files.
    """

    port: int
    dist: int
    epmd: int
    directory: Path

    @property
    def name(self) -> str:
        """What RabbitMQ calls it."""
        return f"caraway{self.port}@localhost"

    @property
    def environment(self) -> dict[str, str]:
        """What RabbitMQ's programs need to find this node and nothing else."""
        folder = self.directory
        return {
            **os.environ,
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(self.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(self.dist),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "node.pid"),
            # Idle schedulers that spin would slow down the tests beside them.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none",
        }

    def configure(self, lines: Sequence[str] = (), plugins: Sequence[str] = ()) -> None:
        """Write its files.

        Args:
            lines: of ``rabbitmq.conf``, e.g. ``consumer_timeout = 5000``.
            plugins: e.g. ``rabbitmq_management``.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        settings = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            "loopback_users = none",
            "log.file = false",
            "log.console = true",
            "log.console.level = warning",
            "disk_free_limit.absolute = 50MB",
            *lines,
        ]
        (self.directory / "rabbitmq.conf").write_text("\n".join(settings) + "\n")
        (self.directory / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n")

    def start_mapper(self) -> subprocess.Popen[bytes]:
        """Start its port mapper; end it after the node."""
        program = find("epmd") or "epmd"
        return subprocess.Popen(  # noqa: S603 - Erlang's own
            [program, "-port", str(self.epmd), "-address", "127.0.0.1"],
            env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def control(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run ``rabbitmqctl`` against this node; return what it printed.

        Raises:
            AssertionError: it failed; the text says how.
        """
        program = find("rabbitmqctl") or "rabbitmqctl"
        done = subprocess.run(  # noqa: S603 - RabbitMQ's own
            [program, "--quiet", *arguments], env=self.environment, capture_output=True,
            text=True, timeout=timeout, check=False,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(f"rabbitmqctl {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout


def answers(port: int) -> bool:
    """True if AMQP is spoken there.

    Raises:
        OSError: nobody listens.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
        connection.settimeout(2.0)
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        return connection.recv(7)[:1] == b"\x01"
