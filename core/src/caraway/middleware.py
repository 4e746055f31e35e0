"""Middleware: code around each run, or around each publish.

A middleware is an object with any of the methods of `Middleware`, or a plain function
``(request, call_next)``, ``async def`` for async tasks.  A chain is compiled once; an
empty one costs nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from caraway.errors import ImproperlyConfigured

if TYPE_CHECKING:
    from caraway.message import Publication
    from caraway.request import Request

    Next = Callable[[Request], Any]
    AsyncNext = Callable[[Request], Awaitable[Any]]
    PublishNext = Callable[[Sequence[Publication]], None]


class Middleware:
    """Base class to start from; override what is needed.

    What isn't overridden isn't in the chain, and costs nothing.
    """

    def run(self, request: Request, call_next: Next) -> Any:
        """Around a run of a sync task: call ``call_next(request)``, return its value."""
        return call_next(request)

    async def arun(self, request: Request, call_next: AsyncNext) -> Any:
        """Around a run of an ``async def`` task."""
        return await call_next(request)

    def publish(self, publications: Sequence[Publication], call_next: PublishNext) -> None:
        """Around the publishing of a batch: pass it, or another one, to ``call_next``.

        It gets what one call publishes; calls of several threads are joined after it.
        """
        call_next(publications)


def compile_chain(
    chain: Sequence[Any], fun: Callable[..., Any], *, is_async: bool
) -> Callable[[Request], Any] | None:
    """Compile the chain around one task's function.

    Args:
        chain: middleware, outermost first.
        fun: the task's function.
        is_async: it makes coroutines.

    Returns:
        A function of the request; None if no middleware has anything to do: then call
        ``fun`` itself.

    Raises:
        ImproperlyConfigured: a middleware can't wrap tasks of this colour.
    """
    links = [link for link in (_run_link(each, is_async=is_async) for each in chain) if link]
    if not links:
        return None

    def end(request: Request) -> Any:
        return fun(*request.args, **request.kwargs)

    call: Callable[..., Any] = end
    for link in reversed(links):
        call = _bind(link, call)
    return call


def compile_publish(chain: Sequence[Any], publish: PublishNext) -> PublishNext:
    """Compile the chain around publishing; ``publish`` itself if nobody overrides it."""
    call = publish
    for each in reversed(chain):
        link = _overridden(each, "publish")
        if link is not None:
            call = _bind(link, call)
    return call


def wraps_runs(chain: Sequence[Any], *, is_async: bool) -> bool:
    """True if any middleware of the chain has something to do around runs."""
    return any(_run_link(each, is_async=is_async) is not None for each in chain)


def _bind(link: Callable[..., Any], call_next: Callable[..., Any]) -> Callable[..., Any]:
    def step(value: Any) -> Any:
        return link(value, call_next)

    return step


def _run_link(each: Any, *, is_async: bool) -> Callable[..., Any] | None:
    if _is_object(each):
        wanted, other = ("arun", "run") if is_async else ("run", "arun")
        link = _overridden(each, wanted)
        if link is None and _overridden(each, other) is not None:
            raise ImproperlyConfigured(
                f"middleware {each!r} has {other}() and no {wanted}()",
                hint=f"add {wanted}() to it: this app has tasks that need it",
            )
        return link
    import inspect

    if inspect.iscoroutinefunction(each) != is_async:
        raise ImproperlyConfigured(
            f"middleware {each!r} is {'a plain' if is_async else 'an async'} function, "
            f"and this app has {'async' if is_async else 'plain'} tasks",
            hint="make it a class with both run() and arun(); see caraway.middleware.Middleware",
        )
    link_function: Callable[..., Any] = each
    return link_function


def _is_object(each: Any) -> bool:
    return any(hasattr(each, name) for name in ("run", "arun", "publish"))


def _overridden(each: Any, name: str) -> Callable[..., Any] | None:
    method: Callable[..., Any] | None = getattr(each, name, None)
    if method is None or getattr(method, "__func__", None) is getattr(Middleware, name):
        return None
    return method
