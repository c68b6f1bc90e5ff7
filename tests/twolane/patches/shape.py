"""Prints the shape of each place that the patches know, in a process that twolane did not touch.

``python shape.py`` reads places as a JSON list, and writes their shapes as a JSON object.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import sys
import textwrap
from typing import Any


def shape(place: str) -> str:
    """A function's parameters, a value's type; of an inner function, which names it sets."""
    module, _, path = place.partition(":")
    path, _, inner = path.partition(" ")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        if name.endswith("()"):
            found = getattr(found, name[:-2])()
        elif inspect.isclass(found):
            found = inspect.getattr_static(found, name)
        else:
            found = getattr(found, name)
    if inner:
        return _inner(found, inner)
    found = getattr(found, "__func__", found)
    if inspect.isfunction(found):
        return f"({', '.join(map(str, _parameters(found)))})"
    return type(found).__name__


def _parameters(function: Any) -> list[str]:
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [
        marks.get(one.kind, "") + name
        for name, one in inspect.signature(function).parameters.items()
    ]


def _inner(function: Any, name: str) -> str:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    if "." in name:
        set_here = {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        return "is set" if name in set_here else "gone"
    (node,) = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == name)
    stored = {
        one.id
        for one in ast.walk(node)
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
    }
    return "sets state" if "state" in stored else "is there"


def shapes(places: list[str]) -> dict[str, str]:
    """Every place with its shape; whatever goes wrong, the place is not there."""
    found = {}
    for place in places:
        try:
            found[place] = shape(place)
        except Exception as error:  # noqa: BLE001
            found[place] = f"gone: {error!r}"
    return found


if __name__ == "__main__":
    json.dump(shapes(json.load(sys.stdin)), sys.stdout, indent=1)
