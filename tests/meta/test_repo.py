"""The repository keeps the promises it makes to those who clone it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

TEXT = {".py", ".md", ".toml", ".txt", ".cfg", ".ini", ".yml", ".yaml", ".sh", ".json", ""}


def texts(tracked: list[Path]) -> dict[Path, str]:
    found = {}
    for path in tracked:
        if path.suffix in TEXT and path.stat().st_size < 2_000_000:
            try:
                found[path] = path.read_text()
            except UnicodeDecodeError:
                continue
    return found


def test_no_file_names_a_registry_host_or_a_path_of_one_machine(
    tracked: list[Path], root: Path
) -> None:
    hosts = "|".join(("p[y]pi" + r"\.org", "pythonh" + "osted", r"registry\.npm" + "js"))
    hosts += "|" + r"deb\.d" + r"ebian\.org"
    homes = r"(?<![A-Za-z0-9_.])/(?:" + "|".join(("wo" + "rk", "fa" + "rm", "ro" + "ot"))
    bad = re.compile(f"{hosts}|{homes})/[A-Za-z.]")

    found = [
        f"{path.relative_to(root)}: {match.group()}"
        for path, text in texts(tracked).items()
        if (match := bad.search(text))
    ]

    assert found == []


def test_ci_can_run_and_calls_the_tests(root: Path) -> None:
    script = root / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert re.search(r"^make .*\btest\b", script.read_text(), re.MULTILINE)
    assert "steps=(lint types docs)" in script.read_text()
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


@pytest.mark.parametrize("target", ["demo", "test", "types", "lint", "docs", "bench", "clean"])
def test_make_knows_the_target(target: str, root: Path) -> None:
    assert re.search(rf"^{target}:", (root / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_each_readme_names_the_two_commands(name: str, root: Path) -> None:
    text = (root / name).read_text()

    assert "make demo" in text
    assert "make test" in text


def blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n.*?^```", text, re.MULTILINE | re.DOTALL)


def code(block: str) -> str:
    """A block without its comments, which are translated."""
    return re.sub(r"[ \t]*#.*", "", block)


def test_both_readmes_have_the_same_sections_commands_and_links(root: Path) -> None:
    english, chinese = ((root / n).read_text() for n in ("README.md", "README.zh-CN.md"))

    def levels(text: str) -> list[int]:
        bare = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        return [len(m) for m in re.findall(r"^(#+) ", bare, re.MULTILINE)]

    def links(text: str) -> set[str]:
        return set(re.findall(r"\]\(((?!README)[^)]+)\)", text))

    assert levels(chinese) == levels(english)
    assert [code(b) for b in blocks(chinese)] == [code(b) for b in blocks(english)]
    assert links(chinese) == links(english)


def test_links_to_files_lead_somewhere(tracked: list[Path], root: Path) -> None:
    broken = []
    for path in tracked:
        if path.suffix != ".md" or "_template" in path.parts:
            continue
        text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text):
            if "://" in target or target.startswith("mailto:"):
                continue
            if not (path.parent / target).exists():
                broken.append(f"{path.relative_to(root)}: {target}")

    assert broken == []


def test_the_version_is_the_same_everywhere(root: Path) -> None:
    import tomllib

    import caraway

    project = tomllib.loads((root / "core" / "pyproject.toml").read_text())["project"]
    workspace = tomllib.loads((root / "pyproject.toml").read_text())["tool"]

    assert project["version"] == caraway.__version__
    assert workspace["towncrier"]["version"] == caraway.__version__
    assert workspace["ruff"]["target-version"] == "py311"
    assert project["requires-python"] == ">=3.11"
