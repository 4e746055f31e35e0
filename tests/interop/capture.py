"""Writes the vectors anew, from what the real Celery and kombu do.

::

    .nox/interop/bin/python tests/interop/capture.py --redis redis://127.0.0.1:6379/0 \
        --amqp amqp://guest:guest@127.0.0.1:5672// [--only redis-queues ...]

The Redis must be empty: its keys are what is captured.  Imports nothing of Caraway.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import decimal
import json
import os
import platform
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path

import celery
from celery import Celery, chain, chord, group, states

VECTORS = Path(__file__).parent / "vectors"
ID = "11111111-2222-4333-8444-555555555555"
NODE = platform.node()
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def make_app(broker="memory://", backend="cache+memory://"):
    app = Celery("shop", broker=broker, backend=backend, set_as_current=True)
    app.conf.update(result_expires=3600, broker_connection_retry_on_startup=True)

    @app.task(name="shop.add", shared=False)
    def add(x, y, z=0):
        return x + y + z

    @app.task(name="shop.total", shared=False)
    def total(numbers):
        return sum(numbers)

    @app.task(name="shop.fail", shared=False)
    def fail(text):
        raise ValueError(text)

    return app


def kombu_json(_):
    """What kombu writes for values: those that stand in the file already."""
    from kombu.utils.json import dumps

    known = json.loads((VECTORS / "kombu-json.json").read_text())
    names = {"datetime": datetime, "decimal": decimal, "uuid": uuid}
    made = []
    for each in known:
        try:
            text = dumps(eval(each["value"], names))
        except Exception as exc:
            made.append({**each, "error": type(exc).__name__} if "error" in each else each)
            continue
        made.append({"value": each["value"], "json": text})
    return made


def celery_messages(_):
    """Task messages before they are published, in both protocols."""
    from kombu.utils.json import dumps

    app = make_app()
    add = app.tasks["shop.add"]
    calls = {
        "plain": {},
        "links": {"callbacks": [add.s(1)], "errbacks": [add.si(2)]},
        "times": {"eta": NOW, "expires": NOW, "retries": 2, "time_limit": 10, "soft_time_limit": 5},
        "group": {"group_id": "g1"},
    }
    made = []
    for label, options in calls.items():
        for protocol, build in ((2, app.amqp.as_task_v2), (1, app.amqp.as_task_v1)):
            found = build(ID, "shop.add", [1, 2], {"z": 3}, reply_to="r", **options)
            headers = {k: v for k, v in found.headers.items() if k != "origin"}
            made.append({
                "label": label, "protocol": protocol, "headers": headers,
                "properties": found.properties, "body": dumps(found.body),
            })  # fmt: skip
    return made


class My(Exception):
    pass


def celery_metas(_):
    """Records of states."""
    from billiard.exceptions import SoftTimeLimitExceeded

    backend = make_app().backend

    def record(task_id):
        found = backend.get(backend.get_key_for_task(task_id))
        return found if isinstance(found, str) else found.decode()

    backend.store_result("t1", {"a": [1, None, "x"]}, states.SUCCESS)
    backend.mark_as_failure("t2", ZeroDivisionError("division by zero"))
    backend.store_result("t3", {"pid": 1, "hostname": "h"}, states.STARTED)
    backend.mark_as_failure("t4", My(1, ["a"]))
    backend.mark_as_revoked("t5", "revoked")
    backend.mark_as_retry("t6", ValueError("again"))
    backend.mark_as_failure("t7", SoftTimeLimitExceeded(1))
    return [record(f"t{n}") for n in range(1, 8)]


def publish_all(app):
    """The same calls for each broker."""
    add, total = app.tasks["shop.add"], app.tasks["shop.total"]
    add.apply_async((1, 2), {"z": 3}, task_id=ID)
    add.apply_async((1, 2), task_id="later", eta=NOW, expires=86400)
    add.apply_async((1, 2), task_id="urgent", priority=9)
    add.apply_async((1, 2), task_id="limits", time_limit=10, soft_time_limit=5, headers={"x": "y"})
    add.apply_async((1, 2), task_id="packed", compression="zlib")
    add.apply_async((1, 2), task_id="links", link=add.s(1), link_error=add.si(2, 2))
    chain(add.s(1, 1).set(task_id="chain-first"), add.s(10)).apply_async()
    group(add.s(i, i).set(task_id=f"group-{i}") for i in range(2)).apply_async()
    chord([add.s(i, i).set(task_id=f"chord-{i}") for i in range(2)], total.s()).apply_async()
    app.amqp.create_task_message = app.amqp.as_task_v1
    add.apply_async((1, 2), {"z": 3}, task_id="protocol-1")


def redis_keys(client):
    found = {}
    for key in sorted(client.keys("*")):
        name, kind = key.decode(), client.type(key).decode()
        if kind == "list":
            found[name] = [each.decode() for each in client.lrange(key, 0, -1)]
        elif kind == "set":
            found[name] = sorted(each.decode() for each in client.smembers(key))
        elif kind == "zset":
            found[name] = [[m.decode(), s] for m, s in client.zrange(key, 0, -1, withscores=True)]
        elif kind == "hash":
            found[name] = {k.decode(): v.decode() for k, v in client.hgetall(key).items()}
        else:
            found[name] = client.get(key).decode()
    return found


def redis_queues(options):
    """Lists, priority lists and bindings, as a client of Celery's leaves them."""
    client = open_redis(options)
    app = make_app(options.redis, options.redis)
    publish_all(app)
    app.close()
    found = redis_keys(client)
    return {key: value for key, value in found.items() if not key.startswith("celery-task")}


