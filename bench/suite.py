"""What is measured: jobs for the driver, ours and those of the peers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bench.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

REDIS = {"BENCH_REDIS": "near"}
"""Environment of jobs on Redis; the word is replaced by an address (`bench.servers`)."""
FAR = {"BENCH_REDIS": "far"}
"""The same server, a network away (`bench.delay_proxy`)."""
AMQP = {"BENCH_AMQP": "near"}
"""On RabbitMQ, without a result backend, which is the default there."""
RPC = AMQP | {"BENCH_RPC": "1"}
"""On RabbitMQ, results sent to the caller's own queue."""


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


_TWO: dict[str, float | str] = {"processes": 2}
_FIFTY: dict[str, float | str] = {"concurrency": 50}


def jobs(*, quick: bool) -> list[Job]:
    """Caraway's, with the bare loops beside them."""
    few = 0.2 if quick else 1.0
    idle: dict[str, float | str] = {"seconds": 3 if quick else 10, **_TWO}

    def count(number: int) -> dict[str, float | str]:
        return {"count": int(number * few)}

    def ours(
        label: str, store: str, key: str, workload: str, options: dict[str, float | str],
        env: dict[str, str],
    ) -> Job:  # fmt: skip
        return Job(f"{store}.{key}", "caraway", f"Caraway, {label}", workload, options, env)

    def redis(key: str, workload: str, options: dict[str, float | str], **env: str) -> Job:
        return ours("Redis", "redis", key, workload, options, REDIS | env)

    def far(key: str, workload: str, options: dict[str, float | str]) -> Job:
        return ours("Redis 2 ms away", "far", key, workload, options, FAR)

    def amqp(key: str, workload: str, options: dict[str, float | str], **env: str) -> Job:
        return ours("RabbitMQ", "amqp", key, workload, options, AMQP | env)

    def rpc(key: str, workload: str, options: dict[str, float | str]) -> Job:
        return ours("RabbitMQ, results", "rpc", key, workload, options, RPC)

    def sqlite(key: str, workload: str, options: dict[str, float | str]) -> Job:
        return ours("SQLite", "caraway", key, workload, options, {})

    def bare(key: str, workload: str, options: dict[str, float | str], **env: str) -> Job:
        return Job(f"bare.{key}", "bare", f"bare {workload}", workload, options, env)

    return [
        bare("redis", "redis", count(50_000), **REDIS),
        redis("drain1", "drain", count(50_000)),
        redis("events", "drain", count(50_000), BENCH_EVENTS="1"),
        redis("drain2", "drain", count(50_000) | _TWO),
        redis("single", "single", count(10_000)),
        redis("threads", "threads", count(40_000)),
        redis("bulk", "bulk", count(50_000)),
        redis("roundtrip", "roundtrip", count(1_000) | _TWO),
        redis("nap.threads", "nap", count(2_000) | _FIFTY | {"pool": "threads"}),
        redis("nap.asyncio", "nap", count(2_000) | _FIFTY | {"pool": "asyncio"}),
        bare("burns.redis", "burns", count(5_000) | _TWO),
        redis("burn", "burn", count(5_000) | _TWO),
        redis("idle", "idle", idle),
        redis("startup", "startup", {}),
        far("drain1", "drain", count(50_000)),
        far("threads", "threads", count(40_000) | {"threads": 50}),
        bare("amqp", "amqp", count(50_000), **AMQP),
        amqp("drain1", "drain", count(50_000)),
        amqp("events", "drain", count(50_000), BENCH_EVENTS="1"),
        amqp("drain2", "drain", count(50_000) | _TWO),
        amqp("single", "single", count(2_000)),
        amqp("bulk", "bulk", count(50_000)),
        rpc("drain1", "drain", count(50_000)),
        rpc("drain2", "drain", count(50_000) | _TWO),
        rpc("roundtrip", "roundtrip", count(1_000) | _TWO),
        rpc("idle", "idle", idle),
        bare("sqlite", "sqlite", count(50_000)),
        sqlite("drain1", "drain", count(50_000)),
        sqlite("drain2", "drain", count(50_000) | _TWO),
        sqlite("single", "single", count(10_000)),
        sqlite("threads", "threads", count(40_000)),
        sqlite("bulk", "bulk", count(50_000)),
        sqlite("roundtrip", "roundtrip", count(1_000) | _TWO),
        bare("threads", "threads", count(2_000) | _FIFTY),
        sqlite("nap.threads", "nap", count(2_000) | _FIFTY | {"pool": "threads"}),
        bare("coroutines", "coroutines", count(2_000) | _FIFTY),
        sqlite("nap.asyncio", "nap", count(2_000) | _FIFTY | {"pool": "asyncio"}),
        bare("burns", "burns", count(2_000) | _TWO),
        sqlite("burn", "burn", count(2_000) | _TWO),
        sqlite("idle", "idle", idle),
        sqlite("startup", "startup", {}),
        bare("imports", "imports", {"count": 10}),
    ]


class Peer(NamedTuple):
    """Another task queue on one store.

    Attributes:
        side: module in ``bench.apps``, without ``_app``.
        label: for people; its version is put before the comma.
        store: the part of our keys that it is compared with.
        env: of its jobs.
        workloads: names of `peer_jobs` that are measured.
        few: share of the tasks, for those that take long.
        naps: pool in which many tasks wait at once; empty: it has none.
        less: whether it promises less than Caraway does on that store, so that it is shown
            and not judged.
    """

    side: str
    label: str
    store: str
    env: dict[str, str]
    workloads: frozenset[str]
    few: float = 1.0
    naps: str = "threads"
    less: bool = False


