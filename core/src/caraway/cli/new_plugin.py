"""``caraway new-plugin``: a complete distribution from the template."""

from __future__ import annotations

import re
from pathlib import Path

import click

KINDS = ("transport", "backend", "serializer", "pool")
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*\Z")


@click.command(
    "new-plugin",
    help="""Make a plugin from the template: a distribution caraway-NAME.

    It is a working example whose tests, the conformance suite of Caraway's test kit among
    them, pass as they come. Replace its inside and keep the tests green.

    \b
    Example:
      caraway new-plugin shelf --kind transport
      cd caraway-shelf
      pip install -e '.[test]' && pytest
    """,
)
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(KINDS), default="transport", show_default=True, help="Of component."
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIRECTORY",
    help="Where to put the folder caraway-NAME.  [default: here]",
)
def command(name: str, kind: str, output: Path) -> None:
    """Write the files; see its help."""
    name = name.removeprefix("caraway-")
    _check_name(name)
    folder = output / f"caraway-{name}"
    if folder.exists() and any(folder.iterdir()):
        raise click.ClickException(f"{folder} exists and is not empty")
    files = render(name, kind)
    try:
        for path, text in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise click.ClickException(f"{folder} can't be written: {exc.strerror}") from exc
    click.echo(f"wrote {len(files)} files to {folder}")
    click.echo(f"next: cd {folder} && pip install -e '.[test]' && pytest")


new_plugin = command


def _check_name(name: str) -> None:
    from caraway.plugins.known import BUNDLES
    from caraway.plugins.manager import load_builtins

    if not _NAME.match(name):
        raise click.BadParameter(
            f"{name!r}: lower-case letters, digits and single dashes, a letter first",
            param_hint="NAME",
        )
    if any(name in {b.name, b.dist.removeprefix("caraway-")} for b in BUNDLES):
        raise click.BadParameter(
            f"caraway-{name} is a bundle of the project; choose another name", param_hint="NAME"
        )
    taken = {
        key
        for plugin in load_builtins()
        for entries in plugin.entries.values()
        for entry in entries
        for key in (plugin.name, *entry.found_by())
    }
    if name in taken:
        raise click.BadParameter(f"{name!r} is built in; choose another name", param_hint="NAME")


def render(name: str, kind: str) -> dict[str, str]:
    """The files of a new plugin: text by path.

    Args:
        name: lower-case with dashes, e.g. ``my-store``.
        kind: one of `KINDS`.
    """
    import json
    from importlib.resources import files

    # Generated from plugins/_template by core/tools/matrix.py.
    text = files("caraway.cli").joinpath("template.json").read_text(encoding="utf-8")
    template: dict[str, dict[str, str]] = json.loads(text)
    words = {
        "caraway_shelf": f"caraway_{name.replace('-', '_')}",
        "Shelf": "".join(word.capitalize() for word in name.split("-")),
        "shelf": name,
        "{{kind}}": kind,
    }
    pattern = re.compile("|".join(map(re.escape, words)))

    def fill(blank: str) -> str:
        return pattern.sub(lambda match: words[match[0]], blank)

    return {
        fill(path): fill(body)
        for part in ("common", kind)
        for path, body in sorted(template[part].items())
    }
