"""The table's rows: figures that have a floor, each made of jobs of the same run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Row(NamedTuple):
    """One figure that has a floor (or a ceiling).

    Attributes:
        needs: keys of the jobs it is made of, that of ours first.
        value: from the best figures by ``key.figure``; KeyError if one is missing.
        floor: to reach; a ceiling to stay at or under if ``under``.
        detail: a text with the absolute figures.
    """

    name: str
    needs: tuple[str, ...]
    value: Callable[[dict[str, float]], float]
    floor: float
    unit: str
    detail: Callable[[dict[str, float]], str]
    under: bool = False


def _ratio(top: str, bottom: str) -> Callable[[dict[str, float]], float]:
    return lambda found: found[top] / found[bottom]


def _rates(top: str, bottom: str) -> Callable[[dict[str, float]], str]:
    return lambda found: f"{found[top]:,.0f}/s to {found[bottom]:,.0f}/s"


def _over(key: str, under: str, factor: float) -> Callable[[dict[str, float]], float]:
    return lambda found: (found[key] - found[under]) * factor


def _get(key: str, factor: float = 1.0) -> Callable[[dict[str, float]], float]:
    return lambda found: found[key] * factor


def _at_least(name: str, ours: str, theirs: str, floor: float) -> Row:
    """Ours to theirs, ``key.figure`` each, of which more is better."""
    needs = (ours.rpartition(".")[0], theirs.rpartition(".")[0])
    return Row(name, needs, _ratio(ours, theirs), floor, "x", _rates(ours, theirs))


def _at_most(name: str, ours: str, theirs: str, ceiling: float, unit: str, factor: float) -> Row:
    """Ours to theirs, of which less is better; the absolute figures times ``factor``."""
    needs = (ours.rpartition(".")[0], theirs.rpartition(".")[0])

    def detail(found: dict[str, float]) -> str:
        return f"{found[ours] * factor:.3g} {unit} to {found[theirs] * factor:.3g} {unit}"

    return Row(name, needs, _ratio(ours, theirs), ceiling, "x", detail, under=True)


def _pings(name: str, ours: str, theirs: str) -> Row:
    needs = ("redis.roundtrip", "bare.redis")
    # the bare loop gives milliseconds, the driver seconds

    def detail(found: dict[str, float]) -> str:
        p99 = ours.replace("50", "99")
        return (
            f"{found[ours] * 1000:.3f} ms to {found[theirs]:.3f} ms; p99 {found[p99] * 1000:.2f} ms"
        )

    return Row(
        name, needs, lambda found: found[ours] * 1000 / found[theirs], 6.0, "x", detail, under=True
    )


SQLITE_ROWS: tuple[Row, ...] = (
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
        ("caraway.drain2", "caraway.drain1"),
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

REDIS_ROWS: tuple[Row, ...] = (
    _at_least(
        "Redis: drain, one lane, to the bare loop", "redis.drain1.rate", "bare.redis.drain", 0.5
    ),
    _at_least(
        "Redis: drain, one lane, to Celery with 2 children",
        "redis.drain1.rate",
        "celery-redis.drain2.rate",
        25,
    ),
    _at_least(
        "Redis: delay one at a time, to a bare LPUSH",
        "redis.single.rate",
        "bare.redis.publish_one",
        0.5,
    ),
    _at_least(
        "Redis: delay one at a time, to Celery",
        "redis.single.rate",
        "celery-redis.single.rate",
        5,
    ),
    _at_least(
        "Redis: delay_many, to a bare pipelined LPUSH", "redis.bulk.rate", "bare.redis.publish", 0.5
    ),
    _at_least(
        "Redis 2 ms away: drain, to Celery with 2 children",
        "far.drain1.rate",
        "celery-far.drain2.rate",
        20,
    ),
    _at_least(
        "Redis 2 ms away: delay from 50 threads, to Celery",
        "far.threads.rate",
        "celery-far.threads.rate",
        20,
    ),
    _pings(
        "Redis: delay to result, after a rest, p50, in PINGs",
        "redis.roundtrip.p50",
        "bare.redis.rested",
    ),
    _pings(
        "Redis: delay to result, one after another, p50, in PINGs",
        "redis.roundtrip.hot50",
        "bare.redis.p50",
    ),
    _at_most(
        "Redis: delay to result, idle worker, p50, to huey",
        "redis.roundtrip.p50",
        "huey-redis.roundtrip.p50",
        1.0,
        "ms",
        1000,
    ),
    Row(
        "Redis: 2,000 x 10 ms, 50 threads, of the ideal",
        ("redis.nap.threads",),
        _get("redis.nap.threads.share"),
        0.9,
        "x",
        lambda found: f"{found['redis.nap.threads.seconds']:.3f} s",
    ),
    Row(
        "Redis: 2,000 x 10 ms, 50 coroutines, of the ideal",
        ("redis.nap.asyncio",),
        _get("redis.nap.asyncio.share"),
        0.9,
        "x",
        lambda found: f"{found['redis.nap.asyncio.seconds']:.3f} s",
    ),
    Row(
        "Redis: 2 ms of computing, 2 lanes, to bare processes",
        ("redis.burn", "bare.burns.redis"),
        _ratio("redis.burn.share", "bare.burns.redis.share"),
        0.95,
        "x",
        lambda found: f"{found['redis.burn.share']:.3f} of the ideal by the clock",
    ),
    _at_least(
        "Redis: drain with task events, to without", "redis.events.rate", "redis.drain1.rate", 0.7
    ),
    _at_most(
        "Redis: PSS, idle, 2 lanes, to Celery with 2 children",
        "redis.idle.pss",
        "celery-redis.idle.pss",
        0.5,
        "MB",
        1,
    ),
    _at_most(
        "Redis: PSS after a drain, 2 lanes, to Celery with 2 children",
        "redis.drain2.pss",
        "celery-redis.drain2.pss",
        0.5,
        "MB",
        1,
    ),
)

AMQP_ROWS: tuple[Row, ...] = (
    _at_least(
        "RabbitMQ: drain, one lane, to the bare loop", "amqp.drain1.rate", "bare.amqp.drain", 0.5
    ),
    _at_least(
        "RabbitMQ: drain, one lane, to that of messages without headers",
        "amqp.drain1.rate",
        "bare.amqp.plain_drain",
        0.5,
    ),
    _at_least(
        "RabbitMQ: drain, one lane, to Celery with 2 children",
        "amqp.drain1.rate",
        "celery-amqp.drain2.rate",
        5,
    ),
    _at_least(
        "RabbitMQ: drain, results sent, to the bare loop",
        "rpc.drain1.rate",
        "bare.amqp.drain_results",
        0.5,
    ),
    _at_least(
        "RabbitMQ: drain, results sent, to Celery with 2 children",
        "rpc.drain1.rate",
        "celery-rpc.drain2.rate",
        5,
    ),
    _at_least(
        "RabbitMQ: delay_many, confirmed, to the bare loop",
        "amqp.bulk.rate",
        "bare.amqp.publish",
        0.5,
    ),
    _at_least(
        "RabbitMQ: delay_many, confirmed, to messages without headers",
        "amqp.bulk.rate",
        "bare.amqp.plain_publish",
        0.5,
    ),
    _at_least(
        "RabbitMQ: delay one at a time, confirmed, to the bare loop",
        "amqp.single.rate",
        "bare.amqp.publish_one",
        0.5,
    ),
    _at_least(
        "RabbitMQ: drain with task events, to without", "amqp.events.rate", "amqp.drain1.rate", 0.7
    ),
)

ROWS: tuple[Row, ...] = (*REDIS_ROWS, *AMQP_ROWS, *SQLITE_ROWS)
"""All, in the order in which they are printed."""
