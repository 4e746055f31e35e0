"""One shape for all task messages: the headers of protocol 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from caraway.errors import InvalidTaskError
from caraway.message import Message
from caraway.protocol import v1


def normalize(message: Message, loads: Callable[[Message], Any]) -> Message:
    """The message with headers of protocol 2, whichever protocol it came in.

    A message that has them is returned as it is.

    Args:
        message: as fetched.
        loads: reads a message's content; see `caraway.protocol.body.content_loader`.

    Raises:
        InvalidTaskError: not a task message.
        DecodeError: its body had to be read for the headers, and can't be.
        SecurityError: its content type isn't accepted.
    """
    headers = message.headers
    if "task" in headers:
        if type(headers["task"]) is str and type(headers.get("id")) is str:
            return message
        raise InvalidTaskError("headers 'task' and 'id' must be text")
    return replace(message, headers={**headers, **v1.headers_of(loads(message))})
