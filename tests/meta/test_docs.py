"""The documentation names everything that users can name."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import caraway.errors
from caraway.settings import DECLARED

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def headings(page: Path) -> list[str]:
    """The headings of a page, without marks of code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [h.replace("`", "").strip() for h in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]


def commands() -> list[str]:
    """Every command and subcommand, as it is typed."""
    import click

    from caraway.cli.main import COMMANDS

    found = []
    for name, (module, _) in COMMANDS.items():
        command = __import__(module, fromlist=["command"]).command
        found.append(name)
        if isinstance(command, click.Group):
            found += [f"{name} {sub}" for sub in command.commands]
    return found


def options(name: str) -> list[str]:
    """The long options of a command."""
    import click

    from caraway.cli.main import COMMANDS

    first, _, second = name.partition(" ")
    command = __import__(COMMANDS[first][0], fromlist=["command"]).command
    if second:
        command = command.commands[second]
    return [
        opt
        for param in command.params
        if isinstance(param, click.Option) and not param.hidden
        for opt in param.opts
        if opt.startswith("--")
    ]


def hooks() -> dict[str, inspect.Signature]:
    from caraway.plugins import specs

    return {
        name: inspect.signature(value)
        for name, value in vars(specs).items()
        if name.startswith("caraway_") and inspect.isfunction(value)
    }


def test_every_setting_has_its_place_in_the_reference() -> None:
    page = (REFERENCE / "settings.md").read_text()

    missing = [name for name, s in DECLARED.items() if not s.void and f"`{name}`" not in page]

    assert missing == []
    assert len(DECLARED) > 100


def test_no_setting_is_documented_that_is_not_there() -> None:
    prefixes = "task_|worker_|broker_|result_|control_|event_|beat_"
    gone = {}
    metrics = (ROOT / "core/src/caraway/worker/metrics.py").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        named = set(re.findall(rf"`((?:{prefixes})[a-z_]+)(?: = [^`]*)?`", page.read_text()))
        unknown = {
            n
            for n in named
            if n not in {*DECLARED, *NOT_SETTINGS} and n.removesuffix("_total") not in metrics
        }
        if unknown and "_build" not in page.parts:
            gone[page.relative_to(ROOT).as_posix()] = sorted(unknown)

    assert gone == {}


NOT_SETTINGS = {
    # signals, arguments and attributes whose names begin like a setting's
    *("task_id", "task_name", "task_args", "task_kwargs", "task_prerun", "task_postrun"),
    *("task_success", "task_failure", "task_retry", "task_revoked", "task_rejected"),
    *("task_unknown", "task_received", "task_sent", "task_internal_error", "task_ids"),
    *("task_cls", "worker_init", "worker_ready", "worker_shutdown", "worker_shutting_down"),
    *("worker_start", "worker_stop", "worker_process_init", "worker_process_shutdown"),
    *("worker_before_create_process", "beat_init", "beat_embedded_init", "result_type"),
    "task_queue",
    "result_chord_ordered",  # of Celery's options of the Redis backend
}


def test_every_command_has_a_heading_and_every_option_a_line() -> None:
    page = REFERENCE / "cli.md"
    text = page.read_text()
    known = " ".join(headings(page))

    assert [c for c in commands() if f"caraway {c}" not in known] == []
    assert [f"{c} {o}" for c in commands() for o in options(c) if o not in text] == []


def test_every_hook_has_a_heading_with_its_arguments() -> None:
    known = headings(REFERENCE / "hooks.md")

    wanted = [f"{name}({', '.join(sig.parameters)})" for name, sig in hooks().items()]

    assert [w for w in wanted if w not in known] == []
    assert len(wanted) >= 9


def test_every_error_is_in_the_table_and_the_table_invents_none() -> None:
    page = (REFERENCE / "errors.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))

    raised = {
        name
        for name, value in vars(caraway.errors).items()
        if inspect.isclass(value)
        and issubclass(value, BaseException)
        and value.__module__ == "caraway.errors"
    }

    assert documented == raised


@pytest.mark.parametrize("page", ["guarantees.md", "architecture.md"])
def test_the_tests_that_a_page_cites_exist(page: str) -> None:
    cited = re.findall(r"`(tests/[\w./]+)`", (ROOT / "docs/explanation" / page).read_text())

    assert cited
    assert [path for path in cited if not (ROOT / path).exists()] == []


def test_architecture_names_every_module_of_the_top_floor_list() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    floors = set(re.findall(r"`(\w+)`", page[page.index("## Floors") :]))
    package = Path(caraway.errors.__file__).parent

    modules = {
        path.stem
        for path in package.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem[0] != "_"
    }

    assert modules - floors == set()
    assert not [name for name in modules if "template" in name]


def test_public_functions_and_classes_of_the_interfaces_say_what_they_owe() -> None:
    import caraway.interfaces as interfaces

    silent = []
    for module in vars(interfaces).values():
        if not inspect.isclass(module) or not module.__module__.startswith("caraway"):
            continue
        if not module.__doc__:
            silent.append(module.__name__)
        for name, member in vars(module).items():
            if inspect.isfunction(member) and name[0] != "_" and not member.__doc__:
                silent.append(f"{module.__name__}.{name}")

    assert silent == []
