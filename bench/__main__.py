"""``python -m bench``: measure, print the tables, write ``.bench/results.json``.

1. make the environments of the peers (once)
2. in each round run every job, one after the other, each over an empty store; servers of our
   own are started when the first job needs them
3. keep the best of each figure: other work on the machine only ever makes it worse
4. print ratios with the floors to reach, then the peers; with ``--strict`` the exit code is 1
   if a floor was missed or a peer is ahead
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
from bench.servers import Servers
from bench.suite import LEAST, PEERS, Job, choose, jobs, peer_jobs, plan

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".bench"


class Run:
    """One run of the bench, and what it found."""

    def __init__(self, *, verbose: bool) -> None:
        self.verbose = verbose
        self.servers = Servers(HOME)
        self.pythons: dict[str, Path] = {}
        self.versions: dict[str, str] = {}
        self.samples: dict[str, list[float]] = {}
        self.notes: dict[str, str] = {}

    def prepare(self, peers: list[str]) -> list[str]:
        """Get the peers ready; return those that are."""
        ready = []
        for key in peers:
            side, label = PEERS[key].side, PEERS[key].label
            try:
                if side not in self.pythons:
                    say(f"environment of {side} ...")
                    self.pythons[side] = venvs.ready(side, HOME)
                    self.versions[side] = venvs.version(side, self.pythons[side])
            except (RuntimeError, OSError, subprocess.SubprocessError) as exc:
                self.notes[key] = f"left out: {exc}"
                say(f"{label}: left out: {exc}")
            else:
                ready.append(key)
        return ready

    def run(self, job: Job) -> str:
        """Run one job; keep its figures; return them as text."""
        env = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="")
        env = {
            key: value for key, value in env.items() if not key.startswith(("CARAWAY_", "BENCH_"))
        }
        try:
            env |= self.servers.provide(job.env)
        except RuntimeError as exc:
            self.notes[job.key] = f"failed: {exc}"
            return f"FAILED: {exc}"
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
        self.servers.close()
        self.versions |= self.servers.versions


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
    parser.add_argument("--store", choices=["sqlite", "redis"], default="sqlite", help="of --scale")
    parser.add_argument("--list", action="store_true", help="print the keys of the jobs and end")
    parser.add_argument(
        "--strict", action="store_true", help="exit code 1 if a floor is missed or a peer ahead"
    )
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

        return scale.main(["--quick"] * options.quick + ["--store", options.store])
    own = jobs(quick=options.quick)
    keys = (options.peer or list(PEERS)) if options.peers else []
    others = {key: peer_jobs(key, quick=options.quick) for key in keys}
    if options.only:
        own, others = choose(own, others, options.only)
    if options.list:
        for job in [*own, *(job for found in others.values() for job in found)]:
            print(job.key)
        return 0
    facts = environment.describe(HOME)
    for name, value in facts.items():
        print(f"{name}: {value}")
    run = Run(verbose=options.verbose)
    rounds = options.rounds or (1 if options.quick else 3)
    results: dict[str, Any] = {"environment": facts, "rounds": rounds, "quick": options.quick}
    asked = {job.key for job in own} | {job.key for found in others.values() for job in found}
    begin = time.monotonic()
    try:
        ready = run.prepare(list(others))
        order = plan(own, {key: others[key] for key in ready}, rounds)
        for number, (turn, job) in enumerate(order, 1):
            say(f"[{number}/{len(order)}] round {turn}, {job.label}: {job.key} ...")
            say(f"    {run.run(job)}")
            # a run takes long, and what it has found is not to be lost with it
            results["seconds"] = round(time.monotonic() - begin)
            _save(run, results)
    except KeyboardInterrupt:
        say("interrupted: the tables are of what was measured")
    finally:
        run.close()
    best = run.best()
    text, results["missed"] = report.floors(best, asked)
    print(f"\n{text}\n")
    results["peers"], results["behind"] = {}, []
    if others:
        print(report.peers(best, run.versions) + "\n")
        text, results["peers"], results["behind"] = report.ahead(best)
        print(text + "\n")
    for key, note in run.notes.items():
        print(f"{key}: {note}")
    _save(run, results)
    for word in ("missed", "behind"):
        if results[word]:
            print(f"{word}: {'; '.join(results[word])}")
    return 1 if options.strict and (results["missed"] or results["behind"]) else 0


def _save(run: Run, results: dict[str, Any]) -> None:
    found = {
        **results,
        "versions": run.versions,
        "best": run.best(),
        "samples": run.samples,
        "notes": run.notes,
    }
    (HOME / "results.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
