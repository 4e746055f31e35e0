from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from caraway.cli.loading import find_app
from caraway.errors import ImproperlyConfigured

APP = "from caraway import Caraway\n"


@pytest.fixture
def module(
    project: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., str]:
    """Write a module under a name no other test uses; give that name back."""
    monkeypatch.syspath_prepend(str(project))
    top = "m_" + "".join(c if c.isalnum() else "_" for c in request.node.name)[:60]

    def write(text: str, path: str = "") -> str:
        target = project / top / path if path else project / f"{top}.py"
        if path:
            target.parent.mkdir(parents=True, exist_ok=True)
            init = project / top / "__init__.py"
            if not init.exists():
                init.write_text("")
        target.write_text(text)
        return top

    return write


@pytest.mark.parametrize("attribute", ["app", "celery", "caraway", "queue_of_mine"])
def test_a_module_gives_its_app(module: Callable[..., str], attribute: str) -> None:
    name = module(f"{APP}{attribute} = Caraway('one')\n")
    assert find_app(name).main == "one"
    assert find_app(f"{name}:{attribute}").main == "one"
    assert find_app(f"{name}.{attribute}").main == "one"


@pytest.mark.parametrize("inner", ["caraway.py", "celery.py", "app.py", "tasks.py"])
def test_a_package_gives_the_app_of_its_module(module: Callable[..., str], inner: str) -> None:
    name = module(f"{APP}app = Caraway('inner')\n", inner)
    assert find_app(name).main == "inner"


def test_a_function_may_make_the_app(module: Callable[..., str]) -> None:
    name = module(f"{APP}def create():\n    return Caraway('made')\n")
    assert find_app(f"{name}:create()").main == "made"
    with pytest.raises(ImproperlyConfigured, match=r"write -A '.*:create\(\)'"):
        find_app(f"{name}:create")


def test_one_app_under_two_names_is_one_app(module: Callable[..., str]) -> None:
    name = module(f"{APP}a = b = Caraway('one')\n")
    assert find_app(name).main == "one"


@pytest.mark.parametrize(
    ("text", "wanted", "message"),
    [
        (f"{APP}a = Caraway('a')\nb = Caraway('b')\n", "{}", r"has 2 apps: a, b[\s\S]*-A .*:a"),
        ("x = 1\n", "{}", r"no app found in [\s\S]*app = Caraway"),
        ("app = 1\n", "{}", r"app is not a Caraway app but a builtins.int"),
        (f"{APP}shop = Caraway()\n", "{}:app", r"has no 'app'[\s\S]*:shop"),
        ("", "{}.nothing", r"no module '.*\.nothing'"),
        ("", "{}:", r"is not the name of an app"),
        ("import no_such_thing\n", "{}", r"No module named 'no_such_thing'[\s\S]*install"),
        ("1/0\n", "{}", r"can't be imported: ZeroDivisionError"),
        ("raise SystemExit(3)\n", "{}", r"can't be imported: SystemExit"),
        ("def f(:\n", "{}", r"can't be imported: SyntaxError"),
    ],
)
def test_each_failure_has_its_own_words(
    module: Callable[..., str], text: str, wanted: str, message: str
) -> None:
    name = module(text)
    with pytest.raises(ImproperlyConfigured, match=message):
        find_app(wanted.format(name))


def test_a_broken_module_of_a_package_is_not_passed_over(module: Callable[..., str]) -> None:
    name = module("import no_such_thing\n", "celery.py")
    with pytest.raises(ImproperlyConfigured, match="no_such_thing"):
        find_app(name)


@pytest.mark.parametrize("name", ["shop.py", "./shop.py", "shop/tasks.py"])
def test_a_file_name_is_answered_with_the_module_name(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"try -A shop(\.tasks)?$"):
        find_app(name)


def test_a_module_that_is_not_there_says_where_it_was_looked_for(project: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="--workdir") as caught:
        find_app("no_such_module_anywhere")
    assert sys.path[0] in str(caught.value) or str(project) in str(caught.value)


def test_an_app_of_celery_is_recognised(
    module: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module("class Celery: pass\nCelery.__module__ = 'celery.app.base'\napp = Celery()\n")
    with pytest.raises(ImproperlyConfigured, match="from caraway import Caraway"):
        find_app(name)
