"""The Prometheus text: names, types, escaping, sums."""

from __future__ import annotations

import re

import pytest

from caraway.worker.metrics import (
    LaneSnapshot,
    RunningTask,
    TaskStats,
    WorkerSnapshot,
    render,
)

SAMPLE = re.compile(
    r"^([a-zA-Z_:][a-zA-Z0-9_:]*)"
    r"(?:\{((?:[a-zA-Z_]\w*=\"(?:[^\"\\\n]|\\[\\\"nr])*\",?)*)\})? (\S+)$"
)


def parse(text: str) -> dict[str, str]:
    """Samples by name and labels; fails on any line that isn't of the format."""
    assert text.endswith("\n")
    samples: dict[str, str] = {}
    described: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in described, f"{name} is described twice"
            described[name] = kind
            continue
        found = SAMPLE.match(line)
        assert found, line
        name = found[1]
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert name in described or base in described, f"{name} has no TYPE"
        key = name + ("{" + found[2] + "}" if found[2] else "")
        assert key not in samples, f"{key} twice"
        samples[key] = found[3]
    return samples


def snapshot(**fields):
    return WorkerSnapshot(node="caraway@here", pid=7, pool="prefork", **fields)


def test_an_idle_worker_has_whole_text():
    samples = parse(render(snapshot()))
    assert samples['caraway_worker_info{node="caraway@here",pool="prefork",pid="7"}'] == "1"
    assert samples["caraway_broker_up"] == "1"
    assert samples["caraway_lanes"] == "0"


def test_lanes_are_summed_and_listed():
    lanes = (
        LaneSnapshot(
            index=0, pid=1, slots=2, fetched=5, done=3, tick_age=0.5, memory=4096,
            running=(RunningTask(task_id="a", age=3.0), RunningTask(task_id="b", age=1.25)),
        ),
        LaneSnapshot(index=1, pid=2, slots=2, fetched=1, done=1, tick_age=100.0),
    )  # fmt: skip
    samples = parse(render(snapshot(lanes=lanes)))
    assert samples["caraway_slots"] == "4"
    assert samples["caraway_slots_busy"] == "2"
    assert samples["caraway_lanes_stuck"] == "1"
    assert samples['caraway_lane_longest_run_seconds{lane="0"}'] == "3"
    assert samples['caraway_lane_tick_age_seconds{lane="0"}'] == "0.5"
    assert samples['caraway_lane_memory_bytes{lane="0"}'] == "4096"
    assert 'caraway_lane_memory_bytes{lane="1"}' not in samples


def test_tasks_are_counted_by_outcome_and_timed_together():
    tasks = (
        TaskStats(name="shop.add", outcome="success", count=3, seconds=0.75),
        TaskStats(name="shop.add", outcome="failure", count=1, seconds=0.25),
    )
    text = render(snapshot(tasks=tasks))
    samples = parse(text)
    assert (samples["caraway_done_total"], samples["caraway_failed_total"]) == ("4", "1")
    assert samples['caraway_tasks_total{task="shop.add",outcome="success"}'] == "3"
    assert samples['caraway_tasks_total{task="shop.add",outcome="failure"}'] == "1"
    assert samples['caraway_task_runtime_seconds_sum{task="shop.add"}'] == "1"
    assert samples['caraway_task_runtime_seconds_count{task="shop.add"}'] == "4"
    assert "# TYPE caraway_task_runtime_seconds summary" in text


def test_buckets_make_a_histogram_that_ends_at_infinity():
    tasks = (TaskStats(name="t", count=4, seconds=1.0, buckets=((0.1, 1), (1.0, 3))),)
    text = render(snapshot(tasks=tasks))
    samples = parse(text)
    assert "# TYPE caraway_task_runtime_seconds histogram" in text
    assert samples['caraway_task_runtime_seconds_bucket{task="t",le="0.1"}'] == "1"
    assert samples['caraway_task_runtime_seconds_bucket{task="t",le="1"}'] == "3"
    assert samples['caraway_task_runtime_seconds_bucket{task="t",le="+Inf"}'] == "4"


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\r\nb", "naïve", "\ud800", "{}", ""])
def test_hostile_task_names_stay_inside_their_quotes(name):
    text = render(snapshot(tasks=(TaskStats(name=name, count=1),)))
    text.encode("utf-8")
    parse(text)


def test_a_long_task_is_no_stuck_lane_but_silence_is():
    running = (RunningTask(task_id="a", age=500.0),)
    worker = snapshot(stuck_timeout=60.0)
    assert not worker.is_stuck(LaneSnapshot(index=0, tick_age=500.0, running=running))
    assert worker.is_stuck(LaneSnapshot(index=0, tick_age=61.0))
    assert worker.is_stuck(LaneSnapshot(index=0, tick_age=0.0, stuck=True))
    assert not worker.is_stuck(LaneSnapshot(index=0, tick_age=61.0, state="starting"))
    assert not snapshot(stuck_timeout=0.0).is_stuck(LaneSnapshot(index=0, tick_age=1e9))
