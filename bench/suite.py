"""What is measured: jobs for the driver, and the table's rows made of what they found."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Job(NamedTuple):
    """One workload on one side.

    Attributes:
        key: unique; rows refer to it.
        side: module of ``bench.apps`` without ``_app``, or ``bare``.
        label: of the side, for people.
        workload: method of `bench.driver.Driver`, or function of `bench.bare`.
        options: of the driver's command line.
        env: more environment variables.
    """

    key: str
    side: str
    label: str
    workload: str
    options: dict[str, float | str]
    env: dict[str, str]


class Row(NamedTuple):
    """One figure that has a floor (or a ceiling).

    Attributes:
        needs: keys of the jobs it is made of.
        value: from the best figures by ``key.figure``; KeyError if one is missing.
        floor: to reach; a ceiling to stay under if ``under``.
        detail: a text with the absolute figures.
    """

    name: str
    needs: tuple[str, ...]
    value: Callable[[dict[str, float]], float]
    floor: float
    unit: str
    detail: Callable[[dict[str, float]], str]
    under: bool = False


def jobs(*, quick: bool) -> list[Job]:
    """Caraway's, with the bare loops beside them."""
    few = 0.2 if quick else 1.0

    def count(number: int) -> dict[str, float | str]:
        return {"count": int(number * few)}

    two: dict[str, float | str] = {"processes": 2}
    fifty: dict[str, float | str] = {"concurrency": 50}

    def caraway(key: str, workload: str, options: dict[str, float | str]) -> Job:
        return Job(f"caraway.{key}", "caraway", "Caraway", workload, options, {})

    redis = {"BENCH_REDIS": ""}

    def on_redis(key: str, workload: str, options: dict[str, float | str], **env: str) -> Job:
        label = "Caraway, Redis"
        return Job(f"redis.{key}", "caraway", label, workload, options, redis | env)

    return [
        Job("bare.redis", "bare", "bare loop, Redis", "redis", count(50_000), redis),
        on_redis("drain1", "drain", count(50_000)),
        on_redis("drain2", "drain", count(50_000) | two),
        on_redis("single", "single", count(10_000)),
        on_redis("threads", "threads", count(40_000)),
        on_redis("bulk", "bulk", count(50_000)),
        on_redis("roundtrip", "roundtrip", count(1_000) | {"processes": 2}),
        on_redis("nap.threads", "nap", count(2_000) | fifty | {"pool": "threads"}),
        on_redis("nap.asyncio", "nap", count(2_000) | fifty | {"pool": "asyncio"}),
        on_redis("burn", "burn", count(5_000) | two),
        on_redis("idle", "idle", {"seconds": 3 if quick else 10} | two),
        Job("bare.sqlite", "bare", "bare loop", "sqlite", count(50_000), {}),
        caraway("drain1", "drain", count(50_000)),
        caraway("drain2", "drain", count(50_000) | two),
        caraway("single", "single", count(10_000)),
        caraway("threads", "threads", count(40_000)),
        caraway("bulk", "bulk", count(50_000)),
        caraway("roundtrip", "roundtrip", count(1_000) | {"processes": 2}),
        Job("bare.threads", "bare", "bare threads", "threads", count(2_000) | fifty, {}),
        caraway("nap.threads", "nap", count(2_000) | fifty | {"pool": "threads"}),
        Job("bare.coroutines", "bare", "bare coroutines", "coroutines", count(2_000) | fifty, {}),
        caraway("nap.asyncio", "nap", count(2_000) | fifty | {"pool": "asyncio"}),
        Job("bare.burns", "bare", "bare processes", "burns", count(2_000) | two, {}),
        caraway("burn", "burn", count(2_000) | two),
        caraway("idle", "idle", {"seconds": 3 if quick else 10} | two),
        caraway("startup", "startup", {}),
        Job("bare.imports", "bare", "import", "imports", {"count": 10}, {}),
    ]


PEERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "huey-fsync": ("huey", "huey, SQLite, fsync", {"BENCH_FSYNC": "1"}),
    "huey": ("huey", "huey, SQLite, not durable", {}),
    "celery-sqlite": ("celery", "Celery, SQLite", {}),
    "celery-redis": ("celery", "Celery, Redis", {"BENCH_REDIS": ""}),
    "dramatiq": ("dramatiq", "Dramatiq, Redis", {"BENCH_REDIS": ""}),
    "taskiq": ("taskiq", "taskiq, Redis", {"BENCH_REDIS": ""}),
    "rq": ("rq", "RQ, Redis", {"BENCH_REDIS": ""}),
}
"""By key: module in ``bench.apps``, label, environment (an empty address is filled in)."""

_SLOW = {"celery-sqlite": 0.2, "rq": 0.3}


def peer_jobs(key: str, *, quick: bool) -> list[Job]:
    """The same workloads on a peer, with fewer tasks since it takes longer."""
    side, label, env = PEERS[key]
    few = _SLOW.get(key, 1.0) * (0.3 if quick else 1.0)

    def job(name: str, workload: str, count: int, **options: float | str) -> Job:
        number = max(int(count * few), 40)
        return Job(f"{key}.{name}", side, label, workload, {"count": number, **options}, env)

    pool = "asyncio" if key == "taskiq" else "threads"
    found = [
        job("drain1", "drain", 5_000),
        job("drain2", "drain", 5_000, processes=2),
        job("single", "single", 2_000),
        job("bulk", "bulk", 5_000),
        job("roundtrip", "roundtrip", 300, processes=2),
        job("nap.threads", "nap", 2_000, concurrency=50, pool=pool),
        job("burn", "burn", 1_000, processes=2),
        job("idle", "idle", 1, processes=2, seconds=3 if quick else 10),
        job("startup", "startup", 1),
    ]
    return [one for one in found if not (key == "rq" and one.workload == "nap")]


