"""Running a suite without pytest, and the report that a user can print."""

from __future__ import annotations

import threading
import time
import traceback
import unittest
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct, json

from caraway.testing.conformance.suite import Suite

if TYPE_CHECKING:
    from caraway.interfaces.context import Capability

Result = Literal["passed", "failed", "skipped", "undeclared"]


class Check(Struct, frozen=True):
    """What became of one test.

    Attributes:
        name: the test's name, ``test_`` taken off.
        result: ``undeclared``: passed, though what it needs isn't declared.
        needs: capabilities that the test is about; empty for base duties.
        detail: why it failed or was skipped.
        seconds: how long it took.
    """

    name: str
    result: Result
    needs: tuple[str, ...] = ()
    detail: str = ""
    seconds: float = 0.0

    @property
    def sentence(self) -> str:
        """The name as words."""
        return self.name.replace("_", " ")


class Report(Struct, frozen=True):
    """What a suite found out about an implementation.

    Attributes:
        kind: ``transport``, ``backend``, ``serializer``, ``compressor``, ``pool`` or
            ``schedule``.
        subject: what was tested.
        declared: the capabilities that it declares.
        checks: one for each test.
    """

    kind: str
    subject: str
    declared: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """No test failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        """The failed tests."""
        return tuple(check for check in self.checks if check.result == "failed")

    @property
    def undeclared(self) -> tuple[str, ...]:
        """Capabilities that aren't declared and whose tests, those that need nothing
        else that isn't declared, all passed."""
        alone: dict[str, list[Result]] = {}
        for check in self.checks:
            missing = set(check.needs) - set(self.declared)
            if len(missing) == 1:
                alone.setdefault(missing.pop(), []).append(check.result)
        works = [name for name, results in alone.items() if set(results) == {"undeclared"}]
        return tuple(sorted(works))

    def render(self, *, verbose: bool = False) -> str:
        """The report as text.

        Args:
            verbose: list also the tests that passed.
        """
        counts = dict.fromkeys(("passed", "failed", "skipped", "undeclared"), 0)
        for check in self.checks:
            counts[check.result] += 1
        lines = [f"{self.subject}: {self.kind}", ""]
        lines.append(f"  declares   {', '.join(self.declared) or 'no extensions'}")
        told = [f"{counts['passed']} passed", f"{counts['failed']} failed"]
        told.append(f"{counts['skipped'] + counts['undeclared']} skipped")
        seconds = sum(check.seconds for check in self.checks)
        lines += [f"  tests      {', '.join(told)} in {seconds:.1f} s", ""]
        for check in self.checks:
            if check.result == "failed":
                claim = f"  [claims {', '.join(check.needs)}]" if check.needs else "  [base duty]"
                lines.append(f"  FAILED   {check.sentence}{claim}")
                lines += [f"           {line}" for line in check.detail.splitlines()]
            elif check.result == "skipped":
                lines.append(f"  skipped  {check.sentence}: {check.detail}")
            elif verbose:
                lines.append(f"  {check.result:9}{check.sentence}")
        if self.undeclared:
            lines.append(f"  It can also do what it doesn't declare: {', '.join(self.undeclared)}.")
        verdict = "It keeps the contract." if self.ok else "It does NOT keep the contract."
        lines += ["", f"  {verdict}"]
        return "\n".join(lines)

    def to_json(self) -> str:
        """The report for programs."""
        fields = {
            "kind": self.kind,
            "subject": self.subject,
            "ok": self.ok,
            "declared": self.declared,
            "undeclared": self.undeclared,
            "checks": self.checks,
        }
        return json.format(json.encode(fields), indent=2).decode()


def suite_of(kind: str) -> type[Suite]:
    """The suite for a kind of component.

    Raises:
        ValueError: there is none of this kind.
    """
    from caraway.testing import conformance

    name = f"{kind.capitalize()}Suite"
    if name not in conformance.__all__:
        known = [n.removesuffix("Suite").lower() for n in conformance.__all__ if "Suite" in n]
        raise ValueError(f"no suite of kind {kind!r}; there are {', '.join(known)}")
    suite: type[Suite] = getattr(conformance, name)
    return suite


