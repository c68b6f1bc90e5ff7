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
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock

from twolane import logs
from twolane.api.adapter import ApiHandler
from twolane.api.engine import Engine
from twolane.worker.handler import WorkerHandler
from twolane_local.testing.errors import StaleImportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from twolane_local.model import FunctionSpec
    from twolane_local.testing.project import Project

    Handler = Callable[[Any, Any], Any]
    Key = tuple[tuple[Path, ...], tuple[tuple[str, str], ...]]

_copies: dict[Key, dict[str, ModuleType]] = {}
#: What has been put into the environment before the tests were collected.
_early: list[Key] = []
#: Handlers in whose place another one came, because they were killed; kept, as their loops are.
_dead: list[Any] = []


def _key(project: Project) -> Key:
    return project.folders, tuple(sorted(project.variables.items()))


def prepare(project: Project) -> None:
    """Give the process the project's environment and import path, for test modules that import the
    application when they are collected.
    """
    os.environ.update(project.variables)
    _extend_path(project.folders)
    _early.append(_key(project))


@contextmanager
def imported(project: Project, user: ModuleType | None = None) -> Iterator[None]:
    """The project's modules are the process's inside of the block.

    Raises ``StaleImportError`` where ``user``, a test module, holds parts of another copy.
    """
    key = _key(project)
    found = _modules(project.folders)
    if key not in _copies:
        _copies[key] = found if key in _early else {}
    mine = _copies[key]
    stale = {name: module for name, module in found.items() if mine.get(name) is not module}
    if stale and user is not None:
        _check(user, stale)
    path = list(sys.path)
    _extend_path(project.folders)
    for name in stale:
        del sys.modules[name]
    sys.modules.update(mine)
    try:
        yield
    finally:
        _copies[key] = _modules(project.folders)
        if stale:
            for name in _copies[key]:
                del sys.modules[name]
            sys.modules.update(found)
        sys.path[:] = path


def load(spec: FunctionSpec, given: Mapping[str, Handler]) -> Handler:
    """The handler of a function, imported if it is not yet."""
    if spec.name in given:
        return given[spec.name]
    module, _, name = spec.handler.rpartition(".")
    # The formatter of Lambda's own log handler is not for those of pytest.
    with mock.patch.object(logs, "configure", _nothing):
        handler: Handler = getattr(importlib.import_module(module.replace("/", ".")), name)
    return handler


def renew(handler: Handler) -> None:
    """Put a new handler in the place of one that was killed in the middle of something."""
    if not isinstance(handler, ApiHandler | WorkerHandler):
        return
    for module in tuple(sys.modules.values()):
        for name, value in tuple(vars(module).items()) if module else ():
            if value is handler:
                with mock.patch.object(logs, "configure", _nothing):
                    setattr(module, name, _anew(handler))
    _dead.append(handler)


def _anew(handler: ApiHandler | WorkerHandler) -> Handler:
    if isinstance(handler, WorkerHandler):
        return WorkerHandler(handler._app)  # noqa: SLF001 - a new environment of the same code
    fresh = copy.copy(handler)
    old: Any = handler._engine  # noqa: SLF001 - likewise
    fresh._engine = Engine(handler.app, handler.lifespan, old._reserve_s, os.environ)  # noqa: SLF001
    return fresh


def _nothing(*_: object) -> None:
    pass


def _extend_path(folders: tuple[Path, ...]) -> None:
    for folder in folders:
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def _modules(folders: tuple[Path, ...]) -> dict[str, ModuleType]:
    """Modules that come from these folders; not twolane's own, where it is one of them."""
    roots = tuple(f"{folder}{os.sep}" for folder in folders)
    return {
        name: module
        for name, module in tuple(sys.modules.items())
        if (getattr(module, "__file__", None) or "").startswith(roots)
        and name.partition(".")[0] not in {"twolane", "twolane_local", "conftest", "tests"}
    }


def _check(user: ModuleType, stale: Mapping[str, ModuleType]) -> None:
    for name, value in vars(user).items():
        home = value.__name__ if isinstance(value, ModuleType) else _home(value)
        if home in stale:
            raise StaleImportError(
                f"{user.__name__} imported {name!r} from {home} when it was collected, before the "
                "stack gave the application its environment. Import it inside of the test, or set "
                "twolane_template in pytest's configuration, which sets the environment first"
            )


def _home(value: object) -> str | None:
    home = getattr(value, "__module__", None)
    return home if isinstance(home, str) else None
