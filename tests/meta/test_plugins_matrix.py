"""extras-matrix.toml: what is generated from it is fresh, and what it says is true."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BUNDLES: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "extras-matrix.toml").read_text())[
    "bundle"
]
SHIPPED = {name: row for name, row in BUNDLES.items() if row["status"] == "shipped"}

WANTED = {
    "auth", "msgpack", "yaml", "eventlet", "gevent", "librabbitmq", "redis", "amqp", "kombu",
    "sqs", "zookeeper", "pyro", "slmq", "consul", "tblib", "memcache", "pymemcache",
    "cassandra", "couchbase", "arangodb", "elasticsearch", "riak", "dynamodb", "sqlalchemy",
    "django",
}  # fmt: skip


@pytest.fixture(scope="session")
def matrix() -> Any:
    """core/tools/matrix.py as a module."""
    spec = importlib.util.spec_from_file_location("matrix", ROOT / "core/tools/matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_generated_is_fresh() -> None:
    tool = ROOT / "core/tools/matrix.py"
    done = subprocess.run(
        [sys.executable, tool, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_all_bundles_of_the_project_are_in_the_table() -> None:
    assert set(BUNDLES) >= WANTED


def test_the_folders_are_those_of_the_shipped_bundles() -> None:
    folders = {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()}
    assert folders == {"_template", *SHIPPED}


def test_no_bundle_claims_what_is_built_in() -> None:
    from caraway.plugins.manager import load_builtins

    built_in = {
        (role, key)
        for plugin in load_builtins()
        for role, entries in plugin.entries.items()
        for entry in entries
        for key in entry.found_by()
    }
    claimed = {(r, k) for row in BUNDLES.values() for r, keys in row["roles"].items() for k in keys}
    assert not built_in & claimed


@pytest.mark.parametrize("name", SHIPPED)
def test_a_bundle_s_project_file_agrees_with_the_table(name: str) -> None:
    row = SHIPPED[name]
    project = tomllib.loads((ROOT / row["path"] / "pyproject.toml").read_text())["project"]
    assert project["name"] == row["dist"]
    assert project["requires-python"] == row["python"]
    core, *own = project["dependencies"]
    assert core.startswith("caraway>=")
    assert own == row["requires"]
    assert not [line for line in project["dependencies"] if "==" in line]
    package = row["dist"].replace("-", "_")
    assert project["entry-points"]["caraway"] == {name: f"{package}.plugin"}


_ASK = """
import json, sys
before = set(sys.modules)
import {package}.plugin as plugin
new = set(sys.modules) - before
heavy = sorted(m for m in new if m.split(".")[0] not in sys.stdlib_module_names)
from caraway.plugins.manager import load_given
record = load_given(plugin)
print(json.dumps({{
    "state": record.state, "problems": record.problems, "imported": heavy,
    "roles": {{r: sorted(k for e in es for k in e.found_by()) for r, es in record.entries.items()}},
    "factories": [e.factory for es in record.entries.values() for e in es],
}}))
"""


@pytest.mark.parametrize("name", SHIPPED)
def test_a_bundle_registers_what_the_table_says_and_imports_nothing_for_it(name: str) -> None:
    row = SHIPPED[name]
    package = row["dist"].replace("-", "_")
    paths = [str(ROOT / row["path"] / "src"), str(ROOT / "core/src")]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _ASK.format(package=package)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["state"], found["problems"]) == ("active", {})
    assert found["roles"] == {role: sorted(keys) for role, keys in row["roles"].items()}
    ours = {"caraway", "msgspec", "typing_extensions", package}  # msgspec tries the third
    assert not [m for m in found["imported"] if m.split(".")[0] not in ours]
    assert all(factory.startswith(f"{package}.") for factory in found["factories"])


# -- the tool itself -------------------------------------------------------------------

GOOD = """
[bundle.shelf]
dist = "caraway-shelf"
path = "plugins/shelf"
summary = "A shelf."
roles = { transport = ["shelf"] }
requires = []
server = "none needed"
python = ">=3.11"
platforms = ["linux"]
status = "planned"
since = ""
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t, ""),
        (lambda t: t + 'colour = "red"\n', "unknown keys ['colour']"),
        (lambda t: t.replace('since = ""\n', ""), "missing keys ['since']"),
        (lambda t: t.replace("requires = []", 'requires = ""'), "requires must be a list"),
        (lambda t: t.replace('"planned"', '"soon"'), "status is one of"),
        (lambda t: t.replace('"planned"', '"shipped"'), "say since when"),
        (lambda t: t.replace("transport =", "transports ="), "no role 'transports'"),
        (lambda t: t.replace('{ transport = ["shelf"] }', "{}"), "has no role"),
        (lambda t: t.replace("plugins/shelf", "elsewhere"), "it is caraway-shelf in"),
        (lambda t: t + "[other]\n", "only [bundle.*] tables"),
        (
            lambda t: t + t.replace("bundle.shelf", "bundle.box").replace("-shelf", "-box")
            .replace("plugins/shelf", "plugins/box"),
            "transport 'shelf' is claimed by shelf and box",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_the_table_is_told(
    matrix: Any, tmp_path: Path, change: Callable[[str], str], said: str
) -> None:
    (tmp_path / "extras-matrix.toml").write_text(change(GOOD))
    if not said:
        assert list(matrix.read(tmp_path)) == ["shelf"]
        return
    with pytest.raises(matrix.MatrixError) as caught:
        matrix.read(tmp_path)
    assert said in str(caught.value)


def test_a_stale_file_is_found(matrix: Any, tmp_path: Path) -> None:
    for path in matrix.generate():
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copy(ROOT / "extras-matrix.toml", tmp_path)
    shutil.copytree(ROOT / "plugins/_template", tmp_path / "plugins/_template")

    def stale() -> list[str]:
        fresh = matrix.generate(tmp_path)
        return [p.relative_to(tmp_path).as_posix() for p, t in fresh.items() if p.read_text() != t]

    assert stale() == []
    table = tmp_path / "extras-matrix.toml"
    table.write_text(table.read_text().replace("MessagePack: small", "MessagePack: tiny"))
    assert stale() == [
        "core/src/caraway/plugins/known.py",
        "docs/reference/bundles.md",
        "plugins/msgpack/README.md",
    ]
