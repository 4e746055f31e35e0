"""A broker without messages, workers of `crash_app`, and what they left.

Imported by the tests of crashes and of faults.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
_RUN = (
    "import sys; from crash_app import app; from caraway.worker import Worker; "
    "sys.exit(Worker(app, pool={pool!r}, concurrency={concurrency}).run())"
)
MEMBERS = 4
"""Of each chord."""


class Crash:
    """One broker without messages, its client app, its workers.

    Attributes:
        kind: of the broker: ``sqlite``, ``redis`` or ``rabbitmq``.
        apart: URL of a store of results that isn't the broker's.
    """

    def __init__(self, path: Path, env: dict[str, str], kind: str, broker: str, apart: str) -> None:
        self.path = path
        self.kind = kind
        self.apart = apart or f"sqlite:///{path}/results.db"
        self.log = path / "runs.log"
        self.log.touch()
        self.env = {
            **os.environ,
            "CRASH_BROKER": broker or f"sqlite:///{path}/broker.db",
            "CRASH_BACKEND": self.apart if kind == "rabbitmq" else "",
            "CRASH_LOG": str(self.log),
            "PYTHONPATH": str(HERE),
            **env,
        }
        self.workers: list[subprocess.Popen[bytes]] = []
        self.clients: list[Any] = []

    def worker(self, concurrency: int = 2, pool: str = "prefork") -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN.format(pool=pool, concurrency=concurrency)],
            env=self.env,
            cwd=self.path,
            start_new_session=True,
        )
        self.workers.append(process)
        return process

    def client(self) -> Any:
        """The app in this process, on the same broker."""
        from caraway import Caraway

        app = Caraway(
            "crash_app",
            broker=self.env["CRASH_BROKER"],
            backend=self.env.get("CRASH_BACKEND") or self.env["CRASH_BROKER"],
            set_as_current=False,
        )
        self.clients.append(app)
        return app

    # -- processes ---------------------------------------------------------------------

    def lanes(self, worker: subprocess.Popen[bytes]) -> list[int]:
        """Pids of a worker's lanes: the children of its fork server."""
        return [lane for server in children(worker.pid) for lane in children(server)]

    def wait_for_lanes(self, worker: subprocess.Popen[bytes], count: int) -> list[int]:
        return until(lambda: lanes if len(lanes := self.lanes(worker)) >= count else None)

    def stop(self) -> None:
        for app in self.clients:
            app.close()
        for process in self.workers:
            if process.poll() is None:
                process.terminate()
        for process in self.workers:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            kill_session(process.pid)

    # -- what they left ----------------------------------------------------------------

    def lines(self) -> list[tuple[str, str, int]]:
        found = []
        # A line that crosses a page of the file is seen in two steps.
        whole = self.log.read_text().rpartition("\n")[0]
        for line in whole.splitlines():
            kind, argument, pid = line.split()
            found.append((kind, argument, int(pid)))
        return found

    def starts(self) -> Counter[str]:
        return Counter(argument for kind, argument, _ in self.lines() if kind == "s")

    def last_started(self) -> dict[int, str]:
        """Per process, the task it began last."""
        return {pid: argument for kind, argument, pid in self.lines() if kind == "s"}

    def runs_by_task(self) -> dict[str, list[int]]:
        runs: dict[str, list[int]] = defaultdict(list)
        for kind, argument, pid in self.lines():
            if kind == "s":
                runs[argument].append(pid)
        return runs


def children(pid: int) -> list[int]:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        return [
            int(child)
            for task in tasks
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        ]
    except OSError:
        return []


def kill_session(session: int) -> None:
    """End what a worker of ours may have left, by the session it was started in."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.getsid(int(entry)) == session:
                    os.kill(int(entry), signal.SIGKILL)
            except OSError:
                continue


def until(look: Callable[[], Any], timeout: float = 30.0, every: float = 0.01) -> Any:
    """Wait until ``look`` returns something true."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"nothing after {timeout} s")


def chord(n: int) -> list[Any]:
    """The header of a chord of `MEMBERS` tasks, as Celery sends it."""
    from caraway.message import Message, Publication

    group = str(uuid.uuid4())
    body = {
        "task": "crash_app.work", "args": [f"body{n}"], "kwargs": {}, "subtask_type": None,
        "options": {"task_id": str(uuid.uuid4())}, "immutable": True, "chord_size": MEMBERS,
    }  # fmt: skip
    made = []
    for at in range(MEMBERS):
        embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": body}
        payload = json.dumps([[f"member{n}-{at}", 0.002], {}, embed]).encode()
        headers = {
            "lang": "py", "task": "crash_app.work", "id": str(uuid.uuid4()), "retries": 0,
            "group": group, "group_index": at,
        }  # fmt: skip
        made.append(Publication(Message(payload, headers, "application/json", "utf-8"), "celery"))
    return made


def is_empty(app: Any) -> bool:
    """True if the queue of the tests has nothing any more, nor anybody anything of it."""
    stats = app.transport.stats(["celery"])[0]
    return (stats.ready, stats.delayed, stats.held) == (0, 0, 0)


def empty_redis(port: int) -> None:
    """Begin with nothing."""
    with socket.create_connection(("127.0.0.1", port), 5.0) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(100) == b"+OK\r\n"


def empty_rabbitmq(port: int) -> None:
    """Begin without the queue that the tests use, and without dead letters.  A virtual host
    for each test would be simpler, and takes RabbitMQ's program seconds to make."""
    from caraway import Caraway

    app = Caraway(broker=f"amqp://guest:guest@127.0.0.1:{port}//", set_as_current=False)
    try:
        app.transport.delete("celery")
        while letters := app.transport.dead(limit=1000):
            app.transport.dead_drop([letter.id for letter in letters])
    finally:
        app.close()
