"""Middleware chains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from caraway.errors import ImproperlyConfigured
from caraway.message import Message, Publication
from caraway.middleware import Middleware, compile_chain, compile_publish
from caraway.request import Request


def trace(name: str, log: list[str]) -> Callable[..., Any]:
    def around(request: Any, call_next: Any) -> Any:
        log.append(f"{name} in")
        value = call_next(request)
        log.append(f"{name} out")
        return value

    return around


class Doubling(Middleware):
    def run(self, request: Request, call_next: Any) -> Any:
        return 2 * call_next(request)

    async def arun(self, request: Request, call_next: Any) -> Any:
        return 2 * await call_next(request)


class OnlyPublish(Middleware):
    def publish(self, publications: Sequence[Publication], call_next: Any) -> None:
        call_next([*publications, *publications])


def add(x: int, y: int = 0) -> int:
    return x + y


async def async_add(x: int) -> int:
    return x + 1


def test_the_first_is_outermost() -> None:
    log: list[str] = []

    call = compile_chain([trace("a", log), trace("b", log)], add, is_async=False)

    assert call is not None
    assert call(Request({}, (1,), {"y": 2})) == 3
    assert log == ["a in", "b in", "b out", "a out"]


def test_a_chain_that_does_nothing_is_none() -> None:
    assert compile_chain([], add, is_async=False) is None
    assert compile_chain([Middleware(), OnlyPublish()], add, is_async=False) is None


def test_one_object_wraps_both_colours() -> None:
    plain = compile_chain([Doubling()], add, is_async=False)
    coloured = compile_chain([Doubling()], async_add, is_async=True)

    assert plain is not None
    assert coloured is not None
    assert plain(Request({}, (2,))) == 4
    assert asyncio.run(coloured(Request({}, (2,)))) == 6


def test_a_middleware_may_answer_itself_or_change_the_request() -> None:
    def change(request: Any, call_next: Any) -> Any:
        request.args = (10,)
        return call_next(request)

    answer = compile_chain([lambda request, call_next: "no"], add, is_async=False)
    changed = compile_chain([change], add, is_async=False)

    assert answer is not None
    assert changed is not None
    assert answer(Request({}, (1,))) == "no"
    assert changed(Request({}, (1,))) == 10


def test_a_middleware_of_one_colour_cannot_wrap_the_other() -> None:
    class Plain:
        def run(self, request: Any, call_next: Any) -> Any:
            return call_next(request)

    async def coloured(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    with pytest.raises(ImproperlyConfigured, match="arun"):
        compile_chain([Plain()], async_add, is_async=True)
    with pytest.raises(ImproperlyConfigured):
        compile_chain([trace("a", [])], async_add, is_async=True)
    with pytest.raises(ImproperlyConfigured):
        compile_chain([coloured], add, is_async=False)


def test_publishing_has_a_chain_of_its_own() -> None:
    sent: list[Publication] = []

    def publish(publications: Sequence[Publication]) -> None:
        sent.extend(publications)

    assert compile_publish([Doubling()], publish) is publish
    compile_publish([OnlyPublish(), Doubling()], publish)([Publication(Message(b""), "q")])

    assert len(sent) == 2
