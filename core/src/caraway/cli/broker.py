"""What the commands that talk to the broker share."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from caraway.errors import ImproperlyConfigured

if TYPE_CHECKING:
    from caraway.cli.program import Program
    from caraway.interfaces import Capability, Transport
    from caraway.message import Message
    from caraway.settings import Settings


def transport_with(program: Program, capability: Capability, what: str) -> Transport:
    """The broker of the app or the settings, if it can do what is asked.

    Raises:
        ImproperlyConfigured: it can't.
    """
    transport: Transport = program.client().transport
    if capability not in transport.capabilities:
        from caraway.settings import redact

        raise ImproperlyConfigured(
            f"the broker {redact(program.client().conf.broker_url)} can't {what}",
            hint="`caraway plugins show` tells what each transport can do",
        )
    return transport


def shown_url(settings: Settings, name: str) -> str:
    """A URL setting without its password, the file that the default means, and its source."""
    text = str(settings.shown(name))
    if text in ("sqlite://", "sqlite:///"):
        text = f"sqlite file {os.path.join(settings.project.directory, '.caraway', 'caraway.db')}"
    return f"{text} ({settings.source_of(name)})"


def task_id_of(message: Message) -> str:
    """The task id in a message's headers, or an empty text."""
    return str(message.headers.get("id") or message.properties.get("correlation_id") or "")


def task_name_of(message: Message) -> str:
    """The task name in a message's headers, or an empty text."""
    return str(message.headers.get("task") or "")


def body_preview(message: Message, size: int = 200) -> str:
    """The beginning of the body, readable."""
    if message.content_encoding not in ("utf-8", "utf8", "us-ascii"):
        return f"{len(message.body)} bytes of {message.content_type}"
    text = message.body[: size * 4].decode("utf-8", "backslashreplace")
    return text if len(text) <= size else f"{text[:size]}... ({len(message.body)} bytes)"


def matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The names that a pattern (``*``, ``?``) matches; a plain name stands for itself."""
    known = list(names)
    chosen: dict[str, None] = {}
    for pattern in patterns:
        if any(mark in pattern for mark in "*?["):
            chosen.update(dict.fromkeys(fnmatch.filter(known, pattern)))
        else:
            chosen[pattern] = None
    return list(chosen)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is lost for good; ``--yes`` is the answer of scripts.

    Raises:
        click.exceptions.Exit: the answer was no, or nobody was there to ask.
    """
    if yes:
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        agreed = False
    if not agreed:
        click.echo("nothing was done (--yes doesn't ask)", err=True)
        raise click.exceptions.Exit(1)


def message_record(message: Message) -> dict[str, Any]:
    """A message for JSON output."""
    return {
        "id": task_id_of(message),
        "task": task_name_of(message),
        "headers": message.headers,
        "properties": message.properties,
        "content_type": message.content_type,
        "body": body_preview(message, 100_000),
    }
