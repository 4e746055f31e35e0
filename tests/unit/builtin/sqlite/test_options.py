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
