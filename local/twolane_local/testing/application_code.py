"""The application's modules: imported once for each environment that they are to see.

A module reads its environment when it is imported, so two stacks with different variables need two
copies. A stack takes its own copies into ``sys.modules`` while it lives, and puts back what it
found. Between tests modules stay imported, as they do in a warm execution environment.

What pytest itself has imported (tests, ``conftest`` modules, plugins) is no part of a copy,
wherever it lies: pytest calls what it has collected, and another import of it would be another
object.

Functions whose folders hold modules of the same name see each its own, as on Lambda: they are in
place while the function's threads have their turn.
"""

from __future__ import annotations

import copy
import importlib
import os
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from celery import _state

from twolane.api.engine import Engine
from twolane.api.handler import ApiHandler
from twolane.worker.handler import WorkerHandler
from twolane_local.testing import StaleImportError
from twolane_local.testing.project import extend_path, key_of, prepared
from twolane_local.testing.stale_imports import NOBODY, Suite, check, tainted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from twolane_local.model import FunctionSpec
    from twolane_local.testing.project import Key, Project

    Handler = Callable[[Any, Any], Any]
    Folders = tuple[Path, ...]
    Modules = dict[str, ModuleType]


#: What was found in folders, by them, the number of all modules, and the last one's name.
_loaded: dict[tuple[Folders, int, str], Modules] = {}
#: The modules of each copy, by the folders that they are imported from.
_copies: dict[Key, dict[Folders, Modules]] = {}
#: What a copy's Celery application offers to others.
_offered: dict[Key, set[Any]] = {}
#: Celery's default application, which a copy's handlers set when they are made.
_defaults: dict[Key, Any] = {}
#: Every handler that was used, by identity.
_used: dict[int, Any] = {}
#: Those that were killed, each with the one in its place. They are kept: a loop that is collected
#: in the middle of something complains.
_dead: dict[int, list[Any]] = {}
IMPORTED_BEFORE = (
    "The application had been imported when tests were collected, and was imported again with the "
    "environment of the stack; what cannot be imported twice (models of Django, metrics that are "
    "registered by name …) needs twolane_template in pytest's configuration: then it is imported "
    "once, with that environment."
)
#: With a copy of the application in place and without one, for a few projects.
_SCANS_KEPT = 16


class Imported:
    """A stack's copy of the application, while it is in place."""

    def __init__(self, project: Project, suite: Suite) -> None:
        self._folders, self._suite = project.folders, suite
        self._paths = _separate(project)
        self._key = key_of(project)
        self._found = self._in_place()
        self._sets = _copies.setdefault(self._key, {})
        if not self.is_copy:
            # What was imported in the environment that was prepared for it is the copy itself.
            self._sets[self._paths[0]] = self._found
        self._path = list(sys.path)
        self.stale: Modules = {}

    @property
    def is_copy(self) -> bool:
        """Whether it differs from what was imported before."""
        return self._key not in prepared

    def put(self) -> None:
        """Put it in place of what was found."""
        extend_path(self._folders)
        if not self.is_copy:
            return
        mine = self._all()
        self.stale = {n: m for n, m in self._found.items() if mine.get(n) is not m}
        _check_django(self.stale)
        for name in self.stale:
            del sys.modules[name]
        sys.modules.update(mine)

    def loaded(self) -> None:
        """All handlers are imported: what of the tests' own has nothing to do with the application
        comes back. Raises ``StaleImportError`` where the test uses parts of another copy.
        """
        if not self.stale:
            return
        mine = self._in_place()
        helpers = {n: m for n, m in self.stale.items() if n not in mine}
        homes = _test_folders(self._suite.modules, mine.values())
        packages = {name.partition(".")[0] for name in mine}
        for name in tuple(helpers):
            # What is beside the application's modules is imported by one of them later.
            if name.partition(".")[0] in packages and not _file(helpers[name]).startswith(homes):
                del helpers[name]
        replaced = {n: m for n, m in self.stale.items() if n not in helpers}
        replaced |= tainted(helpers, replaced)
        for name in helpers.keys() - replaced.keys():
            sys.modules[name] = helpers[name]
            parent, _, last = name.rpartition(".")
            if parent in sys.modules and not hasattr(sys.modules[parent], last):
                setattr(sys.modules[parent], last, helpers[name])
        check(self._suite, replaced, self._found)

    def take_back(self) -> None:
        """Put back what was found."""
        sys.path[:] = self._path
        if not self.is_copy:
            return
        mine = self._in_place()
        if len(self._paths) == 1:
            self._sets[self._paths[0]] = mine
        for name, module in mine.items():
            if self._found.get(name) is not module:
                del sys.modules[name]
        sys.modules.update(self._found)

    def turn(self, spec: FunctionSpec) -> Callable[[], Callable[[], None]] | None:
        """What puts a function's own modules in place, and returns what takes them away again;
        ``None`` where all functions share them.
        """
        if len(self._paths) == 1 or spec.python_path not in self._paths:
            return None
        own = spec.python_path

        def begin() -> Callable[[], None]:
            tests, path = self._in_place(), list(sys.path)
            _swap(tests, self._sets.get(own, {}))
            sys.path[:] = [*map(str, own), *(p for p in path if Path(p) not in self._folders)]

            def end() -> None:
                self._sets[own] = self._in_place()
                _swap(self._sets[own], {**self._all(), **tests})
                sys.path[:] = path

            return end

        return begin

    def _all(self) -> Modules:
        """Where two have the same name, that of the function that comes first."""
        return {n: m for path in reversed(self._paths) for n, m in self._sets.get(path, {}).items()}

    def _in_place(self) -> Modules:
        return _modules(self._folders, self._suite.modules)


