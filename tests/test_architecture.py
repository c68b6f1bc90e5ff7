"""Dependencies point one way, imports form no circle, packages stand in an order."""

from __future__ import annotations

import ast
import graphlib
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
        "twolane", "router", "api", "beat", "http", "worker", "publish", "state", "patches",
        "environment", "otel", "errors",
    ),
}  # fmt: skip
#: How many modules a tree may have.
MOST_MODULES = {"twolane": 80}


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


def room(module: str) -> str:
    """The package of a module that is in one, its own name for one beside the packages."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] or first


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
        roots = {
            found.split(".")[0] for found in imports(ast.parse(path.read_text()), deferred=True)
        }
        forbidden = (roots & set(SOURCE_ROOTS)) - ALLOWED[package] - {package}
        assert not forbidden, f"{name} imports {sorted(forbidden)}"


@pytest.mark.parametrize("package", SOURCE_ROOTS)
def test_imports_form_no_circle(package: str) -> None:
    known = modules(package)

    def home(found: str) -> str:  # of "package.module.name", the module that holds the name
        return found if found in known else found.rpartition(".")[0]

    graph = {
        name: {home(found) for found in imports(ast.parse(path.read_text()), deferred=False)}
        & known.keys() - {name}
        for name, path in known.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("package", ORDER)
def test_packages_stand_in_the_written_order(package: str) -> None:
    """So there is no circle between packages, lazy and type-checking imports counted."""
    order, known = ORDER[package], modules(package)
    upwards = [
        f"{name} imports {found}"
        for name, path in known.items()
        for found in sorted(every_import(ast.parse(path.read_text()), known))
        if order.index(room(found)) < order.index(room(name))
    ]
    assert upwards == []


@pytest.mark.parametrize("package", ORDER)
def test_every_package_and_module_beside_them_is_in_the_order(package: str) -> None:
    assert {room(name) for name in modules(package)} == set(ORDER[package])


@pytest.mark.parametrize(("package", "most"), MOST_MODULES.items())
def test_a_concept_is_one_module(package: str, most: int) -> None:
    assert len(modules(package)) <= most


@pytest.mark.parametrize("package", sorted(SOURCE_ROOTS.keys() - ORDER.keys()))
def test_modules_stay_small(package: str) -> None:
    large = {
        name: lines
        for name, path in modules(package).items()
        if (lines := len(path.read_text().splitlines())) > 600
    }
    assert not large


def test_application_takes_only_the_adapters_and_the_router() -> None:
    for name, path in modules("app").items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("twolane"):
                assert node.module == "twolane", f"{name}: {node.module}"


@pytest.mark.parametrize("root", ["handlers", "local", "tests"])
def test_contexts_are_kept_while_they_are_entered(root: str) -> None:
    """Python collects a context manager that is entered and not kept, and so leaves it at once."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / root).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in {"__enter__", "__aenter__"}
        and isinstance(node.value, ast.Call)
        and not (isinstance(node.value.func, ast.Name) and node.value.func.id == "super")
    ]
    assert found == []
