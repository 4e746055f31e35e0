"""The real Celery's half of the interop tests: an app, and a client driven by JSON lines.

Run by the Python of an environment in which Celery is installed.  Imports nothing of
Caraway.  `ours.py` is its twin: the same tasks, the same orders.
"""

from __future__ import annotations

import datetime
import decimal
import json
import os
import sys
import time
import uuid

from celery import Celery, chain, chord, group, signature

app = Celery("side", broker=os.environ["INTEROP_BROKER"], backend=os.environ["INTEROP_BACKEND"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_default_queue=os.environ["INTEROP_QUEUE"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=4,
    broker_transport_options=json.loads(os.environ.get("INTEROP_OPTIONS", "{}")),
    control_exchange=os.environ.get("INTEROP_CONTROL", "celery"),
    result_expires=3600,
    worker_hijack_root_logger=False,
)


class Sour(Exception):
    """An exception of the user's own."""


@app.task(name="side.add")
def add(x, y):
    return x + y


@app.task(name="side.echo")
def echo(*args, **kwargs):
    return [list(args), kwargs]


@app.task(name="side.kinds")
def kinds(*args):
    return [type(arg).__name__ for arg in args]


@app.task(name="side.every")
def every():
    return EVERY


@app.task(name="side.fail")
def fail(text):
    raise ValueError(text, 42)


@app.task(name="side.sour")
def sour(text):
    raise Sour(text)


@app.task(name="side.again", bind=True, max_retries=3)
def again(self, until):
    if self.request.retries < until:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task(name="side.exhaust", bind=True, max_retries=1)
def exhaust(self):
    raise self.retry(exc=KeyError("worn"), countdown=0.05)


@app.task(name="side.nap")
def nap(seconds):
    time.sleep(seconds)
    return seconds


@app.task(name="side.mark")
def mark(path, text):
    with open(path, "a") as file:
        file.write(f"{text}\n")
    return text


@app.task(name="side.work", ignore_result=True)
def work(path, n):
    time.sleep(0.02)
    mark(path, n)


@app.task(name="side.errmark")
def errmark(task_id, path):
    mark(path, task_id)


@app.task(name="side.total")
def total(numbers):
    return sum(numbers)


@app.task(name="side.die_once")
def die_once(path, value):
    """End this process the hard way at the first run."""
    if not os.path.exists(path):
        mark(path, "died")
        os.kill(os.getpid(), 9)
    return value


@app.task(name="side.request", bind=True)
def request(self):
    info = self.request.delivery_info or {}
    return {
        "id": self.request.id,
        "root_id": self.request.root_id,
        "parent_id": self.request.parent_id,
        "retries": self.request.retries,
        "reply_to": bool(self.request.reply_to),
        "routing_key": info.get("routing_key"),
        "priority": info.get("priority"),
        "timelimit": list(self.request.timelimit or []),
        "expires": bool(self.request.expires),
        "eta": bool(self.request.eta),
        "x": (self.request.headers or {}).get("x", getattr(self.request, "x", None)),
    }


EVERY = [
    None, True, 1, -2.5, "carrot \u2028 \U0001f955", [1, [2]], {"a": {"b": None}},
    datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, datetime.UTC),
    datetime.date(2026, 1, 2), datetime.time(3, 4, 5), decimal.Decimal("1.10"),
    uuid.UUID(int=7), b"bytes", b"\x00\xff",
]  # fmt: skip


def client() -> None:
    """Do what each line says, answer with a line."""
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = {"ok": ORDERS[order.pop("do")](**order)}
        except Exception as exc:
            answer = {
                "error": type(exc).__name__,
                "module": type(exc).__module__,
                "args": [str(arg) for arg in exc.args],
            }
        print(json.dumps(answer, default=str), flush=True)


RESULTS = {}
"""By id: with `rpc://`, a result can only be read by who sent the task."""


def keep(result):
    RESULTS[result.id] = result
    return result.id


def get(id, timeout=20):  # noqa: A002
    # Not its parents': which of several errors is seen first would be chance.
    return (RESULTS.get(id) or app.AsyncResult(id)).get(timeout=timeout, follow_parents=False)


def send(task, args=(), kwargs=None, options=None, every=False):
    found = app.tasks[f"side.{task}"]
    return keep(found.apply_async(EVERY if every else args, kwargs or {}, **prepared(options)))


def send_work(path, numbers):
    for n in numbers:
        work.apply_async((path, n))


def call(task, **order):
    return get(send(task, **order))


def prepared(options):
    """Options with what JSON can't hold: links, dates."""
    options = dict(options or {})
    for name in ("link", "link_error"):
        if name in options:
            options[name] = [signature(each, app=app) for each in options[name]]
    if "eta" in options:
        options["eta"] = datetime.datetime.fromtimestamp(options["eta"], datetime.UTC)
    return options


def state(id):  # noqa: A002
    found = RESULTS.get(id) or app.AsyncResult(id)
    return {"state": found.state, "traceback": found.traceback, "result": repr(found.result)}


def same():
    """Whether what comes back of every type equals what it was."""
    return every.apply_async().get(timeout=20) == EVERY


def send_chain(queues=()):
    steps = [add.s(1, 2), add.s(10), add.s(100)]
    for step, queue in zip(steps, queues, strict=False):
        step.set(queue=queue)
    return keep(chain(*steps).apply_async())


def send_bad_chain():
    return keep(chain(fail.s("first"), add.s(1), add.s(2)).apply_async())


def chord_in_chord(queues=()):
    """A chord in the header, and one whose body is a chord."""
    inner = chord(members(2, queues), total.s())  # 0 + 2
    outer = chord([inner, *members(2, queues)], total.s())  # 2 + 0 + 2
    body = chord([add.s(1), add.s(3)], total.s())  # 4 + 1, 4 + 3
    return keep(chain(outer, body).apply_async())


def groups_in_chord(queues=()):
    made = [add.s(1, 1), add.s(2, 2), add.s(3, 3)]
    for at, each in enumerate(made):
        each.set(queue=queues[at % len(queues)])
    return keep(chord([group(made[0], made[1]), made[2]], echo.s()).apply_async())


def send_group(n):
    return group(add.s(i, i) for i in range(n))().get(timeout=20)


def members(n, queues):
    made = [add.s(i, i) for i in range(n)]
    for at, each in enumerate(made):
        if queues:
            each.set(queue=queues[at % len(queues)])
    return made


def send_chord(n, queues=(), body_queue=None, link_error=None):
    body = total.s()
    if body_queue:
        body.set(queue=body_queue)
    if link_error:
        body.on_error(errmark.s(link_error))
    return keep(chord(members(n, queues), body).apply_async())


def send_bad_chord(queues=(), link_error=None):
    body = total.s()
    if link_error:
        body.on_error(errmark.s(link_error))
    header = [*members(4, queues), fail.s("member")]
    if queues:
        header[-1].set(queue=queues[-1])
    return keep(chord(header, body).apply_async())


def chord_of_chains(queues=()):
    made = []
    for at in range(4):
        steps = [add.s(at, 1), add.s(10)]
        for step in steps:
            if queues:
                step.set(queue=queues[at % len(queues)])
        made.append(chain(*steps))
    return keep(chord(made, total.s()).apply_async())


def chain_fails_in_chord(queues=()):
    bad = chain(add.s(1, 1), fail.si("step"), add.s(1))
    if queues:
        for step in bad.tasks:
            step.set(queue=queues[0])
    return keep(chord([bad, *members(2, queues)], total.s()).apply_async())


def chord_in_chain(queues=()):
    header = members(3, queues)
    return keep(
        chain(
            add.s(1, 1), chord([m.clone() for m in header_of(header)], total.s()), add.s(1000)
        ).apply_async()
    )


def header_of(made):
    """Members that take the chain's value as well."""
    return [add.s(each.args[0]).set(**each.options) for each in made]


def chord_with_killed_member(path, queue):
    header = [add.s(1, 1), die_once.s(path, 40)]
    for each in header:
        each.set(queue=queue)
    return keep(chord(header, total.s()).apply_async())


def slow_chords(count, size):
    made = [chord([nap.s(0.02).set(queue="ours") for _ in range(size)], total.s().set(queue="ours"))
            for _ in range(count)]  # fmt: skip
    return [keep(each.apply_async()) for each in made]


def builtin(which):
    if which == "map":
        sig = total.map([[1, 2], [3, 4]])
    elif which == "starmap":
        sig = add.starmap([[1, 2], [3, 4]])
    elif which == "chunks":
        return app.GroupResult(
            "x", add.chunks([(i, i) for i in range(6)], 2).apply_async().results
        ).get(timeout=20)
    elif which == "accumulate":
        sig = app.tasks["celery.accumulate"].s(1, 2, 3)
    elif which == "accumulate_index":
        sig = app.tasks["celery.accumulate"].s(1, 2, 3, index=0)
    elif which == "backend_cleanup":
        sig = app.tasks["celery.backend_cleanup"].s()
    elif which == "group_of_chords":
        sig = chain(group(add.s(1, 1), add.s(2, 2)), chord([add.s([3])], total.s()))
    return sig.apply_async().get(timeout=20)


def revoke(id, terminate=False):  # noqa: A002
    app.control.revoke(id, terminate=terminate)


def inspect(command, args=(), timeout=2, destination=None):
    # It waits for as long as not all have answered, so say who shall.
    asker = app.control.inspect(
        timeout=timeout, destination=destination, limit=len(destination or ()) or None
    )
    return getattr(asker, command)(*args)


def cli(args):
    """What the command `celery` prints; in this process, since its start takes seconds."""
    from celery.bin.celery import celery
    from click.testing import CliRunner

    found = CliRunner().invoke(celery, ["-A", "celery_side", *args])
    if found.exit_code:
        raise SystemError(args, found.output, repr(found.exception))
    return found.stdout


def control(command, arguments=None, destination=None):
    return app.control.broadcast(
        command, arguments=arguments or {}, destination=destination, reply=True, timeout=2
    )


ORDERS = {
    each.__name__: each
    for each in (
        call, send, send_work, get, state, same, send_chain, send_bad_chain, send_group,
        chord_in_chord, groups_in_chord, send_chord, send_bad_chord,
        chord_of_chains, chain_fails_in_chord, chord_in_chain, chord_with_killed_member,
        slow_chords, builtin, revoke, inspect, control, cli,
    )
} | {"every": lambda: [type(value).__name__ for value in EVERY]}  # fmt: skip


if __name__ == "__main__":
    client()
