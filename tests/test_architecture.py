"""Dependencies point one way, imports form no circle, packages stand in an order."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE_ROOTS = {"app": "handlers", "twolane": "handlers", "twolane_local": "local"}
ALLOWED = {"app": {"twolane"}, "twolane": set(), "twolane_local": {"twolane"}}

#: The packages from top to bottom, and the modules that stand beside them, which are what an entry
#: point or an application names. Each imports only what is further down: at import time, in a
#: function, or for type checking.
ORDER = {
    "twolane": (
        "__main__", "twolane", "router", "api", "beat", "http", "worker", "publish", "state",
        "patches", "environment", "otel", "errors",
    ),
    "twolane_local": (
        "twolane_local", "pytest_plugin", "cli", "testing", "emulator", "console", "checks",
        "remote", "faults", "template", "aws", "journal", "http", "model", "clock", "patches",
        "errors",
    ),
    "twolane_local.aws": (
        "aws", "endpoint", "sources", "effective", "http_api", "logs", "moto", "redis", "lambda_",
        "scheduler", "event_source_mapping", "sqs", "events", "invocation", "guard", "real_aws",
        "rest_json", "call", "changes",
    ),
}  # fmt: skip
#: How many modules a tree may have, and how many rooms.
MOST_MODULES = {"twolane": 80, "twolane_local": 240}
MOST_ROOMS = 14


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def modules(package: str) -> dict[str, Path]:
    base = ROOT / SOURCE_ROOTS[package]
    found = {}
    for path in sorted((base / package).rglob("*.py")):
        parts = path.relative_to(base).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    )


def imports(tree: ast.AST, *, deferred: bool) -> set[str]:
    """What the code imports: at import time only, or with ``deferred`` inside functions too."""
    names: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.expr):
            continue
        if is_type_checking(node):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not deferred:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        names |= imports(node, deferred=deferred)
    return names


def within(package: str) -> dict[str, Path]:
    """The modules of a package, which may itself be within a tree."""
    tree = package.partition(".")[0]
    return {
        name: path for name, path in modules(tree).items() if f"{name}.".startswith(f"{package}.")
    }


def room(module: str, package: str) -> str:
    """The package of a module that is in one, its own name for one beside the packages."""
    rest = module.removeprefix(package).removeprefix(".")
    return rest.partition(".")[0] or package.rpartition(".")[2]


def every_import(tree: ast.AST, known: dict[str, Path]) -> set[str]:
    """The known modules that the code imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in known else node.module)
    return found & known.keys()


@pytest.mark.parametrize("package", SOURCE_ROOTS)
def test_packages_import_only_what_they_may(package: str) -> None:
    for name, path in modules(package).items():
        roots = {found.split(".")[0] for found in imports(parsed(path), deferred=True)}
        forbidden = (roots & set(SOURCE_ROOTS)) - ALLOWED[package] - {package}
        assert not forbidden, f"{name} imports {sorted(forbidden)}"


@pytest.mark.parametrize("package", SOURCE_ROOTS)
def test_imports_form_no_circle(package: str) -> None:
    known = modules(package)

    def home(found: str) -> str:  # of "package.module.name", the module that holds the name
        return found if found in known else found.rpartition(".")[0]

    graph = {
        name: {home(found) for found in imports(parsed(path), deferred=False)}
        & known.keys() - {name}
        for name, path in known.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("package", ORDER)
def test_packages_stand_in_the_written_order(package: str) -> None:
    """So there is no circle between packages, lazy and type-checking imports counted."""
    order, known = ORDER[package], within(package)
    upwards = [
        f"{name} imports {found}"
        for name, path in known.items()
        for found in sorted(every_import(parsed(path), known))
        if order.index(room(found, package)) < order.index(room(name, package))
    ]
    assert upwards == []


@pytest.mark.parametrize("package", ORDER)
def test_every_package_and_module_beside_them_is_in_the_order(package: str) -> None:
    assert {room(name, package) for name in within(package)} == set(ORDER[package])


@pytest.mark.parametrize(("package", "most"), MOST_MODULES.items())
def test_a_concept_is_one_module(package: str, most: int) -> None:
    assert len(modules(package)) <= most


@pytest.mark.parametrize("package", MOST_MODULES)
def test_a_package_is_one_capability(package: str) -> None:
    tree = ROOT / SOURCE_ROOTS[package] / package
    assert len([path for path in tree.iterdir() if (path / "__init__.py").exists()]) <= MOST_ROOMS


@pytest.mark.parametrize("package", MOST_MODULES)
def test_a_package_of_many_modules_has_a_map(package: str) -> None:
    """Its docstring names each of its modules and packages, and lists no others."""
    known, missing = modules(package), []
    for name, path in known.items():
        if path.name != "__init__.py" or name == package:
            continue
        inner = {n.removeprefix(f"{name}.") for n in known if n.startswith(f"{name}.")}
        inner = {each for each in inner if "." not in each and not each.startswith("__")}
        map_ = ast.get_docstring(parsed(path)) or ""
        rows = re.findall(r"^``\w+``(?:, ``\w+``)*  ", map_, re.MULTILINE)
        listed = re.findall(r"``(\w+)``", " ".join(rows))
        missing += [f"{name}: {each} is gone" for each in listed if each not in inner]
        if len(inner) > 5:
            missing += [f"{name}: {each}" for each in sorted(inner) if f"``{each}``" not in map_]
    assert missing == []


def test_application_takes_only_the_adapters_and_the_router() -> None:
    for name, path in modules("app").items():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("twolane"):
                assert node.module == "twolane", f"{name}: {node.module}"


@pytest.mark.parametrize("root", ["handlers", "local", "tests"])
def test_contexts_are_kept_while_they_are_entered(root: str) -> None:
    """Python collects a context manager that is entered and not kept, and so leaves it at once."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / root).rglob("*.py")
        if "enter__" in path.read_text()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute)
        and node.attr in {"__enter__", "__aenter__"}
        and isinstance(node.value, ast.Call)
        and not (isinstance(node.value.func, ast.Name) and node.value.func.id == "super")
    ]
    assert found == []
