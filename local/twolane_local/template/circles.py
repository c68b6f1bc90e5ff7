"""What needs itself: conditions, and resources by Ref, GetAtt, Sub and DependsOn.

https://aws.amazon.com/blogs/infrastructure-and-automation/handling-circular-dependency-errors-in-aws-cloudformation/
"""

from __future__ import annotations

import graphlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_SUB = re.compile(r"\$\{([^!}][^}]*)\}")


def find(graph: Mapping[str, Iterable[str]]) -> list[str] | None:
    """One circle, its first member again at its end; None where there is none."""
    known = {name: [each for each in needs if each in graph] for name, needs in graph.items()}
    for name, needs in known.items():
        if name in needs:
            return [name, name]
    try:
        graphlib.TopologicalSorter(known).prepare()
    except graphlib.CycleError as error:
        circle: list[str] = error.args[1]
        return circle[::-1]  # from what needs to what is needed
    return None


def conditions(value: Any) -> Iterator[str]:
    """The conditions that one is made of."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "Condition" and isinstance(item, str):
                yield item
            elif key == "Fn::If" and isinstance(item, list) and item and isinstance(item[0], str):
                yield item[0]
            yield from conditions(item)
    elif isinstance(value, list):
        for item in value:
            yield from conditions(item)


def references(value: Any, holds: Callable[[str], bool]) -> Iterator[str]:
    """The names that a value refers to; of an ``Fn::If``, the side that is taken."""
    if isinstance(value, dict):
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name == "Fn::If" and isinstance(argument, list) and len(argument) == 3:
                yield from references(argument[1 if holds(argument[0]) else 2], holds)
                return
            yield from _named(name, argument)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item, holds)


def _named(function: str, argument: Any) -> Iterator[str]:
    """What an intrinsic names itself; other forms of it are refused where they are resolved."""
    first, *more = argument if isinstance(argument, list) and argument else [argument]
    if not isinstance(first, str):
        return
    if function == "Ref":
        yield first
    elif function == "Fn::GetAtt":
        yield first.split(".")[0]
    elif function == "Fn::Sub":
        own = more[0] if more and isinstance(more[0], dict) else {}
        for name in _SUB.findall(first):
            if name.strip() not in own:
                yield name.split(".")[0].strip()
