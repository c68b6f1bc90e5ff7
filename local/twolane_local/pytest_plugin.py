"""The pytest plugin: the fixture ``twolane``, a whole stack in one process and in virtual time, and
``twolane_live``, the same on real parts.

It costs nothing where it is not asked for: pytest loads this module in every session of an
environment that has twolane, so that nothing is imported here before a test wants the fixture.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import logging
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from twolane_local.testing.processes.live import Live
    from twolane_local.testing.project import Project
    from twolane_local.testing.stack import Twolane
    from twolane_local.testing.stale_imports import Suite

_stack: pytest.StashKey[Twolane] = pytest.StashKey()
_live: pytest.StashKey[Live] = pytest.StashKey()
_own_modules: pytest.StashKey[tuple[ModuleType, ...]] = pytest.StashKey()
_variables: pytest.StashKey[dict[str, tuple[str, str | None]]] = pytest.StashKey()
_prepared: pytest.StashKey[bool] = pytest.StashKey()

_MARKER = (
    "twolane(*, template, parameters, start, seed, environments): the stack of a test; `template` "
    "and `parameters` instead of the configuration's, `start` as the clock's first time, "
    "`environments` as the most that a function may have at once"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("twolane")
    group.addoption(
        "--twolane-seed",
        type=int,
        default=None,
        metavar="NUMBER",
        help="the seed of every test's ids, jitter and order (default: one made of its name)",
    )
    parser.addini(
        "twolane_template",
        "the SAM template of the fixture `twolane`; where it is set, the functions' environment "
        "variables are there before tests are collected (default: the one that `twolane up` takes)",
        default="",
    )
    parser.addini(
        "twolane_parameters", "the template's parameters, one NAME=VALUE a line", type="linelist"
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Before ``conftest`` modules and other plugins (pytest-django's) import the application."""
    _prepare(early_config)
    yield


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    _prepare(config)  # if a conftest has loaded this plugin


def _prepare(config: pytest.Config) -> None:
    if not config.getini("twolane_template") or _prepared in config.stash:
        return
    config.stash[_prepared] = True
    from twolane_local.errors import LocalError
    from twolane_local.testing.project import prepare

    try:
        prepare(_of_configuration(config))
    except LocalError as error:
        raise pytest.UsageError(f"twolane_template: {error}") from error


def pytest_unconfigure() -> None:
    import sys

    if (code := sys.modules.get("twolane_local.testing.application_code")) is not None:
        code.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "twolane" in getattr(item, "fixturenames", ()):
            # Celery's Redis backend calls what redis-py 8 deprecates.
            setex = "ignore:Call to deprecated setex:DeprecationWarning"
            item.add_marker(pytest.mark.filterwarnings(setex))


@pytest.fixture
def twolane_project(request: pytest.FixtureRequest) -> Project:
    """What the stack is made from; override it, say with ``project.of_handlers(…)``."""
    marker = _marked(request)
    return _of_configuration(
        request.config, marker.get("template"), marker.get("parameters"), request.path
    )


@pytest.fixture
def twolane(request: pytest.FixtureRequest, twolane_project: Project) -> Iterator[Twolane]:
    """The emulated stack: in this process, in virtual time, with moto's mocks for all else of AWS.

    A failing test shows its journal.
    """
    from twolane_local.clock.virtual import NEW_YEAR
    from twolane_local.testing.stack import Twolane
    from twolane_local.testing.world import seconds_of

    marker = _marked(request)
    before = {name: os.environ.get(name) for name in twolane_project.variables}
    request.node.stash[_variables] = {
        name: (value, before[name]) for name, value in twolane_project.variables.items()
    }
    with Twolane(
        twolane_project,
        seed=_seed(request, marker),
        start=seconds_of(marker.get("start", NEW_YEAR)),
        suite=_suite(request),
        environments=marker.get("environments", 1),
    ) as stack:
        request.node.stash[_stack] = stack
        with _without_journaled_lines(request.config):
            yield stack
        del request.node.stash[_stack]


@pytest.fixture
def twolane_live(request: pytest.FixtureRequest) -> Iterator[Live]:
    """The same stack on real parts: isolated execution environments, a ``redis-server``, real time.

    A failing test shows its journal.
    """
    from twolane_local.testing.processes.live import Live

    marker = _marked(request)
    path, parameters = _template(
        request.config, marker.get("template"), marker.get("parameters"), request.path
    )
    with Live(path, parameters) as live:
        request.node.stash[_live] = live
        yield live
        del request.node.stash[_live]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    yield
    # A ``monkeypatch`` that was there before the stack puts back what it has found in it.
    for name, (ours, before) in item.stash.get(_variables, {}).items():
        if os.environ.get(name) == ours and ours != before:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    stack = item.stash.get(_stack, None)
    if stack is not None and report.failed and call.when == "call":
        title = f"twolane journal (--twolane-seed={stack.seed})"
        report.sections.append((title, stack.journal.story() or "nothing happened"))
    live = item.stash.get(_live, None)
    if live is not None and report.failed and call.when == "call":
        report.sections.append(("twolane journal", live.journal.story() or "nothing happened"))
    return report