_ALL = frozenset(
    {"drain1", "drain2", "single", "bulk", "roundtrip", "nap", "burn", "idle", "startup"}
)
_AWAY = frozenset({"drain2", "threads"})
_PLAIN = frozenset({"drain1", "drain2", "single", "bulk"})
_SENT = frozenset({"drain2", "roundtrip", "idle"})

PEERS: dict[str, Peer] = {
    "huey-fsync": Peer("huey", "huey, SQLite, fsync", "caraway", {"BENCH_FSYNC": "1"}, _ALL),
    "huey": Peer("huey", "huey, SQLite, not durable", "caraway", {}, _ALL, less=True),
    "celery-sqlite": Peer("celery", "Celery, SQLite", "caraway", {}, _ALL, 0.2),
    "celery-redis": Peer("celery", "Celery, Redis", "redis", REDIS, _ALL),
    "huey-redis": Peer("huey", "huey, Redis", "redis", REDIS, _ALL),
    "dramatiq": Peer("dramatiq", "Dramatiq, Redis", "redis", REDIS, _ALL),
    "taskiq": Peer("taskiq", "taskiq, Redis", "redis", REDIS, _ALL, naps="asyncio"),
    "rq": Peer("rq", "RQ, Redis", "redis", REDIS, _ALL, 0.3, naps=""),
    "streaq": Peer("streaq", "streaq, Redis", "redis", REDIS, _ALL, naps="asyncio"),
    "saq": Peer("saq", "SAQ, Redis", "redis", REDIS, _ALL, naps="asyncio"),
    "arq": Peer("arq", "arq, Redis", "redis", REDIS, _ALL, 0.3, naps="asyncio"),
    "celery-far": Peer("celery", "Celery, Redis 2 ms away", "far", FAR, _AWAY, 0.4),
    "celery-amqp": Peer("celery", "Celery, RabbitMQ", "amqp", AMQP, _PLAIN),
    "celery-rpc": Peer("celery", "Celery, RabbitMQ, results", "rpc", RPC, _SENT),
}  # fmt: skip
"""By key, which is the first part of the keys of its jobs."""


def peer_jobs(key: str, *, quick: bool) -> list[Job]:
    """The same workloads on a peer, with fewer tasks since it takes longer."""
    peer = PEERS[key]
    few = peer.few * (0.3 if quick else 1.0)

    def job(name: str, workload: str, count: int, **options: float | str) -> Job:
        number = max(int(count * few), 60)
        return Job(
            f"{key}.{name}", peer.side, peer.label, workload, {"count": number, **options}, peer.env
        )

    found = [
        job("drain1", "drain", 5_000),
        job("drain2", "drain", 5_000, processes=2),
        job("single", "single", 2_000),
        job("threads", "threads", 5_000, threads=50),
        job("bulk", "bulk", 5_000),
        job("roundtrip", "roundtrip", 300, processes=2),
        job("nap.threads", "nap", 2_000, concurrency=50, pool=peer.naps),
        job("burn", "burn", 1_000, processes=2),
        job("idle", "idle", 1, processes=2, seconds=3 if quick else 10),
        job("startup", "startup", 1),
    ]
    wanted = peer.workloads - (set() if peer.naps else {"nap"})
    return [one for one in found if one.key.split(".")[1] in wanted]


def choose(
    own: list[Job], others: dict[str, list[Job]], names: Sequence[str]
) -> tuple[list[Job], dict[str, list[Job]]]:
    """The jobs whose key holds one of the names, and those that their rows are made of."""
    every = [*own, *(job for found in others.values() for job in found)]
    asked = {job.key for job in every if any(name in job.key for name in names)}
    wanted = set(asked)
    for row in ROWS:
        if row.needs[0] in asked:
            wanted |= set(row.needs)
    chosen = {key: [job for job in found if job.key in wanted] for key, found in others.items()}
    return (
        [job for job in own if job.key in wanted],
        {key: found for key, found in chosen.items() if found},
    )


def plan(own: list[Job], others: dict[str, list[Job]], rounds: int) -> list[tuple[int, Job]]:
    """Round and job, in the order in which they run.

    A peer's job that a row compares with ours follows ours at once, in each round: machines
    change their speed within minutes.  The rest of the peers' run once.
    """
    theirs = {job.key: job for found in others.values() for job in found}
    beside: dict[str, list[Job]] = {}
    for row in ROWS:
        for key in row.needs[1:]:
            if key in theirs:
                beside.setdefault(row.needs[0], []).append(theirs[key])
    order: list[tuple[int, Job]] = []
    for turn in range(1, rounds + 1):
        had: set[str] = set()
        for job in own:
            for one in (job, *beside.get(job.key, ())):
                if one.key not in had:
                    had.add(one.key)
                    order.append((turn, one))
        if turn == 1:
            order += [(1, job) for key, job in theirs.items() if key not in had]
    return order


LEAST = frozenset(
    {"p50", "p99", "max", "cpu", "wakeups", "pss", "rss", "private", "processes", "first"}
    | {
        "stored",
        "stop",
        "seconds",
        "bare",
        "caraway",
        "app",
        "rested",
        "rested99",
        "hot50",
        "hot99",
    }
)
"""Figures of which less is better; of the others the greatest is kept."""
