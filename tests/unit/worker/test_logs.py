"""Log lines: what is in them, where they go, and who may interfere."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys

import pytest

from caraway import signals
from caraway.errors import ImproperlyConfigured
from caraway.request import Request, current_request
from caraway.worker import logs


@pytest.fixture(autouse=True)
def _restored():
    """Puts logging and the streams back as they were."""
    root, ours = logging.getLogger(), logging.getLogger("caraway")
    before = [(each, each.handlers[:], each.level, each.propagate) for each in (root, ours)]
    streams = sys.stdout, sys.stderr
    process = logs.TaskContext.process
    yield
    sys.stdout, sys.stderr = streams
    logs.TaskContext.process = process
    for logger, handlers, level, propagate in before:
        for handler in logger.handlers:
            if handler not in handlers:
                handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture
def in_task():
    token = current_request.set(Request({"id": "id-1", "task": "shop.add"}))
    yield
    current_request.reset(token)


@pytest.fixture
def log_to(tmp_path):
    """Sets logging up to a file; returns a function that reads its lines."""

    def start(conf=None, **options):
        path = tmp_path / "log"
        conf = {"worker_redirect_stdouts": False, **(conf or {})}
        assert logs.setup(conf, logfile=str(path), level="INFO", **options)
        return lambda: path.read_text("utf-8").splitlines()

    return start


def test_a_line_outside_of_tasks_has_level_process_and_message(log_to):
    lines = log_to(name="lane 1")
    logging.getLogger("shop").warning("stock %d", 3)
    assert lines()[0].endswith("WARNING/lane 1] stock 3")


def test_a_line_inside_a_task_has_its_name_and_id(log_to, in_task):
    lines = log_to(
        {
            "worker_log_format": "%(message)s",
            "worker_task_log_format": "%(task_name)s[%(task_id)s]: %(message)s",
        }
    )
    logging.getLogger("shop").info("hello")
    logging.getLogger("caraway.task").info("named in the message already")
    assert lines() == ["shop.add[id-1]: hello", "named in the message already"]


def test_ids_given_as_extra_are_kept(log_to, in_task):
    lines = log_to(json=True)
    logging.getLogger("caraway.task").error("x", extra={"task_id": "other", "task_name": "t"})
    row = json.loads(lines()[0])
    assert (row["task_id"], row["task_name"]) == ("other", "t")


def test_json_lines_are_one_object_each_with_everything(log_to, in_task):
    lines = log_to(json=True, name="lane 0")
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        logging.getLogger("shop").exception("failed %s", "so", extra={"order": 7, "odd": {1}})
    (line,) = lines()
    row = json.loads(line)
    assert row["message"] == "failed so"
    assert row["level"] == "ERROR"
    assert row["logger"] == "shop"
    assert row["process"] == "lane 0"
    assert row["task_id"] == "id-1"
    assert row["task_name"] == "shop.add"
    assert row["order"] == 7
    assert row["odd"] == [1]
    assert "ValueError: bad" in row["exception"]
    assert row["time"].endswith("Z")


class Nasty:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("message", "args", "extra"),
    [
        ("%d", ("not a number",), {}),
        ("%s", (Nasty(),), {}),
        ("fine", (), {"what": Nasty()}),
        ("lone \ud800", (), {"also": "\udfff"}),
        ("fine", (), {"big": 2**100, "nan": float("nan")}),
    ],
)
def test_json_survives_whatever_is_logged(log_to, message, args, extra):
    lines = log_to(json=True)
    logging.getLogger("shop").error(message, *args, extra=extra)
    (line,) = lines()
    assert json.loads(line)["level"] == "ERROR"


def test_setting_up_twice_does_not_log_twice(log_to):
    log_to()
    lines = log_to()
    logging.getLogger("shop").error("once")
    assert len(lines()) == 1


def test_a_hijacked_root_loses_its_handlers_and_another_keeps_them(log_to):
    mine = logging.StreamHandler(io.StringIO())
    logging.getLogger().addHandler(mine)
    lines = log_to({"worker_hijack_root_logger": False})
    assert mine in logging.getLogger().handlers
    logging.getLogger("caraway.worker").error("ours")
    logging.getLogger("shop").error("not ours")
    assert len(lines()) == 1
    log_to()
    assert mine not in logging.getLogger().handlers


def test_a_receiver_of_setup_logging_does_it_alone():
    seen = []

    def receiver(**fields):
        seen.append(fields)

    before = logging.getLogger().handlers[:]
    signals.setup_logging.connect(receiver)
    try:
        assert logs.setup({}, level="debug") is False
    finally:
        signals.setup_logging.disconnect(receiver)
    assert seen[0]["loglevel"] == logging.DEBUG
    assert logging.getLogger().handlers == before
    assert not isinstance(sys.stdout, logs.LogStream)


def test_receivers_of_after_setup_logger_get_the_loggers(log_to):
    seen = []

    def receiver(logger, **fields):
        seen.append(logger)

    signals.after_setup_logger.connect(receiver)
    signals.after_setup_task_logger.connect(receiver)
    try:
        log_to()
    finally:
        signals.after_setup_logger.disconnect(receiver)
        signals.after_setup_task_logger.disconnect(receiver)
    assert seen == [logging.getLogger(), logging.getLogger("caraway.task")]


@pytest.mark.parametrize(
    ("level", "number"), [("info", 20), ("WARN", 30), ("10", 10), (40, 40), ("fatal", 50)]
)
def test_levels(level, number):
    assert logs.parse_level(level) == number


def test_an_unknown_level_is_told():
    with pytest.raises(ImproperlyConfigured, match=r"loud.*\n.*debug, info"):
        logs.parse_level("loud")


def test_a_log_file_that_can_not_be_written_is_told(tmp_path):
    with pytest.raises(ImproperlyConfigured, match="worker_logfile"):
        logs.setup({}, logfile=str(tmp_path / "missing" / "log"))


def test_colours_only_where_they_are_wanted(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def line(**options):
        terminal = Terminal()
        sys.stderr = terminal
        logs.setup({"worker_redirect_stdouts": False}, **options)
        logging.getLogger("shop").error("x")
        return terminal.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31m" in line()
    assert "\x1b[" not in line(color=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in line()
    assert "\x1b[" in line(color=True)


def test_what_is_printed_is_logged_line_by_line(log_to):
    lines = log_to({"worker_redirect_stdouts": True, "worker_log_format": "%(message)s"})
    print("one\ntwo")
    print("three", end="")
    assert lines() == ["one", "two"]
    sys.stdout.flush()
    assert lines() == ["one", "two", "three"]
    assert sys.stdout.isatty() is False
    assert sys.stdout.write("abc") == 3


def test_a_handler_that_prints_does_not_call_itself(log_to):
    lines = log_to({"worker_redirect_stdouts": True, "worker_log_format": "%(message)s"})

    class Printing(logging.Handler):
        def emit(self, record):
            print("printed while logging")

    handler = Printing()
    logging.getLogger().addHandler(handler)
    print("outer")
    assert lines() == ["outer"]


def test_task_loggers_are_below_the_task_logger_under_their_own_name():
    logger = logs.get_task_logger("a_module_of_tasks")
    assert logger.name == "a_module_of_tasks"
    assert logger.parent is logging.getLogger("caraway.task")
    assert logs.get_task_logger("caraway.task") is logging.getLogger("caraway.task")


def test_a_moved_log_file_is_opened_anew(log_to, tmp_path):
    lines = log_to({"worker_log_format": "%(message)s"})
    logging.getLogger("shop").error("before")
    (tmp_path / "log").rename(tmp_path / "log.1")
    logging.getLogger("shop").error("after")
    assert lines() == ["after"]


def test_without_a_file_lines_go_to_standard_error():
    code = (
        "import logging; from caraway.worker import logs; logs.setup({}, level='info');"
        "logs.setup({}, level='info');"
        "logging.getLogger('shop').info('hello'); print('printed')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == ""
    assert done.stderr.count("hello") == 1
    assert done.stderr.count("WARNING/MainProcess] printed") == 1