@contextmanager
def imported(project: Project, suite: Suite = NOBODY) -> Iterator[Imported]:
    """The project's modules are the process's inside of the block."""
    code = Imported(project, suite)
    code.put()
    try:
        with _own_tasks(key_of(project), foreign=code.is_copy and bool(project.folders)):
            yield code
    finally:
        code.take_back()


def _check_django(stale: Modules) -> None:
    """Raise ``StaleImportError`` where models would be loaded twice."""
    apps: Any = getattr(sys.modules.get("django.apps"), "apps", None)
    if apps is None or not apps.ready:
        return
    loaded = [each.name for each in apps.get_app_configs() if each.models_module is not None]
    found = next((name for name in loaded if name in stale), None)
    if found is not None:
        raise StaleImportError(
            f"Django has loaded the models of {found} before the stack gave the application its "
            "environment, and loads models once in a process. Set twolane_template in pytest's "
            "configuration, which sets the environment first"
        )


def _swap(before: Modules, after: Modules) -> None:
    for name in before:
        del sys.modules[name]
    sys.modules.update(after)


def _separate(project: Project) -> list[Folders]:
    """The paths of functions that must not see each other's modules; else all folders in one."""
    paths = dict.fromkeys(
        function.python_path
        for function in project.stack.functions
        if function.name not in project.handlers and not function.unrunnable
    )
    names: set[str] = set()
    for folder in {folder for path in paths for folder in path}:
        if (own := _top_level(folder)) & names:
            return list(paths)
        names |= own
    return [project.folders]


@cache
def _top_level(folder: Path) -> frozenset[str]:
    """What can be imported from a folder."""
    if not folder.is_dir():
        return frozenset()
    found = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    return frozenset(name for name in found - _NEVER if name.isidentifier())


@contextmanager
def _own_tasks(key: Key, *, foreign: bool) -> Iterator[None]:
    """Celery offers the tasks of every application to each later one, and keeps the last worker's
    as the default: not to another copy.
    """
    state: Any = _state
    kept, default = state._on_app_finalizers, state.default_app  # noqa: SLF001 - Celery's own
    others = (
        {offer for offer in kept if offer.__module__ == "celery.app.base"} if foreign else set()
    )
    kept.difference_update(others)
    kept.update(_offered.get(key, ()))
    # What names no application (a shared task) means the copy's, in each of its tests.
    state.default_app = _defaults.get(key, default)
    try:
        yield
    finally:
        _defaults[key] = state.default_app
        if foreign:
            _offered[key] = {offer for offer in kept if offer.__module__ == "celery.app.base"}
            kept.difference_update(_offered[key])
            kept.update(others)
        state.default_app = default


