from __future__ import annotations

from typing import Any

import pytest

from caraway.builtin.sqlite.options import Options, read_options
from caraway.errors import ImproperlyConfigured
from caraway.url import Url


def test_options_come_from_the_query_and_the_settings_win() -> None:
    url = Url.parse("sqlite:///a.db?synchronous=normal&busy_timeout=2.5&cache_size=4")
    read = read_options(url, {"cache_size": 6})
    assert read == Options(synchronous="normal", busy_timeout=2.5, cache_size=6)


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("syncronous=off", {}),
        ("synchronous=sometimes", {}),
        ("busy_timeout=soon", {}),
        ("", {"busy_timeout": -1}),
        ("", {"poll_interval": 0}),
        ("network=maybe", {}),
    ],
)
def test_a_bad_option_is_refused_with_what_is_known(query: str, options: Any) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        read_options(Url.parse(f"sqlite:///a.db?{query}"), options)
    assert caught.value.hint


def test_the_entries_declare_the_options_that_there_are() -> None:
    from msgspec.structs import fields

    from caraway.builtin.plugin import Sqlite

    plugin = Sqlite()
    for entry in (
        *plugin.caraway_register_transports(),
        *plugin.caraway_register_backends(),
        *plugin.caraway_register_schedules(),
    ):
        declared = {option.name: option.default for option in entry.options}
        assert declared == {field.name: field.default for field in fields(Options)}
