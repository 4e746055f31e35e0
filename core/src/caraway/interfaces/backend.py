"""The result store's contract.  Blocking, batched, thread-safe, not used across a fork.

Errors: `BackendError` and its kin; never a driver's own exception.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from caraway.interfaces.context import Capability
from caraway.message import ChordPart, ChordStart, StoredResult


class Backend(ABC):
    """A connection to a result store."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    @abstractmethod
    def store(self, results: Sequence[StoredResult]) -> None:
        """Keep these states, all or none where the store can.

        A final state (`states.READY_STATES`) never gives way to another one, be it
        later in time, in this batch, or from another process.  Repeating is safe.
        """

    @abstractmethod
    def get(self, task_ids: Sequence[str]) -> Mapping[str, StoredResult]:
        """What is stored of these tasks; unknown or expired ones are left out."""

    @abstractmethod
    def wait(self, task_ids: Sequence[str], timeout: float) -> Mapping[str, StoredResult]:
        """Wait until at least one of these is final; return all that are.

        Returns at once if one is already.  Returns an empty mapping when ``timeout``
        seconds have passed.  A result stored between looking and waiting is not missed.
        Unknown ids wait: their results may come.
        """

    @abstractmethod
    def forget(self, task_ids: Sequence[str]) -> int:
        """Drop what is stored of these; return how many were."""

    @abstractmethod
    def ping(self) -> None:
        """One round trip that fails where storing would."""

    @abstractmethod
    def close(self) -> None:
        """Free what is held here.  Idempotent."""

    def cleanup(self) -> int:
        """Drop expired results where the store doesn't by itself; return how many."""
        return 0

    # -- REPLIES -----------------------------------------------------------------------

    def expect(self) -> str:
        """Make ready for results of this app's tasks; what messages carry as ``reply_to``.

        Called before the first message whose result is wanted is published: a result that
        comes once this has returned is not missed.
        """
        raise NotImplementedError

    # -- GROUPS ------------------------------------------------------------------------

    def save_group(self, group_id: str, payload: bytes, ttl: float) -> None:
        """Keep a group's serialized list of members."""
        raise NotImplementedError

    def restore_group(self, group_id: str) -> bytes | None:
        """The payload saved for this group, None if unknown or expired."""
        raise NotImplementedError

    def delete_group(self, group_id: str) -> None:
        """Drop a group, and its join.  Idempotent."""
        raise NotImplementedError

    def join(self, group_id: str, member: str, size: int, ttl: float) -> bool:
        """Count a member of a group as ended; True for exactly one caller, once.

        Members are counted once however often they are reported.  The call that
        brings the count to ``size`` gets True; if that member reports again (its
        process died before it used the answer), it gets True again, nobody else does.
        """
        raise NotImplementedError

    # -- CHORDS ------------------------------------------------------------------------

    def chord_start(self, starts: Sequence[ChordStart]) -> None:
        """The headers of these chords are about to be published: keep their sizes.

        For backends that others count in, too: our own members' ends carry the size.
        Idempotent.
        """
        return

    def chord_parts(self, parts: Sequence[ChordPart]) -> Sequence[Sequence[bytes] | None]:
        """Keep the ends of chord members and count them; one answer for each part.

        A member is counted once however often it is reported, with what it reported
        first.  The part that completes its chord is answered with the payloads of all
        members in order of their index, the others with None.  If that member reports
        again (its process died before the chord's body was sent), it is answered with
        the payloads again, nobody else is; until `chord_sent`.
        """
        raise NotImplementedError

    def chord_sent(self, group_ids: Sequence[str]) -> None:
        """The bodies of these chords were published: drop what was kept of them.

        Members that report later are answered with None.  Idempotent.
        """
        raise NotImplementedError
