"""What all suites share: how a subject is made, what it declares, how tests are run.

A suite is a plain class with ``test_*`` methods.  pytest runs a subclass of it as it
runs any test class, and `caraway.testing.conformance.run` runs it without pytest; so
nothing here imports pytest.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
import threading
import time
import unittest
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from caraway.interfaces.context import Capability, Context
from caraway.testing.clock import VirtualClock
from caraway.url import Url

T = TypeVar("T")
Test = TypeVar("Test", bound=Callable[[Any], None])


_STORES = ("transport", "backend", "schedule")
_LONGER = 4
"""How many times longer a unit is at the second try of a `timed` test."""


def skip(reason: str) -> Exception:
    """What to raise to skip a test: understood by pytest and by `run`."""
    return unittest.SkipTest(reason)


def needs(*capabilities: Capability) -> Callable[[Test], Test]:
    """Mark a test as being about extensions: it is skipped unless all are declared."""

    def mark(test: Test) -> Test:
        @functools.wraps(test)
        def checked(self: Suite) -> None:
            missing = [c.value for c in capabilities if c not in self.declared()]
            if missing and not self.probing:
                raise skip(f"needs {', '.join(missing)}, which isn't declared")
            test(self)

        checked.needs = frozenset(capabilities)  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return mark


def timed(test: Test) -> Test:
    """Mark a test as comparing what happens with times of a few units.

    Where time is real, a busy machine may need longer than that for what stands between, so
    that a message that came when it was due seems to have come early.  Then the test is run
    once more, from the start and with a longer unit; what an implementation does wrong, it
    does wrong again.
    """

    @functools.wraps(test)
    def run(self: Suite) -> None:
        before = set(vars(self))
        try:
            test(self)
        except AssertionError:
            if self.clock is not None or self.probing:
                raise
            self.teardown_method()
            for name in set(vars(self)) - before:
                delattr(self, name)
            self.setup_method()
            vars(self)["tick"] = _LONGER * self.tick
            test(self)

    return run  # type: ignore[return-value]


@contextmanager
def raises(*errors: type[BaseException]) -> Iterator[list[BaseException]]:
    """The block must raise one of these; the list then holds what it raised."""
    caught: list[BaseException] = []
    names = " or ".join(error.__name__ for error in errors)
    try:
        yield caught
    except errors as exc:
        caught.append(exc)
    except unittest.SkipTest:
        raise
    except Exception as exc:
        raise AssertionError(f"raised {type(exc).__name__} instead of {names}: {exc}") from exc
    if not caught:
        raise AssertionError(f"raised nothing instead of {names}")


class Running:
    """A function that runs in a thread of its own."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._value: Any = None
        self._error: BaseException | None = None
        self.ended = threading.Event()
        self.seconds = 0.0

        def run() -> None:
            started = time.monotonic()
            try:
                self._value = function(*args)
            except BaseException as exc:  # noqa: BLE001 - handed to whoever asks for the result
                self._error = exc
            self.seconds = time.monotonic() - started
            self.ended.set()

        # A daemon: an implementation that hangs must not hang the test run.
        threading.Thread(target=run, daemon=True, name="conformance").start()

    def result(self, timeout: float) -> Any:
        """What the function returned or raised; fails if it isn't done in time."""
        if not self.ended.wait(timeout):
            raise AssertionError(f"still not done after {timeout:g} s")
        if self._error is not None:
            raise self._error
        return self._value