def _ratio(top: str, bottom: str) -> Callable[[dict[str, float]], float]:
    return lambda found: found[top] / found[bottom]


def _rates(top: str, bottom: str) -> Callable[[dict[str, float]], str]:
    return lambda found: f"{found[top]:,.0f}/s to {found[bottom]:,.0f}/s"


def _over(key: str, under: str, factor: float) -> Callable[[dict[str, float]], float]:
    return lambda found: (found[key] - found[under]) * factor


def _get(key: str, factor: float = 1.0) -> Callable[[dict[str, float]], float]:
    return lambda found: found[key] * factor


ROWS: tuple[Row, ...] = (
    Row(
        "drain, one lane, to the bare loop",
        ("caraway.drain1", "bare.sqlite"),
        _ratio("caraway.drain1.rate", "bare.sqlite.drain"),
        0.5,
        "x",
        _rates("caraway.drain1.rate", "bare.sqlite.drain"),
    ),
    Row(
        "two lanes to one lane",
        ("caraway.drain1", "caraway.drain2"),
        _ratio("caraway.drain2.rate", "caraway.drain1.rate"),
        1.4,
        "x",
        _rates("caraway.drain2.rate", "caraway.drain1.rate"),
    ),
    Row(
        "delay one at a time, to a bare insert",
        ("caraway.single", "bare.sqlite"),
        _ratio("caraway.single.rate", "bare.sqlite.publish_one"),
        0.5,
        "x",
        _rates("caraway.single.rate", "bare.sqlite.publish_one"),
    ),
    Row(
        "delay from 8 threads, to one thread",
        ("caraway.threads", "caraway.single"),
        _ratio("caraway.threads.rate", "caraway.single.rate"),
        3.0,
        "x",
        _rates("caraway.threads.rate", "caraway.single.rate"),
    ),
    Row(
        "delay_many, to bare batched inserts",
        ("caraway.bulk", "bare.sqlite"),
        _ratio("caraway.bulk.rate", "bare.sqlite.publish"),
        0.5,
        "x",
        _rates("caraway.bulk.rate", "bare.sqlite.publish"),
    ),
    Row(
        "delay to result, idle worker, p50",
        ("caraway.roundtrip",),
        _get("caraway.roundtrip.p50", 1000),
        2.0,
        "ms",
        lambda found: f"longest {found['caraway.roundtrip.max'] * 1000:.1f} ms",
        under=True,
    ),
    Row(
        "delay to result, idle worker, p99",
        ("caraway.roundtrip",),
        _get("caraway.roundtrip.p99", 1000),
        10.0,
        "ms",
        lambda _: "",
        under=True,
    ),
    Row(
        "2,000 x 10 ms, 50 threads, of the ideal",
        ("caraway.nap.threads",),
        _get("caraway.nap.threads.share"),
        0.9,
        "x",
        lambda found: f"a bare thread pool {found['bare.threads.share']:.2f}",
    ),
    Row(
        "2,000 x 10 ms, 50 coroutines, of the ideal",
        ("caraway.nap.asyncio",),
        _get("caraway.nap.asyncio.share"),
        0.9,
        "x",
        lambda found: f"bare coroutines {found['bare.coroutines.share']:.2f}",
    ),
    Row(
        "2 ms of computing, 2 lanes, to bare processes",
        ("caraway.burn", "bare.burns"),
        _ratio("caraway.burn.share", "bare.burns.share"),
        0.95,
        "x",
        lambda found: f"{found['caraway.burn.share']:.3f} of the ideal by the clock",
    ),
    Row(
        "idle worker, 2 lanes, of one core",
        ("caraway.idle",),
        _get("caraway.idle.cpu", 100),
        1.0,
        "%",
        lambda found: f"{found['caraway.idle.wakeups']:.1f} wake-ups/s",
        under=True,
    ),
    Row(
        "idle worker, 2 lanes, PSS of all processes",
        ("caraway.idle",),
        _get("caraway.idle.pss"),
        60.0,
        "MB",
        lambda found: (
            f"{found['caraway.idle.processes']:.0f} processes, "
            f"{found['caraway.idle.private']:.0f} MB private"
        ),
        under=True,
    ),
    Row(
        "worker start to first task",
        ("caraway.startup",),
        _get("caraway.startup.stored"),
        0.4,
        "s",
        lambda found: f"began after {found['caraway.startup.first']:.2f} s",
        under=True,
    ),
    Row(
        "import caraway, over the bare interpreter",
        ("bare.imports",),
        _over("bare.imports.caraway", "bare.imports.bare", 1000),
        40.0,
        "ms",
        lambda found: (
            f"with an app {(found['bare.imports.app'] - found['bare.imports.bare']) * 1000:.0f} ms,"
            f" the interpreter {found['bare.imports.bare'] * 1000:.0f} ms"
        ),
        under=True,
    ),
)

LEAST = frozenset(
    {"p50", "p99", "max", "cpu", "wakeups", "pss", "rss", "private", "processes", "first"}
    | {"stored", "stop", "seconds", "bare", "caraway", "app"}
)
"""Figures of which less is better; of the others the greatest is kept."""
