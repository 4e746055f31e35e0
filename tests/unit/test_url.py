"""URLs: what is accepted, what each part means, and that passwords stay hidden."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caraway.errors import ImproperlyConfigured
from caraway.url import Url, redact


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("sqlite://", {"scheme": "sqlite", "path": ""}),
        ("sqlite:///jobs.db", {"path": "/jobs.db", "host": ""}),
        ("sqlite:////var/jobs.db", {"path": "//var/jobs.db"}),
        ("memory", {"scheme": "memory"}),
        ("REDIS://Host/0", {"scheme": "redis", "host": "Host", "path": "/0"}),
        ("redis://h:6379", {"host": "h", "port": 6379}),
        ("redis://h:", {"host": "h", "port": None}),
        ("redis://[::1]:6379/1", {"host": "::1", "port": 6379, "path": "/1"}),
        ("redis://[::1]", {"host": "::1", "port": None}),
        ("amqp://u:p@h//", {"username": "u", "password": "p", "path": "//"}),
        ("amqp://u:p%40%2F%3a@h", {"password": "p@/:"}),
        ("amqp://u:a:b@h", {"username": "u", "password": "a:b"}),
        ("amqp://u:a@b@h", {"username": "u", "password": "a@b", "host": "h"}),
        ("redis://:secret@h", {"username": "", "password": "secret"}),
        ("redis://%2Frun%2Fr.sock/2", {"host": "/run/r.sock", "path": "/2"}),
        ("redis+socket:///run/r.sock", {"driver": "socket", "path": "/run/r.sock"}),
        ("db+postgresql+psycopg://h/d", {"scheme": "db", "driver": "postgresql+psycopg"}),
        ("mongodb://a:1,b:2/x", {"host": "a:1,b:2", "port": None}),
        ("x://h/?a=1&b=t+w&c=%26&d", {"query": {"a": "1", "b": "t w", "c": "&", "d": ""}}),
        ("x://h?a=u@v/w", {"host": "h", "query": {"a": "u@v/w"}}),
        ("shop.queues:Shelf", {"scheme": "shop.queues:Shelf", "driver": ""}),
        ("shop.queues:Shelf://h/p", {"scheme": "shop.queues:Shelf", "host": "h"}),
        ("shop.queues:Shelf+redis://h", {"scheme": "shop.queues:Shelf", "driver": "redis"}),
        ("  sqlite://  ", {"scheme": "sqlite"}),
    ],
)  # fmt: skip
def test_each_part_is_found_and_decoded(text: str, parts: dict[str, object]) -> None:
    url = Url.parse(text)
    assert {name: getattr(url, name) for name in parts} == parts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("localhost:6379", "no scheme"),
        ("//host", "no scheme"),
        ("h.example.com", "Did you mean 'redis://h.example.com'"),
        ("redis://h:99999", "0 to 65535"),
        ("redis://h:port", "0 to 65535"),
        ("redis://h:6379:1", "brackets"),
        ("redis://[::1", "']'"),
        ("redis://[::1]x", "']'"),
        ("redis://h/0#frag", "%23"),
        ("redis://:p/w@h", "%2F"),
        ("redis://:p?w@h", "%2F"),
        ("redis://:p#w@h", "%23"),
        ("redis://h\n/0", "control character"),
        ("x://h?a=1&a=2", "given twice"),
        ("x://h?=1", "no name"),
        ("redis://a;b", "its own scheme"),
        ("redis://a;redis://b", "not a list"),
    ],
)
def test_a_malformed_url_says_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        Url.parse(text)
    assert said in str(caught.value)


def test_a_list_of_urls_is_split_where_a_scheme_follows() -> None:
    urls = Url.parse_list("amqp://u:a;b@h1//;redis://h2; memory://;")
    assert [(u.scheme, u.host, u.password) for u in urls] == [
        ("amqp", "h1", "a;b"),
        ("redis", "h2", ""),
        ("memory", "", ""),
    ]
    assert Url.parse_list("memory://") == (Url.parse("memory://"),)


@pytest.mark.parametrize(
    "text",
    [
        "redis://user:hunter2@h/0",
        "redis://:hunter2@h/0",
        "redis://:x@hunter2@h/0",
        "redis://h/0?password=hunter2&db=1",
        "redis://h/0?ssl_keyfile_passwd=hunter2",
        "sqs://h?aws_secret_access_key=hunter2",
        "x://h?auth_token=hunter2",
    ],
)
def test_a_password_is_shown_by_raw_alone(text: str) -> None:
    url = Url.parse(text)
    shown = [str(url), repr(url), f"{url}", repr([url]), str(url.__rich_repr__()), redact(text)]
    assert not [line for line in shown if "hunter2" in line]
    assert "**" in str(url)
    assert url.raw == text
    assert "hunter2" not in str(Url(scheme="redis", host="h", password="hunter2"))


@pytest.mark.parametrize(
    "text",
    [
        "user:hunter2@host:6379",
        "redis://:hunter2/x@h",
        "redis://:a?hunter2@h",
        "redis://:a#hunter2@h:1:2",
        "redis://u:hunter2@h:port",
        "redis://u:hunter2@[::1",
        "redis://u:hunter2@a;b",
        "amqp://u:hunter2@a//;amqp://v:hunter2@b:x",
    ],
)
def test_an_error_does_not_show_the_password(text: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        Url.parse_list(text)
    assert "hunter2" not in str(caught.value)


def test_a_url_without_its_text_is_composed() -> None:
    url = Url(
        scheme="x", driver="d", username="u@", host="::1", port=1, path="/a b", query={"k": "v"}
    )
    assert str(url) == "x+d://u%40@[::1]:1/a%20b?k=v"
    assert str(Url(scheme="redis", host="/run/r.sock")) == "redis://%2Frun%2Fr.sock"


def test_urls_can_be_compared_and_pickled() -> None:
    url = Url.parse("redis://u:p@h:1/0?a=b")
    assert pickle.loads(pickle.dumps(url)) == url
    assert url != Url.parse("redis://u:q@h:1/0?a=b")


@given(st.text(max_size=60))
@example("a://:@")
@example("a:b+://")
def test_any_text_is_parsed_or_refused_and_never_crashes(text: str) -> None:
    for candidate in (text, f"redis://{text}"):
        try:
            urls = Url.parse_list(candidate)
        except ImproperlyConfigured:
            continue
        for url in urls:
            assert str(url)


_WORD = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF), min_size=1, max_size=12)


@given(username=_WORD, password=_WORD.filter(lambda p: len(p) > 5), path=_WORD)
def test_what_is_quoted_comes_back(username: str, password: str, path: str) -> None:
    from urllib.parse import quote

    text = f"amqp://{quote(username, safe='')}:{quote(password, safe='')}@h/{quote(path, safe='')}"
    url = Url.parse(text)
    assert (url.username, url.password, url.path) == (username, password, f"/{path}")
    assert quote(password, safe="") not in str(url).replace(quote(username, safe=""), "").replace(
        quote(path, safe=""), ""
    )