class Suite:
    """Base of all suites.

    Attributes:
        factory: the implementation, as ``"package.module:Class"`` or itself.
        options: what the factory gets as options.
        virtual_clock: the implementation takes its time from its `Context`, so tests
            move a virtual clock.  False: tests wait, in units of ``tick``.
        tick: seconds that count as a while where time is real.
        patience: seconds after which something that should have happened, hasn't.
        entry_capabilities: as declared in the plugin's entry, to be compared.
    """

    kind: ClassVar[str] = ""
    factory: ClassVar[Any] = None
    options: ClassVar[Mapping[str, Any]] = {}
    virtual_clock: ClassVar[bool] = True
    tick: ClassVar[float] = 0.25
    patience: ClassVar[float] = 10.0
    entry_capabilities: ClassVar[frozenset[Capability] | None] = None
    main_thread: ClassVar[bool] = False
    """Tests must run in the main thread (with `run`, they have no time limit then)."""
    probing = False

    # -- what a subclass says ----------------------------------------------------------

    def url(self, tmp_path: Path) -> str:
        """The URL of a store that no other test uses; ``tmp_path`` is this test's
        empty directory.  Needed unless `make` is overridden."""
        raise NotImplementedError(f"{type(self).__name__} must say its url(), or override make()")

    def make(self, tmp_path: Path) -> Callable[[Context], Any]:
        """A function that opens a new connection to one store each time it is called."""
        url = Url.parse(self.url(tmp_path))
        factory = load(self.plain("factory"))
        return lambda context: factory(url, self.options, context)

    # -- what tests use ----------------------------------------------------------------

    def setup_method(self, method: object = None) -> None:  # noqa: ARG002 - pytest passes it
        """Called before each test."""
        self._cleanups: list[Callable[[], object]] = []
        self._directory: Path | None = None
        self._makers: dict[str, Callable[[Context], Any]] = {}
        self.clock: VirtualClock | None = VirtualClock(time.time()) if self.virtual_clock else None
        self.unique = uuid.uuid4().hex[:12]

    def teardown_method(self, method: object = None) -> None:  # noqa: ARG002 - pytest passes it
        """Called after each test: closes all that the test opened, last first."""
        errors = []
        while self._cleanups:
            try:
                self._cleanups.pop()()
            except Exception as exc:  # noqa: BLE001 - the rest is to be closed all the same
                errors.append(exc)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        if errors:
            raise errors[0]

    def plain(self, name: str) -> Any:
        """A class attribute as it was written: a function in it isn't made a method."""
        for cls in type(self).__mro__:
            if name in cls.__dict__:
                value = cls.__dict__[name]
                return value.__func__ if isinstance(value, staticmethod) else value
        raise AttributeError(name)

    @property
    def tmp_path(self) -> Path:
        """This test's directory."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="caraway-check-"))
        return self._directory

    def use_real_time(self) -> None:
        """From here on components get real clocks.  Called before anything is opened."""
        self.clock = None

    @property
    def context(self) -> Context:
        """What components are made with."""
        directory = str(self.tmp_path)
        if self.clock is not None:
            return self.clock.context(node="check@localhost", directory=directory)
        return Context(node="check@localhost", directory=directory)

    def open(self) -> Any:
        """A new connection to this test's store, closed at its end."""
        return self.open_by("make")

    def open_by(self, maker: str) -> Any:
        """As `open`, by the maker of this name."""
        make = self._makers.get(maker)
        if make is None:
            make = self._makers[maker] = getattr(self, maker)(self.tmp_path)
        subject = make(self.context)
        close = getattr(subject, "close", None)
        if close is not None:
            self._cleanups.append(close)
        return subject

    def declared(self) -> frozenset[Capability]:
        """What the implementation says it can do beyond its base duties."""
        found = getattr(load(self.plain("factory")), "capabilities", None)
        own_maker = self.kind in _STORES and type(self).make is not Suite.make
        if isinstance(found, frozenset) and not own_maker:
            return found
        # A connection of its own: the test may want others, with another clock.
        subject = self.make(self.tmp_path)(self.context)
        try:
            return frozenset(getattr(subject, "capabilities", ()))
        finally:
            if hasattr(subject, "close"):
                subject.close()

    @functools.cached_property
    def subject(self) -> Any:
        """The test's first connection."""
        return self.open()

    def now(self) -> float:
        """Seconds since the epoch, as the implementation sees them."""
        return time.time() if self.clock is None else self.clock()

    @property
    def unit(self) -> float:
        """Seconds that count as a while: 10 where the clock is virtual."""
        return self.tick if self.clock is None else 10.0

    def pass_time(self, units: float) -> None:
        """Let a number of `unit` pass."""
        if self.clock is None:
            time.sleep(units * self.tick)
        else:
            self.clock.advance(units * self.unit)

    def spawn(self, function: Callable[..., Any], *args: Any) -> Running:
        """Run in a thread."""
        return Running(function, args)

    def at_once(self, function: Callable[[int], T], count: int) -> list[T]:
        """Run ``function(0)`` to ``function(count - 1)`` in threads that begin together."""
        self.subject  # noqa: B018 - made here, since threads that come together would make several
        barrier = threading.Barrier(count)

        def run(index: int) -> T:
            barrier.wait(self.patience)
            return function(index)

        threads = [self.spawn(run, index) for index in range(count)]
        return [thread.result(self.patience * 3) for thread in threads]

    # -- what every implementation owes ------------------------------------------------

    def test_the_class_declares_what_its_entry_declares(self) -> None:
        """Capabilities are declared in the component's entry and on its class."""
        expected = self.entry_capabilities
        if expected is None:
            expected = _capabilities_by_entry(self.plain("factory"), self.kind)
        if expected is None:
            raise skip("no installed plugin has an entry with this factory")
        assert self.declared() == expected


def _capabilities_by_entry(factory: Any, kind: str) -> frozenset[Capability] | None:
    """What the entry with this factory declares; None if there is no such entry."""
    from caraway.plugins.registry import Registry

    for plugin in Registry.discover(lenient=True).plugins():
        for entry in plugin.entries.get(kind, ()):
            if getattr(entry, "factory", None) == factory:
                found = getattr(entry, "capabilities", None)
                return None if found is None else frozenset(found)
    return None


def load(target: Any) -> Any:
    """The object that ``"package.module:name"`` names; anything else is itself."""
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