def redis_results(options):
    """Records, groups and the keys of a chord that one member of two has ended."""
    client = open_redis(options)
    app = make_app(options.redis, options.redis)
    backend = app.backend
    backend.store_result("ok", {"a": [1]}, states.SUCCESS)
    backend.mark_as_failure("bad", ValueError("x", 1), traceback="Traceback: x")
    backend.mark_as_started("on", pid=1, hostname="h")
    backend.mark_as_retry("again", ValueError("x"), traceback="Traceback: x")
    backend.mark_as_revoked("not", "expired")
    results = app.GroupResult("grp", [app.AsyncResult("ok"), app.AsyncResult("bad")])
    results.save(backend=backend)
    add, total = app.tasks["shop.add"], app.tasks["shop.total"]
    header = [add.s(i, i).set(task_id=f"member-{i}") for i in range(2)]
    result = chord(group(header, task_id="chord"), total.s().set(task_id="body")).apply_async()
    assert result.id == "body"
    (queued,) = (k for k in client.keys("celery") if client.type(k) == b"list")
    first = json.loads(client.lrange(queued, -1, -1)[0])
    client.delete(queued)
    from celery.app.task import Context

    body = json.loads(base64.b64decode(first["body"]))[2]
    context = Context({**first["headers"], **body})
    backend.on_chord_part_return(context, states.SUCCESS, 0)
    found = redis_keys(client)
    app.close()
    return {key: value for key, value in found.items() if not key.startswith("_kombu")}


def remote_control(options):
    """Requests, replies and events between real programs, on Redis."""
    client = open_redis(options)
    heard = client.pubsub()
    heard.psubscribe("*")
    script = Path(__file__).resolve()
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "capture", "worker", "-n", "w@here", "-c", "1",
         "-E", "-l", "warning", "--without-mingle", "--without-gossip"],
        cwd=script.parent, env={**os.environ, "CAPTURE_BROKER": options.redis},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        app = make_app(options.redis, options.redis)
        deadline = time.monotonic() + 60
        while not app.control.ping(timeout=0.5):
            assert time.monotonic() < deadline, "the worker doesn't answer"
        app.control.inspect(timeout=1, destination=["w@here"]).registered()
        app.control.rate_limit("shop.add", "10/m", reply=True, timeout=1)
        app.control.revoke("some-id")
        app.control.broadcast("no_such_thing", reply=True, timeout=1)
        app.conf.task_send_sent_event = True
        app.tasks["shop.add"].delay(1, 2).get(timeout=10)
        try:
            app.tasks["shop.fail"].delay("x").get(timeout=10)
        except ValueError:
            pass
        app.tasks["shop.add"].apply_async((1, 2), expires=-1)
        time.sleep(3)
    finally:
        worker.terminate()
        worker.wait()
    made = []
    while (each := heard.get_message(timeout=0.5)) is not None:
        if each["type"] == "pmessage" and not each["channel"].startswith(b"celery-task-meta"):
            payload = without_places(each["data"].decode())
            made.append({"channel": each["channel"].decode(), "payload": payload})
    heard.close()
    app.close()
    return only_new(made)


