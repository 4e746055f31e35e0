from __future__ import annotations

from typing import Any

from caraway.builtin.sqlite import broadcast
from caraway.message import Message, Notice, Topic

NEWS = Topic("news")


def note(body: bytes) -> Notice:
    return Notice(NEWS, Message(body))


def rows(bench: Any) -> int:
    return int(bench.sql("SELECT count(*) FROM broadcast")[0][0])


def test_nothing_is_kept_while_nobody_listens(bench: Any) -> None:
    channel = bench.transport().broadcast()
    channel.publish([note(b"1")])
    subscription = channel.subscribe([Topic("other")])
    channel.publish([note(b"2")])
    assert rows(bench) == 0
    subscription.close()
    assert bench.sql("SELECT count(*) FROM subscriber") == [(0,)]


def test_what_is_old_is_dropped(bench: Any) -> None:
    channel = bench.transport().broadcast()
    subscription = channel.subscribe([NEWS])
    channel.publish([note(b"1")])
    bench.now += broadcast.KEEP + 1
    channel.publish([note(b"%d" % n) for n in range(300)])
    assert rows(bench) == 300
    subscription.close()


def test_a_subscriber_misses_nothing_though_all_before_was_trimmed(bench: Any) -> None:
    channel = bench.transport().broadcast()
    first = channel.subscribe([NEWS])
    channel.publish([note(b"1")])
    bench.sql("DELETE FROM broadcast")
    second = channel.subscribe([NEWS])
    channel.publish([note(b"2")])
    assert first.receive(0) == second.receive(0) == [note(b"2")]
    first.close()
    second.close()


def test_a_subscriber_that_is_gone_is_forgotten(bench: Any) -> None:
    channel = bench.transport().broadcast()
    gone, here = channel.subscribe([NEWS]), channel.subscribe([NEWS])
    bench.now += 61
    bench.sql("UPDATE subscriber SET until=? WHERE port=?", bench.now + 60, here._key)
    channel.publish([note(b"1")])
    assert bench.sql("SELECT port FROM subscriber") == [(here._key,)]
    gone.close()
    here.close()
