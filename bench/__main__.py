"""``python -m bench``: measure, print the tables, write ``.bench/results.json``.

1. make the environments of the peers (once), start a Redis of our own for theirs
2. in each round run every job, one after the other, each over an empty store
3. keep the best of each figure: other work on the machine only ever makes it worse
4. print ratios with the floors to reach; with ``--strict`` the exit code is 1 if one was missed
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import environment, report, venvs
from bench.processes import end_on_term, finish
from bench.servers import RedisServer
from bench.suite import LEAST, PEERS, Job, jobs, peer_jobs

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".bench"


class Run:
    """One run of the bench, and what it found."""

    def __init__(self, *, verbose: bool) -> None:
        self.verbose = verbose
        self.redis: RedisServer | None = None
        self.pythons: dict[str, Path] = {}
        self.versions: dict[str, str] = {}
        self.samples: dict[str, list[float]] = {}
        self.notes: dict[str, str] = {}

    def prepare(self, peers: list[str]) -> list[str]:
        """Get the peers ready; return those that are."""
        ready = []
        for key in peers:
            side, label, env = PEERS[key]
            try:
                if side not in self.pythons:
                    say(f"environment of {side} ...")
                    self.pythons[side] = venvs.ready(side, HOME)
                    self.versions[side] = venvs.version(side, self.pythons[side])
                if "BENCH_REDIS" in env:
                    self.start_redis()
            except (RuntimeError, OSError, subprocess.SubprocessError) as exc:
                self.notes[key] = f"left out: {exc}"
                say(f"{label}: left out: {exc}")
            else:
                ready.append(key)
        return ready

    def start_redis(self) -> None:
        """Start a Redis, once.

        Raises:
            OSError, RuntimeError: it can't be.
        """
        if self.redis is None:
            self.redis = RedisServer(HOME / "redis")
            self.versions["Redis"] = self.redis.version()

    def run(self, job: Job) -> str:
        """Run one job; keep its figures; return them as text."""
        env = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="")
        env = {key: value for key, value in env.items() if not key.startswith("CARAWAY_")}
        env |= job.env
        if "BENCH_REDIS" in job.env and self.redis is not None:
            self.redis.flush()
            env["BENCH_REDIS"] = self.redis.url
        python = self.pythons.get(job.side, Path(sys.executable))
        directory = Path(tempfile.mkdtemp(prefix="run-", dir=HOME))
        # an empty file that anchors the project: the default store is beside it
        (directory / "caraway.toml").write_text("")
        command = [str(python), "-m"]
        command += ["bench.bare"] if job.side == "bare" else ["bench.driver", job.side]
        command += [job.workload, "--directory", str(directory)]
        for name, value in job.options.items():
            command += [f"--{name}", str(value)]
        try:
            output, errors = finish(command, cwd=directory, env=env, timeout=300)
            answer = _last_json(output)
            if answer is None:
                log = directory / "worker.log"
                tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
                if self.verbose:
                    say(errors[-3000:] + tail)
                text = (errors.strip().splitlines() or ["no answer"])[-1]
                self.notes[job.key] = f"failed: {text}"
                return f"FAILED: {text}"
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        if answer["note"]:
            self.notes[job.key] = answer["note"]
        for name, value in answer["figures"].items():
            self.samples.setdefault(f"{job.key}.{name}", []).append(float(value))
        shown = [f"{name} {_short(value)}" for name, value in answer["figures"].items()]
        return ", ".join(shown[:6]) or answer["note"]

    def best(self) -> dict[str, float]:
        """Each figure at its best."""
        return {
            key: min(values) if key.rpartition(".")[2] in LEAST else max(values)
            for key, values in self.samples.items()
        }

    def close(self) -> None:
        if self.redis is not None:
            self.redis.stop()


def _last_json(text: str) -> dict[str, Any] | None:
    lines = text.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and "figures" in answer else None


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def say(text: str) -> None:
    """Progress, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Speed and size, as ratios of one run."
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the tasks, one round")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="jobs whose key holds NAME (drain, roundtrip, caraway.idle ...); repeatable",
    )
    parser.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=True, help="other task queues"
    )
    parser.add_argument(
        "--peer", action="append", choices=sorted(PEERS), default=[], help="only this peer"
    )
    parser.add_argument("--rounds", type=int, default=0, help="default 3, with --quick 1")
    parser.add_argument("--scale", action="store_true", help="1,000,000 messages; minutes")
    parser.add_argument("--list", action="store_true", help="print the keys of the jobs and end")
    parser.add_argument("--strict", action="store_true", help="exit code 1 if a floor is missed")
    parser.add_argument("-v", "--verbose", action="store_true", help="show why a job failed")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = parse(arguments)
    end_on_term()
    HOME.mkdir(exist_ok=True)
    (HOME / ".gitignore").write_text("*\n")
    if options.scale:
        from bench import scale

        return scale.main(["--quick"] if options.quick else [])
    own = jobs(quick=options.quick)
    keys = (options.peer or list(PEERS)) if options.peers else []
    others = {key: peer_jobs(key, quick=options.quick) for key in keys}
    if options.only:
        own = _needed(own, options.only)
        others = {
            key: [job for job in found if any(name in job.key for name in options.only)]
            for key, found in others.items()
        }
        others = {key: found for key, found in others.items() if found}
    if options.list:
        for job in [*own, *(job for found in others.values() for job in found)]:
            print(job.key)
        return 0
    facts = environment.describe(HOME)
    for name, value in facts.items():
        print(f"{name}: {value}")
    run = Run(verbose=options.verbose)
    rounds = options.rounds or (1 if options.quick else 3)
    begin = time.monotonic()
    try:
        if any("BENCH_REDIS" in job.env for job in own):
            run.start_redis()
        plan = [(1, job) for key in run.prepare(list(others)) for job in others[key]]
        plan = [(1, job) for job in own] + plan
        plan += [(number, job) for number in range(2, rounds + 1) for job in own]
        for number, (turn, job) in enumerate(plan, 1):
            say(f"[{number}/{len(plan)}] round {turn}, {job.label}: {job.key} ...")
            say(f"    {run.run(job)}")
    finally:
        run.close()
    best = run.best()
    text, missed = report.floors(best, {job.key for job in own})
    print(f"\n{text}\n")
    if others:
        print(report.peers(best, run.versions) + "\n")
    for key, note in run.notes.items():
        print(f"{key}: {note}")
    results = {
        "environment": facts,
        "versions": run.versions,
        "rounds": rounds,
        "quick": options.quick,
        "seconds": round(time.monotonic() - begin),
        "best": best,
        "samples": run.samples,
        "notes": run.notes,
        "missed": missed,
    }
    (HOME / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    if missed:
        print(f"missed: {'; '.join(missed)}")
    return 1 if missed and options.strict else 0


def _needed(own: list[Job], names: list[str]) -> list[Job]:
    """The jobs asked for, and the others that their rows are made of."""
    from bench.suite import ROWS

    asked = {job.key for job in own if any(name in job.key for name in names)}
    wanted = set(asked)
    for row in ROWS:
        if any(key.startswith("caraway.") and key in asked for key in row.needs):
            wanted |= set(row.needs)
    return [job for job in own if job.key in wanted]


if __name__ == "__main__":
    sys.exit(main())
