"""The application's modules: imported once for each environment that they are to see.

A module reads its environment when it is imported, so two stacks with different variables need two
copies. A stack takes its own copies into ``sys.modules`` while it lives, and puts back what it
found. Between tests modules stay imported, as they do in a warm execution environment.
"""

from __future__ import annotations

import copy
import importlib
import os
import sys
import sysconfig
from contextlib import contextmanager
from functools import cache
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from celery import _state

from twolane.api.engine import Engine
from twolane.api.handler import ApiHandler
from twolane.worker.handler import WorkerHandler
from twolane_local.testing import StaleImportError
from twolane_local.testing.project import extend_path, key_of, prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from twolane_local.model import FunctionSpec
    from twolane_local.testing.project import Key, Project

    Handler = Callable[[Any, Any], Any]


#: What was found in folders, by them, the number of all modules, and the last one's name.
_loaded: dict[tuple[tuple[Path, ...], int, str], dict[str, ModuleType]] = {}
_copies: dict[Key, dict[str, ModuleType]] = {}
#: What a copy's Celery application offers to others.
_offered: dict[Key, set[Any]] = {}
#: Celery's default application, which a copy's handlers set when they are made.
_defaults: dict[Key, Any] = {}
#: Every handler that was used, by identity.
_used: dict[int, Any] = {}
#: Those that were killed, each with the one in its place. They are kept: a loop that is collected
#: in the middle of something complains.
_dead: dict[int, list[Any]] = {}
#: With a copy of the application in place and without one, for a few projects.
_SCANS_KEPT = 16


@contextmanager
def imported(project: Project, user: ModuleType | None = None) -> Iterator[None]:
    """The project's modules are the process's inside of the block. Raises ``StaleImportError``
    where ``user``, a test module, holds parts of another copy.
    """
    key = key_of(project)
    found = _modules(project.folders)
    # What was imported in the environment that was prepared for it is the copy itself.
    mine = found if key in prepared else _copies.get(key, {})
    stale = {name: module for name, module in found.items() if mine.get(name) is not module}
    if stale and user is not None:
        _check(user, stale)
    path = list(sys.path)
    extend_path(project.folders)
    for name in stale:
        del sys.modules[name]
    sys.modules.update(mine)
    try:
        with _own_tasks(key, foreign=mine is not found and bool(project.folders)):
            yield
    finally:
        if mine is not found:
            _copies[key] = _modules(project.folders)
            for name in _copies[key]:
                del sys.modules[name]
            sys.modules.update(found)
        sys.path[:] = path


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


def _modules(folders: tuple[Path, ...]) -> dict[str, ModuleType]:
    """The loaded modules that come from these folders, but for twolane's own and for tests."""
    names = {name for folder in folders for name in _top_level(folder)}
    return {
        name: module
        for name, module in loaded_from(folders).items()
        if name.partition(".")[0] in names
    }


def loaded_from(folders: tuple[Path, ...]) -> Mapping[str, ModuleType]:
    """The loaded modules whose files are in these folders."""
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
        if (getattr(module, "__file__", None) or "").startswith(roots)
    }
    if len(_loaded) >= _SCANS_KEPT:
        _loaded.clear()
    _loaded[key] = found
    return found


@cache
def _top_level(folder: Path) -> frozenset[str]:
    """What can be imported from a folder, but for twolane itself and for tests."""
    found = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    return frozenset(found - {"twolane", "twolane_local", "conftest", "tests"})


def _check(user: ModuleType, stale: Mapping[str, ModuleType]) -> None:
    objects = {
        id(value): name
        for name, module in stale.items()
        for value in vars(module).values()
        if not isinstance(value, _PLAIN)
    }
    for name, value in vars(user).items():
        home = _home(value) or objects.get(id(value))
        if home in stale and not (home == objects.get(id(value)) and _is_a_library_s(value)):
            raise StaleImportError(
                f"{user.__name__} imported {name!r} from {home} when it was collected, before the "
                "stack gave the application its environment. Import it inside of the test, or set "
                "twolane_template in pytest's configuration, which sets the environment first"
            )


#: Values that are the same object wherever they come from.
_PLAIN = (str, bytes, int, float, complex, bool, tuple, type(None), ModuleType)


def _home(value: object) -> str | None:
    """The module that a module, class or function comes from; ``None`` for other objects."""
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, type | FunctionType):
        return value.__module__
    return None


def _is_a_library_s(value: object) -> bool:
    """Whether an installed module has the object too: both only imported it."""
    installed = tuple(sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib"))
    return any(
        value is each
        for module in tuple(sys.modules.values())
        if (getattr(module, "__file__", None) or "").startswith(installed)
        for each in tuple(vars(module).values())
    )
