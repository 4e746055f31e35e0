"""The health page and file, with real sockets on loopback."""

from __future__ import annotations

import json
import os
import socket
import threading
from http.client import HTTPConnection

import pytest

from caraway.errors import ImproperlyConfigured
from caraway.worker import health
from caraway.worker.health import HealthServer, checks, parse_address
from caraway.worker.metrics import LaneSnapshot, RunningTask, WorkerSnapshot

HEALTHY = WorkerSnapshot(node="caraway@here", lanes=(LaneSnapshot(index=0, pid=1),))
WEDGED = WorkerSnapshot(node="caraway@here", lanes=(LaneSnapshot(index=0, pid=1, tick_age=90.0),))


@pytest.fixture
def serve():
    servers = []

    def start(snapshot, **more):
        server = HealthServer("127.0.0.1:0", snapshot, **more)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()
        assert server.address is None


def get(server, path, method="GET"):
    connection = HTTPConnection(*server.address, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read().decode()
    finally:
        connection.close()


def raw(server, data: bytes) -> bytes:
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def test_a_healthy_worker_answers_200_with_each_check(serve):
    server = serve(lambda: HEALTHY)
    status, kind, body = get(server, "/health")
    assert (status, kind) == (200, "application/json")
    report = json.loads(body)
    assert report["status"] == "ok"
    assert report["checks"]["lane 0"] == {"ok": True, "detail": ""}


def test_a_wedged_lane_turns_the_page_red_and_says_which(serve):
    status, _, body = get(serve(lambda: WEDGED), "/health")
    assert status == 503
    check = json.loads(body)["checks"]["lane 0"]
    assert check["ok"] is False
    assert "90 s" in check["detail"]
    assert "pid 1" in check["detail"]


def test_a_worker_that_stops_in_order_is_healthy():
    gone = WorkerSnapshot(node="n", stopping=True)
    assert all(check.ok for check in checks(gone))


def test_no_lane_or_no_broker_is_unhealthy():
    assert [c.name for c in checks(WorkerSnapshot(node="n")) if not c.ok] == ["lanes"]
    cut_off = WorkerSnapshot(node="n", lanes=HEALTHY.lanes, broker_error="connection refused")
    assert [(c.name, c.detail) for c in checks(cut_off) if not c.ok] == [
        ("broker", "connection refused")
    ]


def test_what_a_suspended_lane_runs_is_named():
    lane = LaneSnapshot(
        index=2, pid=9, stuck=True, running=(RunningTask(task_id="abc", age=5.0, name="shop.add"),)
    )
    found = [c for c in checks(WorkerSnapshot(node="n", lanes=(lane,))) if not c.ok]
    assert "shop.add[abc] for 5 s" in found[0].detail


def test_live_metrics_and_unknown_pages(serve):
    server = serve(lambda: HEALTHY)
    assert get(server, "/live")[0] == 200
    status, kind, body = get(server, "/metrics?format=prometheus")
    assert status == 200
    assert kind.startswith("text/plain; version=0.0.4")
    assert "caraway_lanes 1" in body
    assert get(server, "/nothing")[0] == 404
    assert get(server, "/health/")[0] == 200
    assert get(server, "/health", "POST")[0] == 405
    status, _, body = get(server, "/health", "HEAD")
    assert (status, body) == (200, "")


def test_a_snapshot_that_fails_is_an_unhealthy_worker(serve):
    def fail():
        raise OSError("board is gone")

    server = serve(fail)
    status, _, body = get(server, "/health")
    assert status == 503
    assert "board is gone" in body
    assert get(server, "/live")[0] == 200


@pytest.mark.parametrize(
    "request_bytes",
    [b"\r\n\r\n", b"GET\r\n\r\n", b"\x00\xff\x16\x03\x01\n\n", b"GET / FTP/1\r\n\r\n"],
)
def test_what_is_no_request_is_answered_with_400(serve, request_bytes):
    assert raw(serve(lambda: HEALTHY), request_bytes).startswith(b"HTTP/1.1 400 ")


def test_a_request_without_end_is_refused_at_its_limit(serve):
    server = serve(lambda: HEALTHY)
    data = b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 2000
    with socket.create_connection(server.address, timeout=10) as connection:
        try:
            connection.sendall(data)
            answer = connection.recv(100)
        except ConnectionError:
            answer = b"HTTP/1.1 431 "  # reset because we were still sending
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert get(server, "/live")[0] == 200


def test_silent_clients_keep_nobody_out(serve):
    server = serve(lambda: HEALTHY)
    silent = [
        socket.create_connection(server.address, timeout=10) for _ in range(health.CONNECTIONS + 10)
    ]
    try:
        assert get(server, "/live")[0] == 200
    finally:
        for connection in silent:
            connection.close()


def test_a_silent_client_is_dropped_when_its_time_is_over(serve, monkeypatch):
    monkeypatch.setattr(health, "REQUEST_SECONDS", 0.05)
    server = serve(lambda: HEALTHY)
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(b"GET /hea")
        assert connection.recv(10) == b""


def test_many_ask_at_once(serve):
    server = serve(lambda: HEALTHY)
    found = []

    def ask():
        found.extend(get(server, "/metrics")[0] for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [200] * 160


def test_the_file_is_written_while_healthy_and_removed_at_the_end(tmp_path):
    path = tmp_path / "health"
    written = threading.Event()

    def snapshot():
        written.set()
        return HEALTHY

    server = HealthServer("", snapshot, file=str(path))
    server.start()
    assert server.address is None
    assert written.wait(10)
    server.stop()
    assert not path.exists()
    assert os.listdir(tmp_path) == []


def test_the_file_is_left_to_grow_old_when_the_worker_is_not_well(tmp_path):
    path = tmp_path / "health"
    server = HealthServer("", lambda: WEDGED, file=str(path))
    server._write_file()
    assert not path.exists()
    server = HealthServer("", lambda: HEALTHY, file=str(path))
    server._write_file()
    assert json.loads(path.read_text())["status"] == "ok"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9808", ("127.0.0.1", 9808)),
        (":9808", ("127.0.0.1", 9808)),
        ("9808", ("127.0.0.1", 9808)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_addresses(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "localhost", "host:port", "host:99999", "host:-1", ":"])
def test_what_is_no_address_is_told(text):
    with pytest.raises(ImproperlyConfigured, match=r"127\.0\.0\.1:9808"):
        parse_address(text)


def test_a_taken_port_is_told(serve):
    host, port = serve(lambda: HEALTHY).address
    with pytest.raises(ImproperlyConfigured, match="worker_health_address"):
        HealthServer(f"{host}:{port}", lambda: HEALTHY).start()


def test_starting_and_stopping_often_leaves_nothing_behind():
    before = threading.active_count()
    server = HealthServer("127.0.0.1:0", lambda: HEALTHY)
    for _ in range(50):
        server.start()
        server.stop()
        server.stop()
    assert threading.active_count() == before