def run(
    kind: str,
    factory: Any = None,
    url: str | Callable[[Path], str] | None = None,
    *,
    suite: type[Suite] | None = None,
    only: Callable[[str], bool] | None = None,
    probe: bool = True,
    limit: float = 120.0,
    on_check: Callable[[Check], None] | None = None,
    **attributes: Any,
) -> Report:
    """Run a suite over an implementation.

    Its tests use names of their own and clean up, so they do no harm to a store in use;
    those of schedule stores need one that no beat runs on.

    Args:
        kind: ``transport``, ``backend``, ``serializer``, ``compressor``, ``pool`` or
            ``schedule``.
        factory: ``"package.module:Class"``, or the class or a function like it.
        url: of the store; a function is given the test's directory.
        suite: used instead of the one for ``kind``, whole with its attributes.
        only: takes a test's name; False leaves it out.
        probe: try also extensions that aren't declared, to report those that work.
        limit: seconds for one test; what takes longer has failed.
        on_check: called after each test, for progress displays.
        **attributes: of the suite, e.g. ``options``, ``backend_factory``,
            ``virtual_clock``, ``tick``, ``patience``.
    """
    base = suite or suite_of(kind)
    members: dict[str, Any] = {n: _as_attribute(v) for n, v in attributes.items()}
    if factory is not None:
        members["factory"] = _as_attribute(factory)
    if url is not None:
        text = url
        members["url"] = lambda _self, path: text(path) if callable(text) else text
    cls: type[Suite] = type(base.__name__, (base,), members)
    declared, subject = _describe(cls)
    checks = []
    for name in test_names(cls):
        if only is not None and not only(name):
            continue
        check = _check(cls, name, limit=limit, probe=probe)
        checks.append(check)
        if on_check is not None:
            on_check(check)
    return Report(base.kind or kind, subject, declared, tuple(checks))


def test_names(cls: type[Suite]) -> list[str]:
    """The tests of a suite, in the order they are written in."""
    found: dict[str, None] = {}
    for base in (*(c for c in cls.__mro__ if c is not cls), cls):
        found.update(dict.fromkeys(name for name in vars(base) if name.startswith("test_")))
    return [name for name in found if getattr(cls, name, None) is not None]


def _as_attribute(value: Any) -> Any:
    is_function = callable(value) and not isinstance(value, type)
    return staticmethod(value) if is_function else value


def _describe(cls: type[Suite]) -> tuple[tuple[str, ...], str]:
    factory = cls.__dict__.get("factory", cls.factory)
    factory = factory.__func__ if isinstance(factory, staticmethod) else factory
    name = factory if isinstance(factory, str) else getattr(factory, "__qualname__", str(factory))
    case = cls()
    case.setup_method()
    try:
        declared = tuple(sorted(capability.value for capability in case.declared()))
    finally:
        case.teardown_method()
    return declared, name if factory is not None else cls.__name__


def _check(cls: type[Suite], name: str, *, limit: float, probe: bool) -> Check:
    needs: frozenset[Capability] = getattr(getattr(cls, name), "needs", frozenset())
    wanted = tuple(sorted(capability.value for capability in needs))
    outcome: list[tuple[Result, str]] = []

    def perform(*, probing: bool) -> tuple[Result, str]:
        case = cls()
        case.probing = probing
        case.setup_method()
        try:
            getattr(case, name)()
        except unittest.SkipTest as exc:
            return "skipped", str(exc)
        except BaseException as exc:  # noqa: BLE001 - whatever an implementation raises
            return "failed", _explain(exc)
        finally:
            try:
                case.teardown_method()
            except Exception as exc:  # noqa: BLE001 - closing failed: that is a finding
                outcome.append(("failed", f"at the end: {_explain(exc)}"))
        return "passed", ""

    def work() -> None:
        result, detail = perform(probing=False)
        if result == "skipped" and probe and needs and detail.startswith("needs "):
            tried, _ = perform(probing=True)
            outcome.clear()
            if tried == "passed":
                result = "undeclared"
        outcome.append((result, detail))

    started = time.monotonic()
    if cls.main_thread:
        work()
    else:
        thread = threading.Thread(target=work, daemon=True, name=name)
        thread.start()
        thread.join(limit)
    seconds = time.monotonic() - started
    if not cls.main_thread and thread.is_alive():
        outcome.append(("failed", f"still running after {limit:g} s"))
    result, detail = next((o for o in outcome if o[0] == "failed"), outcome[-1])
    return Check(name.removeprefix("test_"), result, wanted, detail, round(seconds, 4))


def _explain(exc: BaseException) -> str:
    """What was expected and isn't so, with the line of the test."""
    frames: Sequence[traceback.FrameSummary] = traceback.extract_tb(exc.__traceback__)
    ours = [frame for frame in frames if frame.name.startswith("test_")] or list(frames)
    text = f"{type(exc).__name__}: {exc}".rstrip(": ")
    if ours:
        frame = ours[-1]
        text += f"\nat {Path(frame.filename).name}:{frame.lineno}: {frame.line}"
    return text
