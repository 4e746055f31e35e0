"""The wheels: what is in them, and that each extra installs and works."""

from __future__ import annotations

import json
import tomllib
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MATRIX = tomllib.loads((ROOT / "extras-matrix.toml").read_text())["bundle"]
SHIPPED = {name: row for name, row in MATRIX.items() if row["status"] == "shipped"}

pytestmark = pytest.mark.slow


def opened(wheels: Path, dist: str) -> tuple[list[str], Any]:
    """The names in a wheel, and its metadata."""
    (path,) = wheels.glob(f"{dist.replace('-', '_')}-*.whl")
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        metadata = next(name for name in names if name.endswith("/METADATA"))
        return names, message_from_bytes(file.read(metadata))


def test_there_is_one_wheel_for_each_distribution(wheels: Path) -> None:
    found = sorted(path.name.split("-")[0] for path in wheels.glob("*.whl"))
    wanted = ["caraway", *(row["dist"].replace("-", "_") for row in SHIPPED.values())]
    assert found == sorted(wanted)


@pytest.mark.parametrize("dist", ["caraway", *(row["dist"] for row in SHIPPED.values())])
def test_a_wheel_holds_the_package_its_types_and_licence_and_nothing_else(
    wheels: Path, dist: str
) -> None:
    names, metadata = opened(wheels, dist)
    package = dist.replace("-", "_")
    assert f"{package}/py.typed" in names
    assert [name for name in names if name.endswith("/LICENSE")]
    tops = {name.split("/")[0] for name in names}
    assert tops == {package, f"{package}-{metadata['Version']}.dist-info"}
    assert not [name for name in names if "/tests/" in name or "__pycache__" in name]
    assert metadata["Requires-Python"] == ">=3.11"


def test_the_core_offers_the_shipped_bundles_as_extras(wheels: Path) -> None:
    _, metadata = opened(wheels, "caraway")
    assert set(metadata.get_all("Provides-Extra")) == {"testing", *SHIPPED}
    required = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(line.split(">")[0].split("<")[0] for line in required) == [
        "click",
        "msgspec",
        "pluggy",
        "rich",
    ]


@pytest.mark.parametrize("name", SHIPPED)
def test_an_extra_installs_into_a_clean_environment_and_works(
    environment: Callable[..., Any], name: str
) -> None:
    env = environment(f"caraway[{name}]")
    listed = json.loads(env.run(env.caraway, "plugins", "list", "--json"))
    found = {plugin["name"]: plugin for plugin in listed}[name]
    assert (found["state"], found["distribution"]) == ("active", MATRIX[name]["dist"])
    assert {role: sorted(keys) for role, keys in found["provides"].items()} == {
        role: sorted(keys) for role, keys in MATRIX[name]["roles"].items()
    }
    env.run(env.caraway, "plugins", "show", name)
    env.run(env.python, "-m", "pip", "check")


def test_the_core_works_with_nothing_but_its_dependencies(environment: Callable[..., Any]) -> None:
    env = environment("caraway")
    env.run(env.python, "-W", "error", "-c", "import caraway; caraway.__version__")
    assert env.run(env.caraway, "--version").strip() == "0.1.0"
    listed = json.loads(env.run(env.caraway, "plugins", "list", "--json"))
    assert {plugin["state"] for plugin in listed} == {"active"}
    error = env.run(
        env.python, "-c",
        "from caraway.plugins.registry import Registry\n"
        "try: Registry.discover().serializer('msgpack')\n"
        "except Exception as exc: print(exc)",
    )  # fmt: skip
    assert 'pip install "caraway[msgpack]"' in error


def test_the_serializer_of_the_msgpack_extra_keeps_its_contract(
    environment: Callable[..., Any],
) -> None:
    env = environment("caraway[msgpack]")
    report = json.loads(env.run(env.caraway, "plugins", "check", "msgpack", "--json"))
    assert [part["ok"] for part in report] == [True]
