"""Finds what a test holds of an application that was imported before its environment was there.

Such a part works, on its own: it is another copy than the one that the stack runs. An override of a
dependency, a patch or a list of calls in it has no effect on the stack, and nothing would say so.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, cast

from twolane_local.testing import StaleImportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Modules = dict[str, ModuleType]


@dataclass(frozen=True)
class Suite:
    """What pytest has imported, and what it runs in one test.

    ``modules`` are those that pytest itself has imported: tests, ``conftest`` modules, plugins.
    ``code`` has the functions of the test, its class and its fixtures by what a reader calls them;
    ``values`` what the test is given by its parameters and fixtures.
    """

    modules: tuple[ModuleType, ...] = ()
    code: Mapping[str, FunctionType] | None = None
    values: Mapping[str, object] | None = None


NOBODY = Suite()


def check(suite: Suite, stale: Mapping[str, ModuleType], found: Mapping[str, ModuleType]) -> None:
    """Raise ``StaleImportError`` where the test uses one of the ``stale`` modules; ``found`` are
    all that come from the application's folders.
    """
    parts = _Parts(stale)
    held = [(name, name, value) for name, value in (suite.values or {}).items()]
    seen: set[int] = set()
    for user, function in (suite.code or {}).items():
        held += [(user, name, value) for name, value in _used(function, suite, seen)]
    for user, name, value in held:
        homes = map(parts.home, (value, *_attributes(value)))
        home = next((home for home in homes if home is not None), None)
        if home is not None and not _is_a_library_s(value, found, suite):
            part = home if name == user else f"{name!r} of {home}"
            raise StaleImportError(f"{user} uses {part}, {_EARLY}")


_EARLY = (
    "which was imported when tests were collected, before the stack gave the application its "
    "environment. Import it inside of the test, or set twolane_template in pytest's "
    "configuration, which sets the environment first"
)


def tainted(helpers: Mapping[str, ModuleType], stale: Mapping[str, ModuleType]) -> Modules:
    """Those of the ``helpers`` that hold parts of ``stale`` modules, or of one that does."""
    found: Modules = {}
    while True:
        parts = _Parts({**stale, **found})
        more = {
            name: module
            for name, module in helpers.items()
            if name not in found and any(map(parts.home, _content(module)))
        }
        if not more:
            return found
        found |= more


class _Parts:
    """The parts of modules, by identity."""

    def __init__(self, modules: Mapping[str, ModuleType]) -> None:
        self._modules = modules
        self._objects = {
            id(value): name
            for name, module in modules.items()
            for value in _content(module)
            if type(value) not in _PLAIN and not issubclass(type(value), ModuleType)
        }

    def home(self, value: object) -> str | None:
        """The module that it is a part of."""
        # By its type: a proxy would be asked what it stands for.
        kind = type(value)
        named: object = None
        if issubclass(kind, ModuleType):
            named = vars(value).get("__name__")
            if self._modules.get(str(named)) is not value:
                return None
        elif issubclass(kind, type | FunctionType):
            named = getattr(value, "__module__", None)
        if isinstance(named, str) and named in self._modules:
            return named
        return self._objects.get(id(value))


#: Values that are the same object wherever they come from.
_PLAIN = {str, bytes, int, float, complex, bool, tuple, frozenset, type(None), type(...)}


def _content(module: ModuleType) -> Iterable[object]:
    """What a module itself has put there: not its loader, say."""
    return [value for name, value in vars(module).items() if not name.startswith("__")]


def _used(function: FunctionType, suite: Suite, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """What a function names, and what the functions and classes of the tests name that it uses."""
    names = {module.__name__ for module in suite.modules}
    todo = [function]
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        for name, value in _named(each):
            yield name, value
            # What a decorator has wrapped is in its closure.
            todo += [
                inner
                for inner in _functions(value)
                if inner.__module__ in names or name.startswith("<")
            ]


def _named(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f"<{name}>", cell.cell_contents
        except ValueError:  # it is not filled yet
            continue
    yield from (("<default>", value) for value in function.__defaults__ or ())
    yield from (function.__kwdefaults__ or {}).items()
    wrapped = vars(function).get("__wrapped__")
    if wrapped is not None:
        yield "<wrapped>", wrapped


def _global_names(code: CodeType) -> dict[str, None]:
    """In the order of the source, so that the same one is named each time."""
    found = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _global_names(constant)
    return found


def _functions(value: object) -> list[FunctionType]:
    if issubclass(type(value), FunctionType):
        return [cast("FunctionType", value)]
    if issubclass(type(value), type):
        return functions_of(cast("type", value))
    return []


def functions_of(kind: type) -> list[FunctionType]:
    """The functions in the body of a class."""
    found = [getattr(each, "__func__", each) for each in vars(kind).values()]
    return [each for each in found if type(each) is FunctionType]


def _attributes(value: object) -> Iterable[object]:
    """Those of a client, say: its application."""
    try:
        found = object.__getattribute__(value, "__dict__")  # a proxy would look further
    except AttributeError:
        return ()
    plain = type(found) is dict and not issubclass(type(value), ModuleType | FunctionType)
    return tuple(found.values()) if plain else ()


def _is_a_library_s(value: object, found: Mapping[str, ModuleType], suite: Suite) -> bool:
    """Whether a module of neither the application nor the tests has it too: both imported it."""
    own = {id(module) for module in (*found.values(), *suite.modules)}
    return any(
        value is each
        for module in tuple(sys.modules.values())
        if id(module) not in own and isinstance(module, ModuleType)
        for each in tuple(vars(module).values())
    )
