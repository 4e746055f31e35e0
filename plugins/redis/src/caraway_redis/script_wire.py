"""The connection over which one owner's scripts run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from caraway_redis.faults import GONE, said, translate
from caraway_redis.wires import Script, Wire, is_unknown_script, pack

if TYPE_CHECKING:
    from caraway_redis.connection import Link

_PATIENCE = 5.0
"""Seconds for an answer; after it the connection is taken for dead, and what the answer
may have carried is asked for again."""


class ScriptWire:
    """Opened with the first script, and anew after a failure or a fork.

    Args:
        link: makes the connection.
    """

    def __init__(self, link: Link) -> None:
        self.wire: Wire | None = None
        self._link = link
        self._pid = os.getpid()
        self._sent: tuple[Script, tuple[Any, ...]] | None = None

    def send(self, script: Script, command: tuple[Any, ...], before: Sequence[bytes] = ()) -> None:
        """Have a script run.

        Args:
            script: which.
            command: number of its keys, keys, arguments.
            before: packed commands that go ahead of it; each is answered for itself.

        Raises:
            OperationalError: it can't be sent.
        """
        wire = self.wire
        if wire is None or not self.mine():
            self._link.check()
            wire = self.wire = self._link.wire()
            self._pid = os.getpid()
        self._sent = script, command
        packed = pack("EVALSHA", script.sha, *command)
        wire.send(b"".join((*before, packed)) if before else packed, _PATIENCE)

    def read(self) -> Any:
        """The next answer; what the server says against a command is returned, not raised.

        Raises:
            OperationalError: none came.
        """
        wire = self.wire
        assert wire is not None
        return wire.read(_PATIENCE)

    def answer(self) -> Any:
        """The answer of the script that was sent last; if the server has forgotten the
        script, it is sent again, whole.

        Raises:
            OperationalError: none came, or an error.
        """
        answer = self.read()
        if is_unknown_script(answer):
            wire = self.wire
            assert wire is not None
            assert self._sent is not None
            script, command = self._sent
            wire.send(pack("EVAL", script.source, *command), _PATIENCE)
            answer = self.read()
        return self.checked(answer)

    def checked(self, answer: Any) -> Any:
        """An answer that is no error.

        Raises:
            OperationalError: it is one.
        """
        if isinstance(answer, Exception):
            if said(answer).startswith(GONE):
                self.drop()  # the next one leads to where the master is now
            raise translate(answer, self._link.place) from answer
        return answer

    def mine(self) -> bool:
        """False in a process that was forked off since it was opened."""
        return self._pid == os.getpid()

    def drop(self) -> None:
        """Close the connection; whatever is still on its way reaches nobody."""
        if self.wire is not None:
            self.wire.close()
