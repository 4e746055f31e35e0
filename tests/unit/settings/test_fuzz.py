"""Whatever is written into a settings source, the answer is settings or a clear error."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caraway.errors import ImproperlyConfigured
from caraway.settings import DECLARED, Layer, Settings, apply_environment, apply_file

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.binary(max_size=5)
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                                 max_size=3),
    max_leaves=5,
)  # fmt: skip
NAMES = st.sampled_from(sorted(DECLARED)) | st.text(max_size=20)


@contextlib.contextmanager
def refusal() -> Iterator[list[ImproperlyConfigured]]:
    """What was refused inside, if anything; warnings don't matter here."""
    found: list[ImproperlyConfigured] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield found
        except ImproperlyConfigured as exc:
            found.append(exc)


@given(st.dictionaries(NAMES, VALUES, max_size=3))
@settings(deadline=None, max_examples=300)
def test_any_mapping_is_taken_or_refused_whole(values: dict[str, Any]) -> None:
    conf = Settings()
    before = dict(conf)
    with refusal() as refused:
        conf.apply(values, Layer.KEYWORD, "test")
    for error in refused:
        assert str(error).startswith("test: ")
        assert error.hint
        assert dict(conf) == before


@given(st.dictionaries(st.sampled_from(sorted(DECLARED)), st.text(max_size=20), max_size=3))
@settings(deadline=None, max_examples=300)
def test_any_environment_is_taken_or_refused_with_the_variable(values: dict[str, str]) -> None:
    with refusal() as refused:
        apply_environment(Settings(), {f"CARAWAY_{k.upper()}": v for k, v in values.items()})
    for error in refused:
        assert "CARAWAY_" in str(error)


@given(st.binary(max_size=60) | st.text(alphabet="[]={}.\"'\n #task_acksworker01", max_size=60))
@settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_file_is_taken_or_refused_with_its_name(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "caraway.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with refusal() as refused:
        apply_file(Settings(), str(path))
    for error in refused:
        assert "caraway.toml" in str(error)
