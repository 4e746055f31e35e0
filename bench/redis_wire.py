"""One command of Redis's, without a client library.  Standard library only."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit


def evaluate(url: str, script: str) -> int:
    """The number that a script without keys returns.

    Raises:
        OSError: no answer.
        ValueError: it returned no number, or failed; has what it said.
    """
    parts = urlsplit(url)
    words = ("EVAL", script, "0")
    line = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        connection.sendall(line.encode())
        answer = connection.recv(4096).decode(errors="replace").strip()
    if not answer.startswith(":"):
        raise ValueError(answer)
    return int(answer[1:])