@contextmanager
def _without_journaled_lines(config: pytest.Config) -> Iterator[None]:
    """What the journal tells needs not be told by "Captured log call" too."""
    from twolane_local.testing.virtual_environment import is_journaled

    handler = getattr(config.pluginmanager.get_plugin("logging-plugin"), "report_handler", None)
    if handler is None:
        yield
        return

    def wanted(record: logging.LogRecord) -> bool:
        return not is_journaled(record)

    handler.addFilter(wanted)
    try:
        yield
    finally:
        handler.removeFilter(wanted)


def _marked(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The arguments of the markers, the closest one's above those of its class and module."""
    found: dict[str, Any] = {}
    for marker in request.node.iter_markers("twolane"):
        if marker.args:
            raise pytest.UsageError("@pytest.mark.twolane takes arguments by name only")
        found = {**marker.kwargs, **found}
    return found


def _seed(request: pytest.FixtureRequest, marker: dict[str, Any]) -> int:
    given = request.config.getoption("--twolane-seed")
    if given is not None:
        return int(given)
    if "seed" in marker:
        return int(marker["seed"])
    from zlib import crc32

    return crc32(request.node.nodeid.encode())


def _suite(request: pytest.FixtureRequest) -> Suite:
    """What pytest has imported, and what runs in this test."""
    from inspect import unwrap

    from twolane_local.testing.stale_imports import Suite, functions_of

    session, item = request.session, request.node
    if _own_modules not in session.stash:
        modules = {id(each): each for each in request.config.pluginmanager.get_plugins()}
        for each in session.items:
            if (collected := each.getparent(pytest.Module)) is not None:
                modules[id(collected.obj)] = collected.obj
        own = tuple(each for each in modules.values() if isinstance(each, ModuleType))
        session.stash[_own_modules] = own
    code = {item.name: getattr(request.function, "__func__", request.function)}
    if request.cls is not None:
        for kind in request.cls.__mro__:
            code |= {f"{kind.__name__}.{each.__name__}": each for each in functions_of(kind)}
    # pytest has no other way to the fixtures of a test.
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    for name, definitions in known.items():
        for each in definitions:
            code[f"the fixture {name!r}"] = getattr(each.func, "__func__", each.func)
    code = {name: unwrap(each) for name, each in code.items()}
    values = {f"the parameter {n!r}": v for n, v in _parameters(item).items()}
    values |= {f"the fixture {n!r}": v for n, v in getattr(item, "funcargs", {}).items()}
    return Suite(
        session.stash[_own_modules],
        {name: each for name, each in code.items() if isinstance(each, FunctionType)},
        values,
    )


def _parameters(item: pytest.Item) -> dict[str, object]:
    call = getattr(item, "callspec", None)
    return dict(call.params) if call is not None else {}


def _of_configuration(
    config: pytest.Config,
    template: str | None = None,
    parameters: dict[str, str] | None = None,
    test: Path | None = None,
) -> Project:
    from twolane_local.testing.project import of_template

    return of_template(*_template(config, template, parameters, test))


def _template(
    config: pytest.Config,
    template: str | None,
    parameters: dict[str, str] | None,
    test: Path | None = None,
) -> tuple[Path, dict[str, str]]:
    from twolane_local.template import declared_parameters
    from twolane_local.template.parameters import project_values
    from twolane_local.testing.project import STORE_PARAMETER

    named = config.getini("twolane_template")
    if template:
        path = config.rootpath / template
    elif named:
        # As pytest's own paths; with --rootdir they are not the same.
        path = (config.inipath.parent if config.inipath else config.rootpath) / named
    else:
        path = _found(config.rootpath, test)
    declared = declared_parameters(path) if path.is_file() else {}
    # A test has the defaults, and never the Redis of a deployment.
    open_ones = {name: each for name, each in declared.items() if "Default" not in each}
    projects = project_values(path, open_ones)
    projects.pop(STORE_PARAMETER, None)
    given = dict(_pair(line) for line in config.getini("twolane_parameters"))
    return path, {**projects, **given, **(parameters or {})}


def _found(root: Path, test: Path | None) -> Path:
    """The template of pytest's root, else of a folder between it and the test, the closest to the
    test first; else of a folder above, in the same repository.
    """
    from twolane_local.template import places

    first = places.find_template(root).path
    between = [each for each in test.parents if root in each.parents] if test is not None else []
    above = []
    for each in (root, *root.parents):
        above.append(each)
        if (each / ".git").exists():
            break
    else:
        above = [root, root.parent]  # no repository: who knows whose those above are
    found = (places.find_template(each).path for each in (*between, *above[1:]))
    return first if first.is_file() else next((path for path in found if path.is_file()), first)


def _pair(line: str) -> tuple[str, str]:
    name, equals, value = line.partition("=")
    if not equals:
        raise pytest.UsageError(f"twolane_parameters: {line!r} is no NAME=VALUE")
    return name.strip(), value.strip()
