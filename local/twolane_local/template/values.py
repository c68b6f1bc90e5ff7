"""Resolves intrinsic functions to the emulator's own values, and finds circles of references.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html
"""

from __future__ import annotations

import base64
import graphlib
import json
import re
import uuid
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

#: Stands for ``AWS::NoValue``: its entry is dropped from the map or list that holds it.
NO_VALUE = object()

_SUB = re.compile(r"\$\{(!?)([^}]*)\}")
_SUB_NAME = re.compile(r"\$\{([^!}][^}]*)\}")


def find_circle(graph: Mapping[str, Iterable[str]]) -> list[str] | None:
    """Return one circle, which ends with its first member again, or ``None``."""
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


def condition_names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "Condition" and isinstance(item, str):
                yield item
            elif key == "Fn::If" and isinstance(item, list) and item and isinstance(item[0], str):
                yield item[0]
            yield from condition_names(item)
    elif isinstance(value, list):
        for item in value:
            yield from condition_names(item)


def needed_by(resource: Mapping[str, Any], holds: Callable[[str], bool]) -> Iterator[str]:
    """Yield the names that a resource depends on or refers to."""
    before = resource.get("DependsOn") or []
    yield from [before] if isinstance(before, str) else before
    yield from referenced_names(resource.get("Properties"), holds)


def referenced_names(value: Any, holds: Callable[[str], bool]) -> Iterator[str]:
    """Yield the names that a value refers to; of an ``Fn::If``, those of the chosen side."""
    if isinstance(value, dict):
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name == "Fn::If" and isinstance(argument, list) and len(argument) == 3:
                yield from referenced_names(argument[1 if holds(argument[0]) else 2], holds)
                return
            yield from _names_in(name, argument)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from referenced_names(item, holds)


def _names_in(function: str, argument: Any) -> Iterator[str]:
    """Yield the names in a function's own argument; invalid forms are refused when resolved."""
    first, *more = argument if isinstance(argument, list) and argument else [argument]
    if not isinstance(first, str):
        return
    if function == "Ref":
        yield first
    elif function == "Fn::GetAtt":
        yield first.split(".")[0]
    elif function == "Fn::Sub":
        own = more[0] if more and isinstance(more[0], dict) else {}
        for name in _SUB_NAME.findall(first):
            if name.strip() not in own:
                yield name.split(".")[0].strip()


def pseudo_parameters(stack: str) -> dict[str, Any]:
    """Return the values of the ``AWS::…`` parameters:
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/pseudo-parameter-reference.html
    """
    # Templates split the stack's id: it has as many parts as AWS's, the same on every start.
    number = uuid.uuid5(uuid.NAMESPACE_URL, stack)
    return {
        "AWS::AccountId": ACCOUNT,
        "AWS::NoValue": NO_VALUE,
        "AWS::NotificationARNs": [],
        "AWS::Partition": "aws",
        "AWS::Region": REGION,
        "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{stack}/{number}",
        "AWS::StackName": stack,
        "AWS::URLSuffix": "amazonaws.com",
    }


