"""What a component's factory is given, and the words for what a component can do."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

if TYPE_CHECKING:
    import logging


class Capability(str, enum.Enum):
    """What an implementation can do beyond its base duties.

    Declared in the component's entry and on its class; the conformance kit holds
    both to the truth.
    """

    # transports
    DELAY = "delay"
    """Keeps a publication until it is due."""
    PRIORITY = "priority"
    """Serves 9 before 5 before 0; neighbours may share a place."""
    EXPIRY = "expiry"
    """Carries `Publication.expires` to the delivery."""
    BROADCAST = "broadcast"
    """Reaches every subscriber: remote control and events."""
    DEAD_LETTERS = "dead-letters"
    """Keeps rejected messages where they can be listed, replayed, dropped."""
    LEASE = "lease"
    """Owners are renewed and reclaimed; a late finisher is fenced off."""
    ADOPT = "adopt"
    """Deliveries of a dead owner can be handed to another owner."""
    REVOKE = "revoke"
    """Keeps revocations and marks deliveries with them."""
    INSPECT = "inspect"
    """Can find a message by its task id and list owners."""
    PERSISTENT = "persistent"
    """Survives the death of every process that uses it."""
    SHARED = "shared"
    """Can be used from several processes."""
    ATOMIC_COMMIT = "atomic-commit"
    """Commits results, follow-ups and settlements of one store as one."""
    # backends
    PUSH = "push"
    """`wait` is woken rather than polling."""
    TTL = "ttl"
    """Drops results by itself when their time is over."""
    GROUPS = "groups"
    """Saves groups, and counts the members of a join."""
    CHORDS = "chords"
    """Keeps the results of a chord's members until the last has ended."""
    REPLIES = "replies"
    """Sends results to the caller's own queue (`StoredResult.reply_to`): only the app
    that sent a task can read its result."""
    # pools
    PROCESSES = "processes"
    """Runs tasks in processes of their own: a hard limit ends just one task."""
    CONCURRENT = "concurrent"
    """Runs several tasks of one lane at a time."""
    # schedule stores
    LEADER = "leader"
    """Elects one active scheduler among many."""


class Context(Struct, frozen=True, kw_only=True):
    """What a factory may use of its surroundings.  Never the app.

    Attributes:
        settings: the app's settings by name, read-only.
        clock: seconds since the epoch; tests move it.
        monotonic: seconds of a clock that never jumps; tests move it.
        logger: parent of the component's loggers.
        node: the name of this client or worker node.
        oid: names this app in this process; what its messages carry as ``reply_to``.
        directory: the project's directory (where ``caraway.toml`` was found, else the
            working directory): relative file URLs start here.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    node: str = ""
    oid: str = ""
    directory: str = "."

    @property
    def logger(self) -> logging.Logger:
        import logging

        return logging.getLogger("caraway")