def without_places(payload):
    """An envelope without the names of this machine and its folders."""
    envelope = json.loads(payload)
    body = base64.b64decode(envelope["body"]).decode()
    for folder in (Path(celery.__file__).parent.parent, Path(__file__).resolve().parent):
        body = body.replace(str(folder), "/shop")
    envelope["body"] = base64.b64encode(body.replace(f"@{NODE}", "@host").encode()).decode()
    return json.dumps(envelope).replace(f"@{NODE}", "@host")


def only_new(made):
    """One of each kind: a monitor sees the same heartbeat every two seconds."""
    seen, kept = set(), []
    for each in made:
        body = json.loads(base64.b64decode(json.loads(each["payload"])["body"]))
        one = body[0] if isinstance(body, list) else body
        kind = each["channel"], isinstance(body, list), one.get("method"), one.get("type")
        if kind not in seen:
            seen.add(kind)
            kept.append(each)
    return kept


def replies(options):
    """Answers to requests, as they lie in the asker's list."""
    client = open_redis(options)
    from kombu import Connection, pidbox

    made = []
    with Connection(options.redis) as connection:
        box = pidbox.Mailbox("celery", type="fanout", accept=["json"])(connection)
        channel = connection.channel()
        box.get_reply_queue()(channel).declare()
        node = box.Node("w@here", channel=channel)
        node.handlers.update(
            ping=lambda state, **_: {"ok": "pong"},
            bad=lambda state, **_: {"error": "no"},
        )
        for method in ("ping", "bad"):
            node.dispatch(
                method, {}, reply_to={"exchange": box.reply_exchange.name, "routing_key": box.oid},
                ticket=ID,
            )  # fmt: skip
        for key in client.keys(f"{box.oid}*"):
            made += [each.decode() for each in reversed(client.lrange(key, 0, -1))]
    return made


def amqp_messages(options):
    """Headers, properties and bodies as RabbitMQ hands them over."""
    from amqp import Connection

    app = make_app(options.amqp, "cache+memory://")
    app.backend.apply_chord = lambda *args, **kwargs: None  # keys are the backend's
    publish_all(app)
    url = app.connection()
    made = []
    connection = Connection(
        host=f"{url.hostname}:{url.port}", userid=url.userid, password=url.password,
        virtual_host=url.virtual_host,
    )  # fmt: skip
    connection.connect()
    channel = connection.channel()
    while (message := channel.basic_get("celery", no_ack=True)) is not None:
        properties = dict(message.properties)
        headers = properties.pop("application_headers")
        body = message.body
        made.append({
            "headers": headers, "properties": properties,
            "exchange": message.delivery_info["exchange"],
            "routing_key": message.delivery_info["routing_key"],
            "body": base64.b64encode(body if isinstance(body, bytes) else body.encode()).decode(),
        })  # fmt: skip
    connection.close()
    app.close()
    return made


def open_redis(options):
    from redis import Redis

    client = Redis.from_url(options.redis)
    client.flushdb()
    return client


FILES = {
    "kombu-json": kombu_json, "celery-messages": celery_messages, "celery-metas": celery_metas,
    "redis-queues": redis_queues, "redis-results": redis_results,
    "remote-control": remote_control, "replies": replies, "amqp-messages": amqp_messages,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/0")
    parser.add_argument("--amqp", default="amqp://guest:guest@127.0.0.1:5672//")
    parser.add_argument("--only", nargs="*", choices=list(FILES), default=list(FILES))
    options = parser.parse_args()
    for name in options.only:
        made = FILES[name](options)
        text = json.dumps(made, indent=1, default=str, ensure_ascii=True)
        text = re.sub(rf"gen\d+@({re.escape(NODE)}|host)", "gen1@host", text)
        (VECTORS / f"{name}.json").write_text(text)
        print(name, len(made))


if os.environ.get("CAPTURE_BROKER"):
    app = make_app(os.environ["CAPTURE_BROKER"], os.environ["CAPTURE_BROKER"])

if __name__ == "__main__":
    main()
