from __future__ import annotations

from typing import Any

from caraway.builtin.sqlite import results
from caraway.message import StoredResult


def names(prefix: str, count: int, ttl: float) -> list[StoredResult]:
    return [StoredResult(f"{prefix}{n}", "SUCCESS", b"", ttl) for n in range(count)]


def count(bench: Any) -> int:
    return int(bench.sql("SELECT count(*) FROM result")[0][0])


def test_storing_drops_what_has_expired_a_part_at_a_time(bench: Any) -> None:
    backend = bench.backend()
    backend.store(names("old", results.SWEEP_ROWS + 100, ttl=60))
    assert count(bench) == results.SWEEP_ROWS + 100
    bench.now += 61
    for step in range(3):  # the first goes on where the cursor stood, near the end
        bench.now += results.SWEEP_INTERVAL
        backend.store(names(f"x{step}", 1, ttl=0))
    assert count(bench) == 3


def test_the_sweep_passes_over_what_lives(bench: Any) -> None:
    backend = bench.backend()
    backend.store(names("alive", results.SWEEP_ROWS, ttl=0))
    backend.store(names("old", 10, ttl=60))
    bench.now += 61
    for step in range(4):
        bench.now += results.SWEEP_INTERVAL
        backend.store(names(f"step{step}", 1, ttl=0))
    assert bench.sql("SELECT count(*) FROM result WHERE task_id LIKE 'old%'") == [(0,)]


def test_the_sweep_is_paced_though_the_clock_goes_back(bench: Any) -> None:
    backend = bench.backend()
    backend.store(names("a", 1, ttl=0))
    bench.now -= 86_400
    backend.store(names("old", 5, ttl=10))
    bench.now += 11
    backend.store(names("b", 1, ttl=0))
    assert count(bench) == 2


def test_cleanup_drops_all_that_has_expired(bench: Any) -> None:
    backend = bench.backend()
    backend.store(names("old", 2000, ttl=60))
    backend.store(names("alive", 3, ttl=600))
    backend.save_group("g", b"1", 60)
    backend.join("g", "m", 2, 60)
    bench.now += 61
    assert backend.cleanup() == 2000
    assert count(bench) == 3
    for table in ("task_group", "joining", "join_member"):
        assert bench.sql(f"SELECT count(*) FROM {table}") == [(0,)]


def test_a_final_state_whose_time_is_over_gives_way(bench: Any) -> None:
    backend = bench.backend()
    backend.store([StoredResult("t", "SUCCESS", b"1", 60)])
    bench.now += 61
    backend.store([StoredResult("t", "STARTED", b"2", 60)])
    assert backend.get(["t"])["t"].state == "STARTED"


def test_the_space_of_what_is_gone_is_used_again(bench: Any) -> None:
    backend = bench.backend()
    sizes = []
    for _ in range(6):
        backend.store([StoredResult(f"t{n}", "SUCCESS", b"x" * 1000, 60) for n in range(1000)])
        bench.now += 61
        backend.cleanup()
        sizes.append(bench.sql("PRAGMA page_count")[0][0])
    assert sizes[-1] <= sizes[1]
