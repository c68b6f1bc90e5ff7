"""Finds the installed modules that a handler imports, by reading its source.

The function's own files are read, not imported: their top level runs once in each execution
environment, as on Lambda. Environments can share the modules that these import from elsewhere.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: These read Lambda's variables when they are imported, which a fork server does not have: each
#: environment imports them itself.
NEVER = frozenset({"twolane", "runtime_client", "aws_lambda_powertools", "aws_xray_sdk",
                   "datadog_lambda", "sentry_sdk", "opentelemetry", "ddtrace"})  # fmt: skip


def modules(handler: str, folders: list[Path], *, never: frozenset[str] = NEVER) -> list[str]:
    """The names to import, in the order of the source; ``folders`` hold the function's own code."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    waiting = [handler.rpartition(".")[0].replace("/", ".")]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        file = _own_file(name, folders)
        if file is None:
            top = name.partition(".")[0]
            # An attribute of an own module: importing it would run that module here, and all
            # environments would share its connections, seeds and ids.
            own = any((each / top).is_dir() or (each / f"{top}.py").is_file() for each in folders)
            if top not in never and not own:
                found.setdefault(name)
            continue
        parent, _, _ = name.rpartition(".")
        if parent:
            waiting.append(parent)
        package = name if file.name == "__init__.py" else parent
        waiting += reversed(list(_imports(file, package)))
    return list(found)


def _own_file(name: str, folders: list[Path]) -> Path | None:
    path = name.replace(".", "/")
    for folder in folders:
        for file in (folder / path / "__init__.py", folder / f"{path}.py"):
            if file.is_file():
                return file
    return None


def _imports(file: Path, package: str) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return  # the import itself will report it
    for node in _top_level(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield base
            # `from package import name` may name a module or an attribute; the import finds out.
            yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = ".".join(parts[: len(parts) - node.level + 1])
    return f"{base}.{node.module}" if node.module else base


def _top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run at import, with the bodies of ``if`` (not for typing) and ``try``."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.If):
            if "TYPE_CHECKING" not in ast.dump(node.test):
                waiting[:0] = node.body
            waiting[:0] = node.orelse
        elif isinstance(node, ast.Try):
            waiting[:0] = node.body
        else:
            yield node
