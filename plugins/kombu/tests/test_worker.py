"""Workers on kombu's transports, end to end: Caraway's clients, kombu's, and Celery's tools."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Exchange, pidbox

from caraway import Caraway
from caraway.errors import WorkerLostError
from caraway.testing.servers import server

TASKS = """
import os, time
from pathlib import Path
from caraway import Caraway

app = Caraway("shop", broker=os.environ["BROKER"], result_backend=os.environ["RESULTS"])

@app.task(name="shop.add")
def add(x, y):
    return x + y

@app.task(name="shop.flaky", bind=True, max_retries=3)
def flaky(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.2)
    return self.request.retries

@app.task(name="shop.deadly")
def deadly(path):
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\\n")
    if len(Path(path).read_text().split()) < 2:
        time.sleep(60)
    return "survived"

@app.task(name="shop.poison")
def poison(path):
    with open(path, "a") as file:
        file.write("x")
    os.kill(os.getpid(), 9)
"""


class Place:
    """A broker, a client of it, and what kombu needs to reach it."""

    def __init__(self, folder: Path, broker: str, kombus: Any) -> None:
        self.folder = folder
        results = f"sqlite:///{folder}/results.db"
        self.environment = {**os.environ, "BROKER": broker, "RESULTS": results}
        self.app = Caraway("client", broker=broker, result_backend=results)
        self.kombus = kombus
        (folder / "shop_tasks.py").write_text(TASKS)

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        log = self.folder / f"worker-{uuid.uuid4().hex[:6]}.log"
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "caraway", "-A", "shop_tasks", "worker", "-c", "1"],
                cwd=self.folder, env=self.environment, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + 30.0
            while b"is ready" not in log.read_bytes():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20.0)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    raise


@contextmanager
def on_files(folder: Path) -> Iterator[Place]:
    messages = folder / "messages"
    options = {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(messages / "control"),
    }
    yield Place(
        folder,
        f"kombu+filesystem://{messages}",
        lambda: Connection("filesystem://", transport_options=options),
    )


@contextmanager
def on_redis(folder: Path) -> Iterator[Place]:
    with server("redis") as running:
        url = f"redis://127.0.0.1:{running.port}/0"
        yield Place(folder, f"kombu+{url}", lambda: Connection(url))


@contextmanager
def on_sqlite(folder: Path) -> Iterator[Place]:
    """By SQLAlchemy: kombu takes a message out of the table before it hands it over."""
    url = f"sqla+sqlite:///{folder}/messages.db"
    yield Place(folder, f"kombu+{url}", lambda: Connection(url))


KILLED = pytest.mark.parametrize("where", [on_files, on_sqlite], ids=["files", "sqlite"])


@pytest.fixture(scope="module", params=[on_files, on_redis], ids=["files", "redis"])
def place(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """With a worker that runs."""
    with ExitStack() as stack:
        found = stack.enter_context(request.param(tmp_path_factory.mktemp("place")))
        stack.enter_context(found.worker())
        yield found
        found.app.close()


def test_tasks_are_run_and_their_results_come(place: Place) -> None:
    results = [place.app.send_task("shop.add", (n, n)) for n in range(30)]
    assert [result.get(timeout=30) for result in results] == [2 * n for n in range(30)]


def test_delayed_tasks_and_retries_wait_for_their_time(place: Place) -> None:
    started = time.time()
    later = place.app.send_task("shop.add", (1, 2), countdown=1.0)
    flaky = place.app.send_task("shop.flaky")
    assert flaky.get(timeout=30) == 2
    assert later.get(timeout=30) == 3
    assert time.time() - started >= 1.0


def test_a_message_of_kombu_s_own_producer_is_run(place: Place) -> None:
    task_id = str(uuid.uuid4())
    headers = {
        "lang": "py", "task": "shop.add", "id": task_id, "root_id": task_id, "parent_id": None,
        "group": None, "eta": None, "expires": None, "retries": 0, "timelimit": [None, None],
        "argsrepr": "(2, 3)", "kwargsrepr": "{}", "origin": "gen1@here", "ignore_result": False,
    }  # fmt: skip
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    with place.kombus() as connection:
        connection.Producer(serializer="json").publish(
            ((2, 3), {}, embed), exchange="", routing_key="celery", headers=headers,
            correlation_id=task_id, reply_to=str(uuid.uuid4()), delivery_mode=2, priority=0,
        )  # fmt: skip
    assert place.app.AsyncResult(task_id).get(timeout=30) == 5


def test_a_delayed_message_of_kombu_s_own_producer_waits_in_the_broker(place: Place) -> None:
    from datetime import UTC, datetime, timedelta

    task_id = str(uuid.uuid4())
    due = datetime.now(UTC) + timedelta(seconds=1.5)
    with place.kombus() as connection:
        connection.Producer(serializer="json").publish(
            ((20, 3), {}, {}), exchange="", routing_key="celery", correlation_id=task_id,
            headers={"task": "shop.add", "id": task_id, "eta": due.isoformat()},
        )  # fmt: skip
    assert place.app.AsyncResult(task_id).get(timeout=30) == 23
    assert datetime.now(UTC) >= due


def test_commands_are_answered_to_our_client_and_to_celery_s(place: Place) -> None:
    assert [list(answer.values()) for answer in place.app.control.ping()] == [[{"ok": "pong"}]]
    with place.kombus() as connection:
        # What `celery inspect ping` sends and hears.
        mailbox = pidbox.Mailbox("celery", type="fanout", accept=["json"])(connection)
        answers = mailbox._broadcast("ping", {}, reply=True, timeout=10.0, limit=1)
    assert [list(answer.values()) for answer in answers] == [[{"ok": "pong"}]]


@KILLED
def test_a_lane_killed_in_the_midst_of_a_task_loses_nothing(tmp_path: Path, where: Any) -> None:
    trace = tmp_path / "trace"
    with where(tmp_path) as place:
        with place.worker():
            result = place.app.send_task("shop.deadly", (str(trace),))
            os.kill(_victim(trace), signal.SIGKILL)
            assert result.get(timeout=30) == "survived"
        place.app.close()


@KILLED
def test_a_task_that_kills_its_lane_is_given_up_after_three_deliveries(
    tmp_path: Path, where: Any
) -> None:
    trace = tmp_path / "trace"
    with where(tmp_path) as place:
        with place.worker():
            result = place.app.send_task("shop.poison", (str(trace),))
            with pytest.raises(WorkerLostError):
                result.get(timeout=45)
        assert trace.read_text() == "xxx"
        place.app.close()


@KILLED
def test_a_whole_worker_killed_loses_nothing(tmp_path: Path, where: Any) -> None:
    trace = tmp_path / "trace"
    with where(tmp_path) as place:
        with place.worker() as first:
            result = place.app.send_task("shop.deadly", (str(trace),))
            _victim(trace)
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
        with place.worker():
            assert result.get(timeout=30) == "survived"
        place.app.close()


def _victim(trace: Path) -> int:
    deadline = time.monotonic() + 30.0
    while not trace.exists() or not trace.read_text().endswith("\n"):
        assert time.monotonic() < deadline, "the task was not begun"
        time.sleep(0.02)
    return int(trace.read_text().split()[0])


def test_a_worker_says_at_its_start_what_its_broker_does_not_keep(tmp_path: Path) -> None:
    with on_sqlite(tmp_path) as place:
        with place.worker():
            (log,) = tmp_path.glob("worker-*.log")
            assert "note      sqla by kombu: what a killed worker held comes" in log.read_text()
        place.app.close()


def test_exchanges_and_queues_are_declared_as_celery_declares_them(place: Place) -> None:
    with place.kombus() as connection:
        channel = connection.default_channel
        Exchange("celery.pidbox", type="fanout", durable=False)(channel).declare()
        queues = {row.queue if hasattr(row, "queue") else row[2]
                  for row in channel.get_table("celery.pidbox")}  # fmt: skip
    assert any(name.endswith(".celery.pidbox") for name in queues)