def load(spec: FunctionSpec, given: Mapping[str, Handler]) -> Handler:
    """The handler of a function, imported if it is not yet. On the environment's own thread."""
    handler: Handler
    if spec.name in given:
        handler = given[spec.name]
    else:
        module, _, name = spec.handler.rpartition(".")
        handler = getattr(importlib.import_module(module.replace("/", ".")), name)
    while (buried := _dead.get(id(handler))) is not None:
        if buried[1] is None:
            buried[1] = _anew(handler)
        handler = buried[1]
    _used[id(handler)] = handler
    return handler


def released(handler: Handler, intact: bool) -> None:
    """Where the handler died in the middle of something, the next environment gets another one."""
    if intact:
        return
    if isinstance(handler, ApiHandler | WorkerHandler):  # others keep nothing to renew
        _dead.setdefault(id(handler), [handler, None])


def close() -> None:
    """End the lifespan of every application: no test comes any more."""
    for handler in _used.values():
        if isinstance(handler, ApiHandler) and id(handler) not in _dead:
            handler.close()
    _used.clear()


def _anew(handler: Any) -> Any:
    """The same code in a new environment."""
    if isinstance(handler, WorkerHandler):
        return WorkerHandler(handler._app)  # noqa: SLF001 - made by the application, as it wants it
    fresh = copy.copy(handler)
    old: Any = handler._engine  # noqa: SLF001 - likewise
    fresh._engine = Engine(handler.app, handler.lifespan, old._reserve_s, os.environ)  # noqa: SLF001
    return fresh


#: twolane itself; and what pytest names so wherever it is, which no function imports.
_NEVER = frozenset({"twolane", "twolane_local", "conftest", "tests", "__pycache__"})


def _modules(folders: Folders, others: tuple[ModuleType, ...] = ()) -> Modules:
    """The loaded modules that come from these folders, but for twolane's own and ``others``."""
    left_out = {id(module) for module in others}
    return {
        name: module
        for name, module in loaded_from(folders).items()
        if name.partition(".")[0] not in ("twolane", "twolane_local") and id(module) not in left_out
    }


def loaded_from(folders: Folders) -> Mapping[str, ModuleType]:
    """The loaded modules that are imported from these folders; a virtual environment that lies
    there is a folder of its own.
    """
    if not folders:
        return {}
    # To look at each of thousands of modules takes a millisecond, and seldom is there a new one.
    key = folders, len(sys.modules), next(reversed(sys.modules))
    found = _loaded.get(key)
    if found is not None and all(sys.modules.get(name) is found[name] for name in found):
        return found
    roots = tuple(f"{folder}{os.sep}" for folder in folders)
    found = {
        name: module
        for name, module in tuple(sys.modules.items())
        if any(_is_from(root, name, place) for place in _places(module) for root in roots)
    }
    if len(_loaded) >= _SCANS_KEPT:
        _loaded.clear()
    _loaded[key] = found
    return found


def _is_from(root: str, name: str, place: str) -> bool:
    if not place.startswith(root):
        return False
    first = place[len(root) :].partition(os.sep)[0]
    return first.partition(".")[0] == name.partition(".")[0]


def _places(module: ModuleType) -> tuple[str, ...]:
    """The file of a module; a namespace package has folders only."""
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return (file,)
    if type(module) is not ModuleType or not isinstance(
        path := vars(module).get("__path__"), Iterable
    ):
        return ()
    return tuple(map(str, path))


def _file(module: ModuleType) -> str:
    return next(iter(_places(module)), "") + (os.sep if not module.__dict__.get("__file__") else "")


def _test_folders(
    tests: Iterable[ModuleType], application: Iterable[ModuleType]
) -> tuple[str, ...]:
    """The folders that hold tests, and nothing of the application."""
    holding = {folder for module in application for folder in Path(_file(module)).parents}
    holds_tests = {folder for module in tests for folder in Path(_file(module)).parents}
    return tuple(f"{folder}{os.sep}" for folder in holds_tests - holding)