class Resolver:
    """Resolves values of one template. ``ref`` and ``attribute`` return the values of resources, or
    raise ``KeyError``; ``imported`` those of other stacks' exports.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        *,
        conditions: Mapping[str, Any],
        mappings: Mapping[str, Any],
        ref: Callable[[str], Any],
        attribute: Callable[[str, str], Any],
        imported: Callable[[str], Any] | None = None,
    ) -> None:
        self._parameters = parameters
        self._conditions = conditions
        self._mappings = mappings
        self._ref_resource = ref
        self._attribute = attribute
        self._imported = imported
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Condition": self.condition,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": lambda v: str(self(v[0])).join(str(item) for item in self(v[1])),
            "Fn::Split": lambda v: str(self(v[1])).split(self(v[0])),
            "Fn::Select": self._select,
            "Fn::If": lambda v: self(v[1]) if self.condition(v[0]) else self(v[2]),
            "Fn::Equals": lambda v: str(self(v[0])) == str(self(v[1])),
            "Fn::And": lambda v: all(self(item) for item in v),
            "Fn::Or": lambda v: any(self(item) for item in v),
            "Fn::Not": lambda v: not self(v[0]),
            "Fn::FindInMap": self._find_in_map,
            "Fn::Base64": lambda v: base64.b64encode(str(self(v)).encode()).decode(),
            "Fn::GetAZs": lambda _: [f"{REGION}{zone}" for zone in "abcdef"],
            "Fn::ImportValue": self._import,
            "Fn::ToJsonString": lambda v: json.dumps(self(v)),
            "Fn::Length": lambda v: len(self(v)),
        }

    def __call__(self, value: Any) -> Any:
        if isinstance(value, dict):
            if len(value) == 1:
                ((name, argument),) = value.items()
                function = self._functions.get(name)
                # In a policy, a map with the one key "Condition" is not a function.
                if function and (name != "Condition" or isinstance(argument, str)):
                    try:
                        return function(argument)
                    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
                        # Each function takes arguments of one form, and raises for any other.
                        short = name.removeprefix("Fn::")
                        raise TemplateError(f"{short} does not take {argument!r:.60}") from error
            resolved = ((key, self(item)) for key, item in value.items())
            return {key: item for key, item in resolved if item is not NO_VALUE}
        if isinstance(value, list):
            return [item for item in map(self, value) if item is not NO_VALUE]
        return value

    def condition(self, name: str) -> bool:
        if name not in self._conditions:
            raise TemplateError(f"the template has no condition {name!r}; declare it in Conditions")
        return bool(self(self._conditions[name]))

    def _ref(self, name: Any) -> Any:
        if not isinstance(name, str):
            raise TemplateError(f"Ref takes a name, not {name!r}")
        if name in self._parameters:
            return self._parameters[name]
        try:
            return self._ref_resource(name)
        except KeyError:
            raise TemplateError(
                f"Ref {name!r} is neither a parameter nor a resource of the template"
            ) from None

    def _get_att(self, argument: Any) -> Any:
        name, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
        attribute = self(attribute)
        try:
            return self._attribute(name, attribute)
        except KeyError:
            raise TemplateError(
                f"GetAtt {name}.{attribute}: the template has no such resource whose condition "
                "holds, or the resource has no such attribute"
            ) from None

    def _sub(self, argument: Any) -> str:
        if not isinstance(argument, str | list):
            raise TypeError(argument)
        text, variables = (argument, {}) if isinstance(argument, str) else argument

        def value(match: re.Match[str]) -> str:
            literal, name = match.group(1), match.group(2).strip()
            if literal:
                return "${" + name + "}"
            if name in variables:
                return str(self(variables[name]))
            if "." in name:
                return str(self._get_att(name))
            return str(self._ref(name))

        return _SUB.sub(value, text)

    def _select(self, argument: list[Any]) -> Any:
        """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference-select.html"""
        index, values = int(self(argument[0])), self(argument[1])
        if not isinstance(values, list):
            raise TypeError(values)
        if not 0 <= index < len(values):
            if values and self._refers_to_resources(argument[1]):
                return values[-1]
            raise TemplateError(f"the index {index} of Select is not in 0 to {len(values) - 1}")
        return values[index]

    def _refers_to_resources(self, value: Any) -> bool:
        """Return whether it does; AWS's values may have more parts than ours."""
        names = referenced_names(value, self.condition)
        return any(name not in self._parameters for name in names)

    def _find_in_map(self, argument: list[Any]) -> Any:
        keys = [str(self(item)) for item in argument[:3]]
        try:
            name, top, second = keys
            return self(self._mappings[name][top][second])
        except KeyError:
            if len(argument) > 3 and "DefaultValue" in argument[3]:
                return self(argument[3]["DefaultValue"])
            raise TemplateError(f"FindInMap {'.'.join(keys)} is not in Mappings") from None

    def _import(self, argument: Any) -> Any:
        if self._imported is not None:
            return self._imported(str(self(argument)))
        raise TemplateError(
            f"ImportValue {self(argument)!r}: exports of other stacks do not exist locally; "
            "make it a parameter"
        )
